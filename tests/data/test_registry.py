"""The two doors, autodetection, and what is said when nothing fits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import ConfigError, DataError
from sightline.data import FORMATS, detect_format, read_dataset, write_dataset
from sightline.ops import rle


def test_path_that_matches_nothing_lists_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read_dataset(tmp_path)
    assert f"known: {', '.join(FORMATS)}" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [line.partition(":")[0].strip() for line in raised.value.block().splitlines()] == [
        str(tmp_path),
        "seen",
        "nearest",
        "known",
        "the layout of each",
    ]


@pytest.mark.parametrize(
    ("files", "seen", "nearest"),
    [
        ({"a.txt": "0 12 30 44 9", "b.txt": "0 3 4 5 6"}, "2 .txt with 5 integers a line", "these are pixels"),
        ({"a.json": '[{"id": 1, "annotations": [{"result": [{"from_name": "label"}]}]}]'}, "1 .json", "label-studio"),
        (
            {"a.txt": "Car 0.00 0 -1.57 599.41 156.40 629.75 189.25 2.8 2.6 12.3 0.4 1.4 69.4 -1.5"},
            "15 fields",
            "kitti",
        ),
        ({"boxes.csv": "filename,width,height,class,left,top"}, "the columns filename,width", "csv-boxes"),
        ({"set.zip": "PK"}, "1 .zip", "name it in place of its folder: "),
        ({"set.7z": "7z"}, "1 .7z", "unpack it: 7z x set.7z"),
        ({"train/cat/a.jpg": "", "train/dog/b.jpg": ""}, "2 .jpg", "classification: 2 pictures sorted into"),
        ({"images/a.jpg": "", "more/b.jpg": ""}, "2 .jpg", "there are 2 pictures and no labels"),
        ({"a.json": '{"imgHeight": 9, "imgWidth": 9, "objects": []}'}, "the keys imgHeight", "cityscapes"),
    ],
)
def test_what_is_of_no_known_format_is_described(
    tmp_path: Path, files: dict[str, str], seen: str, nearest: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as raised:
        read_dataset(tmp_path)
    assert seen in raised.value.lines[0]
    assert nearest in raised.value.lines[1]


def test_only_folder_is_descended_into(tmp_path: Path, save_image) -> None:
    save_image("outer/inner/a.png")
    (tmp_path / "outer/inner/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert read_dataset(tmp_path).root == tmp_path / "outer/inner"
    (tmp_path / "outer/other").mkdir()
    with pytest.raises(DataError, match=r"(?s)no known format.* Name outer/inner, which is yolo\."):
        read_dataset(tmp_path)


def test_several_data_sets_are_named(tmp_path: Path, save_image, save_mask) -> None:
    for name in ("boxes", "more/boxes"):
        save_image(f"{name}/a.png")
        (tmp_path / f"{name}/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    save_image("masks of it/images/a.png")
    save_mask("masks of it/masks/a.png", np.zeros((24, 32)))
    with pytest.raises(DataError, match="must be one data set, got several") as raised:
        read_dataset(tmp_path)
    assert "got several: boxes (yolo), masks of it (masks), more/boxes (yolo). Name one of them." in str(raised.value)


def test_a_folder_with_a_yaml_of_mask_folders_is_described_by_it(tmp_path: Path, save_image, save_mask) -> None:
    save_image("pictures/a.png")
    save_mask("labels/train/a.png", np.ones((24, 32)))
    text = "train: {images: ../pictures, masks: train}\nclasses: {0: no, 1: yes}\n".replace("yes", "'yes'")
    (tmp_path / "labels/config.yaml").write_text(text.replace("no,", "'no',"))
    dataset = read_dataset(tmp_path / "labels")
    assert (dataset.task, dataset.class_names, dataset.splits) == ("semantic", ("no", "yes"), ["train"])


def test_wrong_names(tmp_path: Path, save_image) -> None:
    with pytest.raises(DataError, match="a data set must exist, got no such file or folder"):
        read_dataset(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"unknown format 'yol' \(nearest: yolo"):
        read_dataset(tmp_path, format="yol")
    save_image("a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    dataset = read_dataset(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown format to write 'vok'"):
        write_dataset(dataset, tmp_path / "out", "vok")
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="images must exist to be copied"):
        write_dataset(dataset, tmp_path / "out", "coco")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_each_reader_refuses_a_folder_of_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.md").write_text("nothing to see")
    assert FORMATS[name].detect(tmp_path) is None
    with pytest.raises(DataError) as raised:
        read_dataset(tmp_path, format=name)
    assert str(tmp_path) in str(raised.value)


def test_task_may_be_narrowed_and_not_invented(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    (tmp_path / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    assert read_dataset(tmp_path).task == "instance"
    assert read_dataset(tmp_path, task="detect").task == "detect"
    with pytest.raises(DataError, match=r"task must fit the labels \(instance\), got 'track'"):
        read_dataset(tmp_path, task="track")
    with pytest.raises(ConfigError, match="unknown task 'detection'"):
        read_dataset(tmp_path, task="detection")  # type: ignore[arg-type]


def test_description_applies_to_any_format(tmp_path: Path, save_image) -> None:
    for name in ("a", "b", "c", "d"):
        save_image(f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "sightline.yaml").write_text("format: yolo\nname: boxes\nexclude: [b]\nsplit: {val: [c]}\n")
    dataset = read_dataset(tmp_path)
    assert dataset.name == "boxes"
    assert dataset.images.select("path", "split").rows() == [("a.png", "train"), ("c.png", "val"), ("d.png", "train")]
    assert dataset.objects.height == 3


def test_unreadable_image_can_be_excluded_and_is_then_silent(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "bad.png").write_bytes(b"x")
    assert "image-unreadable" in {f.code for f in read_dataset(tmp_path).findings}
    (tmp_path / "sightline.yaml").write_text("exclude: [bad]\n")
    assert {f.code for f in read_dataset(tmp_path).findings} == {"class-names-missing", "layout-excluded"}


def test_detection_prefers_the_surer_format(tmp_path: Path, save_image) -> None:
    save_image("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    save_image("masks/a.png", mode="L")
    assert detect_format(tmp_path) == "yolo"
    assert read_dataset(tmp_path, format="masks").task == "semantic"


def test_data_needs_neither_torch_nor_matplotlib() -> None:
    code = "import sightline.data, sys; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_of_data_to_detect_the_boxes_are_written(tmp_path: Path, made_dataset) -> None:
    mask = rle.encode(np.ones((24, 32), dtype=np.bool_))
    row = {"image_id": 0, "class_id": 0, "x1": 0, "y1": 0, "x2": 32, "y2": 24, "rle": mask}
    for name in ("coco", "voc", "labelme", "cvat"):
        losses = write_dataset(made_dataset([row]), tmp_path / name, name)
        assert [(f.code, f.count) for f in losses] == [("loss-masks", 1)]
        assert read_dataset(tmp_path / name).task == "detect"


@pytest.mark.parametrize("split", ["a/../../b", "..", "x\\y", "a\nb", ""])
def test_a_split_is_a_name_that_a_file_can_have(made_dataset, split: str) -> None:
    dataset = made_dataset([])
    images = dataset.images.with_columns(split=pl.lit(split))
    with pytest.raises(DataError, match="a split must have a name that a file can have"):
        dataset_from_rows(
            images, dataset.objects, dataset.classes, root=dataset.root, name="x", task="detect", format="x"
        )


@pytest.mark.parametrize(("name", "command"), [("my set.7z", "7z x "), ("a.RAR", "unrar x ")])
def test_an_archive_is_refused_with_the_command_that_unpacks_it(tmp_path: Path, name: str, command: str) -> None:
    (tmp_path / name).write_bytes(b"7z")
    with pytest.raises(DataError, match="must be unpacked to be read, got an archive") as raised:
        read_dataset(tmp_path / name)
    assert command in str(raised.value)
    assert f"{tmp_path}/{name.split('.', maxsplit=1)[0]}" in str(raised.value)


def test_folders_of_the_splits_are_one_data_set(tmp_path: Path, save_image) -> None:
    xml = "<annotation><object><name>{}</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for split, name in (("train", "cat"), ("valid", "dog"), ("test", "cat")):
        save_image(f"{split}/a.jpg")
        (tmp_path / f"{split}/a.xml").write_text(xml.format(name) + "</object></annotation>")
    (tmp_path / "valid/lonely.xml").write_text(xml.format("dog") + "</object></annotation>")
    data = read_dataset(tmp_path)
    assert (data.format, data.task, data.root, data.name) == ("voc", "detect", tmp_path, tmp_path.name)
    assert sorted(data.images.select("path", "split").rows()) == [
        ("test/a.jpg", "test"), ("train/a.jpg", "train"), ("valid/a.jpg", "val"),
    ]  # fmt: skip
    assert sorted(data.class_names) == ["cat", "dog"]
    named = dict(data.objects.select(pl.col("label_path").cast(str), "class_id").rows())
    assert {path: data.class_names[c] for path, c in named.items()} == {
        "train/a.xml": "cat", "valid/a.xml": "dog", "test/a.xml": "cat",
    }  # fmt: skip
    assert "valid/lonely.xml" in {f.path for f in data.findings}
    (tmp_path / "other").mkdir()
    save_image("other/a.jpg")
    (tmp_path / "other/a.xml").write_text(xml.format("cat") + "</object></annotation>")
    with pytest.raises(DataError, match="must be one data set, got several"):
        read_dataset(tmp_path)


def test_folders_of_mask_splits_with_names_of_their_values(tmp_path: Path, save_image, save_mask) -> None:
    for split in ("train", "valid"):
        save_image(f"{split}/a_jpg.rf.x.jpg")
        save_mask(f"{split}/a_jpg.rf.x_mask.png", np.arange(24 * 32).reshape(24, 32) % 3)
        (tmp_path / f"{split}/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    data = read_dataset(tmp_path)
    assert (data.task, data.class_names, sorted(data.splits)) == (
        "semantic", ("background", "cat", "dog"), ["train", "val"],
    )  # fmt: skip
    assert data.images["mask_path"].to_list() == [f"{s}/a_jpg.rf.x_mask.png" for s in ("train", "valid")]
    (tmp_path / "valid/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, dog\n2, cat\n")
    with pytest.raises(DataError, match="a mask value must be one class in every split, got 'cat' and 'dog' for 1"):
        read_dataset(tmp_path)
