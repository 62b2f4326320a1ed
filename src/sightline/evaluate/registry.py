"""Metrics of plug-ins: numbers that stand beside ours, by the same names in print, in files and in Python."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.plugins import open_registry
from sightline.core.predictions import Predictions
from sightline.core.results import Result
from sightline.evaluate.inputs import fit_predictions
from sightline.evaluate.panoptic import PanopticResult
from sightline.evaluate.segmentation import SemanticResult
from sightline.evaluate.tracking import TrackingResult

__all__ = ["METRICS", "Metric", "with_added_metrics"]

Metric = tuple[Callable[[Dataset, Predictions], float], tuple[str, ...]]
"""What measures, and the kinds of result it is for: detect, semantic, panoptic, track."""
METRICS: dict[str, Metric] = open_registry("metric", {})
"""Metrics of plug-ins by name, see `register_metric`. Ours are fields of the results and need no entry."""

Measured = TypeVar("Measured", bound=Result)


def with_added_metrics(result: Measured, dataset: Dataset, predictions: Predictions) -> Measured:
    """The result with the numbers of plug-ins for its kind among its `metrics` (of tracks, the combined ones).

    ConfigError for a metric whose name is one of the result's own, and for one that gives no number; NaN is one.
    """
    tracks = isinstance(result, TrackingResult)
    kinds: dict[type, str] = {TrackingResult: "track", SemanticResult: "semantic", PanopticResult: "panoptic"}
    kind = kinds.get(type(result), "detect")
    chosen = {name: measure for name, (measure, kinds) in METRICS.items() if kind in kinds}
    if not chosen:
        return result
    given: Any = result
    own: Mapping[str, float] = given.combined.metrics if tracks else given.metrics
    fitted = fit_predictions(dataset, predictions)
    added = {name: _number(name, measure(dataset, fitted), own) for name, measure in chosen.items()}
    metrics: Any = {**own, **added}
    conventions = {**result.conventions, "metrics of plug-ins": ", ".join(added)}
    changed = {"combined": replace(given.combined, metrics=metrics)} if tracks else {"metrics": metrics}
    return cast("Measured", replace(given, **changed, conventions=conventions))


def _number(name: str, value: object, own: Mapping[str, float]) -> float:
    if name in own:
        raise ConfigError(f"metric '{name}' of a plug-in must have a name of its own, got one of ours")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.inf
    if isinstance(value, str) or math.isinf(number):
        raise ConfigError(f"metric '{name}' must give a finite number or NaN, got {value!r}")
    return number
