"""What every tracker must pass: the suite for ours and for plug-ins."""

from collections.abc import Callable
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import supervision as sv

from sightline.core.errors import SightlineError
from sightline.track import Tracker

__all__ = ["check_tracker"]


def check_tracker(create: Callable[[], Tracker]) -> None:
    """Raise SightlineError naming the first rule of `Tracker` that the trackers made by `create` break.

    Run on synthetic boxes moving apart on straight lines: shape and order of the answer, stable and gapless ids, no
    influence of the order of detections or of other instances, empty frames, missing confidence, reset, lost ids not
    given to somebody else.
    """
    if not isinstance(create(), Tracker):
        _fail("have update(detections, *, time_s), reset() and association", type(create()).__name__)
    _check_answer(create())
    _check_identity(create())
    _check_independence(create)
    _check_no_resurrection(create())


_FRAMES = 12
_STEP_S = 0.1


def _scene(frame: int, count: int = 4) -> sv.Detections:
    """`count` boxes 100 px apart, each moving 2 px a frame to the right."""
    left = np.arange(count) * 100.0 + 2.0 * frame
    boxes = np.stack([left, np.full(count, 50.0), left + 40.0, np.full(count, 120.0)], axis=1)
    return sv.Detections(
        xyxy=boxes,
        confidence=np.linspace(0.9, 0.8, count),
        class_id=np.arange(count) % 2,
        data={"row": np.arange(count)},
    )


def _ids(tracker: Tracker, frames: int = _FRAMES, order: npt.NDArray[np.int64] | None = None) -> list[dict[int, int]]:
    """For each frame the id of each object of the scene."""
    history = []
    for frame in range(frames):
        detections = _scene(frame)
        answer = tracker.update(detections if order is None else detections.select(order), time_s=frame * _STEP_S)
        history.append(dict(zip(np.asarray(answer.data["row"]).tolist(), _tracker_ids(answer).tolist(), strict=True)))
    return history


def _tracker_ids(answer: sv.Detections) -> npt.NDArray[np.int64]:
    if answer.tracker_id is None:
        _fail("set tracker_id, also on an empty answer", "None")
    return np.asarray(answer.tracker_id)


def _check_answer(tracker: Tracker) -> None:
    for frame in range(_FRAMES):
        given = _scene(frame)
        answer = tracker.update(given, time_s=frame * _STEP_S)
        ids = _tracker_ids(answer)
        if not np.issubdtype(ids.dtype, np.integer) or len(ids) != len(answer):
            _fail("set one integer tracker_id per detection", f"{ids.dtype} {ids.shape}")
        rows = np.asarray(answer.data.get("row", []), np.int64)
        if len(rows) != len(answer):
            _fail("keep the data of each detection", f"{len(rows)} rows of data for {len(answer)} detections")
        if (np.diff(rows) <= 0).any():
            _fail("keep the order given and repeat nothing", f"rows {rows.tolist()}")
        expected = given.select(rows)
        pairs = (
            (answer.xyxy, expected.xyxy),
            (answer.confidence, expected.confidence),
            (answer.class_id, expected.class_id),
        )
        if not all(got is not None and want is not None and np.array_equal(got, want) for got, want in pairs):
            _fail("return boxes, scores and classes as given", f"others in frame {frame}")
    empty = tracker.update(sv.Detections.empty(), time_s=_FRAMES * _STEP_S)
    if len(empty) or len(_tracker_ids(empty)):
        _fail("answer an empty frame with no detections", str(len(empty)))


def _check_identity(tracker: Tracker) -> None:
    history = _ids(tracker)
    final = history[-1]
    if sorted(final) != [0, 1, 2, 3] or len(set(final.values())) != len(final):
        _fail(f"give each of four clear objects its own id within {_FRAMES} frames", str(final))
    if sorted(final.values()) != [1, 2, 3, 4]:
        _fail("number confirmed tracks from 1 without gaps", str(sorted(final.values())))
    for frame, ids in enumerate(history):
        if any(final[row] != track_id for row, track_id in ids.items()):
            _fail("keep the id of a clearly visible object", f"{ids} in frame {frame}, {final} at the end")
    tracker.reset()
    if _ids(tracker) != history:
        _fail("start afresh after reset()", "another result for the same frames")
    tracker.reset()
    for frame in range(_FRAMES):
        bare = sv.Detections(xyxy=_scene(frame).xyxy)
        answer = tracker.update(bare, time_s=frame * _STEP_S)
    if len(answer) != 4:
        _fail("track detections that carry no confidence and no class", f"{len(answer)} of 4")


def _check_independence(create: Callable[[], Tracker]) -> None:
    first, second = create(), create()
    alone = _ids(create())
    half = _ids(first, _FRAMES // 2)
    if _ids(second) != alone or half != alone[: _FRAMES // 2]:
        _fail("not share state between instances", "ids that depend on another instance")
    if _ids(create(), order=np.array([2, 0, 3, 1])) != alone:
        _fail("not depend on the order of the detections", "other ids for shuffled detections")


def _check_no_resurrection(tracker: Tracker) -> None:
    before = {track_id for ids in _ids(tracker) for track_id in ids.values()}
    for frame in range(_FRAMES, _FRAMES + 5):
        tracker.update(sv.Detections.empty(), time_s=frame * _STEP_S)
    hour = 3600.0
    after: set[int] = set()
    for frame in range(_FRAMES):
        answer = tracker.update(_scene(frame), time_s=hour + frame * _STEP_S)
        after |= set(_tracker_ids(answer).tolist())
    if before & after:
        _fail("give no old id to an object seen an hour later", f"id {min(before & after)} again")


def _fail(rule: str, got: str) -> NoReturn:
    raise SightlineError(f"a tracker must {rule}, got {got}", do="see sightline.track.Tracker")
