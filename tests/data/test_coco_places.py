"""COCO files whose names, ids or categories are not as the format has them: read, and said."""

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.audit import audit_dataset
from sightline.data import read_dataset, write_dataset

BOX = {"category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}


@pytest.fixture
def coco(tmp_path: Path, save_image):
    """A COCO file of images by id and name, each with a box, beside the given pictures of 32 × 24 pixels."""

    def make(names: dict[Any, str], pictures: list[str], **changes: Any) -> Path:
        for picture in pictures:
            save_image(picture)
        images = [{"id": i, "file_name": name, "width": 32, "height": 24} for i, name in names.items()]
        entries = [{"id": n, "image_id": i, **BOX} for n, i in enumerate(names)]
        content = {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "cat"}]} | changes
        (tmp_path / "labels.json").write_text(json.dumps(content, indent=1))
        return tmp_path / "labels.json"

    return make


def paths(file: Path) -> list[str]:
    return sorted(read_dataset(file).images["path"])


def test_names_with_other_folders_and_addresses_are_found_by_name_and_said_once(coco) -> None:
    names = {
        4: "..\\..\\upload\\a.png",
        5: "/data/local-files/?d=imgs%2Fb.png",
        6: "https://example.org/x/c.png",
        7: "/home/somebody/d.png",
        8: "e.png",
    }
    file = coco(names, ["images/a.png", "images/b.png", "images/c.png", "more/d.png", "images/e.png"])
    dataset = read_dataset(file)
    assert sorted(dataset.images["path"]) == [f"images/{n}.png" for n in "abce"] + ["more/d.png"]
    assert dataset.objects.height == 5
    (said,) = dataset.findings
    assert (said.code, said.count, said.path, said.entry) == ("layout-elsewhere", 4, "labels.json", 0)
    assert said.line is not None
    assert "id 4: '..\\..\\upload\\a.png' is 'images/a.png'" in said.message


def test_a_name_that_several_pictures_have_is_listed_as_missing(coco) -> None:
    dataset = read_dataset(coco({1: "..\\a.png", 2: "b.png"}, ["x/a.png", "y/a.png", "b.png"]))
    assert dataset.images["path"].to_list() == ["b.png"]
    assert [f.facts["id"] for f in dataset.findings if f.code == "image-missing"] == [1]


def test_a_picture_of_another_size_or_split_is_not_taken_for_one_of_its_name(coco, save_image) -> None:
    file = coco({1: "train/a.png", 2: "gone/b.png", 3: "c.png"}, ["val/a.png", "c.png"])
    save_image("images/b.png", size_hw=(10, 10))
    assert paths(file) == ["c.png"]


def test_absolute_names_inside_the_root_are_read(coco, tmp_path: Path) -> None:
    names = {n: f"{tmp_path.as_posix()}/images/{n}/a.png" for n in (1, 2)}
    file = coco(names, ["images/1/a.png", "images/2/a.png"])
    (tmp_path / "annotations").mkdir()
    inner = file.rename(tmp_path / "annotations/labels.json")
    for place in (inner, tmp_path):
        dataset = read_dataset(place)
        assert dataset.root == tmp_path
        assert sorted(dataset.images["path"]) == ["images/1/a.png", "images/2/a.png"]
        assert [(f.code, f.count) for f in dataset.findings] == [("layout-elsewhere", 2)]


def test_absolute_names_elsewhere_do_not_make_the_disk_the_root(coco, tmp_path: Path) -> None:
    dataset = read_dataset(coco({1: "/nowhere/at/all/a.png", 2: "b.png"}, ["b.png"]))
    assert dataset.root == tmp_path
    assert dataset.images["path"].to_list() == ["b.png"]


def test_flat_names_of_nested_pictures_are_found(coco) -> None:
    assert paths(coco({1: "a.png", 2: "b.png"}, ["images/a.png", "images/sub/b.png"])) == [
        "images/a.png",
        "images/sub/b.png",
    ]


def test_ids_of_text_are_numbered_and_said(coco) -> None:
    categories = [{"id": "c-1", "name": "cat"}, {"id": "c-2", "name": "dog"}]
    entries = [{"id": "x", "image_id": "u-2", **BOX, "category_id": "c-2"}]
    dataset = read_dataset(
        coco({"u-1": "a.png", "u-2": "b.png"}, ["a.png", "b.png"], categories=categories, annotations=entries)
    )
    assert [(f.code, f.path) for f in dataset.findings] == [("layout-text-ids", "labels.json")]
    row = dataset.objects.row(0, named=True)
    assert dataset.images.row(row["image_id"], named=True)["path"] == "b.png"
    assert dataset.class_names[row["class_id"]] == "dog"
    assert not dataset.source_image_ids


def test_images_without_files_and_sizes_are_as_large_as_their_boxes_reach(coco) -> None:
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    dataset = read_dataset(coco({1: "a.png", 2: "b.png"}, [], images=images))
    assert dataset.images.select("width", "height").rows() == [(11, 11), (11, 11)]
    assert dataset.objects.height == 2
    (missing,) = dataset.findings
    assert missing.code == "image-missing"
    assert "2 without width and height are taken to be as large as their labels reach" in missing.message


def test_categories_without_a_name_keep_their_objects(coco) -> None:
    categories = [{"id": 1}, {"id": 2, "name": ""}, {"id": 3, "name": 7}]
    dataset = read_dataset(coco({1: "a.png"}, ["a.png"], categories=categories))
    assert dataset.class_names == ("category_1", "category_2", "7")
    assert [f.code for f in dataset.findings] == ["class-names-missing"] * 3
    assert dataset.objects.height == 1


def test_an_empty_group_of_categories_is_said_and_not_written(coco, tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "animals"},
        {"id": 2, "name": "dog", "supercategory": "animals"},
    ]
    dataset = read_dataset(coco({1: "a.png"}, ["a.png"], categories=categories))
    assert dataset.class_names == ("animals", "cat", "dog")
    (group,) = [f for f in audit_dataset(dataset).findings if f.code == "class-grouping"]
    assert group.facts["classes"] == ["animals"]
    write_dataset(dataset, tmp_path / "out", "yolo")
    written = read_dataset(tmp_path / "out")
    assert written.class_names == ("cat", "dog")
    assert written.objects["class_id"].to_list() == [0]


def test_a_group_with_objects_of_its_own_is_a_class(coco) -> None:
    categories = [{"id": 1, "name": "animals"}, {"id": 2, "name": "dog", "supercategory": "animals"}]
    assert not read_dataset(coco({1: "a.png"}, ["a.png"], categories=categories)).findings


def test_a_file_for_each_picture_in_a_folder_of_any_case(tmp_path: Path, save_image) -> None:
    for number in range(3):
        save_image(f"Images/{number}.png")
        images = [{"id": 1, "file_name": f"{number}.png", "width": 32, "height": 24}]
        content = {"images": images, "annotations": [{"id": 1, "image_id": 1, **BOX}]}
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        file = tmp_path / f"Annotations/{number}.json"
        file.write_text(json.dumps(content | {"categories": [{"id": 1, "name": "cat"}]}))
    dataset = read_dataset(tmp_path)
    assert dataset.images["path"].to_list() == [f"Images/{n}.png" for n in range(3)]
    assert dataset.objects.height == 3
    assert not dataset.findings
