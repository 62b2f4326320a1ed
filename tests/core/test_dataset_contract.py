"""The data set tables: what is accepted, every refusal, selections, counts, and what the digest sees."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sightline.core.dataset import CLASSES_SCHEMA, IMAGES_SCHEMA, OBJECTS_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import DataError

IMAGES = [
    {"image_id": 7, "path": "a/one.png", "width": 40, "height": 30, "split": "train", "group": "day"},
    {"image_id": 3, "path": "a/two.png", "width": 40, "height": 30, "split": "val"},
    {
        "image_id": 9,
        "path": "b/three.png",
        "width": 20,
        "height": 10,
        "split": "train",
        "mask_path": "b/three_mask.png",
    },
]
OBJECTS = [
    {"image_id": 7, "class_id": 0, "x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 7.0},
    {"image_id": 7, "class_id": 1, "x1": 5, "y1": 5, "x2": 5, "y2": 9, "ignore": True},
    {"image_id": 3, "class_id": 0, "x1": 0.5, "y1": 0.0, "x2": 9.5, "y2": 3.0, "crowd": True},
]
CLASSES = [{"class_id": 0, "name": "cat", "source_id": 17}, {"class_id": 1, "name": "dog", "source_id": 18}]


def make(images=IMAGES, objects=OBJECTS, classes=CLASSES, root="data", **changes) -> Dataset:
    settings = {"name": "pets", "task": "detect", "format": "coco", **changes}
    return dataset_from_rows(images, objects, classes, root=root, **settings)


def changed(rows: list[dict], index: int, **values) -> list[dict]:
    return [{**row, **values} if i == index else dict(row) for i, row in enumerate(rows)]


def write_files(root: Path) -> None:
    rng = np.random.default_rng(0)
    for relative in ("a/one.png", "a/two.png", "b/three.png", "b/three_mask.png"):
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_bytes(rng.bytes(200))


def test_tables_have_the_schema_and_defaults():
    dataset = make()
    for frame, schema in (
        (dataset.images, IMAGES_SCHEMA),
        (dataset.objects, OBJECTS_SCHEMA),
        (dataset.classes, CLASSES_SCHEMA),
    ):
        assert frame.schema == pl.Schema(schema)
    assert dataset.objects["area"].to_list() == [50.0, 0.0, 27.0]
    assert dataset.objects["object_id"].to_list() == [0, 1, 2]
    assert dataset.objects["ignore"].to_list() == [False, True, False]
    assert dataset.objects["crowd"].to_list() == [False, False, True]
    assert dataset.classes["thing"].to_list() == [True, True]
    assert dataset.objects["occlusion"].null_count() == 3


def test_rows_and_frames_are_the_same():
    rows = make()
    frames = make(rows.images, rows.objects, rows.classes)
    assert frames.images.equals(rows.images)
    assert frames.objects.equals(rows.objects)
    assert frames.label_digest() == rows.label_digest()


def test_an_empty_data_set_is_allowed():
    dataset = make(images=[], objects=[])
    assert len(dataset) == 0
    assert dataset.splits == []
    assert dataset.counts_by_class() == {"cat": 0, "dog": 0}


def test_mixed_whole_and_decimal_numbers_in_one_column():
    objects = [{"image_id": np.int64(7), "class_id": np.int32(0), "x1": 1, "y1": np.float32(2.5), "x2": 3.5, "y2": 4}]
    assert make(objects=objects).objects.select("x1", "y1", "x2", "y2").row(0) == (1.0, 2.5, 3.5, 4.0)


REFUSED = {
    "unknown column": ({"images": changed(IMAGES, 0, colour="red")}, "got also ['colour']"),
    "missing column": ({"images": [{"image_id": 1, "path": "x.png", "width": 4}]}, "'images.height' must have a value"),
    "empty value": ({"objects": changed(OBJECTS, 0, x1=None)}, "'objects.x1' must have a value in every row, got 1"),
    "text in a number": ({"objects": changed(OBJECTS, 0, x1="left")}, "objects must fit the schema"),
    "text in a nullable number": ({"objects": changed(OBJECTS, 0, occlusion="half")}, "must fit the schema"),
    "fractional id": ({"objects": changed(OBJECTS, 0, track_id=1.5)}, "must fit the schema"),
    "task": ({"task": "classify"}, "task must be one of detect, instance, obb, pose, semantic, track, got 'classify'"),
    "class ids with a gap": ({"classes": changed(CLASSES, 1, class_id=2)}, "class ids must be 0..1, got [0, 2]"),
    "image id twice": ({"images": changed(IMAGES, 1, image_id=7)}, "'image_id' must be unique, got 7"),
    "path twice": ({"images": changed(IMAGES, 1, path="a/one.png")}, "'path' must be unique, got 'a/one.png'"),
    "object id twice": (
        {"objects": [{**row, "object_id": 4} for row in OBJECTS]},
        "'object_id' must be unique, got 4",
    ),
    "class name twice": ({"classes": changed(CLASSES, 1, name="cat")}, "'name' must be unique, got 'cat'"),
    "absolute path": ({"images": changed(IMAGES, 0, path="/etc/passwd")}, "stay inside it, got '/etc/passwd'"),
    "drive letter": ({"images": changed(IMAGES, 0, path="C:/x.png")}, "stay inside it, got 'C:/x.png'"),
    "parent folder": ({"images": changed(IMAGES, 0, path="a/../../x.png")}, "stay inside it"),
    "backslash": ({"images": changed(IMAGES, 0, path="a\\x.png")}, "stay inside it"),
    "mask outside": ({"images": changed(IMAGES, 0, mask_path="../m.png")}, "got '../m.png'"),
    "no width": ({"images": changed(IMAGES, 0, width=0)}, "image sizes must be at least 1 x 1, got a/one.png"),
    "dangling object": ({"objects": changed(OBJECTS, 0, image_id=99)}, "a listed image, got image_id 99"),
    "class above": ({"objects": changed(OBJECTS, 0, class_id=2)}, "class_id must be 0..1, got 2"),
    "class below": ({"objects": changed(OBJECTS, 0, class_id=-1)}, "class_id must be 0..1, got -1"),
    "NaN": ({"objects": changed(OBJECTS, 0, x1=float("nan"))}, "finite numbers"),
    "infinity": ({"objects": changed(OBJECTS, 0, x2=float("inf"))}, "finite numbers"),
    "flat box": ({"objects": changed(OBJECTS, 1, ignore=False)}, "must be marked ignore, got object 1"),
    "turned box": ({"objects": changed(OBJECTS, 0, x1=20.0)}, "must be marked ignore, got object 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_thing(case):
    changes, part = REFUSED[case]
    with pytest.raises(DataError) as caught:
        make(**changes)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_names_with_dots_are_ordinary_paths():
    assert make(images=changed(IMAGES, 0, path="a..b/.hidden/one..png")).images["path"][0] == "a..b/.hidden/one..png"


def test_split_select_and_counts():
    dataset = make()
    assert dataset.splits == ["train", "val"]
    assert dataset.class_names == ("cat", "dog")
    train = dataset.split("train")
    assert train.images["image_id"].to_list() == [7, 9], "the data set's own order"
    assert train.objects["image_id"].unique().to_list() == [7]
    assert dataset.counts_by_class() == {"cat": 2, "dog": 1}
    assert train.counts_by_class() == {"cat": 1, "dog": 1}
    assert dataset.select([9, 7]).images["image_id"].to_list() == [7, 9]
    assert dataset.select([3, 3]).objects.height == 1
    assert len(dataset.select([])) == 0
    assert dataset.usable_objects["object_id"].to_list() == [0]
    with pytest.raises(DataError, match=r"split 'test' is not in data set 'pets' \(splits: train, val\)"):
        dataset.split("test")


def test_counts_of_the_splits_add_up():
    dataset = make()
    parts = [dataset.split(name).counts_by_class() for name in dataset.splits]
    assert {name: sum(part[name] for part in parts) for name in dataset.class_names} == dataset.counts_by_class()


def test_description_is_plain():
    description = make().to_dict()
    assert description["objects_by_class"] == {"cat": 2, "dog": 1}
    assert description["images_by_split"] == {"train": 2, "val": 1}
    assert description["images"] == 3


def test_notebook_view_escapes_names():
    dataset = make(classes=changed(CLASSES, 0, name="<script>alert(1)</script>"))
    assert "<script>" not in dataset._repr_html_()


@pytest.fixture
def stored(tmp_path: Path) -> Dataset:
    write_files(tmp_path / "here")
    return make(root=tmp_path / "here")


def rows_of(dataset: Dataset) -> tuple[list[dict], list[dict], list[dict]]:
    return dataset.images.to_dicts(), dataset.objects.to_dicts(), dataset.classes.to_dicts()


def test_digest_ignores_order_root_and_names_of_the_set(stored, tmp_path):
    images, objects, classes = rows_of(stored)
    shuffle = random.Random(0)
    shuffle.shuffle(images)
    shuffle.shuffle(objects)
    shutil.copytree(stored.root, tmp_path / "there")
    moved = make(images, objects, classes[::-1], root=tmp_path / "there", name="other", format="voc")
    assert moved.digest() == stored.digest()
    assert len(stored.digest()) == 64
    assert stored.digest(workers=1) == stored.digest(workers=4)


def test_digest_ignores_the_numbering_of_images_and_objects(stored):
    images, objects, classes = rows_of(stored)
    images = [{**row, "image_id": row["image_id"] + 100} for row in images]
    objects = [{**row, "image_id": row["image_id"] + 100, "object_id": row["object_id"] + 5} for row in objects]
    assert make(images, objects, classes, root=stored.root).digest() == stored.digest()


@pytest.mark.parametrize("relative", ["a/two.png", "b/three_mask.png"])
def test_digest_sees_a_changed_byte_of_an_image_or_mask(stored, relative):
    before = stored.digest()
    data = bytearray((stored.root / relative).read_bytes())
    data[50] ^= 1
    (stored.root / relative).write_bytes(data)
    assert stored.digest() != before
    assert stored.label_digest() == make(root=stored.root).label_digest()


CHANGES = {
    "box": {"objects": changed(OBJECTS, 0, x1=1.0000001)},
    "class of an object": {"objects": changed(OBJECTS, 0, class_id=1)},
    "crowd flag": {"objects": changed(OBJECTS, 0, crowd=True)},
    "polygon": {"objects": changed(OBJECTS, 0, polygon=[[1.0, 2.0, 11.0, 2.0, 11.0, 7.0]])},
    "run lengths": {"objects": changed(OBJECTS, 0, rle=b"abc")},
    "an object fewer": {"objects": OBJECTS[:-1]},
    "an object twice": {"objects": [*OBJECTS, OBJECTS[0]]},
    "object moved to another image": {"objects": changed(OBJECTS, 0, image_id=3)},
    "split": {"images": changed(IMAGES, 0, split="val")},
    "group": {"images": changed(IMAGES, 0, group="night")},
    "size": {"images": changed(IMAGES, 0, width=41)},
    "class name": {"classes": changed(CLASSES, 0, name="kitten")},
    "ignored values": {"ignore_values": (255,)},
}


@pytest.mark.parametrize("case", CHANGES)
def test_digest_sees_every_change_of_the_labels(case):
    assert make(**CHANGES[case]).label_digest() != make().label_digest()


def test_digest_sees_an_image_added(stored):
    (stored.root / "c.png").write_bytes(b"pixels")
    more = make([*IMAGES, {"image_id": 11, "path": "c.png", "width": 4, "height": 4}], root=stored.root)
    assert more.digest() != stored.digest()


def test_digest_names_the_missing_file(stored):
    (stored.root / "a/one.png").unlink()
    with pytest.raises(DataError, match=r"one\.png: cannot read the file \(No such file or directory\)"):
        stored.digest()


def test_findings_do_not_enter_the_digest():
    assert replace(make(), findings=()).label_digest() == make(findings=()).label_digest()
