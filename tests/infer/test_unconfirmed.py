"""Detections of no confirmed track reach every output, with an empty id: a fast object at five frames a second."""

import csv
import json

import numpy as np
import pytest
import supervision as sv

from sightline.core.predictions import Predictions
from sightline.draw import Drawer
from sightline.infer import create_sinks, open_source, run_pipeline
from sightline.infer.sinks import tables
from sightline.track import NO_TRACK, KalmanIouTracker, TrackerConfig, with_unconfirmed

from .artefacts import SIZE_HW
from .test_pipeline import lines

KINDS = ("video", "pictures", "jsonl", "csv", "mot", "coco", "parquet", "association")
SLOW = tuple(range(0, 90000 * 2, 18000))  # five frames a second


class Fast:
    """One box that moves by more than its width from frame to frame, and one that stands; scores as given."""

    task = "detect"
    class_names = ("car", "bus")
    preprocess = None

    def __init__(self, scores=(0.9, 0.8), standing=True):
        self.seen, self.scores, self.standing = 0, scores, standing

    def __call__(self, images):
        found = []
        for _ in images:
            left = 4.0 + 30 * (self.seen % 3)
            boxes = np.array([[left, 6.0, left + 20, 30.0], [40.0, 40.0, 60.0, 60.0]])[: 1 + self.standing]
            scores, classes = np.array(self.scores)[: len(boxes)], np.arange(len(boxes))
            found.append(sv.Detections(boxes, confidence=scores, class_id=classes))
            self.seen += 1
        return found


def run(source, out, predictor, **settings):
    sinks = create_sinks(KINDS, out, "r")
    return run_pipeline(open_source(source), predictor, KalmanIouTracker(TrackerConfig(**settings)), [*sinks.values()])


def test_every_output_has_the_unconfirmed_with_an_empty_id(make_video, tmp_path):
    result = run(make_video(pts=SLOW), tmp_path / "o", Fast())
    out = tmp_path / "o"
    # The standing one is confirmed with its third detection, the fast one never.
    ids = [(None, None)] * 2 + [(None, 1)] * 8
    assert (result.frames, result.detections, result.tracks) == (10, 20, 1)
    assert (result.unconfirmed, result.left_out) == (12, 0)
    assert result.objects_by_class == {"car": 10, "bus": 10}
    records = lines(out / "r.jsonl")
    assert [tuple(d["track_id"] for d in r["detections"]) for r in records] == ids
    with (out / "r.csv").open(newline="") as file:
        assert [row["track_id"] for row in csv.DictReader(file)] == ["" if i is None else "1" for p in ids for i in p]
    assert Predictions.load(out / "r.parquet").table["track_id"].to_list() == [i for pair in ids for i in pair]
    coco = json.loads((out / "r.coco.json").read_text())
    assert [entry.get("track_id") for entry in coco] == [i for pair in ids for i in pair]
    assert all("track_id" not in entry for entry in coco if entry["category_id"] == 0)
    rows = [line.split(",")[:2] for line in (out / "r.txt").read_text().splitlines()]
    assert rows == [[str(frame), "1"] for frame in range(3, 11)]
    log = lines(out / "r-association.jsonl")
    assert len([row for row in log if row["detection"] is not None]) == 20
    assert len(list(open_source(out / "r.mp4"))) == len(list((out / "r-pictures").iterdir())) == 10


def test_scores_that_may_only_continue_a_track_are_counted_as_left_out(make_video, tmp_path):
    result = run(make_video(pts=SLOW), tmp_path / "o", Fast(scores=(0.2, 0.9)), high_conf=0.5)
    assert (result.left_out, result.unconfirmed, result.detections) == (10, 2, 10)
    assert {d["class_id"] for r in lines(tmp_path / "o" / "r.jsonl") for d in r["detections"]} == {1}


def test_frames_without_detections_and_without_tracks_are_complete(make_video, tmp_path):
    result = run(make_video(pts=SLOW), tmp_path / "o", Fast(standing=False))
    assert (result.tracks, result.unconfirmed) == (0, 10)
    assert (tmp_path / "o" / "r.txt").read_text() == ""
    assert len(json.loads((tmp_path / "o" / "r.coco.json").read_text())) == 10


def test_an_unconfirmed_box_is_drawn_without_an_id():
    image = np.full((*SIZE_HW, 3), 90, np.uint8)
    found = sv.Detections(np.array([[20.0, 30.0, 60.0, 60.0]]), confidence=np.array([0.9]), class_id=np.array([0]))
    found.tracker_id = np.array([NO_TRACK])
    drawer = Drawer(SIZE_HW, ("car", "bus"))
    assert drawer._captions(found) == ["car 0.90"]
    assert (drawer.draw(image, found) != image).any()
    found.tracker_id = np.array([7])
    assert drawer._captions(found) == ["car #7 0.90"]


def test_a_tracker_that_does_not_say_why_gives_only_what_it_tracked():
    given = sv.Detections(np.array([[0.0, 0, 9, 9], [20, 0, 29, 9]]), confidence=np.array([0.9, 0.9]))
    tracked = given.select(np.array([1]))
    tracked.tracker_id = np.array([4])
    assert with_unconfirmed(given, tracked, None) is tracked


def test_documents_are_written_as_the_frames_come(make_video, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_FRAMES_IN_MEMORY", 4)
    sinks, grown = create_sinks(("parquet", "mot", "coco"), tmp_path / "o", "r"), []

    class Watching(Fast):
        def __call__(self, images):
            grown.append(len(list((tmp_path / "o").rglob("*/*.parquet"))))
            return super().__call__(images)

    run_pipeline(open_source(make_video(pts=SLOW)), Watching(), None, list(sinks.values()))
    assert grown == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["r.coco.json", "r.parquet", "r.txt"]
    table = Predictions.load(tmp_path / "o" / "r.parquet").table
    assert table["image_id"].to_list() == [frame for frame in range(10) for _ in range(2)]
    assert [line.split(",")[1] for line in (tmp_path / "o" / "r.txt").read_text().splitlines()] == ["-1"] * 20


def test_documents_of_a_run_that_fails_leave_nothing(make_video, tmp_path):
    class Failing(Fast):
        def __call__(self, images):
            if self.seen == 3:
                raise RuntimeError("broken model")
            return super().__call__(images)

    sinks = create_sinks(("parquet", "mot", "coco"), tmp_path / "o", "r")
    with pytest.raises(RuntimeError, match="broken model"):
        run_pipeline(open_source(make_video(pts=SLOW)), Failing(), None, list(sinks.values()))
    assert list((tmp_path / "o").iterdir()) == []
