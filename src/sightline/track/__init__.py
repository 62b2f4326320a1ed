"""Which object is which over time."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.track.association import ASSOCIATION_SCHEMA, NO_TRACK, FrameAssociation, with_unconfirmed
    from sightline.track.baseline import KalmanIouTracker, TrackerConfig
    from sightline.track.motion import MotionConfig
    from sightline.track.registry import TRACKERS, Tracker, create_tracker
    from sightline.track.sequences import sequence_frames, track_predictions

__all__ = [
    "ASSOCIATION_SCHEMA",
    "NO_TRACK",
    "TRACKERS",
    "FrameAssociation",
    "KalmanIouTracker",
    "MotionConfig",
    "Tracker",
    "TrackerConfig",
    "create_tracker",
    "sequence_frames",
    "track_predictions",
    "with_unconfirmed",
]

__getattr__, __dir__ = door(__name__)
