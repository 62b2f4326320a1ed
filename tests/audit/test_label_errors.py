"""Label errors planted into known labels come first in the ranking, and undamaged labels give none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sightline.audit.labels.errors import rank_label_errors
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions, predictions_from_rows
from sightline.data import read_dataset
from sightline.ops import rle

NAMES = ("a", "b", "c")
CORNERS = ("x1", "y1", "x2", "y2")


def scene(images: int = 60, seed: int = 0) -> tuple[Dataset, Predictions]:
    """Objects on a grid without overlap, and a good model: small offsets, high scores, a few weak false detections."""
    rng = np.random.default_rng(seed)
    objects, predicted = [], []
    for image in range(images):
        for cell in rng.choice(16, 8, replace=False).tolist():
            corner = np.array([cell % 4, cell // 4]) * 100 + rng.uniform(5, 25, 2)
            box = np.concatenate([corner, corner + rng.uniform(40, 70, 2)])
            kind = int(rng.integers(3))
            objects.append({"image_id": image, "class_id": kind, **dict(zip(CORNERS, box.tolist(), strict=True))})
            seen = dict(zip(CORNERS, (box + rng.normal(0, 1.5, 4)).tolist(), strict=True))
            predicted.append({"image_id": image, "class_id": kind, "score": rng.uniform(0.75, 0.98), **seen})
            weak = {"class_id": (kind + 1) % 3, "score": rng.uniform(0.01, 0.3)}
            predicted.append({"image_id": image, **seen, **weak})
        stray = dict(zip(CORNERS, rng.uniform([0, 0, 200, 200], [150, 150, 400, 400]).tolist(), strict=True))
        predicted.append({"image_id": image, "class_id": 0, "score": rng.uniform(0.01, 0.4), **stray})
    data = dataset_from_rows(
        [{"image_id": i, "path": f"{i:03d}.jpg", "width": 400, "height": 400} for i in range(images)],
        objects,
        [{"class_id": i, "name": n} for i, n in enumerate(NAMES)],
        root="/nowhere",
        name="t",
        task="detect",
        format="by hand",
    )
    return data, predictions_from_rows(predicted, {"class_names": NAMES})


def test_planted_errors_come_first() -> None:
    data, predictions = scene()
    rng = np.random.default_rng(1)
    dropped, moved, swapped = np.split(rng.permutation(len(data.objects))[:60], 3)
    shift = np.zeros(len(data.objects))
    shift[moved] = rng.uniform(18, 30, 20) * rng.choice([-1, 1], 20)
    classes = data.objects["class_id"].to_numpy().copy()
    classes[swapped] = (classes[swapped] + 1) % 3
    objects = data.objects.with_columns(
        pl.col("x1") + pl.Series(shift), pl.col("x2") + pl.Series(shift), class_id=pl.Series(classes)
    ).filter(~pl.col("object_id").is_in(dropped.tolist()))
    result = rank_label_errors(replace(data, objects=objects), predictions)

    def top(kind: str) -> pl.DataFrame:
        return result.errors.filter(pl.col("kind") == kind).head(20)

    assert set(top("swapped")["object_id"]) == set(swapped.tolist())
    assert set(top("badly_located")["object_id"]) == set(moved.tolist())
    lost = data.objects[np.sort(dropped)]
    found = top("overlooked").join(lost, on="image_id", suffix="_lost")
    near = found.filter(pl.all_horizontal((pl.col(c) - pl.col(f"{c}_lost")).abs() < 8 for c in CORNERS))
    assert len(near) == 20
    assert result.errors["suspicion"].is_between(0, 1).all()
    assert set(top("overlooked")["label"]) == {None}
    codes = [f.code for f in result.findings(top=20)]
    assert all(codes.count(f"label-{kind}") >= 18 for kind in ("overlooked", "swapped", "badly-located"))
    worst = result.per_image["suspicion"].to_list()
    assert worst == sorted(worst, reverse=True)


def test_good_labels_give_no_finding() -> None:
    data, predictions = scene()
    result = rank_label_errors(data, predictions)
    assert result.findings() == []
    assert not result.errors.filter(pl.col("kind") == "badly_located").height


def test_crowds_and_repeated_predictions_do_not_count() -> None:
    box = dict(zip(CORNERS, (10.0, 10.0, 60.0, 60.0), strict=True))
    data, _ = scene(1)
    crowd = {"image_id": 0, "class_id": 0, "x1": 0.0, "y1": 0.0, "x2": 200.0, "y2": 200.0, "crowd": True}
    empty = data.objects.clear()
    seen = [{"image_id": 0, "class_id": 0, "score": s, **box} for s in (0.9, 0.8)]
    free = rank_label_errors(replace(data, objects=empty), predictions_from_rows(seen, {}))
    assert free.errors["suspicion"].to_list() == [0.9]
    (found,) = free.findings()
    assert (found.code, found.image_id, found.path, found.box_xyxy) == (
        "label-overlooked",
        0,
        "000.jpg",
        (10, 10, 60, 60),
    )
    crowded = dataset_from_rows(data.images, [crowd], data.classes, root="/n", name="t", task="detect", format="f")
    assert rank_label_errors(crowded, predictions_from_rows(seen, {})).errors.is_empty()


def test_strange_predictions_are_refused() -> None:
    data, predictions = scene(2)
    with pytest.raises(DataError, match="must have the 3 classes"):
        rank_label_errors(data, replace(predictions, meta={"class_names": ["x"]}))
    with pytest.raises(DataError, match="first image_id 1"):
        rank_label_errors(data.select([0]), predictions)
    wrong = predictions.table.with_columns(class_id=pl.lit(3, dtype=pl.Int32))
    with pytest.raises(DataError, match=r"must be in 0\.\.2, got 3"):
        rank_label_errors(data, Predictions(wrong))


def test_masks(tmp_path: Path, save_image, save_mask) -> None:
    rows = []
    for i in range(10):
        save_image(f"images/{i}.png", size_hw=(80, 80))
        truth = np.zeros((80, 80), dtype=np.uint8)
        truth[10:50, 10:50] = 1
        seen = np.roll(truth, 2, axis=1)  # two pixels off is what borders are
        if i == 3:
            truth[:] = 0  # not labelled
        if i == 5:
            truth[truth == 1] = 2  # another class
        if i == 7:
            seen[30:50] = 0  # more labelled than seen
        save_mask(f"masks/{i}.png", truth)
        box = {"x1": 0, "y1": 0, "x2": 80, "y2": 80, "score": 1.0, "image_id": i}
        rows += [{**box, "class_id": c, "rle": rle.encode(seen == c)} for c in (0, 1)]
    (tmp_path / "sightline.yaml").write_text("images: images\nmasks: masks\nclasses: [background, x, y]\n")
    data = read_dataset(tmp_path)
    errors = rank_label_errors(data, predictions_from_rows(rows, {"class_names": data.class_names})).errors
    told = errors.select("kind", "path", "label", "predicted").rows()
    assert set(told) == {
        ("overlooked", "images/3.png", None, "x"),
        ("swapped", "images/5.png", "y", "x"),
        ("badly_located", "images/7.png", "x", "background"),
    }
    assert errors.filter(pl.col("kind") == "badly_located").select(CORNERS).row(0) == (10, 33, 50, 50)


@pytest.mark.slow
def test_a_million_labels_take_seconds() -> None:
    data, predictions = scene(2000)
    copies = 60
    images = pl.concat(
        [
            data.images.with_columns(pl.col("image_id") + 2000 * k, path=pl.format("{}/{}", pl.lit(k), "path"))
            for k in range(copies)
        ]
    )
    objects = pl.concat([data.objects.with_columns(pl.col("image_id") + 2000 * k) for k in range(copies)])
    objects = objects.with_columns(object_id=pl.int_range(pl.len(), dtype=pl.Int64))
    table = pl.concat([predictions.table.with_columns(pl.col("image_id") + 2000 * k) for k in range(copies)])
    assert rank_label_errors(replace(data, images=images, objects=objects), Predictions(table)).findings() == []
