"""What a tracker must do; `sightline.testing.check_tracker` tests it."""

from typing import Protocol, runtime_checkable

import supervision as sv

from sightline.track.association import FrameAssociation

__all__ = ["Tracker"]


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
