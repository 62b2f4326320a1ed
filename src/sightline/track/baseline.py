"""`kalman-iou`: constant-velocity Kalman prediction, IoU gating, Hungarian assignment, three track states.

A track is born tentative, becomes confirmed after `min_hits` detections in consecutive updates and only then gets an id
(so ids have no gaps), is lost while nothing matches it, and is gone for good after `max_age`. Structure after SORT
(Bewley et al. 2016); the optional second pass over low scores after ByteTrack (Zhang et al. 2022).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import supervision as sv
from pydantic import Field, model_validator

from sightline.core.config import Config
from sightline.core.errors import DataError
from sightline.ops.boxes import iou_matrix
from sightline.track import motion
from sightline.track.association import FrameAssociation, match
from sightline.track.motion import MotionConfig

__all__ = ["KalmanIouTracker", "TrackerConfig"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
TENTATIVE, CONFIRMED, LOST = 0, 1, 2
_HIGH, _LOW, _TENTATIVE_PASS = 0, 1, 2  # indices into association.STAGES


class TrackerConfig(Config):
    """Settings of `kalman-iou`. Exactly one of `max_age_s` and `max_age_frames` is in force."""

    min_iou: float = Field(default=0.3, ge=0, le=1, description="least IoU of a detection with a predicted box")
    high_conf: float | None = Field(
        default=None, ge=0, le=1, description="scores below it only continue tracks, in a second pass; none: one pass"
    )
    low_conf: float = Field(default=0.1, ge=0, le=1, description="scores below it are not used, where high_conf is set")
    min_iou_low: float = Field(default=0.5, ge=0, le=1, description="least IoU in the pass over low scores")
    new_conf: float | None = Field(default=None, ge=0, le=1, description="least score to start a track; none: any used")
    min_hits: int = Field(default=3, ge=1, description="consecutive detections that confirm a track")
    max_age_s: float | None = Field(default=2.0, gt=0, description="seconds a lost track is kept")
    max_age_frames: int | None = Field(
        default=None, ge=1, description="updates a lost track is kept, in place of seconds"
    )
    assumed_fps: float = Field(default=30.0, gt=0, description="updates per second where no time is given")
    class_aware: bool = Field(default=False, description="a track continues only with detections of its last class")
    motion: MotionConfig = MotionConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.max_age_s is None) == (self.max_age_frames is None):
            raise ValueError("exactly one of max_age_s and max_age_frames must be set (the other null)")
        if self.high_conf is not None and self.low_conf > self.high_conf:
            raise ValueError("low_conf must not be above high_conf")
        return self


@dataclass(slots=True)
class _Tracks:
    """One row per living track, oldest first; rows of one birth frame keep the canonical order of their detections."""

    key: IntArray
    track_id: IntArray  # -1 until confirmed
    state: IntArray
    hits: IntArray
    seen_s: FloatArray
    seen_frame: IntArray
    class_id: IntArray
    motion: motion.MotionStates

    @classmethod
    def none(cls, config: MotionConfig) -> "_Tracks":
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty, empty, np.empty(0), empty, empty, motion.initiate(np.empty((0, 4)), config))

    def select(self, rows: npt.NDArray[np.bool_]) -> "_Tracks":
        return _Tracks(
            self.key[rows],
            self.track_id[rows],
            self.state[rows],
            self.hits[rows],
            self.seen_s[rows],
            self.seen_frame[rows],
            self.class_id[rows],
            self.motion.select(rows),
        )

    def append(self, other: "_Tracks") -> "_Tracks":
        return _Tracks(
            np.concatenate((self.key, other.key)),
            np.concatenate((self.track_id, other.track_id)),
            np.concatenate((self.state, other.state)),
            np.concatenate((self.hits, other.hits)),
            np.concatenate((self.seen_s, other.seen_s)),
            np.concatenate((self.seen_frame, other.seen_frame)),
            np.concatenate((self.class_id, other.class_id)),
            self.motion.append(other.motion),
        )


@dataclass(frozen=True, slots=True)
class _Given:
    """Detections of one update in canonical order; `order[i]` is the row of detection i in what was given."""

    boxes_xyxy: FloatArray
    scores: FloatArray
    class_ids: IntArray
    order: IntArray

    def __len__(self) -> int:
        return len(self.order)


class KalmanIouTracker:
    """The baseline tracker; `config` holds every setting, an instance holds every piece of state (ids included).

    Example:
        >>> import numpy as np, supervision as sv
        >>> tracker = KalmanIouTracker(TrackerConfig(min_hits=1))
        >>> boxes = np.array([[10.0, 10.0, 50.0, 90.0]])
        >>> tracker.update(sv.Detections(xyxy=boxes, confidence=np.array([0.9]))).tracker_id.tolist()
        [1]
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config if config is not None else TrackerConfig()
        self.reset()

    def reset(self) -> None:
        """Forget every track and start ids at 1 again; other instances are not touched."""
        self._tracks = _Tracks.none(self.config.motion)
        self._next_key = 0
        self._next_id = 1
        self._frame = -1
        self._time_s = 0.0
        self._timed: bool | None = None
        self._last: FrameAssociation | None = None

    @property
    def association(self) -> FrameAssociation | None:
        """What the last update decided and why; None before the first one."""
        return self._last

    def update(self, detections: sv.Detections, *, time_s: float | None = None) -> sv.Detections:
        """The detections that belong to confirmed tracks, in the order given, with `tracker_id` (from 1, without gaps).

        Everything else about a detection is returned as given. `time_s` is the time of the frame in its source and sets
        the step of the motion model; without it updates are `1 / assumed_fps` apart. A frame without detections must be
        reported too (empty detections), or left out with the times of its neighbours given. Detections without
        confidence count as certain: all may start and continue tracks. DataError when boxes or scores are not finite,
        when time runs backwards or is given only at times, or when class_aware and class ids are missing.
        """
        given = self._read(detections)
        step_s = self._advance(time_s)
        expired_key, expired_id = self._expire()
        motion.predict(self._tracks.motion, step_s, self.config.motion)
        iou = self._overlaps(given)
        used, low, may_start = self._passes(given)
        track_of, stage_of = self._match(iou, used, low)
        key, track_id, removed = self._tracks.key, self._tracks.track_id.copy(), self._correct(given, track_of)
        new_key, new_id = self._commit(given, track_of, removed, np.flatnonzero((track_of < 0) & may_start))
        back = np.empty_like(given.order)
        back[given.order] = np.arange(len(given))
        self._last = FrameAssociation(
            frame=self._frame,
            time_s=self._time_s,
            min_iou=self.config.min_iou,
            iou=iou[:, back],
            detection_track=track_of[back],
            detection_stage=stage_of[back],
            detection_key=new_key[back],
            detection_id=new_id[back],
            detection_low=~may_start[back],
            track_key=key,
            track_id=track_id,
            track_removed=removed,
            expired_key=expired_key,
            expired_id=expired_id,
        )
        chosen = np.flatnonzero(self._last.detection_id >= 0)
        result = detections.select(chosen)
        result.tracker_id = self._last.detection_id[chosen]
        return result

    def _read(self, detections: sv.Detections) -> _Given:
        boxes = np.asarray(detections.xyxy, np.float64).reshape(-1, 4)
        count = len(boxes)
        scores = np.ones(count) if detections.confidence is None else np.asarray(detections.confidence, np.float64)
        if not np.isfinite(boxes).all() or not np.isfinite(scores).all():
            raise DataError("boxes and confidence must be finite numbers, got NaN or infinity", where=self._place())
        if detections.class_id is None:
            if self.config.class_aware and count:
                raise DataError("class_id must be given to a class-aware tracker, got none", where=self._place())
            classes = np.zeros(count, np.int64)
        else:
            classes = np.asarray(detections.class_id, np.int64)
        # A canonical order makes the result independent of the order in which a detector lists its boxes.
        order = np.lexsort((classes, boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], -scores))
        return _Given(boxes[order], scores[order], classes[order], order)

    def _advance(self, time_s: float | None) -> float:
        timed = time_s is not None
        if self._timed is not None and timed != self._timed:
            raise DataError("time_s must be given to every update or to none, got both", where=self._place())
        if time_s is None:
            time_s = self._time_s + 1.0 / self.config.assumed_fps if self._timed is not None else 0.0
        if not np.isfinite(time_s) or (self._timed is not None and time_s < self._time_s):
            raise DataError(f"time_s must not run backwards, got {time_s} after {self._time_s}", where=self._place())
        step_s = time_s - self._time_s if self._timed is not None else 0.0
        self._timed, self._time_s, self._frame = timed, time_s, self._frame + 1
        return step_s

    def _place(self) -> str:
        return f"tracker update {self._frame + 1}"

    def _expire(self) -> tuple[IntArray, IntArray]:
        """Remove the tracks past their age; returns their keys and ids."""
        # Before matching, so that a track past its age cannot come back however long the gap between two updates was.
        limit_s, limit_frames = self.config.max_age_s, self.config.max_age_frames
        if limit_s is not None:
            # A sum of frame times must not decide by its rounding error.
            alive = self._time_s - self._tracks.seen_s <= limit_s + 1e-9
        else:
            assert limit_frames is not None
            alive = self._frame - self._tracks.seen_frame <= limit_frames
        gone = self._tracks.key[~alive], self._tracks.track_id[~alive]
        if len(gone[0]):
            self._tracks = self._tracks.select(alive)
        return gone

    def _overlaps(self, given: _Given) -> FloatArray:
        iou = iou_matrix(self._tracks.motion.boxes_xyxy(), given.boxes_xyxy)
        if self.config.class_aware:
            iou[self._tracks.class_id[:, None] != given.class_ids] = 0.0
        return iou

    def _passes(self, given: _Given) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Masks over the detections: first pass, second pass, may start a track."""
        high_conf, new_conf = self.config.high_conf, self.config.new_conf
        high = given.scores >= high_conf if high_conf is not None else np.ones(len(given), np.bool_)
        low = ~high & (given.scores >= self.config.low_conf)
        return high, low, high if new_conf is None else high & (given.scores >= new_conf)

    def _match(
        self, iou: FloatArray, high: npt.NDArray[np.bool_], low: npt.NDArray[np.bool_]
    ) -> tuple[IntArray, IntArray]:
        """For each detection the track row and the stage, -1 for none."""
        track_of = np.full(iou.shape[1], -1, np.int64)
        stage_of = np.full(iou.shape[1], -1, np.int64)
        free = np.ones(iou.shape[0], np.bool_)
        tentative = self._tracks.state == TENTATIVE
        passes = (
            (_HIGH, ~tentative, high, self.config.min_iou),
            # A low score is believed only where the object was seen a moment ago.
            (_LOW, self._tracks.state == CONFIRMED, low, self.config.min_iou_low),
            (_TENTATIVE_PASS, tentative, high, self.config.min_iou),
        )
        for stage, track_mask, detection_mask, min_iou in passes:
            columns = np.flatnonzero(detection_mask & (track_of < 0))
            rows, columns = match(iou, np.flatnonzero(track_mask & free), columns, min_iou)
            track_of[columns], stage_of[columns] = rows, stage
            free[rows] = False
        return track_of, stage_of

    def _correct(self, given: _Given, track_of: IntArray) -> npt.NDArray[np.bool_]:
        """Update matched tracks, mark the others lost; returns which tracks are to be removed."""
        tracks = self._tracks
        columns = np.flatnonzero(track_of >= 0)
        rows = track_of[columns]
        motion.correct(tracks.motion, rows, given.boxes_xyxy[columns], self.config.motion)
        tracks.hits[rows] += 1
        tracks.seen_s[rows] = self._time_s
        tracks.seen_frame[rows] = self._frame
        tracks.class_id[rows] = given.class_ids[columns]
        missed = np.ones(len(tracks.key), np.bool_)
        missed[rows] = False
        removed: npt.NDArray[np.bool_] = missed & (tracks.state == TENTATIVE)
        lost = np.flatnonzero(missed & ~removed)
        tracks.state[lost] = LOST
        motion.stop_resizing(tracks.motion, lost)
        tracks.state[rows] = np.where(tracks.state[rows] == LOST, CONFIRMED, tracks.state[rows])
        return removed

    def _commit(
        self, given: _Given, track_of: IntArray, removed: npt.NDArray[np.bool_], births: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Drop, add and confirm tracks; returns key and id of each detection, -1 for none."""
        count = len(births)
        keys = np.arange(self._next_key, self._next_key + count)
        self._next_key += count
        born = _Tracks(
            key=keys,
            track_id=np.full(count, -1, np.int64),
            state=np.full(count, TENTATIVE, np.int64),
            hits=np.ones(count, np.int64),
            seen_s=np.full(count, self._time_s),
            seen_frame=np.full(count, self._frame, np.int64),
            class_id=given.class_ids[births],
            motion=motion.initiate(given.boxes_xyxy[births], self.config.motion),
        )
        row_of = np.full(len(given), -1, np.int64)
        matched = track_of >= 0
        kept_row = np.cumsum(~removed) - 1
        row_of[matched] = kept_row[track_of[matched]]
        row_of[births] = int((~removed).sum()) + np.arange(count)
        tracks = self._tracks.select(~removed) if removed.any() else self._tracks
        self._tracks = tracks = tracks.append(born) if count else tracks
        fresh = np.flatnonzero((tracks.state == TENTATIVE) & (tracks.hits >= self.config.min_hits))
        tracks.track_id[fresh] = np.arange(self._next_id, self._next_id + len(fresh))
        tracks.state[fresh] = CONFIRMED
        self._next_id += len(fresh)
        used = row_of >= 0
        key, track_id = np.full(len(given), -1, np.int64), np.full(len(given), -1, np.int64)
        key[used], track_id[used] = tracks.key[row_of[used]], tracks.track_id[row_of[used]]
        return key, track_id
