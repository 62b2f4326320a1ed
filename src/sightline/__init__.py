"""Sightline: from labelled images or video to a vision system one can defend.

The names below are the public door; each is loaded when first used, so importing the package stays instant and brings
in neither torch nor OpenCV nor matplotlib.
"""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.audit import audit_dataset
    from sightline.core.dataset import Dataset
    from sightline.core.errors import InputError, SightlineError
    from sightline.core.findings import Finding
    from sightline.core.plugins import (
        load_plugin,
        register_format,
        register_metric,
        register_model,
        register_sink,
        register_tracker,
    )
    from sightline.core.predictions import Predictions
    from sightline.core.preprocess import Geometry, Preprocess
    from sightline.data import read_dataset
    from sightline.evaluate import evaluate_detection, evaluate_semantic, evaluate_tracking
    from sightline.infer import open_predictor
    from sightline.workbench import Model, adopt, evaluate_boxes, show

__version__ = "0.1.0"
__all__ = [
    "Dataset",
    "Finding",
    "Geometry",
    "InputError",
    "Model",
    "Predictions",
    "Preprocess",
    "SightlineError",
    "__version__",
    "adopt",
    "audit_dataset",
    "evaluate_boxes",
    "evaluate_detection",
    "evaluate_semantic",
    "evaluate_tracking",
    "load_plugin",
    "open_predictor",
    "read_dataset",
    "register_format",
    "register_metric",
    "register_model",
    "register_sink",
    "register_tracker",
    "show",
]

__getattr__, __dir__ = door(__name__)
