"""Missed, merged, split, wrong class, spurious: scenes drawn by hand, agreement with the confusion, maps, merging."""

import numpy as np
import polars as pl
import pytest

from sightline.core.dataset import dataset_from_rows
from sightline.core.predictions import predictions_from_rows
from sightline.evaluate import OBJECT_KINDS, ObjectErrors, evaluate_instances, evaluate_semantic
from sightline.evaluate.object_errors import component_errors, errors_of_parts
from sightline.ops import rle

from .test_segmentation import saved, scene

SIZE = (40, 60)
TRUE = {  # name: class, y1, y2, x1, x2
    "found": (0, 0, 10, 0, 10),
    "wrong": (0, 0, 10, 12, 22),
    "merged left": (0, 0, 10, 24, 34),
    "merged right": (1, 0, 10, 35, 40),
    "split": (1, 12, 22, 0, 20),
    "missed": (0, 12, 22, 30, 40),
    "small piece": (0, 24, 34, 0, 10),
}
FOUND = {
    "found": (0, 0, 10, 1, 10),
    "wrong": (1, 0, 10, 12, 22),
    "merging": (1, 0, 10, 24, 40),  # IoU 0.625 with the left one, which is of class 0: a wrong class
    "part": (1, 12, 22, 0, 9),
    "other part": (1, 12, 22, 11, 20),
    "piece": (0, 24, 34, 0, 2),
    "spurious": (0, 26, 36, 40, 50),
    "in what is found": (0, 0, 10, 0, 1),
}


def mask_of(box):
    mask = np.zeros(SIZE, bool)
    _, y1, y2, x1, x2 = box
    mask[y1:y2, x1:x2] = True
    return mask


def row_of(box):
    code = rle.encode(mask_of(box))
    x1, y1, x2, y2 = rle.to_box(code, SIZE).tolist()
    return {"image_id": 3, "class_id": box[0], "rle": code, "x1": x1, "y1": y1, "x2": x2, "y2": y2}


def judged(true, found, conf=0.5, crowd=()):
    classes = [{"class_id": i, "name": name} for i, name in enumerate(("a", "b"))]
    images = [{"image_id": 3, "path": "p.png", "width": SIZE[1], "height": SIZE[0]}]
    objects = [row_of(box) | {"crowd": name in crowd} for name, box in true.items()]
    dataset = dataset_from_rows(images, objects, classes, root=".", name="d", task="instance", format="coco")
    rows = [row_of(box) | {"score": 0.9 - i / 100} for i, box in enumerate(found.values())]
    return evaluate_instances(dataset, predictions_from_rows(rows, {"task": "instance"}), conf=conf)


def kinds(result, side, names):
    table = result.objects_concerned.filter(pl.col("side") == side)
    return {names[row["id"]]: row["kind"] for row in table.iter_rows(named=True)}


def test_every_object_and_every_prediction_is_of_one_kind():
    result = judged(TRUE, FOUND)
    assert kinds(result, "object", list(TRUE)) == {
        "wrong": "wrong_class",
        "merged left": "wrong_class",
        "merged right": "merged",
        "split": "split",
        "missed": "missed",
        "small piece": "missed",
    }
    assert kinds(result, "prediction", list(FOUND)) == {
        "wrong": "wrong_class",
        "merging": "wrong_class",
        "part": "fragment",
        "other part": "fragment",
        "piece": "spurious",
        "spurious": "spurious",
        "in what is found": "fragment",
    }
    total = result.object_errors.row(-1, named=True)
    assert total["class"] == "all"
    assert (total["objects"], sum(total[kind] for kind in OBJECT_KINDS)) == (7, 7)
    assert (total["predictions"], total["found"], total["fragment"], total["spurious"]) == (8, 1, 3, 2)
    box = result.objects_concerned.filter(kind="split").row(0, named=True)
    assert (box["image_id"], box["x1"], box["y1"], box["x2"], box["y2"]) == (3, 0, 12, 20, 22)
    assert "object_errors" in result.conventions


def test_a_prediction_over_two_objects_that_meets_neither_merges_both_and_crowds_are_left_aside():
    pair = {"left": (0, 0, 10, 0, 10), "right": (0, 0, 10, 14, 24)}
    over = {"both": (0, 0, 12, 0, 24)}
    result = judged(pair, over)
    assert kinds(result, "object", list(pair)) == {"left": "merged", "right": "merged"}
    assert kinds(result, "prediction", list(over)) == {"both": "merging"}
    aside = judged(pair, over, crowd=("right",))
    assert kinds(aside, "object", list(pair)) == {"left": "missed"}
    assert kinds(judged(pair, over, conf=0.95), "object", list(pair)) == {"left": "missed", "right": "missed"}
    exact = judged(pair, pair)
    assert exact.objects_concerned.is_empty()
    assert exact.object_errors["found"].to_list() == [2, 0, 2]


@pytest.mark.parametrize("seed", range(3))
def test_found_and_wrong_classes_are_those_of_the_confusion(seed):
    rng = np.random.default_rng(seed)

    def boxes(count):
        corners = [(*rng.integers(0, (30, 50)), *rng.integers(4, 16, 2)) for _ in range(count)]
        return {i: (int(rng.integers(0, 2)), y, y + h, x, x + w) for i, (y, x, h, w) in enumerate(corners)}

    true = boxes(25)
    moved = {i: (int(rng.random() < 0.2) ^ c, y1, y2, x1 + 1, x2 + 1) for i, (c, y1, y2, x1, x2) in true.items()}
    result = judged(true, moved | {100 + i: box for i, box in boxes(10).items()}, conf=0.6)
    errors, confusion = result.object_errors, result.confusion
    assert errors["found"][:2].to_list() == np.diag(confusion)[:2].tolist()
    assert errors["wrong_class"][:2].to_list() == [confusion[0, 1], confusion[1, 0]]
    assert errors["objects"][:2].to_list() == confusion[:2].sum(axis=1).tolist()
    assert errors["predictions"][:2].to_list() == confusion[:, :2].sum(axis=0).tolist()


def test_parts_of_maps_are_objects_and_ignored_pixels_count_for_nothing():
    true, found = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    for name in ("found", "merged left", "split", "missed"):
        true[mask_of(TRUE[name])] = 1
    true[0:10, 36:46] = 1
    found[0:10, 24:46], found[0:10, 1:10], found[12:22, 0:9], found[12:22, 11:20] = 1, 1, 1, 1
    true[28:], found[30:38, 4:9] = 255, 1
    errors = errors_of_parts(("background", "nucleus"))
    component_errors(errors, 7, true, found)
    total = errors.counts().row(-1, named=True)
    assert {k: v for k, v in total.items() if v and k != "class"} == {
        "objects": 5, "found": 1, "merged": 2, "split": 1, "missed": 1, "predictions": 4, "merging": 1, "fragment": 2,
    }  # fmt: skip
    again = errors_of_parts(("background", "nucleus"))
    again.merge(errors)
    component_errors(again, 8, true, true.clip(0, 1))
    assert again.counts()["found"].to_list() == [6, 6]
    assert again.concerned()["image_id"].unique().to_list() == [7]
    with pytest.raises(ValueError, match="same classes"):
        errors.merge(ObjectErrors(("background", "cell")))


def test_an_evaluation_of_maps_has_them_where_asked_for(tmp_path):
    dataset, maps = scene(tmp_path, [0, 40, 9])
    plain, asked = (evaluate_semantic(dataset, saved(dataset, maps), objects=asked) for asked in (False, True))
    assert plain.object_errors is None
    assert asked.metrics == plain.metrics
    assert asked.object_errors["class"].to_list() == ["class 0", "class 1", "class 2", "all"]
    assert set(asked.objects_concerned["kind"]) <= {*OBJECT_KINDS, "merging", "fragment", "spurious"}
