"""A model that a box or a mask without a look at the image beats is said to be beaten, with reasons."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.audit import beside_baseline
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.predictions import predictions_from_rows
from sightline.data import read_dataset
from sightline.evaluate import evaluate_detection, evaluate_semantic
from sightline.ops import rle


def boxes(split: str, count: int, seed: int) -> Dataset:
    """One object in each image, always at nearly the same place."""
    rng = np.random.default_rng(seed)
    images = [
        {"image_id": i, "path": f"{split}{i}.png", "width": 640, "height": 480, "split": split} for i in range(count)
    ]
    objects = [
        {"image_id": i, "class_id": 0, "x1": 300 + dx, "y1": 200 + dy, "x2": 312 + dx, "y2": 212 + dy}
        for i, (dx, dy) in enumerate(rng.uniform(-1, 1, (count, 2)).tolist())
    ]
    classes = [{"class_id": 0, "name": "cat"}]
    return dataset_from_rows(images, objects, classes, root=".", name="d", task="detect", format="made")


def found(dataset: Dataset, shift: float) -> pl.DataFrame:
    table = dataset.objects.select("image_id", "class_id", "x1", "y1", "x2", "y2").with_columns(score=pl.lit(0.01))
    return table.with_columns(x1=pl.col("x1") + shift, x2=pl.col("x2") + shift)


@pytest.mark.parametrize(("shift", "is_beaten"), [(0.0, False), (50.0, True)])
def test_a_detector_is_held_beside_one_box_for_all(shift, is_beaten):
    train, val = boxes("train", 30, 0), boxes("val", 25, 1)
    result = evaluate_detection(val, predictions_from_rows(found(val, shift), {}))
    judged = beside_baseline(result, train, val, size_hw=(320, 320), steps=120)
    assert judged.conventions["baseline"]["value"] == pytest.approx(1.0)
    beaten = [line for line in judged.warnings if "REACHES AP50" in line]
    # An equal number is no victory either.
    assert bool(beaten)
    assert (judged["AP50"] < 0.5) == is_beaten
    if is_beaten:
        assert beaten[0].startswith(
            "ONE BOX PER CLASS AT ITS MEAN PLACE REACHES AP50 1.000, THE MODEL 0.000. 30 images"
        )
        assert "half of the objects are below 6 px at the network's size (320, 320)" in beaten[0]
        assert "120 steps are few" in beaten[0]


def test_few_images_prove_nothing_and_enough_of_all_is_said():
    few = boxes("val", 5, 1)
    result = evaluate_detection(few, predictions_from_rows(found(few, 50.0), {}))
    assert not any("REACHES" in w for w in beside_baseline(result, boxes("train", 30, 0), few, steps=1).warnings)
    many, val = boxes("train", 250, 0), boxes("val", 25, 1)
    result = evaluate_detection(val, predictions_from_rows(found(val, 50.0), {}))
    lines = beside_baseline(result, many, val, steps=None).warnings
    assert any("Neither images, sizes nor steps are few" in line for line in lines)


def test_a_segmenter_is_held_beside_one_mask_for_all(tmp_path):
    for folder in ("images", "masks", "pred"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    for i in range(24):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / f"images/{i:02d}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{i:02d}.png")
    data = read_dataset(tmp_path)
    assert data.task == "semantic"
    rows = []
    wrong = np.roll(mask, 20, axis=1)
    for image_id in data.images["image_id"]:
        for class_id in range(2):
            code = rle.encode(wrong == class_id)
            box = dict(zip(("x1", "y1", "x2", "y2"), rle.to_box(code, wrong.shape).tolist(), strict=True))
            rows.append({"image_id": image_id, "class_id": class_id, "score": 1.0, "rle": code, **box})
    result = evaluate_semantic(data, predictions_from_rows(rows, {}))
    judged = beside_baseline(result, data, data, steps=None)
    assert judged.conventions["baseline"] == {
        "metric": "mean IoU without the background", "model": result.per_class["iou"][1], "value": 1.0,
        "what": "one and the same mask for every image",
    }  # fmt: skip
    assert judged.warnings[0].startswith(
        "ONE AND THE SAME MASK FOR EVERY IMAGE REACHES MEAN IOU WITHOUT THE BACKGROUND 1.000, THE MODEL"
    )
