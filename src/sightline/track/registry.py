"""What a tracker must do, which `sightline.testing.check_tracker` tests, and trackers by name."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import supervision as sv

from sightline.core.errors import ConfigError, unknown_name
from sightline.core.plugins import open_registry
from sightline.track.association import FrameAssociation
from sightline.track.baseline import KalmanIouTracker, TrackerConfig

__all__ = ["TRACKERS", "Tracker", "create_tracker"]


@runtime_checkable
class Tracker(Protocol):
    """Gives the detections of successive frames an identity; every instance is independent of all others."""

    def update(self, detections: sv.Detections, *, time_s: float | None = None) -> sv.Detections:
        """A subset of the detections, in the order given, with `tracker_id` set (integers from 1), else unchanged.

        Called once per frame, empty frames included. `time_s` is the frame's time in its source, never decreasing; None
        means evenly spaced frames.
        """
        ...

    @property
    def association(self) -> FrameAssociation | None:
        """Why each match of the last frame was made; None where the tracker does not say."""
        ...

    def reset(self) -> None:
        """Forget everything, as if newly made."""
        ...


def kalman_iou(settings: Mapping[str, Any]) -> Tracker:
    """The baseline tracker; `settings` are fields of `TrackerConfig`."""
    return KalmanIouTracker(TrackerConfig.load(settings, where="tracker 'kalman-iou'"))


TRACKERS: dict[str, Callable[[Mapping[str, Any]], Tracker]] = open_registry("tracker", {"kalman-iou": kalman_iou})


def create_tracker(name: str, **settings: Any) -> Tracker:
    """A new tracker; ConfigError for an unknown name or setting, with the nearest known one.

    Example:
        >>> create_tracker("kalman-iou", max_age_s=1.0).config.max_age_s
        1.0
    """
    if name not in TRACKERS:
        raise ConfigError(unknown_name("tracker", name, TRACKERS))
    return TRACKERS[name](settings)
