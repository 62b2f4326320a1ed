"""Pascal VOC: the 1-based door, difficult objects, splits, and defects with their lines."""

from pathlib import Path

import pytest

from sightline.core.errors import DataError
from sightline.data import read_dataset


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


def test_each_defect_is_found_with_its_line(folder: Path, save_image) -> None:
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
    found = {(f.code, f.path, f.line) for f in read_dataset(folder).findings}
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
