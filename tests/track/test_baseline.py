"""Life of a track, the association log, and what the tracker promises about its answers."""

from typing import Any

import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import ConfigError, DataError, SightlineError
from sightline.testing import check_tracker
from sightline.track import ASSOCIATION_SCHEMA, KalmanIouTracker, TrackerConfig, create_tracker

BOX = np.array([[100.0, 100.0, 140.0, 180.0]])


def found(boxes: Any = BOX, confidence: Any = None, class_id: Any = None) -> sv.Detections:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    score = np.full(len(boxes), 0.9) if confidence is None else np.asarray(confidence, np.float64)
    return sv.Detections(xyxy=boxes, confidence=score, class_id=None if class_id is None else np.asarray(class_id))


def ids(answer: sv.Detections) -> list[int]:
    assert answer.tracker_id is not None
    return [int(i) for i in answer.tracker_id]


def outcomes(tracker: KalmanIouTracker) -> list[tuple[str, str | None]]:
    assert tracker.association is not None
    return [(row["outcome"], row["reason"]) for row in tracker.association.to_rows()]


def wandering_scene(seed: int, frames: int = 25, count: int = 12) -> list[np.ndarray]:
    """Boxes that wander, cross and are missed now and then."""
    rng = np.random.default_rng(seed)
    centre, velocity = rng.uniform(0, 300, (count, 2)), rng.normal(0, 6, (count, 2))
    size = rng.uniform(20, 60, (count, 2))
    scene = []
    for _ in range(frames):
        centre = centre + velocity
        seen = rng.random(count) > 0.15
        middle = (centre + rng.normal(0, 1, (count, 2)))[seen]
        scene.append(np.concatenate([middle - size[seen] / 2, middle + size[seen] / 2], axis=1))
    return scene


@pytest.mark.parametrize(
    "settings", [{}, {"min_hits": 1}, {"max_age_s": None, "max_age_frames": 4}, {"high_conf": 0.5}]
)
def test_conforms(settings: dict[str, Any]) -> None:
    check_tracker(lambda: create_tracker("kalman-iou", **settings))


class SharedIds(KalmanIouTracker):
    """Breaks the rule that instances are independent."""

    counter = 0

    def update(self, detections: sv.Detections, *, time_s: float | None = None) -> sv.Detections:
        answer = super().update(detections, time_s=time_s)
        answer.tracker_id = answer.tracker_id + SharedIds.counter
        SharedIds.counter += len(answer)
        return answer


class Reordering(KalmanIouTracker):
    """Breaks the rule that the order given is kept."""

    def update(self, detections: sv.Detections, *, time_s: float | None = None) -> sv.Detections:
        answer = super().update(detections, time_s=time_s)
        return answer.select(np.arange(len(answer))[::-1])


@pytest.mark.parametrize("broken", [SharedIds, Reordering, object])
def test_the_suite_refuses_broken_trackers(broken: Any) -> None:
    with pytest.raises(SightlineError, match="a tracker must"):
        check_tracker(broken)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**20), config=st.sampled_from([TrackerConfig(), TrackerConfig(min_hits=1, min_iou=0.1)]))
def test_the_order_of_detections_does_not_matter(seed: int, config: TrackerConfig) -> None:
    rng = np.random.default_rng(seed)
    plain, shuffled = KalmanIouTracker(config), KalmanIouTracker(config)
    for frame, boxes in enumerate(wandering_scene(seed)):
        scores = rng.uniform(0.3, 1.0, len(boxes)).round(1)  # ties included
        order = rng.permutation(len(boxes))
        one = plain.update(found(boxes, scores), time_s=frame / 10)
        two = shuffled.update(found(boxes[order], scores[order]), time_s=frame / 10)
        assert {tuple(b): i for b, i in zip(one.xyxy, ids(one), strict=True)} == {
            tuple(b): i for b, i in zip(two.xyxy, ids(two), strict=True)
        }


@settings(max_examples=25)
@given(seed=st.integers(0, 2**20))
def test_confirmed_ids_have_no_gaps_and_answers_are_ordered_subsets(seed: int) -> None:
    tracker = KalmanIouTracker()
    seen: list[int] = []
    for frame, boxes in enumerate(wandering_scene(seed)):
        detections = found(boxes)
        detections.data["row"] = np.arange(len(boxes))
        answer = tracker.update(detections, time_s=frame / 10)
        rows = np.asarray(answer.data["row"], np.int64)
        assert (np.diff(rows) > 0).all()
        assert np.array_equal(answer.xyxy, boxes[rows])
        assert len(set(ids(answer))) == len(answer)
        seen += ids(answer)
    assert sorted(set(seen)) == list(range(1, len(set(seen)) + 1))


def test_tentative_lost_and_expired() -> None:
    tracker = KalmanIouTracker(TrackerConfig(min_hits=2, max_age_s=0.5))
    assert ids(tracker.update(found(), time_s=0.0)) == []
    assert outcomes(tracker) == [("born", "no-overlap")]
    assert ids(tracker.update(found(), time_s=0.1)) == [1]
    assert ids(tracker.update(found([]), time_s=0.2)) == []
    assert outcomes(tracker) == [("lost", "no-overlap")]
    assert ids(tracker.update(found(), time_s=0.5)) == [1]  # found again within max_age_s
    assert ids(tracker.update(found(), time_s=1.1)) == []  # 0.6 s later: too late
    assert ("expired", None) in outcomes(tracker)
    assert ids(tracker.update(found(), time_s=1.2)) == [2]


def test_a_tentative_track_that_misses_once_is_removed_and_takes_no_id() -> None:
    tracker = KalmanIouTracker(TrackerConfig(min_hits=2))
    tracker.update(found(), time_s=0.0)
    tracker.update(found([]), time_s=0.1)
    assert outcomes(tracker) == [("removed", "no-overlap")]
    tracker.update(found(), time_s=0.2)
    assert ids(tracker.update(found(), time_s=0.3)) == [1]


def test_age_in_frames_does_not_look_at_the_time() -> None:
    tracker = KalmanIouTracker(TrackerConfig(min_hits=1, max_age_s=None, max_age_frames=2))
    tracker.update(found(), time_s=0.0)
    tracker.update(found([]), time_s=0.01)
    assert ids(tracker.update(found(), time_s=0.02)) == [1]
    for step in (3, 4):
        tracker.update(found([]), time_s=step / 100)
    assert ids(tracker.update(found(), time_s=0.05)) == [2]


def test_detecting_every_tenth_frame_keeps_the_id_of_a_moving_object() -> None:
    tracker = KalmanIouTracker(TrackerConfig(min_hits=1))
    every_frame = [BOX + f * np.array([4.0, 0.0, 4.0, 0.0]) for f in range(120)]
    for frame in range(20):
        tracker.update(found(every_frame[frame]), time_s=frame / 30)
    # 40 px between two looks is a whole box width: only the motion model can bridge it.
    assert [ids(tracker.update(found(every_frame[f]), time_s=f / 30)) for f in range(29, 120, 10)] == [[1]] * 10


def test_low_scores_only_continue_tracks() -> None:
    tracker = KalmanIouTracker(TrackerConfig(min_hits=1, high_conf=0.5, low_conf=0.2))
    assert ids(tracker.update(found(confidence=[0.4]), time_s=0.0)) == []
    assert outcomes(tracker) == [("unused", "low-score")]
    tracker.update(found(confidence=[0.8]), time_s=0.1)
    assert ids(tracker.update(found(confidence=[0.3]), time_s=0.2)) == [1]
    assert tracker.association is not None
    assert tracker.association.to_rows()[0]["stage"] == "low"
    assert ids(tracker.update(found(confidence=[0.1]), time_s=0.3)) == []


def test_the_log_says_why_a_detection_did_not_match() -> None:
    tracker = KalmanIouTracker(TrackerConfig(min_hits=1, min_iou=0.3))
    tracker.update(found(), time_s=0.0)
    near, far, weak = BOX[0], BOX[0] + 500, BOX[0] + [35, 0, 35, 0]
    rival = BOX[0] + [2, 0, 2, 0]
    tracker.update(found([rival, far, near, weak]), time_s=0.1)
    assert tracker.association is not None
    table = tracker.association.to_frame()
    assert table.schema == ASSOCIATION_SCHEMA
    assert table["detection"].to_list() == [0, 1, 2, 3]
    assert table["outcome"].to_list() == ["born", "born", "matched", "born"]
    assert table["reason"].to_list() == ["taken", "no-overlap", None, "below-min-iou"]
    assert table["rival"].to_list() == [0, None, None, 0]
    assert table["iou"].to_list() == pytest.approx([38 / 42, 0.0, 1.0, 5 / 75])
    assert table["track_id"].to_list()[2] == 1


def test_class_aware_tracks_keep_to_their_class() -> None:
    for aware, expected in ((False, [1]), (True, [2])):
        tracker = KalmanIouTracker(TrackerConfig(min_hits=1, class_aware=aware))
        tracker.update(found(class_id=[0]), time_s=0.0)
        assert ids(tracker.update(found(class_id=[1]), time_s=0.1)) == expected
    with pytest.raises(DataError, match="class_id must be given"):
        tracker.update(found(), time_s=0.2)


def test_missing_confidence_counts_as_certain() -> None:
    tracker = KalmanIouTracker(TrackerConfig(min_hits=1, high_conf=0.9, new_conf=0.95))
    answer = tracker.update(sv.Detections(xyxy=BOX))
    assert ids(answer) == [1]
    assert answer.confidence is None


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([1.0, 0.5], "time_s must not run backwards"),
        ([1.0, None], "to every update or to none"),
        ([float("nan")], "must not run backwards"),
    ],
)
def test_impossible_times_are_refused(calls: list[float | None], message: str) -> None:
    tracker = KalmanIouTracker()
    for time_s in calls[:-1]:
        tracker.update(found(), time_s=time_s)
    with pytest.raises(DataError, match=message):
        tracker.update(found(), time_s=calls[-1])


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        KalmanIouTracker().update(found(confidence=[np.nan]))


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="nearest: max_age_s"):
        create_tracker("kalman-iou", max_age=3)
    with pytest.raises(ConfigError, match="exactly one of max_age_s and max_age_frames"):
        create_tracker("kalman-iou", max_age_frames=3)
    with pytest.raises(ConfigError, match="unknown tracker 'kalman' \\(nearest: kalman-iou"):
        create_tracker("kalman")
