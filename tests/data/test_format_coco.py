"""COCO: what is read, what is reported with its line, and a round trip that changes nothing."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from sightline.core.dataset import SOURCE_COLUMNS, Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.data import read_dataset, write_dataset
from sightline.data.doors import entry_lines
from sightline.data.formats.coco.write import extents
from sightline.ops import rle

COUNTS = rle.encode(np.pad(np.ones((5, 6), bool), ((3, 16), (4, 22)))).decode()
SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]


def document(annotations: list[Any], **changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 32, "height": 24},
            {"id": 9, "file_name": "b.png", "width": 32, "height": 24},
        ],
        "annotations": annotations,
        "categories": [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}],
    } | changes


def annotation(number: int, **changes: Any) -> dict[str, Any]:
    entry = {"id": number, "image_id": 7, "category_id": 5, "bbox": [2, 3, 10, 10], "area": 100, "iscrowd": 0}
    return entry | changes


@pytest.fixture
def coco(tmp_path: Path, save_image):
    def make(content: Any, name: str = "labels.json") -> Path:
        for image in ("a.png", "b.png"):
            save_image(image)
        file = tmp_path / name
        file.write_text(json.dumps(content, indent=1))
        return file

    return make


def line_of(file: Path, text: str) -> int:
    """The line of the brace that opens the entry in which `text` stands."""
    lines = file.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if text in line)
    while lines[at].strip() != "{":
        at -= 1
    return at + 1


def test_boxes_ids_and_classes(coco, judged) -> None:
    crowd = {"size": [24, 32], "counts": [100, 50, 618]}
    file = coco(
        document(
            [
                annotation(30, segmentation=[SQUARE, [20, 1, 24, 1, 24, 5]], area=108, bbox=[2, 1, 22, 12]),
                annotation(31, image_id=9, category_id=2, bbox=[4, 0, 3, 24], iscrowd=1, segmentation=crowd),
                annotation(32, image_id=9, category_id=2, bbox=[20, 4, 1, 3], area=3),
            ]
        )
    )
    dataset = judged(read_dataset(file))
    assert [f.code for f in dataset.findings] == ["label-tiny"]
    assert dataset.task == "instance"
    assert dataset.class_names == ("dog", "cat")  # in the order of the file's ids
    assert dataset.classes["source_id"].to_list() == [2, 5]
    assert dataset.images["image_id"].to_list() == [7, 9]
    first, second, _ = dataset.objects.rows(named=True)
    assert (first["x1"], first["y1"], first["x2"], first["y2"]) == (2, 1, 24, 13)
    assert first["polygon"] == [SQUARE, [20, 1, 24, 1, 24, 5]]
    assert (first["area"], first["rle"], first["crowd"]) == (108, None, False)
    assert second["crowd"]
    assert rle.area(second["rle"]) == 50
    assert second["class_id"] == 0


def test_each_defect_is_found_with_its_line(coco, judged) -> None:
    file = coco(
        document(
            [
                annotation(101),
                annotation(102, bbox=[5, 5, 0, 4]),
                annotation(103, bbox=[25, 5, 20, 4]),
                annotation(104, bbox=[1, 2, "x", 4]),
                annotation(105, category_id=77),
                annotation(106, image_id=1234),
                annotation(107, bbox=[1, 1, 3, 3], segmentation=[[1, 1, 2]]),
                annotation(108, bbox=[4, 4, 5, 5], segmentation={"size": [24, 32], "counts": [1, 2]}),
                annotation(109),
                annotation(110, bbox=[2.1, 3, 10, 10]),
                annotation(110, bbox=[15, 12, 4, 4]),
                "no object",
            ]
        )
    )
    dataset = judged(read_dataset(file))
    found = {(f.code, f.line) for f in dataset.findings}
    assert found == {
        ("label-wrong-area", line_of(file, '"id": 110,') + 13),
        ("label-degenerate-box", line_of(file, '"id": 102,')),
        ("label-out-of-bounds", line_of(file, '"id": 103,')),
        ("label-malformed", line_of(file, '"id": 104,')),
        ("label-unknown-class", line_of(file, '"id": 105,')),
        ("label-unknown-image", line_of(file, '"id": 106,')),
        ("label-bad-segmentation", line_of(file, '"id": 107,')),
        ("label-bad-segmentation", line_of(file, '"id": 108,')),
        ("label-duplicate", line_of(file, '"id": 109,')),
        ("label-near-duplicate", line_of(file, '"id": 110,')),
        ("label-duplicate-id", line_of(file, '"id": 110,') + 13),
        ("label-malformed", file.read_text().splitlines().index('  "no object"') + 1),
    }
    assert all(f.path == "labels.json" and f.severity in {"warning", "error"} for f in dataset.findings)
    # 12 entries: 4 cannot become objects (malformed twice, unknown class, unknown image), the others are all there.
    assert dataset.objects.height == 8
    assert dataset.objects.filter("ignore").height == 1
    assert "line" in next(f.message for f in dataset.findings if f.code == "label-duplicate")


def test_box_comes_from_the_mask_where_none_is_given(coco) -> None:
    entry = annotation(1, segmentation=[SQUARE])
    del entry["bbox"], entry["area"]
    row = read_dataset(coco(document([entry]))).objects.row(0, named=True)
    assert (row["x1"], row["y1"], row["x2"], row["y2"]) == (2, 3, 12, 13)
    assert row["area"] == 100


def test_missing_images(coco, tmp_path: Path) -> None:
    file = coco(document([annotation(1), annotation(2, image_id=9)]))
    (tmp_path / "b.png").unlink()
    one = read_dataset(file)
    assert [(f.code, f.path) for f in one.findings if f.code == "image-missing"] == [("image-missing", "b.png")]
    assert one.images["path"].to_list() == ["a.png"]
    (tmp_path / "a.png").unlink()
    none = read_dataset(file)  # ground truth without pictures can still be evaluated against
    assert [(f.code, f.count) for f in none.findings] == [("image-missing", 2)]
    assert none.objects.height == 2


def test_size_is_taken_from_the_picture_where_the_file_states_none(coco) -> None:
    content = document([annotation(1)])
    del content["images"][0]["width"]
    assert read_dataset(coco(content)).images.row(0)[2:4] == (32, 24)


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "x/../../a.png", "C:\\a.png", "..\\..\\a.png"])
def test_paths_that_leave_the_root_are_found_by_name_or_listed(coco, name: str) -> None:
    content = document([annotation(1)])
    content["images"][0]["file_name"] = name
    dataset = read_dataset(coco(content))
    assert all(dataset.image_path(path).resolve().is_relative_to(dataset.root) for path in dataset.images["path"])
    found = [f for f in dataset.findings if f.code in {"layout-elsewhere", "image-missing"}]
    assert [f.code for f in found] == (["layout-elsewhere"] if name.endswith("a.png") else ["image-missing"])
    assert name in found[0].message
    assert len(dataset) == (2 if name.endswith("a.png") else 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [], "categories": [}', "labels.json:1: must be valid JSON"),
        ('{"images": {}, "categories": []}', "must have a list 'images', got an object"),
        ('{"images": [], "categories": [], "annotations": 3}', "'annotations' of a COCO file must be a list"),
        ("[1, 2]", "must hold an object, got a list"),
        ('{"images": ' + "[" * 100_000 + ', "categories"', "labels.json"),
        ("", "labels.json"),
    ],
)
def test_what_is_no_coco_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "labels.json"
    file.write_text(text)
    with pytest.raises(DataError) as raised:
        read_dataset(file)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_roboflow_layout_has_splits(tmp_path: Path, save_image) -> None:
    for folder in ("train", "valid"):
        content = document([annotation(1)])
        for image in content["images"]:
            image["file_name"] = f"{folder}_{image['file_name']}"
            save_image(f"{folder}/{image['file_name']}")
        (tmp_path / folder / "_annotations.coco.json").write_text(json.dumps(content))
    dataset = read_dataset(tmp_path)
    assert dataset.splits == ["train", "val"]
    assert dataset.images["path"].to_list()[0] == "train/train_a.png"
    assert dataset.objects["image_id"].to_list() == [0, 2]  # the files' ids collide, so they are given anew
    assert not dataset.findings


def test_same_image_in_two_split_files(tmp_path: Path, coco) -> None:
    coco(document([annotation(1)]), "instances_train.json")
    coco(document([annotation(1)]), "instances_val.json")
    dataset = read_dataset(tmp_path)
    codes = [f.code for f in dataset.findings]
    assert codes.count("split-overlap-path") == 2
    assert dataset.objects.height == 1


def test_class_lists_that_disagree(tmp_path: Path, coco) -> None:
    coco(document([annotation(1)]), "instances_train.json")
    other = document([annotation(1, image_id=8)], images=[{"id": 8, "file_name": "b.png", "width": 32, "height": 24}])
    other["categories"] = [{"id": 1, "name": "cat"}, {"id": 5, "name": "cat"}]
    first = document([annotation(1)])
    first["images"] = first["images"][:1]
    coco(first, "instances_train.json")
    coco(other, "instances_val.json")
    dataset = read_dataset(tmp_path)
    assert {"class-conflict", "class-duplicate-name"} <= {f.code for f in dataset.findings}
    assert sorted(dataset.class_names) == ["cat", "dog"]
    assert dataset.counts_by_class()["cat"] == 2


def objects_of(dataset: Dataset) -> pl.DataFrame:
    return dataset.objects.drop("occlusion", "truncation", "track_id", *SOURCE_COLUMNS).sort("object_id")


def test_round_trip_changes_nothing(coco, tmp_path: Path) -> None:
    crowd = {"size": [24, 32], "counts": [100, 50, 618]}
    file = coco(
        document(
            [
                annotation(30, segmentation=[SQUARE, [20, 1, 24.3, 1, 24, 5]], bbox=[0.1, 0.2, 0.3, 7.7], area=1.5),
                annotation(31, bbox=[0, 0, 9, 9], iscrowd=1, segmentation=crowd),
                annotation(32, bbox=[4, 4, 0, 4]),
                annotation(33, bbox=[14, 4, 7, 4], ignore=1),
                annotation(34, image_id=9, segmentation={"size": [24, 32], "counts": COUNTS}, area=30),
            ]
        )
    )
    before = read_dataset(file)
    assert write_dataset(before, tmp_path / "out", "coco") == []
    after = read_dataset(tmp_path / "out")
    assert objects_of(before).equals(objects_of(after))
    assert before.images.equals(after.images)
    assert before.classes.equals(after.classes)
    written = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    source = json.loads(file.read_text())
    for old, new in zip(source["annotations"], written["annotations"], strict=True):
        assert new["bbox"] == old["bbox"]
        assert {k: new.get(k) for k in ("id", "image_id", "category_id", "area", "iscrowd", "segmentation")} == {
            k: old.get(k) for k in ("id", "image_id", "category_id", "area", "iscrowd", "segmentation")
        }


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_what_we_write(coco, tmp_path: Path, capsys) -> None:
    """pycocotools 2.0.11 is the reference reader; masks must have the areas ours have."""
    entries = [annotation(1, segmentation=[SQUARE]), annotation(2, segmentation={"size": [24, 32], "counts": COUNTS})]
    dataset = read_dataset(coco(document(entries)))
    write_dataset(dataset, tmp_path / "out", "coco")
    reference = COCO(str(tmp_path / "out" / "annotations" / "instances.json"))
    capsys.readouterr()
    areas = [int(reference.annToMask(reference.anns[i]).sum()) for i in (1, 2)]
    assert areas == [rle.area(rle.from_polygons([SQUARE], (24, 32))), 30]


@settings(max_examples=200)
@given(low=st.floats(0, 1e5), extent=st.floats(0, 1e5))
def test_width_gives_back_exactly_the_far_corner(low: float, extent: float) -> None:
    high = low + extent
    width = extents(np.array([low]), np.array([high]))
    assert (np.array([low]) + width)[0] == high


def test_losses_are_counted(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    box = {"image_id": 0, "class_id": 0, "x1": 1, "y1": 1, "x2": 5, "y2": 5}
    rows = [box | {"track_id": 3, "occlusion": 0.5}, box | {"x1": 2, "track_id": 4}]
    images = [{"image_id": 0, "path": "a.png", "width": 32, "height": 24, "frame": 0}]
    classes = [{"class_id": 0, "name": "car"}]
    dataset = dataset_from_rows(images, rows, classes, root=tmp_path, name="x", task="track", format="mot")
    (loss,) = write_dataset(dataset, tmp_path / "out", "coco")
    assert (loss.code, loss.count) == ("loss-attributes", 4)
    assert "occlusion of 1" in loss.message
    assert read_dataset(tmp_path / "out").classes["source_id"].to_list() == [1]


def test_packed_label_files(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30, "neg_category_ids": [1]}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 0], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "x"}],
    }
    file = tmp_path / "instances_val.json.gz"
    file.write_bytes(gzip.compress(json.dumps(content, indent=1).encode()))
    for place in (tmp_path, file):
        data = read_dataset(place)
        assert (data.format, data.splits, data.objects.height) == ("coco", ["val"], 1)
        assert [(f.code, f.path, f.line, f.count) for f in data.findings] == [("label-federated", file.name, 3, 1)]
        assert entry_lines(data, [(file.name, 0)]) == {(file.name, 0): 14}
    (tmp_path / "instances_val.json").write_text(json.dumps(content))  # unpacked beside it: read once
    assert read_dataset(tmp_path).objects.height == 1
    (tmp_path / "instances_val.json").unlink()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"instances_val\.json\.gz: cannot read the file \(it cannot be unpacked"):
        read_dataset(tmp_path)
