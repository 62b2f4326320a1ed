"""Sightline: from labelled images or video to a vision system one can defend.

The names below are the public door; each is loaded when first used, so importing the package stays instant and brings
in neither torch nor OpenCV nor matplotlib.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_DOOR = {
    "Dataset": "sightline.core.dataset",
    "Finding": "sightline.core.findings",
    "Geometry": "sightline.core.preprocess",
    "InputError": "sightline.core.errors",
    "Predictions": "sightline.core.predictions",
    "Preprocess": "sightline.core.preprocess",
    "SightlineError": "sightline.core.errors",
    "audit_dataset": "sightline.audit",
    "evaluate_detection": "sightline.evaluate",
    "evaluate_semantic": "sightline.evaluate",
    "evaluate_tracking": "sightline.evaluate",
    "open_predictor": "sightline.infer",
    "read_dataset": "sightline.data",
}

__all__ = ["__version__", *_DOOR]  # noqa: PLE0604 - the door's keys are strings


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'sightline' has no attribute '{name}'")
    return getattr(importlib.import_module(_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
