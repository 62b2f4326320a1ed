"""Keypoints carried through COCO, and Roboflow's layout written and read back."""

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.core.dataset import SOURCE_COLUMNS, dataset_from_rows
from sightline.data import read_dataset, write_dataset
from sightline.data.doors import detect_format
from sightline.ops import rle

PERSON = {"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]}
POINTS = [5, 6.5, 2, 0, 0, 0, 7, 8, 1]
PLACES = {"images/train/a.png": "train", "b.png": "val", "test/c.png": "test", "valid/d.png": "val", "e.png": None}
CROWD = rle.runs_to_counts([96, 72, 600], (24, 32))


@pytest.fixture
def people(tmp_path: Path, save_image):
    """A file with keypoints, its annotations and categories as given."""

    def make(
        annotations: list[Any], category: dict[str, Any] = PERSON, name: str = "person_keypoints_val.json"
    ) -> Path:
        save_image("a.png")
        images = [{"id": 7, "file_name": "a.png", "width": 32, "height": 24}]
        file = tmp_path / "annotations" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}, indent=1))
        return file

    return make


def person(number: int, **changes: Any) -> dict[str, Any]:
    entry = {"id": number, "image_id": 7, "category_id": 1, "bbox": [2 + number, 3, 10, 10], "area": 100}
    return entry | {"iscrowd": 0, "keypoints": POINTS, "num_keypoints": 2} | changes


def test_keypoints_are_kept_as_written(people, tmp_path: Path) -> None:
    file = people([person(1), person(2, keypoints=[0] * 9), person(3, keypoints=[]), person(4, keypoints=None)])
    for place in (file, tmp_path):  # named, or the only file of the folder
        dataset = read_dataset(place)
        assert not dataset.findings
        assert dataset.objects["keypoints"].to_list() == [POINTS, [0] * 9, None, None]
        assert dataset.classes["keypoint_names"].to_list() == [PERSON["keypoints"]]
        assert dataset.classes["skeleton"].to_list() == [[[0, 1], [0, 2]]]  # COCO counts from 1


def test_instances_come_before_keypoints(people, tmp_path: Path) -> None:
    people([person(1)])
    people([person(5, keypoints=None)], name="instances_val.json")
    assert read_dataset(tmp_path).objects["object_id"].to_list() == [5]


@pytest.mark.parametrize("points", [POINTS[:6], [*POINTS, 1, 1, 1], POINTS[:-1], [1, 1, 3, *POINTS[3:]], "all"])
def test_keypoints_that_cannot_be(people, points: Any) -> None:
    file = people([person(1), person(2, keypoints=points)])
    dataset = read_dataset(file)
    lines = file.read_text().splitlines()
    (found,) = dataset.findings
    assert (found.code, found.path) == ("label-bad-keypoints", "annotations/person_keypoints_val.json")
    assert lines[found.line - 1 :][1].strip() == '"id": 2,'
    assert dataset.objects["keypoints"].to_list() == [POINTS, None]  # the box is kept


@pytest.mark.parametrize(
    "change", [{"keypoints": "nose"}, {"keypoints": ["nose", 3]}, {"skeleton": [[0, 1]]}, {"skeleton": [[1, 4]]}]
)
def test_categories_that_cannot_be(people, change: dict[str, Any]) -> None:
    dataset = read_dataset(people([], PERSON | change))
    assert {f.code for f in dataset.findings} == {"label-malformed"}
    assert all(f.line is not None for f in dataset.findings)
    assert dataset.class_names == ("person",)


def test_files_that_name_keypoints_differently(people, tmp_path: Path) -> None:
    people([person(1)], name="person_keypoints_train.json")
    people([person(1)], PERSON | {"keypoints": ["nose", "right_eye", "left_eye"]})
    codes = [f.code for f in read_dataset(tmp_path).findings]
    assert codes.count("class-conflict") == 1


def test_keypoints_round_trip(people, tmp_path: Path) -> None:
    entries = [person(1), person(2, keypoints=[0] * 9, num_keypoints=0), person(3, keypoints=None, num_keypoints=None)]
    file = people(entries)
    before = read_dataset(file)
    assert write_dataset(before, tmp_path / "out", "coco") == []
    after = read_dataset(tmp_path / "out")
    assert after.objects.drop(SOURCE_COLUMNS).equals(before.objects.drop(SOURCE_COLUMNS))
    assert after.classes.equals(before.classes)
    written = json.loads((tmp_path / "out/annotations/instances_val.json").read_text())
    assert written["categories"] == [PERSON]
    for old, new in zip(entries, written["annotations"], strict=True):
        assert (new.get("keypoints"), new.get("num_keypoints")) == (old["keypoints"], old["num_keypoints"])


def full_dataset(root: Path, save_image) -> Any:
    """Every kind of object, a class and an image without any, splits and an image in none."""
    images = [
        {"image_id": i, "path": path, "width": 32, "height": 24, "split": split}
        for i, (path, split) in enumerate(PLACES.items())
    ]
    for image in images:
        save_image(image["path"])
    box = {"class_id": 0, "x1": 1.1, "y1": 2.2, "x2": 11.3, "y2": 12.7}
    ring = [1.1, 2.2, 11.3, 2.2, 11.3, 12.7]
    rows = [
        box | {"image_id": 0, "keypoints": [float(v) for v in POINTS]},
        box | {"image_id": 1, "polygon": [ring, [4.0, 4.0, 5.0, 4.0, 5.0, 6.0]], "area": 55.25},
        box | {"image_id": 1, "class_id": 1, "x1": 4, "y1": 0, "x2": 7, "y2": 24, "rle": CROWD, "crowd": True},
        box | {"image_id": 2, "ignore": True},
        box | {"image_id": 4, "class_id": 1},
    ]
    classes = [
        {"class_id": 0, "name": "person", "keypoint_names": PERSON["keypoints"], "skeleton": [[0, 1], [0, 2]]},
        {"class_id": 1, "name": "sea", "thing": False},
        {"class_id": 2, "name": "nothing", "thing": True},
    ]
    return dataset_from_rows(images, rows, classes, root=root, name="x", task="instance", format="coco")


@pytest.mark.parametrize("name", ["coco", "roboflow"])
def test_everything_round_trips(tmp_path: Path, save_image, name: str) -> None:
    before = full_dataset(tmp_path, save_image)
    assert write_dataset(before, tmp_path / "out", name) == []
    assert detect_format(tmp_path / "out") == name
    after = read_dataset(tmp_path / "out")
    assert after.format == name
    assert not [f for f in after.findings if f.severity != "info"]
    other = ("image_id", *SOURCE_COLUMNS)
    assert after.objects.sort("object_id").drop(other).equals(before.objects.drop(other))
    columns = ["image_id", "split", "width", "height"]
    assert after.images.select(columns).sort("image_id").equals(before.images.select(columns))
    assert after.classes.drop("source_id").equals(before.classes.drop("source_id"))


def test_roboflow_folders_and_names(tmp_path: Path, save_image) -> None:
    before = full_dataset(tmp_path, save_image)
    write_dataset(before, tmp_path / "out", "roboflow")
    files = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*"))
    labels = "_annotations.coco.json"
    assert files == [
        f"test/{labels}", "test/c.png", f"train/{labels}", "train/a.png", f"unassigned/{labels}", "unassigned/e.png",
        f"valid/{labels}", "valid/b.png", "valid/d.png",
    ]  # fmt: skip
    again = read_dataset(tmp_path / "out")
    write_dataset(again, tmp_path / "twice", "roboflow")
    for file in (f for f in files if f.endswith(".json")):
        assert (tmp_path / "twice" / file).read_bytes() == (tmp_path / "out" / file).read_bytes()
    assert read_dataset(tmp_path / "twice").images.equals(again.images)


@pytest.mark.parametrize("name", ["coco", "roboflow"])
def test_splits_of_other_names_are_counted(tmp_path: Path, save_image, name: str) -> None:
    save_image("a.png")
    images = [{"image_id": 0, "path": "a.png", "width": 32, "height": 24, "split": "fold3"}]
    classes = [{"class_id": 0, "name": "car"}]
    dataset = dataset_from_rows(images, [], classes, root=tmp_path, name="x", task="detect", format="yolo")
    (loss,) = write_dataset(dataset, tmp_path / "out", name)
    assert (loss.code, loss.count) == ("loss-splits", 1)
    assert read_dataset(tmp_path / "out").images["split"].to_list() == [None]
