"""Tracking metrics of data set and prediction tables equal those of the same boxes in arrays."""

import numpy as np
import polars as pl
import pytest

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.predictions import predictions_from_rows
from sightline.data import read_dataset
from sightline.evaluate import evaluate_tracking
from sightline.evaluate.tracking import (
    evaluate_mot_files,
    evaluate_sequences,
    match_sequence,
    read_track_rows,
    track_rows,
)

CLASSES = [{"name": "pedestrian", "source_id": 1}, {"name": "distractor", "source_id": 8}]


def made(classes=CLASSES, seed=0):
    """Two sequences of six frames: a data set and predictions that follow it with noise, gaps and false boxes."""
    rng = np.random.default_rng(seed)
    images, objects, found = [], [], []
    for s, name in enumerate(("north", "south")):
        for frame in range(6):
            image_id = 10 * s + frame
            images.append({"image_id": image_id, "path": f"{name}/{frame}.png", "width": 400, "height": 400})
            images[-1] |= {"group": name, "frame": frame}
            for track in range(5):
                x, y = 60 * track + 5 * frame, 40 * track
                box = {"x1": x, "y1": y, "x2": x + 40, "y2": y + 40}
                flags = {"class_id": int(track == 4), "ignore": track == 3 and frame % 2 == 0}
                objects.append({"image_id": image_id, "track_id": track, **flags, **box})
                if rng.random() < 0.8:
                    moved = dict(zip(box, np.array(list(box.values())) + rng.normal(0, 5, 4), strict=True))
                    row = {"image_id": image_id, "class_id": 0, "score": 0.9, "track_id": track + 100 * (frame > 3)}
                    found.append(row | moved)
    rows = [{"class_id": i} | c for i, c in enumerate(classes)]
    dataset = dataset_from_rows(images, objects, rows, root=".", name="made", task="track", format="made")
    return dataset, predictions_from_rows(found, {"task": "track"})


def same_in_arrays(dataset, predictions, preprocessing):
    places = dataset.images.select("image_id", "group", "frame")
    sequences = []
    for name in ("north", "south"):
        here = places.filter(pl.col("group") == name)
        truth = dataset.objects.join(here, on="image_id").sort("object_id")
        found = predictions.table.join(here, on="image_id", maintain_order="left")
        numbers = truth["class_id"].replace_strict({0: 1, 1: 8}).to_numpy()
        boxes = ["x1", "y1", "x2", "y2"]
        sides = (
            track_rows(truth["frame"], truth["track_id"], truth.select(boxes), numbers, truth["ignore"]),
            track_rows(found["frame"], found["track_id"], found.select(boxes)),
        )
        sequences.append(match_sequence(name, *sides, preprocessing=preprocessing, frame_count=6))
    return evaluate_sequences(sequences, {}, preprocessing)


@pytest.mark.parametrize("preprocessing", ["none", "mot15", "mot17"])
def test_tables_equal_arrays(preprocessing):
    dataset, predictions = made()
    got = evaluate_tracking(dataset, predictions, preprocessing=preprocessing)
    expected = same_in_arrays(dataset, predictions, preprocessing)
    assert got.sequences == expected.sequences
    assert got.combined == expected.combined
    assert 0 < got["HOTA"] < 1
    assert got.conventions["label_digest"] == dataset.label_digest()
    assert got.conventions["prediction_digest"] == predictions.digest()
    boxes = {"none": 60, "mot15": 54, "mot17": 42}[preprocessing]
    assert got.combined.truth_boxes == boxes
    assert got.conventions["removed_truth_boxes"] == 60 - boxes


def test_a_sequence_without_predictions_is_missed_not_left_out():
    dataset, predictions = made()
    north = predictions_from_rows(predictions.table.filter(pl.col("image_id") < 10), {})
    got = evaluate_tracking(dataset, north)
    assert [s.name for s in got.sequences] == ["north", "south"]
    assert got.sequences[1]["CLR_FN"] == got.sequences[1].truth_boxes == 27
    assert got.sequences[1]["HOTA"] == 0


def test_ignored_regions_need_no_track_id():
    dataset, predictions = made()
    blank = pl.when(pl.col("ignore")).then(None).otherwise("track_id").alias("track_id")
    anonymous = dataset_from_rows(
        dataset.images,
        dataset.objects.with_columns(blank),
        dataset.classes,
        root=".",
        name="made",
        task="track",
        format="made",
    )
    expected = evaluate_tracking(dataset, predictions).combined
    assert evaluate_tracking(anonymous, predictions).combined == expected
    with pytest.raises(DataError, match="6 boxes of the ground truth without"):
        evaluate_tracking(anonymous, predictions, preprocessing="none")


def test_unusable_input_is_refused():
    dataset, predictions = made()
    table = predictions.table
    cases = {
        "other images": table.with_columns(image_id=pl.lit(999, dtype=pl.Int64)),
        "predicted class ids must be in 0..1": table.with_columns(class_id=pl.lit(2)),
        "boxes of the predictions without": table.with_columns(track_id=pl.lit(None, dtype=pl.Int64)),
        "twice in the predictions": pl.concat([table, table.head(1)]),
    }
    for message, rows in cases.items():
        with pytest.raises(DataError, match=message):
            evaluate_tracking(dataset, predictions_from_rows(rows, {}))
    with pytest.raises(DataError, match="must have the 2 classes"):
        evaluate_tracking(dataset, predictions_from_rows(table, {"class_names": ["car"]}))
    other = predictions_from_rows(table.with_columns(class_id=pl.lit(1)), {})
    with pytest.raises(DataError, match="under mot17 must be of class number 1"):
        evaluate_tracking(dataset, other, preprocessing="mot17")
    with pytest.raises(DataError, match="class numbers"):
        evaluate_tracking(made([{"name": "a"}, {"name": "b"}])[0], predictions, preprocessing="mot17")
    still = dataset_from_rows(
        dataset.images.drop("frame"),
        dataset.objects,
        dataset.classes,
        root=".",
        name="made",
        task="detect",
        format="made",
    )
    with pytest.raises(DataError, match="frame index"):
        evaluate_tracking(still, predictions)


@pytest.mark.real_data
def test_the_data_set_of_tud_gives_the_numbers_of_its_files(data_root):
    source = data_root / "track_mot15"
    dataset = read_dataset(source)
    names = ("TUD-Campus", "TUD-Stadtmitte")
    found = []
    for name in names:
        rows = read_track_rows(source / "cem_tracker_results" / f"{name}.txt")
        image_ids = dict(dataset.images.filter(pl.col("group") == name).select("frame", "image_id").iter_rows())
        # The reader puts the first pixel of the files' 1-based pixels at 0.
        boxes = dict(zip(("x1", "y1", "x2", "y2"), (rows.boxes_xyxy - 1).T, strict=True))
        ids = [image_ids[frame] for frame in rows.frames.tolist()]
        found.append(pl.DataFrame({"image_id": ids, "class_id": 0, "score": 1.0, "track_id": rows.ids} | boxes))
    got = evaluate_tracking(dataset, predictions_from_rows(pl.concat(found), {}))
    expected = evaluate_mot_files(
        {name: source / name / "gt" / "gt.txt" for name in names},
        {name: source / "cem_tracker_results" / f"{name}.txt" for name in names},
    )
    for ours, theirs in zip((*got.sequences, got.combined), (*expected.sequences, expected.combined), strict=True):
        assert ours.name == theirs.name
        assert ours.metrics == pytest.approx(theirs.metrics, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.with_columns(pl.col("x1", "y1", "x2", "y2") / 2),
            "a picture 0.5 times as wide and 0.5 times as high",
        ),
        (lambda t: t.with_columns(pl.col("x1", "x2") * 1.5), "1.5 times as wide and 1 times as high"),
        (lambda t: t.with_columns(x2=pl.col("x1") + pl.col("x2"), y2=pl.col("y1") + pl.col("y2")), "look like corners"),
    ],
)
def test_results_of_another_film_are_doubted(change, said):
    dataset, predictions = made()
    exact = dataset.objects.select("image_id", "class_id", "track_id", "x1", "y1", "x2", "y2").with_columns(
        class_id=pl.lit(0), score=pl.lit(0.9)
    )
    assert evaluate_tracking(dataset, predictions_from_rows(exact, {})).warnings == ()
    assert evaluate_tracking(dataset, predictions).warnings == ()
    warnings = evaluate_tracking(dataset, predictions_from_rows(change(exact), {})).warnings
    assert [w.split(":")[0] for w in warnings] == ["north", "south"]
    assert all(said in w for w in warnings), warnings


def test_text_beyond_the_sequence_and_off_by_one_is_doubted(tmp_path):
    lines = [f"{f},{t},{40 * t + 30 * f},{30 * t},20,20,1,1,1" for f in range(1, 11) for t in range(1, 4)]
    (tmp_path / "gt.txt").write_text("\n".join(lines) + "\n")
    late = [f"{f + 1},{t},{40 * t + 30 * f},{30 * t},20,20,1,-1,-1,-1" for f in range(1, 11) for t in range(1, 4)]
    (tmp_path / "late.txt").write_text("\n".join(late) + "\n")
    for name, expected in (("gt.txt", ()), ("late.txt", ("frame numbers look one too high",))):
        files = {"s": tmp_path / "gt.txt"}, {"s": tmp_path / name}
        warnings = evaluate_mot_files(*files).warnings
        assert len(warnings) == len(expected)
        assert all(e in w for e, w in zip(expected, warnings, strict=True))
    beyond = evaluate_mot_files({"s": tmp_path / "gt.txt"}, {"s": tmp_path / "late.txt"}, frames={"s": 10}).warnings
    assert beyond[0] == "s: 3 boxes lie beyond the sequence's 10 frames, up to 11"
