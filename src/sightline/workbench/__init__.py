"""The chain in five lines of Python: one `Model` to train, measure, run, follow and export, and pictures of it."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.workbench.bench import BenchResult, bench_models
    from sightline.workbench.evaluation import evaluate_boxes, with_context
    from sightline.workbench.model import Model
    from sightline.workbench.pictures import Seen, Shown, show

__all__ = ["BenchResult", "Model", "Seen", "Shown", "bench_models", "evaluate_boxes", "show", "with_context"]

__getattr__, __dir__ = door(__name__)
