"""Layouts and shapes that exporters write besides the formats' own: split folders, outlines of VOC, frames from 0."""

from pathlib import Path

import pytest

from sightline.data import read_dataset, write_dataset

ROW = "0 0.5 0.5 0.25 0.5\n"


def test_split_folders_of_pictures_and_texts_together(tmp_path: Path, save_image) -> None:
    for name in ("train/a", "train/b", "valid/c"):
        save_image(f"{name}.jpg")
        (tmp_path / f"{name}.txt").write_text(ROW)
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    dataset = read_dataset(tmp_path)
    assert dataset.images.select("path", "split").rows() == [
        ("train/a.jpg", "train"),
        ("train/b.jpg", "train"),
        ("valid/c.jpg", "val"),
    ]
    assert dataset.class_names == ("cat", "dog")
    assert not dataset.findings


def test_split_folders_in_any_case(tmp_path: Path, save_image) -> None:
    for split in ("Train", "Validation"):
        save_image(f"{split}/Images/{split}.jpg")
        (tmp_path / split / "Labels").mkdir()
        (tmp_path / split / f"Labels/{split}.txt").write_text(ROW)
    dataset = read_dataset(tmp_path)
    assert dataset.images["split"].to_list() == ["train", "val"]
    assert dataset.objects.height == 2


def test_class_names_among_the_labels_are_no_orphan(tmp_path: Path, save_image) -> None:
    save_image("images/a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(ROW)
    (tmp_path / "labels/classes.txt").write_text("cat\n")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("cat",)
    assert not dataset.findings


def test_two_pictures_of_one_label_file_are_named(tmp_path: Path, save_image) -> None:
    save_image("images/a.jpg")
    save_image("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.TXT").write_text(ROW)
    dataset = read_dataset(tmp_path)
    assert dataset.objects.height == 2
    (shared,) = [f for f in dataset.findings if f.code == "image-same-stem"]
    assert (shared.path, shared.message) == (
        "images/a.png",
        "it has the stem of images/a.jpg; both have the labels of labels/a.TXT",
    )


@pytest.fixture
def voc(tmp_path: Path, save_image):
    def make(objects: str) -> Path:
        save_image("JPEGImages/a.jpg", size_hw=(100, 100))
        (tmp_path / "Annotations").mkdir()
        (tmp_path / "Annotations/a.xml").write_text(f"<annotation>\n{objects}\n</annotation>")
        return tmp_path

    return make


def test_polygons_and_turned_boxes_of_voc_are_outlines(voc) -> None:
    polygon = "<polygon><x1>11</x1><y1>11</y1><x2>61</x2><y2>13</y2><x3>51</x3><y3>71</y3></polygon>"
    turned = "<robndbox><cx>51</cx><cy>51</cy><w>40</w><h>20</h><angle>1.5707963267948966</angle></robndbox>"
    text = "".join(f"<object><name>{n}</name>{shape}</object>" for n, shape in (("p", polygon), ("t", turned)))
    dataset = read_dataset(voc(text))
    first, second = dataset.objects.rows(named=True)
    assert first["polygon"] == [[10, 10, 60, 12, 50, 70]]
    assert (first["x1"], first["y1"], first["x2"], first["y2"]) == (10, 10, 60, 70)
    assert (second["x1"], second["y1"], second["x2"], second["y2"]) == pytest.approx((40, 30, 60, 70))
    assert dataset.task == "instance"
    assert not dataset.findings


def test_parts_of_voc_objects_are_counted(voc) -> None:
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>50</xmax><ymax>50</ymax></bndbox>"
    part = f"<part><name>head</name>{box}</part>"
    dataset = read_dataset(voc(f"<object><name>p</name>{part}{part}{box}</object>"))
    assert dataset.objects.height == 1
    assert [(f.code, f.path, f.line, f.count, f.facts) for f in dataset.findings] == [
        ("label-unsupported-shape", "Annotations/a.xml", 2, 2, {"kind": "part"})
    ]


@pytest.mark.parametrize(("frames", "objects", "line"), [((0, 1, 2), 3, 1), ((0, 1, 3), 2, 1)])
def test_frames_from_0_are_read_so_where_that_is_certain(
    tmp_path: Path, save_image, frames: tuple[int, ...], objects: int, line: int
) -> None:
    for number in (1, 2, 3):
        save_image(f"img1/{number:06d}.jpg")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/gt.txt").write_text("".join(f"{f},1,0,2,9,9,1,-1,-1,-1\n" for f in frames))
    dataset = read_dataset(tmp_path)
    assert dataset.objects.height == objects
    (said,) = dataset.findings
    assert said.line == line
    if frames[-1] < 3:
        assert (said.code, said.facts) == ("label-counted-from-zero", {"first": 0, "last": 2, "boxes_at_zero": 3})
        assert dataset.objects["image_id"].to_list() == [0, 1, 2]
    else:
        assert said.code == "label-malformed"  # a last frame of its own: only the first row is wrong


def test_boxes_that_reach_outside_are_counted_when_written(tmp_path: Path, made_dataset) -> None:
    inside = {"image_id": 0, "class_id": 0, "x1": 1.0, "y1": 2.0, "x2": 9.0, "y2": 9.0}
    losses = write_dataset(made_dataset([inside, inside | {"x1": -2.0}]), tmp_path / "out", "yolo")
    assert [(f.code, f.count) for f in losses] == [("loss-outside", 1)]
    assert read_dataset(tmp_path / "out").objects["x1"].min() == pytest.approx(-2.0, abs=1e-6)
