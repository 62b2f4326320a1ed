"""Statistics and baselines: numbers by hand, and equal to what the evaluators give for the same trivial predictions."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sightline.audit import audit_dataset, read_audit
from sightline.audit.baselines import judge_baselines, measure_baselines
from sightline.audit.result import Baselines, CocoSizes, ObjectsPerImage
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.predictions import predictions_from_rows
from sightline.data import read_dataset
from sightline.evaluate import evaluate_detection, evaluate_semantic
from sightline.ops import rle


def dataset(images: list[dict], objects: list[dict], task: str = "detect", root: str = "/nowhere") -> Dataset:
    classes = [{"class_id": i, "name": n} for i, n in enumerate(("a", "b"))]
    return dataset_from_rows(images, objects, classes, root=root, name="t", task=task, format="by hand")  # type: ignore[arg-type]


def scattered(count: int, seed: int, spread: float = 0.15) -> Dataset:
    """Images of two sizes, each with an object of class a near the middle and others anywhere."""
    rng = np.random.default_rng(seed)
    images, objects = [], []
    for i in range(count):
        width, height = ((200, 100), (120, 160))[i % 2]
        split = "val" if i % 3 == 0 else "train"
        images.append({"image_id": 7 * i % count, "path": f"{i}.jpg", "width": width, "height": height, "split": split})
        for k in range(3):
            cx, cy = rng.normal(0.5, spread, 2) if k == 0 else rng.uniform(0.2, 0.8, 2)
            w, h = rng.uniform(0.2, 0.4, 2)
            corners = {"x1": (cx - w / 2) * width, "y1": (cy - h / 2) * height}
            corners |= {"x2": (cx + w / 2) * width, "y2": (cy + h / 2) * height}
            kind = {"class_id": int(k == 2), "crowd": k == 1 and i % 5 == 0, "ignore": k == 1 and i % 7 == 0}
            objects.append({"image_id": 7 * i % count, **kind, **corners})
    return dataset(images, objects)


@pytest.mark.parametrize("seed", range(4))
def test_box_baselines_are_what_the_evaluator_gives(seed: int) -> None:
    data = scattered(40, seed)
    baselines = measure_baselines(data)
    assert (baselines.fitted_on, baselines.measured_on) == ("train", "val")
    train, val = data.split("train"), data.split("val")
    usable = train.usable_objects.join(train.images, on="image_id")
    rows = {"mean_box": [], "whole_image": []}
    for class_id in (0, 1):
        mine = usable.filter(pl.col("class_id") == class_id)
        x, y = ((mine[f"{c}1"] + mine[f"{c}2"]) / 2 / mine[s] for c, s in (("x", "width"), ("y", "height")))
        w, h = ((mine[f"{c}2"] - mine[f"{c}1"]) / mine[s] for c, s in (("x", "width"), ("y", "height")))
        cx, cy, bw, bh = (float(v.mean()) for v in (x, y, w, h))
        mean = (cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2)
        for image_id, width, height in val.images.select("image_id", "width", "height").iter_rows():
            for name, corners in (("mean_box", mean), ("whole_image", (0, 0, 1, 1))):
                scaled = [v * s for v, s in zip(corners, (width, height) * 2, strict=True)]
                box = dict(zip(("x1", "y1", "x2", "y2"), scaled, strict=True))
                rows[name].append({"image_id": image_id, "class_id": class_id, "score": 1.0, **box})
    for name, predicted in rows.items():
        result = evaluate_detection(val, predictions_from_rows(predicted, {}))
        assert pytest.approx(result.metrics["AP50"], abs=1e-9) == getattr(baselines, name).AP50
    assert baselines.mean_box.AP50 > 0.001


def test_strong_box_baseline() -> None:
    centred = dataset(
        [{"image_id": i, "path": f"{i}.jpg", "width": 100, "height": 100} for i in range(30)],
        [{"image_id": i, "class_id": 0, "x1": 20 + i % 5, "y1": 30, "x2": 70 + i % 7, "y2": 80} for i in range(30)],
    )
    (found,) = judge_baselines(measure_baselines(centred))
    assert found.code == "baseline-strong"
    assert "AP50 1.00" in found.message
    assert judge_baselines(measure_baselines(centred.select(range(15)))) == []
    assert judge_baselines(measure_baselines(scattered(60, 0))) == []
    assert measure_baselines(dataset([], [])) == Baselines()


def masks(folder: Path, save_image, save_mask, shift: int) -> Dataset:
    for i in range(24):
        save_image(f"images/{i:02d}.png", size_hw=(64, 64))
        values = np.zeros((64, 64), dtype=np.uint8)
        values[10 + shift * (i % 4) : 40 + shift * (i % 4), 20:50] = 1
        save_mask(f"masks/{i:02d}.png", values)
    return read_dataset(folder)


def test_mask_baselines_are_what_the_evaluator_gives(tmp_path: Path, save_image, save_mask) -> None:
    data = masks(tmp_path, save_image, save_mask, shift=4)
    baselines = measure_baselines(data)
    votes = np.zeros((64, 64))
    for i in range(24):
        votes[10 + 4 * (i % 4) : 40 + 4 * (i % 4), 20:50] += 1
    for name, chosen in (("mean_mask", votes > 12), ("most_common_class", np.zeros((64, 64), dtype=bool))):
        rows = [
            {
                "image_id": i,
                "class_id": c,
                "x1": 0,
                "y1": 0,
                "x2": 0,
                "y2": 0,
                "score": 1.0,
                "rle": rle.encode(chosen == c),
            }
            for i in range(24)
            for c in (0, 1)
            if (chosen == c).any()
        ]
        result = evaluate_semantic(data, predictions_from_rows(rows, {}))
        assert getattr(baselines, name).pixel_accuracy == pytest.approx(result.metrics["pixel_accuracy"])
        assert getattr(baselines, name).mean_iou == pytest.approx(result.metrics["foreground_iou"])
        assert getattr(baselines, name).mean_dice == pytest.approx(result.metrics["foreground_dice"])
    assert [f.code for f in judge_baselines(baselines)] == ["baseline-strong"]


def test_thin_foreground_is_a_note_and_no_finding(tmp_path: Path, save_image, save_mask) -> None:
    for i in range(24):
        save_image(f"images/{i:02d}.png", size_hw=(64, 64))
        values = np.zeros((64, 64), dtype=np.uint8)
        values[2 * i : 2 * i + 2] = 1
        save_mask(f"masks/{i:02d}.png", values)
    baselines = measure_baselines(read_dataset(tmp_path))
    assert "pixel accuracy of 96.9%" in baselines.note
    assert judge_baselines(baselines) == []


def test_track_baselines_and_statistics() -> None:
    images = [
        {"image_id": i, "path": f"{i}.jpg", "width": 100, "height": 100, "group": "v", "frame": i, "time_s": i / 10}
        for i in range(5)
    ]
    objects = [
        {"image_id": i, "class_id": 0, "track_id": 1, "x1": 3.0 * i, "y1": 0, "x2": 10 + 3.0 * i, "y2": 10}
        for i in range(5)
    ]
    objects += [
        {"image_id": i, "class_id": 0, "track_id": 2, "x1": 50, "y1": 50, "x2": 60, "y2": 60} for i in (0, 3, 4)
    ]
    data = dataset(images, objects, task="track")
    baselines = measure_baselines(data)
    assert baselines.previous_box.share_met == 1.0  # IoU 7 / 13 and 1
    assert baselines.first_box.share_met == 3 / 6  # one step away, and twice the one that stands still
    tracks = audit_dataset(data).statistics.tracks
    assert (tracks.tracks, tracks.tracks_with_gaps) == (2, 1)
    assert (tracks.boxes_per_track[0], tracks.boxes_per_track[-1]) == (3, 5)
    assert tracks.diagonals_per_frame[-1] == pytest.approx(3 / np.hypot(10, 10), abs=1e-5)
    assert tracks.diagonals_per_second[-1] == pytest.approx(30 / np.hypot(10, 10), abs=1e-4)


def test_statistics_by_hand(tmp_path: Path) -> None:
    images = [{"image_id": i, "path": f"{i}.jpg", "width": 400, "height": 200} for i in range(3)]
    objects = [
        {"image_id": 0, "class_id": 0, "x1": 0, "y1": 0, "x2": 20, "y2": 10},
        {"image_id": 0, "class_id": 0, "x1": 300, "y1": 100, "x2": 400, "y2": 200},
        {"image_id": 1, "class_id": 0, "x1": 0, "y1": 0, "x2": 50, "y2": 50},
        {"image_id": 1, "class_id": 1, "x1": 0, "y1": 0, "x2": 50, "y2": 50, "crowd": True},
    ]
    result = audit_dataset(dataset(images, objects))
    statistics = result.statistics
    a, b = statistics.classes["a"], statistics.classes["b"]
    assert (a.objects, a.images, a.share, b.objects, b.area) == (3, 2, 1.0, 0, None)
    assert (a.area[0], a.area[-1]) == (200 / 80000, 10000 / 80000)
    assert (a.side[0], a.side_at_imgsz_px[0], a.aspect[-1]) == (0.025, 16, 2)
    assert a.coco_sizes == CocoSizes(small=1, medium=1, large=1)
    heat = np.zeros((8, 8), dtype=int)
    heat[0, 0] = heat[1, 0] = heat[6, 7] = 1
    assert a.heat == heat.tolist()
    assert statistics.objects_per_image == ObjectsPerImage(
        quantiles=(0.0, 0.1, 0.5, 1.0, 1.5, 1.9, 2.0), mean=1.0, histogram={"0": 1, "1": 1, "2": 1}
    )
    assert statistics.images["aspect"][0] == 2
    (tmp_path / "audit.json").write_text(json.dumps(result.to_dict()))
    assert read_audit(tmp_path / "audit.json") == result


def test_pixel_statistics(tmp_path: Path, save_image, save_mask) -> None:
    statistics = audit_dataset(masks(tmp_path, save_image, save_mask, shift=0)).statistics
    foreground = list(statistics.pixels.classes.values())[1]
    assert (foreground.pixels, foreground.masks) == (24 * 900, 24)
    assert statistics.pixels.imbalance == pytest.approx((4096 - 900) / 900)
    assert statistics.images["width"] == (64.0,) * 7
