"""Checks of boxes, classes and labels as a whole: each planted fault, and what must not be taken for one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sightline.audit import AuditOptions, audit_dataset
from sightline.audit.labels.boxes import check_boxes
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.findings import Finding
from sightline.data import read_dataset


def table(
    *objects: dict[str, Any], size_wh: tuple[int, int] = (200, 100), names: tuple[str, ...] = ("a", "b")
) -> Dataset:
    width, height = size_wh
    return dataset_from_rows(
        [{"image_id": 1, "path": "a.jpg", "width": width, "height": height}],
        [{"image_id": 1, "class_id": 0, **o} for o in objects],
        [{"class_id": i, "name": n} for i, n in enumerate(names)],
        root="/nowhere",
        name="t",
        task="detect",
        format="by hand",
    )


def box(x1: float, y1: float, x2: float, y2: float, **more: Any) -> dict[str, Any]:
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2, **more}


def findings(dataset: Dataset, **options: Any) -> list[Finding]:
    lines = pl.int_range(1, pl.len() + 1, dtype=pl.Int32)
    placed = dataset.objects.with_columns(label_path=pl.lit("labels.txt").cast(pl.Categorical), entry=lines)
    return check_boxes(replace(dataset, objects=placed, **options))


def codes(dataset: Dataset, **options: Any) -> list[tuple[str, int | None]]:
    return [(f.code, f.line) for f in findings(dataset, **options)]


def test_extreme_aspect_in_pixels() -> None:
    long, limit = box(0, 0, 190, 9), box(0, 20, 180, 29)
    assert codes(table(long, limit)) == [("label-extreme-aspect", 1)]
    assert codes(table(box(0, 20, 180, 29))) == []
    assert codes(table(box(0, 0, 190, 9, crowd=True), box(0, 50, 190, 59, ignore=True))) == []


def test_amodal_boxes_may_leave_the_image() -> None:
    half_out, wholly_out = box(150, 10, 260, 60), box(210, 10, 260, 60)
    assert codes(table(half_out, wholly_out)) == [("label-out-of-bounds", 1), ("label-out-of-bounds", 2)]
    assert codes(table(half_out, wholly_out), amodal=True) == [("label-out-of-bounds", 2)]


def test_box_that_is_not_that_of_its_mask() -> None:
    ring = [[10.0, 10.0, 60.0, 10.0, 60.0, 60.0, 10.0, 60.0]]
    off_by_two = box(12, 8, 58, 62, polygon=ring)
    off_by_five_of_fifty = box(10, 10, 65, 60, polygon=ring)
    shifted = box(30, 10, 80, 60, polygon=ring)
    assert codes(table(off_by_two, off_by_five_of_fifty, shifted)) == [("label-box-mismatch", 3)]


def test_crossing_outline_has_its_place() -> None:
    tie = box(10, 10, 60, 60, polygon=[[10.0, 10.0, 60.0, 60.0, 60.0, 10.0, 10.0, 60.0]])
    (found,) = findings(table(box(0, 0, 9, 9), tie))
    assert (found.code, found.line, found.image_id) == ("label-polygon-crossing", 2, 1)


def test_relative_boxes_among_pixels() -> None:
    relative = [box(0.1, 0.2, 0.5, 0.9), box(0.3, 0.1, 0.4, 0.8)]
    mixed = findings(table(box(10, 10, 60, 60), *relative))
    assert [(f.line, f.count) for f in mixed if f.code == "label-mixed-coordinates"] == [(2, 2)]
    every = findings(table(*relative))
    assert [(f.line, f.count) for f in every if f.code == "label-mixed-coordinates"] == [(1, 2)]


@pytest.fixture
def yolo(tmp_path: Path, save_image):
    """Write label rows of images a and b; returns the codes of the audit with the places."""

    def write(a: str, b: str, names: list[str]) -> list[Finding]:
        for name, rows in (("a", a), ("b", b)):
            save_image(f"images/{name}.jpg", quality=90, size_hw=(48, 64))
            label = tmp_path / f"labels/{name}.txt"
            label.parent.mkdir(exist_ok=True)
            label.write_text(rows)
        (tmp_path / "data.yaml").write_text(f"train: images\nval:\nnames: {json.dumps(names)}\n")
        return list(audit_dataset(read_dataset(tmp_path)).findings)

    return write


def test_yolo_rows_in_pixels_among_relative_ones(yolo) -> None:
    found = yolo("0 0.5 0.5 0.5 0.5\n0 30 20 10 12\n", "0 40 20 10 12\n", ["x"])
    assert [(f.path, f.line, f.count) for f in found if f.code == "label-mixed-coordinates"] == [("labels/a.txt", 2, 2)]
    found = yolo("0 0.5 0.5 25 0.5\n", "0 0.5 0.5 0.5 0.5\n", ["x"])  # a slip of the decimal point
    assert {f.code for f in found} >= {"label-not-normalised"}
    assert "label-mixed-coordinates" not in {f.code for f in found}


def test_ids_counted_from_one(yolo) -> None:
    found = yolo("1 0.5 0.5 0.5 0.5\n2 0.3 0.5 0.2 0.5\n", "2 0.5 0.5 0.5 0.5\n", ["x", "y"])
    (found_code,) = [f for f in found if f.code == "class-off-by-one"]
    assert (found_code.path, found_code.line, found_code.count) == ("labels/a.txt", 2, 2)
    found = yolo("0 0.5 0.5 0.5 0.5\n2 0.3 0.5 0.2 0.5\n", "1 0.5 0.5 0.5 0.5\n", ["x", "y"])
    assert "class-off-by-one" not in {f.code for f in found}


def test_ids_of_coco(yolo) -> None:
    names = [f"n{i}" for i in range(80)]
    found = yolo("1 0.5 0.5 0.5 0.5\n90 0.3 0.5 0.2 0.5\n", "84 0.5 0.5 0.5 0.5\n", names)
    assert [f.count for f in found if f.code == "class-coco-ids"] == [2]
    found = yolo("1 0.5 0.5 0.5 0.5\n99 0.3 0.5 0.2 0.5\n", "84 0.5 0.5 0.5 0.5\n", names)
    assert "class-coco-ids" not in {f.code for f in found}


def audit(dataset: Dataset, **options: Any) -> dict[str, Finding]:
    result = audit_dataset(dataset, AuditOptions(**options))
    return {f.code: f for f in result.findings}


def test_class_names_alike_unused_and_unbalanced() -> None:
    objects = [box(i * 1.5, 0, i * 1.5 + 20, 20) for i in range(100)]
    found = audit(table(*objects, box(0, 50, 20, 70, class_id=1), names=("Traffic light", "car", "traffic_light")))
    assert "'Traffic light', 'traffic_light'" in found["class-similar-names"].message
    assert found["class-similar-names"].count == 2
    assert "1 of 3 classes have no objects: traffic_light" in found["class-unused"].message
    assert "100 times" in found["class-imbalance"].message
    found = audit(table(*objects[:99], box(0, 50, 20, 70, class_id=1)))
    assert "class-imbalance" not in found
    assert "class-similar-names" not in found


def test_objects_that_are_small_at_the_input_size() -> None:
    objects = [box(0, 0, 20, 10), box(50, 0, 70, 11), box(0, 50, 90, 95, class_id=1)]
    found = audit(table(*objects), imgsz=160, small_px=8.4)["label-small-at-size"]
    assert (found.count, found.path, found.image_id) == (1, "a.jpg", 1)
    assert found.box_xyxy == (0, 0, 20, 10)
    assert "1 of 2 objects of a (50.0%)" in found.message
    assert "label-small-at-size" not in audit(table(*objects), imgsz=160, small_px=8)


def test_crowd_and_ignored_objects_are_counted_once() -> None:
    flat = box(5, 5, 5, 9, ignore=True)
    found = audit(table(box(0, 0, 9, 9, crowd=True, ignore=True), box(20, 0, 30, 9, ignore=True), flat))
    assert (found["label-crowd"].count, found["label-ignored"].count) == (1, 1)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "known"),
    [
        ("coco_nuts/data", 0),
        ("coco128_lightly/derived_coco_instances/instances_train2017.json", 0),
        ("coco128_lightly/derived_coco_instances/instances_val2017.json", 0),
        ("fixtures/coco_fake100/instances_val2014_100.json", 0),
        ("track_mot15", 0),
        # Parts of one mask that were strung together in one ring, there one way and back another.
        ("coco128_lightly/instance_segmentation/config.yaml", 30),
    ],
)
def test_no_false_alarm_on_real_labels(data_root: Path, folder: str, known: int) -> None:
    dataset = read_dataset(data_root / folder)
    codes = [f.code for f in (*dataset.findings, *check_boxes(dataset))]
    counts = pl.Series(codes, dtype=pl.String)
    assert (counts == "label-polygon-crossing").sum() == known
    assert not counts.is_in(["label-box-mismatch", "label-mixed-coordinates", "label-out-of-bounds"]).any()
