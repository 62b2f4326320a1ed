"""Trackers by name."""

from collections.abc import Callable, Mapping
from typing import Any

from sightline.core.errors import ConfigError, unknown_name
from sightline.track.baseline import KalmanIouTracker, TrackerConfig
from sightline.track.protocol import Tracker

__all__ = ["TRACKERS", "create_tracker"]


def kalman_iou(settings: Mapping[str, Any]) -> Tracker:
    """The baseline tracker; `settings` are fields of `TrackerConfig`."""
    return KalmanIouTracker(TrackerConfig.load(settings, where="tracker 'kalman-iou'"))


TRACKERS: dict[str, Callable[[Mapping[str, Any]], Tracker]] = {"kalman-iou": kalman_iou}


def create_tracker(name: str, **settings: Any) -> Tracker:
    """A new tracker; ConfigError for an unknown name or setting, with the nearest known one.

    Example:
        >>> create_tracker("kalman-iou", max_age_s=1.0).config.max_age_s
        1.0
    """
    if name not in TRACKERS:
        raise ConfigError(unknown_name("tracker", name, TRACKERS))
    return TRACKERS[name](settings)
