"""The whole chain on small artefacts: one result per frame, complete files whatever happens."""

import csv
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv
from PIL import Image

from sightline.core.errors import ConfigError, SourceError
from sightline.core.predictions import Predictions
from sightline.data.formats.mot.sequence import read_mot_txt
from sightline.infer import SINKS, RunResult, create_sinks, open_predictor, open_source, run_pipeline
from sightline.ops import rle
from sightline.track import KalmanIouTracker, TrackerConfig

from .artefacts import SIZE_HW, numbered_image

DETECT_SINKS = ("video", "pictures", "jsonl", "csv", "mot", "coco", "parquet", "association")


class Moving:
    """A detector that finds one box, moving, in every frame it is shown."""

    task = "detect"
    class_names = ("car", "bus")
    preprocess = None

    def __init__(self, on_frame: Callable[[int], None] = lambda index: None) -> None:
        self.seen = 0
        self.on_frame = on_frame

    def __call__(self, images: Sequence[Any]) -> list[sv.Detections]:
        answers = []
        for _ in images:
            self.on_frame(self.seen)
            left = 4.0 + 2 * self.seen
            answers.append(
                sv.Detections(
                    xyxy=np.array([[left, 6.5, left + 24, 40.0]]),
                    confidence=np.array([0.75]),
                    class_id=np.array([1]),
                    data={"class_name": np.array(["bus"])},
                )
            )
            self.seen += 1
        return answers


def run(path: Path, out: Path, kinds: Sequence[str] = DETECT_SINKS, **options: Any) -> RunResult:
    tracker = KalmanIouTracker(TrackerConfig(min_hits=1))
    sinks = create_sinks(kinds, out, "r")
    return run_pipeline(open_source(path), options.pop("predictor", Moving()), tracker, list(sinks.values()), **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_sink_has_every_frame(make_video: Callable[..., Path], tmp_path: Path) -> None:
    done: list[tuple[int, int | None]] = []
    result = run(make_video(), tmp_path / "out", progress=lambda n, total, what: done.append((n, total)))
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == sorted(f"r{SINKS[k].ending}" for k in DETECT_SINKS)
    assert (result.frames, result.detections, result.tracks, result.interrupted) == (12, 12, 1, False)
    assert result.objects_by_class == {"car": 0, "bus": 12}
    assert done == [(n, 12) for n in range(1, 13)]
    assert result.latency["stage"].to_list() == ["decode", "track", "draw", "encode", "predict"]
    assert result.latency["count"].to_list() == [12] * 5

    assert len(list(open_source(out / "r.mp4"))) == 12
    assert len(list((out / "r-pictures").iterdir())) == 12
    records = lines(out / "r.jsonl")
    assert [r["frame"] for r in records] == list(range(12))
    assert records[3]["detections"] == [
        {"class_id": 1, "class_name": "bus", "score": 0.75, "box_xyxy": [10.0, 6.5, 34.0, 40.0], "track_id": 1}
    ]
    assert records[3]["time_s"] == pytest.approx(0.1)
    with (out / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["frame"]) for r in rows] == list(range(12))
    assert {k: rows[3][k] for k in ("x1", "y2", "track_id", "class_name")} == {
        "x1": "10.0", "y2": "40.0", "track_id": "1", "class_name": "bus"
    }  # fmt: skip
    assert (out / "r.txt").read_text().splitlines()[3] == "4,1,11,7.5,24,33.5,0.75,-1,-1,-1"
    table, findings = read_mot_txt(out / "r.txt")
    assert not findings
    assert table.select("frame", "x1", "y1", "x2", "y2").row(3) == (3, 10.0, 6.5, 34.0, 40.0)
    coco = json.loads((out / "r.coco.json").read_text())
    assert coco[3].pop("file_name").endswith("clip.mp4#000003")
    assert coco[3] == {
        "image_id": 3, "category_id": 1, "bbox": [10.0, 6.5, 24.0, 33.5], "score": 0.75, "track_id": 1
    }  # fmt: skip
    predictions = Predictions.load(out / "r.parquet")
    assert predictions.meta["source"] == "clip.mp4"
    assert predictions.table["track_id"].to_list() == [1] * 12
    log = lines(out / "r-association.jsonl")
    assert [entry["outcome"] for entry in log] == ["born"] + ["matched"] * 11


def test_batches_give_the_same_results(make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = make_video()
    for batch in (1, 5, 64):
        run(path, tmp_path / str(batch), ("jsonl",), batch=batch)
    one, five, all_at_once = ((tmp_path / n / "r.jsonl").read_text() for n in ("1", "5", "64"))
    assert one == five == all_at_once


def test_max_frames_ends_the_run(make_video: Callable[..., Path], tmp_path: Path) -> None:
    result = run(make_video(), tmp_path, ("video", "jsonl"), max_frames=5)
    assert result.frames == 5
    assert len(list(open_source(tmp_path / "r.mp4"))) == 5


def test_a_truncated_source_leaves_complete_outputs(make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = make_video(pts=tuple(range(0, 360000, 6000)), audio=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(SourceError, match="is the last good one") as caught:
        run(path, tmp_path / "out", batch=7)
    records = lines(tmp_path / "out" / "r.jsonl")
    assert f"frame {records[-1]['frame']} at" in str(caught.value)
    assert len(list(open_source(tmp_path / "out" / "r.mp4"))) == len(records) > 10
    assert len(Predictions.load(tmp_path / "out" / "r.parquet")) == len(records)


def test_a_source_without_one_good_frame_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="there is none before it"):
        run(tmp_path / "in", tmp_path / "out", ["jsonl", "csv", "pictures"])
    assert not [p for p in tmp_path.rglob("out/**/*") if p.is_file()]


def test_interrupting_leaves_complete_outputs(make_video: Callable[..., Path], tmp_path: Path) -> None:
    def interrupt(index: int) -> None:
        if index == 4:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    result = run(make_video(), tmp_path / "out", predictor=Moving(interrupt))
    assert result.interrupted
    assert result.frames == 5
    assert len(lines(tmp_path / "out" / "r.jsonl")) == 5
    assert len(list(open_source(tmp_path / "out" / "r.mp4"))) == 5
    assert len(Predictions.load(tmp_path / "out" / "r.parquet")) == 5
    assert signal.getsignal(signal.SIGINT) is before


def test_a_failing_predictor_leaves_nothing(make_video: Callable[..., Path], tmp_path: Path) -> None:
    def fail(index: int) -> None:
        if index == 4:
            raise RuntimeError("broken network")

    out = tmp_path / "out"
    out.mkdir()
    (out / "r.jsonl").write_text("an earlier result")
    with pytest.raises(RuntimeError, match="broken network"):
        run(make_video(), out, predictor=Moving(fail))
    assert [p.name for p in out.iterdir()] == ["r.jsonl"]
    assert (out / "r.jsonl").read_text() == "an earlier result"


def test_an_onnx_model_on_a_video_is_timed_by_stage(
    make_video: Callable[..., Path], detector_path: Path, tmp_path: Path
) -> None:
    sinks = create_sinks(["jsonl"], tmp_path, "r")
    result = run_pipeline(open_source(make_video()), open_predictor(detector_path), None, list(sinks.values()))
    assert result.latency["stage"].to_list() == ["decode", "preprocess", "network", "postprocess", "encode"]
    assert result.conventions["conf"] == 0.5
    # The red corner has brightness 220 / 255: two boxes pass 0.5, the one that overlaps a better one goes.
    found = lines(tmp_path / "r.jsonl")[0]["detections"]
    assert [d["class_name"] for d in found] == ["car", "bus"]
    assert found[0]["score"] == pytest.approx(0.9 * 220 / 255, abs=0.02)


def test_label_maps_go_where_they_can(segmenter_path: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(numbered_image(5)).save(picture)
    kinds = ("pictures", "jsonl", "csv", "coco", "parquet")
    sinks = create_sinks(kinds, tmp_path / "out", "r")
    result = run_pipeline(open_source(picture), open_predictor(segmenter_path), None, list(sinks.values()))
    assert result.objects_by_class == {"background": 1, "bright": 1}
    expected = numbered_image(5).mean(axis=2) > 127.5
    record = lines(tmp_path / "out" / "r.jsonl")[0]["classes"][1]
    assert np.array_equal(rle.decode(record["rle"], SIZE_HW), expected)
    assert record["area_px"] == expected.sum()
    coco = json.loads((tmp_path / "out" / "r.coco.json").read_text())
    assert coco[1]["segmentation"] == {"size": list(SIZE_HW), "counts": record["rle"]}
    assert Predictions.load(tmp_path / "out" / "r.parquet").table["class_id"].to_list() == [0, 1]
    rows = (tmp_path / "out" / "r.csv").read_text().splitlines()
    assert rows[2].endswith(f",{expected.sum()}")


@pytest.mark.parametrize(
    ("kinds", "tracker", "message"),
    [
        (("mot",), None, "a mot file holds boxes"),
        (("association",), None, "must have a tracker"),
        ((), KalmanIouTracker(), "a tracker must be given detections"),
    ],
)
def test_impossible_combinations_are_refused(
    segmenter_path: Path, tmp_path: Path, kinds: Sequence[str], tracker: KalmanIouTracker | None, message: str
) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(numbered_image(5)).save(picture)
    sinks = list(create_sinks(kinds, tmp_path / "out", "r").values())
    with pytest.raises(ConfigError, match=message):
        run_pipeline(open_source(picture), open_predictor(segmenter_path), tracker, sinks)


def test_an_unknown_output_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown output 'json' \\(nearest: jsonl"):
        create_sinks(["json"], ".", "r")


@pytest.mark.real_data
def test_a_real_clip_with_audio(data_root: Path, tmp_path: Path) -> None:
    source = open_source(data_root / "video_clips" / "car-detection.mp4")
    sinks = create_sinks(["video"], tmp_path, "cars")
    result = run_pipeline(source, Moving(), KalmanIouTracker(), list(sinks.values()), max_frames=120)
    review = open_source(tmp_path / "cars.mp4")
    assert result.frames == 120
    assert [f.time_s for f in review] == pytest.approx([i / 12.5 for i in range(120)])
    assert review.media_path is not None
