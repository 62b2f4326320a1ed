"""What a plug-in must pass: the public conformance suites, each loaded when first used (one of them needs torch)."""

import importlib
from typing import Any

_DOOR = {
    "check_format": "sightline.testing.formats",
    "check_model": "sightline.testing.models",
    "check_predictor": "sightline.testing.predictors",
    "check_tracker": "sightline.testing.trackers",
    "check_written": "sightline.testing.formats",
}

__all__ = [*_DOOR]  # noqa: PLE0604 - the door's keys are strings


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'sightline.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
