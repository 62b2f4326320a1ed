"""COCO panoptic: what is read, what is reported, and what writing it costs."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.audit.labels.boxes import check_boxes
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.data import read_dataset, write_dataset
from sightline.ops import rle

CAT, SKY, GHOST = 3226956, 70_000, 5
CATEGORIES = [{"id": 17, "name": "cat", "isthing": 1}, {"id": 119, "name": "sky", "isthing": 0}]
SIZE_HW = (24, 32)


def id_map() -> np.ndarray:
    ids = np.zeros(SIZE_HW, dtype=np.int64)
    ids[:10] = SKY
    ids[5:15, 8:20] = CAT
    return ids


def colours(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)


def segment(number: Any, category: int, box: Any, area: float, **changes: Any) -> dict[str, Any]:
    return {"id": number, "category_id": category, "bbox": box, "area": area, "iscrowd": 0} | changes


SEGMENTS = [segment(CAT, 17, [8, 5, 12, 10], 120), segment(SKY, 119, [0, 0, 32, 10], 260, iscrowd=1)]


@pytest.fixture
def panoptic(tmp_path: Path, save_image):
    """A data set of one image below `val`, its segments and map as given; returns its JSON file."""

    def make(segments: list[Any] = SEGMENTS, pixels: np.ndarray | None = None, **changes: Any) -> Path:
        save_image("images/val/a.jpg")
        content = {
            "images": [{"id": 4, "file_name": "a.jpg", "width": 32, "height": 24}],
            "annotations": [{"image_id": 4, "file_name": "a.png", "segments_info": segments}],
            "categories": CATEGORIES,
        } | changes
        file = tmp_path / "annotations" / "panoptic_val.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content, indent=1))
        maps = file.with_suffix("")
        maps.mkdir(exist_ok=True)
        Image.fromarray(colours(id_map()) if pixels is None else pixels).save(maps / "a.png")
        return file

    return make


def test_segments_become_objects(panoptic, tmp_path: Path) -> None:
    file = panoptic()
    for place in (file, tmp_path):
        dataset = read_dataset(place)
        assert (dataset.format, dataset.task, dataset.findings) == ("coco-panoptic", "instance", ())
        assert dataset.images.row(0) == (4, "images/val/a.jpg", 32, 24, "val", None, None, None, None)
        assert dataset.classes.select("name", "source_id", "thing").rows() == [("cat", 17, True), ("sky", 119, False)]
        cat, sky = dataset.objects.rows(named=True)
        assert (cat["object_id"], cat["x1"], cat["y1"], cat["x2"], cat["y2"], cat["area"]) == (CAT, 8, 5, 20, 15, 120)
        assert (cat["crowd"], sky["crowd"]) == (False, True)
        for row, number in ((cat, CAT), (sky, SKY)):
            assert np.array_equal(rle.decode(row["rle"], SIZE_HW), id_map() == number)


def test_the_file_may_be_packed(panoptic, tmp_path: Path) -> None:
    file = panoptic()
    plain = read_dataset(file)
    packed = file.with_name(f"{file.name}.gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    for place in (packed, tmp_path):
        dataset = read_dataset(place)
        assert (dataset.format, dataset.findings, dataset.digest()) == ("coco-panoptic", (), plain.digest())


def test_boxes_and_areas_come_from_the_pixels_where_none_are_given(panoptic) -> None:
    bare = [{"id": CAT, "category_id": 17}, {"id": SKY, "category_id": 119}]
    rows = read_dataset(panoptic(bare)).objects.select("x1", "y1", "x2", "y2", "area", "crowd").rows()
    assert rows == [(8, 5, 20, 15, 120, False), (0, 0, 32, 10, 260, False)]


def findings_of(file: Path) -> set[tuple[str, str | None]]:
    dataset = read_dataset(file)
    return {(f.code, f.path) for f in (*dataset.findings, *check_boxes(dataset))}


LABELS, MAP = "annotations/panoptic_val.json", "annotations/panoptic_val/a.png"


@pytest.mark.parametrize(
    ("segments", "found"),
    [
        (SEGMENTS[:1], ("mask-unlisted-segment", MAP)),
        ([*SEGMENTS, segment(GHOST, 17, [1, 1, 4, 4], 16)], ("mask-missing-segment", LABELS)),
        ([*SEGMENTS[:1], SEGMENTS[1] | {"category_id": 404}], ("label-unknown-class", LABELS)),
        ([*SEGMENTS, SEGMENTS[0]], ("label-duplicate-id", LABELS)),
        ([*SEGMENTS, "sea"], ("label-malformed", LABELS)),
        ([SEGMENTS[1], SEGMENTS[0] | {"bbox": [8, 5, 0, 10]}], ("label-degenerate-box", LABELS)),
    ],
)
def test_lists_and_maps_that_disagree(panoptic, segments: list[Any], found: tuple[str, str]) -> None:
    assert found in findings_of(panoptic(segments))


def test_pixels_of_unlisted_segments_are_counted(panoptic) -> None:
    (found,) = read_dataset(panoptic(SEGMENTS[1:])).findings
    assert (found.count, found.image_id) == (1, 4)
    assert "120 pixels" in found.message
    assert str(CAT) in found.message


@pytest.mark.parametrize(
    ("pixels", "code"),
    [(colours(id_map())[:, :-1], "mask-size-mismatch"), (id_map().astype(np.uint8), "mask-unreadable")],
)
def test_maps_that_cannot_be_used(panoptic, pixels: np.ndarray, code: str) -> None:
    dataset = read_dataset(panoptic(pixels=pixels))
    assert [(f.code, f.path) for f in dataset.findings] == [(code, MAP)]
    assert dataset.objects.height == 2  # their boxes are kept
    assert dataset.objects["rle"].null_count() == 2


def test_maps_that_are_not_there(panoptic) -> None:
    file = panoptic()
    (file.with_suffix("") / "a.png").write_bytes(b"\x89PNG\r\n")
    assert findings_of(file) == {("mask-unreadable", MAP)}
    (file.with_suffix("") / "a.png").unlink()
    assert {code for code, _ in findings_of(file)} == {"label-missing-file"}


def test_images_without_a_map(panoptic, save_image) -> None:
    save_image("images/val/b.jpg")
    images = [{"id": 4 + i, "file_name": f"{name}.jpg", "width": 32, "height": 24} for i, name in enumerate("ab")]
    assert findings_of(panoptic(images=images)) == {("label-missing-file", "images/val/b.jpg")}


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"image_id": 5, "file_name": "a.png", "segments_info": []}, "label-unknown-image"),
        ({"image_id": 4, "file_name": "a.png", "segments_info": {}}, "label-malformed"),
        ({"image_id": 4, "segments_info": []}, "label-malformed"),
        ("entry", "label-malformed"),
    ],
)
def test_annotations_that_cannot_be(panoptic, entry: Any, code: str) -> None:
    file = panoptic(annotations=[entry])
    (found,) = (f for f in read_dataset(file).findings if f.code != "label-missing-file")
    assert (found.code, found.path) == (code, LABELS)
    assert found.line == file.read_text().splitlines().index(' "annotations": [') + 2


def test_a_second_map_of_one_image(panoptic) -> None:
    entry = {"image_id": 4, "file_name": "a.png", "segments_info": SEGMENTS}
    dataset = read_dataset(panoptic(annotations=[entry, entry]))
    assert [f.code for f in dataset.findings] == ["label-duplicate-id"]
    assert dataset.objects.height == 2


def test_maps_may_not_leave_their_folder(panoptic) -> None:
    entry = {"image_id": 4, "file_name": "../../a.png", "segments_info": []}
    with pytest.raises(DataError, match="must stay inside"):
        read_dataset(panoptic(annotations=[entry]))


def test_round_trip_changes_nothing(panoptic, tmp_path: Path) -> None:
    before = read_dataset(panoptic())
    assert write_dataset(before, tmp_path / "out", "coco-panoptic") == []
    after = read_dataset(tmp_path / "out")
    assert after.objects.sort("object_id").equals(before.objects.sort("object_id"))
    assert after.images.equals(before.images)
    assert after.classes.equals(before.classes)
    assert not after.findings


def instances(root: Path, rows: list[dict[str, Any]], task: Any = "instance") -> Dataset:
    images = [{"image_id": i, "path": f"{name}.png", "width": 32, "height": 24} for i, name in enumerate("ab")]
    classes = [{"class_id": 0, "name": "cell"}, {"class_id": 1, "name": "none"}]
    return dataset_from_rows(images, rows, classes, root=root, name="x", task=task, format="labelme")


def square(x: int, y: int, side: int, **more: Any) -> dict[str, Any]:
    ring = [float(v) for v in (x, y, x + side, y, x + side, y + side, x, y + side)]
    box = {"image_id": 0, "class_id": 0, "x1": x, "y1": y, "x2": x + side, "y2": y + side}
    return box | {"polygon": [ring], "area": float(side * side)} | more


def test_what_panoptic_cannot_hold_is_counted(tmp_path: Path, save_image) -> None:
    for name in "ab":
        save_image(f"{name}.png")
    rows = [
        square(2, 2, 10),  # its corner is under the next
        square(8, 8, 4, track_id=3),
        square(20, 2, 6, ignore=True),
        square(20, 12, 5, polygon=None),
        square(21, 13, 4, crowd=True, polygon=None),
        square(2, 16, 6, keypoints=[3.0, 17.0, 2.0]),
        square(2, 16, 6, image_id=1),
        square(2, 16, 6, image_id=1),  # hides the one before
    ]
    losses = write_dataset(instances(tmp_path, rows), tmp_path / "out", "coco-panoptic")
    counts = {loss.code: loss.count for loss in losses}
    assert counts == {
        "loss-objects": 2,
        "loss-crowd": 1,
        "loss-ignore": 1,
        "loss-overlap": 16 + 36,
        "loss-boxes": 1,
        "loss-rounding": 4,
        "loss-ids": 4,
        "loss-keypoints": 1,
        "loss-attributes": 1,
    }
    after = read_dataset(tmp_path / "out")
    assert not after.findings
    assert after.objects["area"].to_list() == [84.0, 36.0, 16.0, 36.0]
    assert after.class_names == ("cell", "none")


def test_boxes_alone_and_semantic_masks_are_refused(tmp_path: Path) -> None:
    dataset = instances(tmp_path, [square(2, 2, 4, polygon=None)], "detect")
    with pytest.raises(DataError, match="needs masks of objects, got boxes only"):
        write_dataset(dataset, tmp_path / "out", "coco-panoptic")
    with pytest.raises(DataError, match="got semantic masks"):
        write_dataset(instances(tmp_path, [], "semantic"), tmp_path / "out", "coco-panoptic")
    assert not (tmp_path / "out").exists()


def test_images_of_one_stem_have_maps_of_their_own(tmp_path: Path, save_image) -> None:
    paths = ["x/a.png", "y/a.png"]
    for path in paths:
        save_image(path)
    images = [{"image_id": i, "path": p, "width": 32, "height": 24} for i, p in enumerate(paths)]
    rows = [square(2, 2, 10, object_id=1), square(4, 2, 10, object_id=2, image_id=1)]
    classes = [{"class_id": 0, "name": "cell"}]
    dataset = dataset_from_rows(images, rows, classes, root=tmp_path, name="x", task="instance", format="coco")
    write_dataset(dataset, tmp_path / "out", "coco-panoptic")
    after = read_dataset(tmp_path / "out")
    assert after.objects["x1"].to_list() == [2, 4]
    assert not after.findings


@pytest.mark.real_data
def test_real_panoptic_things_are_the_derived_instances(data_root: Path, tmp_path: Path) -> None:
    """The instances beside the panoptic maps were derived from them; their areas were checked with pycocotools."""
    panoptic = read_dataset(data_root / "coco128_lightly" / "panoptic_segmentation")
    derived = read_dataset(data_root / "coco128_lightly" / "derived_coco_instances")
    assert (len(panoptic), panoptic.objects.height) == (96, 1098)
    assert Counter(panoptic.classes["thing"]) == {True: 80, False: 53}
    assert {f.severity for f in (*panoptic.findings, *check_boxes(panoptic))} <= {"info"}

    def things(dataset: Dataset) -> list[tuple[Any, ...]]:
        names = ("path", "split", "source_id", "rle", "x1", "y1", "x2", "y2", "area", "crowd")
        classes = dataset.classes.filter(pl.col("thing")).select("class_id", "source_id")
        table = dataset.objects.join(classes, on="class_id").join(dataset.images, on="image_id")
        return sorted(table.select(names).rows())

    assert things(panoptic) == things(derived)
    assert Counter(row[1] for row in things(panoptic)) == {"train": 407, "val": 353}
    assert write_dataset(panoptic, tmp_path / "out", "coco-panoptic") == []
    after = read_dataset(tmp_path / "out")
    files = ("label_path", "entry")  # written to files of their own, in the order of the images
    assert after.objects.drop(files).sort("object_id").equals(panoptic.objects.drop(files).sort("object_id"))
    assert after.images.equals(panoptic.images)
