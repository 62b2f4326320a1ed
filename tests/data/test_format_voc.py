"""Pascal VOC: the 1-based door, difficult objects, splits, and defects with their lines."""

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import DataError
from sightline.data import detect_format, read_dataset, write_dataset
from sightline.ops import rle


def xml(objects: str, *, size: tuple[int, int] = (32, 24), filename: str = "a.png") -> str:
    return (
        "<annotation>\n"
        f"<filename>{filename}</filename>\n"
        f"<size>\n<width>{size[0]}</width>\n<height>{size[1]}</height>\n</size>\n"
        f"{objects}</annotation>\n"
    )


def thing(name: str, corners: tuple[object, ...], extra: str = "") -> str:
    """An object of five lines; its box opens on the third."""
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object>\n<name>{name}</name>{extra}\n<bndbox>\n{box}</bndbox>\n</object>\n"


FIRST_BOX_LINE = 9  # of the first object in `xml`


@pytest.fixture
def folder(tmp_path: Path, save_image):
    for name in ("a", "b"):
        save_image(f"JPEGImages/{name}.png")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "Annotations/a.xml").write_text(xml(thing("dog", (1, 1, 10, 12)) + thing("cat", (3, 4, 5, 6))))
    (tmp_path / "Annotations/b.xml").write_text(xml(thing("dog", (2, 2, 20, 20)), filename="b.png"))
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("b\n")
    return tmp_path


def test_boxes_lose_the_one_and_include_the_last_pixel(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert dataset.format == "voc"
    assert dataset.class_names == ("cat", "dog")  # sorted, whatever the order of the files
    assert dataset.objects.select("x1", "y1", "x2", "y2").rows() == [(0, 0, 10, 12), (2, 3, 5, 6), (1, 1, 20, 20)]
    assert dataset.objects["area"].to_list() == [120, 9, 361]
    assert dataset.images["split"].to_list() == ["train", "val"]
    assert dataset.findings == ()


def test_flags(folder: Path) -> None:
    extra = "<difficult>1</difficult><truncated>1</truncated><occluded>0</occluded>"
    (folder / "Annotations/a.xml").write_text(xml(thing("dog", (1, 1, 10, 12), extra)))
    row = read_dataset(folder).objects.row(0, named=True)
    assert row["ignore"]
    assert (row["truncation"], row["occlusion"]) == (1, 0)


def test_parts_of_objects_are_not_boxes(folder: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    (folder / "Annotations/a.xml").write_text(xml(thing("dog", (1, 1, 10, 12), part)))
    dataset = read_dataset(folder)
    assert dataset.class_names == ("dog",)
    assert dataset.objects.row(0, named=True)["x2"] == 10


def test_each_defect_is_found_with_its_line(folder: Path, save_image, judged) -> None:
    objects = [
        thing("dog", (5, 5, 5, 9)),  # degenerate as VOC counts, one pixel wide as we do
        thing("dog", (9, 9, 3, 12)),
        thing("dog", (20, 5, 40, 9)),
        thing("dog", (1, 1, "x", 9)),
        thing("", (1, 1, 9, 9)),
        thing("dog", (2, 2, 10, 10)),
        thing("dog", (2, 2, 10, 10)),
    ]
    (folder / "Annotations/a.xml").write_text(xml("".join(objects), size=(99, 24), filename="z.png"))
    (folder / "Annotations/b.xml").write_text("<annotation>\n<object>\n</annotation>\n")
    (folder / "Annotations/orphan.xml").write_text(xml(""))
    save_image("JPEGImages/unlabelled.png")
    save_image("JPEGImages/a.jpg")
    (folder / "ImageSets/Main/train.txt").write_text("a\ngone\n")
    found = {(f.code, f.path, f.line) for f in judged(read_dataset(folder)).findings}
    a, lines = "Annotations/a.xml", [FIRST_BOX_LINE + 5 * i for i in range(7)]
    assert found == {
        ("label-filename-mismatch", a, 2),
        ("image-size-mismatch", a, 4),
        ("label-degenerate-box", a, lines[0]),
        ("label-degenerate-box", a, lines[1]),
        ("label-out-of-bounds", a, lines[2]),
        ("label-malformed", a, lines[3]),
        ("label-malformed", a, lines[4]),
        ("label-duplicate", a, lines[6]),
        ("label-malformed", "Annotations/b.xml", 3),
        ("label-orphan", "Annotations/orphan.xml", None),
        ("label-missing-file", "JPEGImages/unlabelled.png", None),
        ("image-same-stem", "JPEGImages/a.png", None),
        ("split-unknown-image", "ImageSets/Main/train.txt", 2),
        ("split-unlisted", "JPEGImages/unlabelled.png", None),
    }


def test_degenerate_boxes_stay_and_are_ignored(folder: Path) -> None:
    (folder / "Annotations/a.xml").write_text(xml(thing("dog", (5, 5, 5, 9)) + thing("dog", (9, 9, 3, 12))))
    dataset = read_dataset(folder)
    assert dataset.counts_by_class() == {"dog": 3}
    assert dataset.objects["ignore"].to_list() == [True, True, False]


def test_empty_annotation_is_an_image_without_objects(folder: Path) -> None:
    (folder / "Annotations/a.xml").write_text(xml(""))
    dataset = read_dataset(folder)
    assert [(f.code, f.severity) for f in dataset.findings] == [("label-empty-file", "info")]
    assert len(dataset) == 2


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><annotation>&y;</annotation>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
        "<annotation>" * 5000,
    ],
)
def test_entities_and_endless_nesting_are_refused(folder: Path, text: str) -> None:
    (folder / "Annotations/a.xml").write_text(text)
    (found,) = [f for f in read_dataset(folder).findings if f.code == "label-malformed"]
    assert found.path == "Annotations/a.xml"
    assert "entities" in found.message or "nested" in found.message


def test_image_in_two_splits(folder: Path) -> None:
    (folder / "ImageSets/Main/val.txt").write_text("a\nb\n")
    dataset = read_dataset(folder)
    assert [f.code for f in dataset.findings] == ["split-overlap-path"]
    assert dataset.images["split"].to_list() == ["train", "val"]


def test_split_lists_may_not_leave_the_root(folder: Path) -> None:
    (folder / "ImageSets/Main/val.txt").write_text("../../secret\n")
    with pytest.raises(DataError, match=r"val.txt:1: a path in a label file must stay inside"):
        read_dataset(folder)


def test_images_and_annotations_side_by_side(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    (tmp_path / "a.xml").write_text(xml(thing("dog", (1, 1, 10, 12))))
    assert read_dataset(tmp_path).counts_by_class() == {"dog": 1}


# ---------------------------------------------------------------- writing and segmentation


NAMES = ("zebra & co", "dog <x>", "unused")
SAID = ("x1", "y1", "x2", "y2", "ignore", "occlusion", "truncation", "rle")


coordinate = st.floats(-50, 200, allow_nan=False).filter(lambda v: v == 0 or abs(v) > 1e-12)
flag = st.sampled_from([None, 0.0, 1.0])
box = st.builds(
    lambda x, y, w, h, image, label, ignore, occlusion, truncation: {
        "image_id": image,
        "class_id": label,
        "x1": x,
        "y1": y,
        "x2": x + w,
        "y2": y + h,
        "ignore": ignore,
        "occlusion": occlusion,
        "truncation": truncation,
    },
    coordinate,
    coordinate,
    st.floats(1.01, 90),
    st.floats(1.01, 90),
    st.integers(0, 1),
    st.integers(0, 1),
    st.booleans(),
    flag,
    flag,
)


@given(st.lists(box, max_size=6))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_boxes_read_back_to_the_last_bit(
    tmp_path: Path, made_dataset, object_rows, objects: list[dict[str, object]]
) -> None:
    dataset = made_dataset(objects, NAMES)
    losses = write_dataset(dataset, tmp_path / "out", "voc")
    again = read_dataset(tmp_path / "out")
    assert losses == []
    assert (again.format, again.task, again.class_names) == ("voc", "detect", dataset.class_names)
    assert object_rows(again, *SAID) == object_rows(dataset, *SAID)


def test_written_annotation_is_what_other_readers_expect(tmp_path: Path, made_dataset) -> None:
    objects = [{"image_id": 0, "class_id": 1, "x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 12.5, "truncation": 1.0}]
    write_dataset(made_dataset(objects, NAMES), tmp_path / "out", "voc")
    root = ET.parse(tmp_path / "out/Annotations/a.xml").getroot()
    assert [root.findtext(k) for k in ("filename", "size/width", "size/depth", "segmented")] == [
        "a.png",
        "32",
        "3",
        "0",
    ]
    (entry,) = root.findall("object")
    assert entry.findtext("name") == "dog <x>"
    assert [entry.findtext(f"bndbox/{c}") for c in ("xmin", "ymin", "xmax", "ymax")] == ["2", "3", "11", "12.5"]
    assert (entry.findtext("truncated"), entry.findtext("occluded"), entry.findtext("difficult")) == ("1", None, "0")
    assert (tmp_path / "out/ImageSets/Main/val.txt").read_text() == "b\n"


def test_what_voc_cannot_hold_is_counted(tmp_path: Path, made_dataset) -> None:
    plain = {"image_id": 0, "class_id": 0, "x1": 2.0, "y1": 2.0, "x2": 9.0, "y2": 9.0}
    objects = [
        plain | {"crowd": True},
        plain | {"occlusion": 0.4, "truncation": 0.0, "track_id": 7},
        plain | {"x2": 3.0},
    ]
    losses = write_dataset(made_dataset(objects, NAMES), tmp_path / "out", "voc")
    assert [(f.code, f.count) for f in losses] == [
        ("loss-attributes", 1),
        ("loss-crowd", 1),
        ("loss-to-ignored", 1),
        ("loss-attributes", 1),
    ]
    again = read_dataset(tmp_path / "out")
    assert again.objects["ignore"].to_list() == [True, False, True]
    assert again.objects["occlusion"].to_list() == [None, 0.0, None]


def blob(x1: int, y1: int, x2: int, y2: int) -> bytes:
    mask = np.zeros((24, 32), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return rle.encode(mask)


def masked(image: int, label: int, corners: tuple[int, int, int, int]) -> dict[str, object]:
    x1, y1, x2, y2 = corners
    place = {"image_id": image, "class_id": label, "x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return place | {"rle": blob(*corners), "area": float((x2 - x1) * (y2 - y1))}


def test_masks_read_back_exactly_where_they_do_not_overlap(tmp_path: Path, made_dataset, object_rows) -> None:
    objects = [masked(0, 0, (2, 3, 9, 12)), masked(0, 1, (12, 3, 20, 12)), masked(1, 1, (0, 0, 32, 24))]
    dataset = made_dataset(objects, NAMES, task="instance")
    assert write_dataset(dataset, tmp_path / "out", "voc") == []
    again = read_dataset(tmp_path / "out")
    assert (again.task, again.findings) == ("instance", ())
    assert object_rows(again, *SAID) == object_rows(dataset, *SAID)
    assert again.objects["area"].to_list() == [63, 72, 768]
    with Image.open(tmp_path / "out/SegmentationClass/a.png") as picture:
        assert picture.mode == "P"
        assert np.unique(np.asarray(picture)).tolist() == [0, 1, 2]
        assert picture.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_the_smaller_of_two_overlapping_objects_stays_whole(tmp_path: Path, made_dataset) -> None:
    objects = [masked(0, 0, (4, 4, 8, 8)), masked(0, 1, (2, 2, 20, 20))]
    losses = write_dataset(made_dataset(objects, NAMES, task="instance"), tmp_path / "out", "voc")
    assert [(f.code, f.count) for f in losses] == [("loss-overlap", 16)]
    assert read_dataset(tmp_path / "out").objects["area"].to_list() == [16, 18 * 18 - 16]


def test_polygons_become_pixels(tmp_path: Path, made_dataset) -> None:
    square = [[2.0, 2.0, 10.0, 2.0, 10.0, 10.0, 2.0, 10.0]]
    objects = [{"image_id": 0, "class_id": 0, "x1": 2.0, "y1": 2.0, "x2": 10.0, "y2": 10.0, "polygon": square}]
    losses = write_dataset(made_dataset(objects, NAMES, task="instance"), tmp_path / "out", "voc")
    assert [(f.code, f.count) for f in losses] == [("loss-polygons", 1)]
    again = read_dataset(tmp_path / "out").objects.row(0, named=True)
    assert again["rle"] == rle.from_polygons(square, (24, 32))


def test_segmentations_in_colours_are_read_through_the_palette(tmp_path: Path, made_dataset, object_rows) -> None:
    objects = [masked(0, 0, (2, 3, 9, 12)), masked(0, 1, (12, 3, 20, 12))]
    dataset = made_dataset(objects, NAMES, task="instance")
    write_dataset(dataset, tmp_path / "out", "voc")
    for file in (tmp_path / "out").glob("Segmentation*/*.png"):
        with Image.open(file) as picture:
            coloured = picture.convert("RGB")
        coloured.save(file)
    again = read_dataset(tmp_path / "out")
    assert object_rows(again, *SAID) == object_rows(dataset, *SAID)
    assert [f.code for f in again.findings] == ["label-empty-file"]


def test_masks_and_annotations_that_disagree(folder: Path, save_mask) -> None:
    numbers, classes = np.zeros((24, 32), np.uint8), np.zeros((24, 32), np.uint8)
    numbers[0:12, 0:10], numbers[14:16, 2:6], numbers[20:22, 2:6] = 1, 5, 255
    classes[0:12, 0:10] = 8  # VOC's cat, where the annotation says dog
    save_mask("SegmentationObject/a.png", numbers)
    save_mask("SegmentationClass/a.png", classes)
    save_mask("SegmentationObject/b.png", np.zeros((9, 9)))
    dataset = read_dataset(folder)
    assert {(f.code, f.path, f.line) for f in dataset.findings} == {
        ("mask-unlisted-segment", "SegmentationObject/a.png", None),
        ("mask-missing-segment", "Annotations/a.xml", FIRST_BOX_LINE + 5),
        ("class-conflict", "Annotations/a.xml", FIRST_BOX_LINE),
        ("mask-size-mismatch", "SegmentationObject/b.png", None),
    }
    assert dataset.objects["area"].to_list() == [120, 9, 361]
    assert dataset.task == "instance"
    (folder / "SegmentationObject/b.png").write_bytes(b"no picture")
    found = [f for f in read_dataset(folder).findings if f.code == "mask-unreadable"]
    assert [f.path for f in found] == ["SegmentationObject/b.png"]


def test_class_masks_alone(folder: Path, save_mask, save_image) -> None:
    save_mask("SegmentationClass/a.png", np.zeros((24, 32)))
    dataset = read_dataset(folder)
    assert (dataset.task, [f.code for f in dataset.findings]) == ("detect", ["layout-unknown-key"])
    save_image("semantic/JPEGImages/a.png")
    save_mask("semantic/SegmentationClass/a.png", np.eye(24, 32))
    assert detect_format(folder / "semantic") == "masks"


def test_any_case_and_namespaces(folder: Path) -> None:
    text = xml(thing("dog", (1, 1, 10, 12))).replace("<object>", "<Object>").replace("</object>", "</Object>")
    (folder / "Annotations/a.xml").write_text(text.replace("xmin", "XMin"))
    spaced = xml(thing("cat", (2, 2, 20, 20)), filename="b.png")
    spaced = re.sub(r"<(/?)(\w+)>", r"<\1v:\2>", spaced).replace("<v:annotation>", '<v:annotation xmlns:v="urn:x">')
    (folder / "Annotations/b.xml").write_text(spaced)
    dataset = read_dataset(folder)
    assert dataset.counts_by_class() == {"cat": 1, "dog": 1}
    assert dataset.findings == ()


def test_flags_that_say_neither_yes_nor_no(folder: Path) -> None:
    extra = "<difficult>False</difficult><truncated>Unspecified</truncated><occluded>7</occluded>"
    (folder / "Annotations/a.xml").write_text(xml(thing("dog", (1, 1, 10, 12), extra)))
    dataset = read_dataset(folder)
    assert dataset.objects.row(0, named=True)["occlusion"] is None
    assert [(f.code, f.message) for f in dataset.findings] == [
        ("layout-unknown-key", "'occluded' must be 0 or 1 to be used, got '7' on 1 objects")
    ]


def test_label_map_names_the_classes_in_order(folder: Path) -> None:
    (folder / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nfox:1,2,3::\ndog:4,5,6::\n"
    )
    dataset = read_dataset(folder)
    assert dataset.class_names == ("fox", "dog", "cat")
    assert [(f.code, f.path) for f in dataset.findings] == [("label-unknown-class", "labelmap.txt")]
    (folder / "labelmap.txt").write_text("fox\n")
    with pytest.raises(DataError, match=r"labelmap.txt:1: a row must be 'label:r,g,b:parts:actions', got 'fox'"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "semantic"}, "VOC needs objects"),
        ({"split": "fold0"}, r"VOC knows the splits train, val and test, got \['fold0'\]"),
        ({"name": "two\nlines"}, "class names must be one line"),
    ],
)
def test_what_voc_refuses_to_write(tmp_path: Path, change: dict[str, str], said: str, made_dataset) -> None:
    dataset = made_dataset([], task=change.get("task", "detect"))
    if "split" in change:
        dataset = replace(dataset, images=dataset.images.with_columns(split=pl.lit(change["split"])))
    if "name" in change:
        dataset = replace(dataset, classes=dataset.classes.with_columns(name=pl.lit(change["name"])))
    with pytest.raises(DataError, match=said):
        write_dataset(dataset, tmp_path / "out", "voc")


def test_names_that_repeat_in_folders_are_told_apart(tmp_path: Path, save_image) -> None:
    for name in ("x/a.png", "y/a.png"):
        save_image(name)
    images = [{"image_id": i, "path": p, "width": 32, "height": 24} for i, p in enumerate(("x/a.png", "y/a.png"))]
    options = {"root": tmp_path, "name": "made", "task": "detect", "format": "coco"}
    dataset = dataset_from_rows(images, [], [{"class_id": 0, "name": "dog"}], **options)  # type: ignore[arg-type]
    write_dataset(dataset, tmp_path / "out", "voc")
    again = read_dataset(tmp_path / "out")
    assert again.images["path"].to_list() == ["JPEGImages/x_a.png", "JPEGImages/y_a.png"]
    with pytest.raises(DataError, match="images must lie below"):
        write_dataset(dataset, tmp_path / "labels", "voc", copy_images=False)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["det_bccd/BCCD", "format_samples/pets5"])
def test_real_voc_reads_back_as_it_was(data_root: Path, tmp_path: Path, name: str, object_rows) -> None:
    dataset = read_dataset(data_root / name, format="voc")
    losses = write_dataset(dataset, tmp_path, "voc")
    again = read_dataset(tmp_path)
    assert {f.code for f in losses} == set()
    assert object_rows(again, *SAID) == object_rows(dataset, *SAID)
    assert again.class_names == dataset.class_names


def test_masks_of_which_nothing_is_left_are_counted(tmp_path: Path, made_dataset) -> None:
    full, empty = (rle.encode(np.full((24, 32), value, dtype=np.bool_)) for value in (True, False))
    part = np.zeros((24, 32), dtype=np.bool_)
    part[2:8, 1:9] = True
    row = {"image_id": 0, "class_id": 0, "x1": 1, "y1": 2, "x2": 9, "y2": 8}
    same = [row | {"rle": rle.encode(part)}] * 2  # the later covers the earlier
    dataset = made_dataset([*same, row | {"rle": empty}, row | {"rle": full}], NAMES, task="instance")
    losses = {f.code: f.count for f in write_dataset(dataset, tmp_path / "out", "voc")}
    assert losses == {"loss-masks": 2, "loss-overlap": 2 * 48}
    assert read_dataset(tmp_path / "out").objects["rle"].null_count() == 2


def test_names_that_a_list_of_images_cannot_hold_are_refused(tmp_path: Path, made_dataset) -> None:
    dataset = made_dataset([], NAMES)
    (tmp_path / "a.png").rename(tmp_path / " a.png")
    dataset = replace(dataset, images=dataset.images.with_columns(path=pl.col("path").str.replace("^a", " a")))
    for name in ("voc", "yolo"):
        refused = name == "voc"  # YOLO lists whole paths
        with pytest.raises(DataError, match="lists of splits must be one line") if refused else nullcontext():
            write_dataset(dataset, tmp_path / name, name)
