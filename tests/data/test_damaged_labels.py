"""Label files that are damaged, missing or lead out of the data set: said by name, never passed over."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sightline.core.errors import ConfigError, DataError, InputError
from sightline.data import read_dataset, write_dataset

Harm = Callable[[Path], object]


def content(number: int, name: str, **segments: object) -> str:
    entry = {"id": number, "image_id": number, "category_id": 1, "bbox": [2, 3, 10, 10]} | segments
    images = [{"id": number, "file_name": name, "width": 32, "height": 24}]
    return json.dumps({"images": images, "annotations": [entry], "categories": [{"id": 1, "name": "x"}]})


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24)).save(file)


def _replace(file: Path, make: Harm) -> None:
    file.unlink()
    make(file)


HARMS: dict[str, Harm] = {
    "cut": lambda f: f.write_bytes(f.read_bytes()[:-40]),
    "cut behind a bracket": lambda f: f.write_bytes(f.read_bytes()[: f.read_bytes().index(b"}") + 1]),
    "empty": lambda f: f.write_bytes(b""),
    "blank": lambda f: f.write_bytes(b" \n"),
    "an empty object": lambda f: f.write_bytes(b"{}"),
    "zeros": lambda f: f.write_bytes(bytes(300)),
    "utf-16": lambda f: f.write_text(f.read_text(), encoding="utf-16"),
    "another byte": lambda f: f.write_bytes(f.read_bytes().replace(b'"x"', b'"\xff"')),
    "no classes": lambda f: f.write_text(f.read_text().replace('"categories"', '"kinds"')),
    "a page of an error": lambda f: f.write_text("<html>404</html>"),
    "a folder": lambda f: _replace(f, Path.mkdir),
    "a pipe": lambda f: _replace(f, os.mkfifo),
    "a link to nothing": lambda f: _replace(f, lambda p: p.symlink_to("nowhere.json")),
}


@pytest.fixture(params=["annotations", "beside the images", "panoptic", "roboflow", "large"])
def two_files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A data set of two label files, of which the second is still to be damaged."""
    kind, root = request.param, tmp_path / "set"
    more = {"segments_info": [], "file_name": "a.png"} if kind == "panoptic" else {}
    if kind == "large":
        more = {"note": "x" * (1 << 20)}
    files = {"roboflow": "{}/_annotations.coco.json", "beside the images": "{}.json"}
    for number, split in enumerate(("train", "valid")):
        file = root / files.get(kind, "annotations/data_{}.json").format(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(root / (f"{split}/{split}.png" if kind == "roboflow" else f"images/{split}.png"))
        file.write_text(content(number, f"{split}.png", **more))
    if kind == "panoptic":
        picture(root / "annotations/data_valid/a.png")
        picture(root / "annotations/data_train/a.png")
    return root, file


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_file_among_sound_ones_is_an_error_with_its_name(two_files: tuple[Path, Path], harm: str) -> None:
    root, file = two_files
    assert len(read_dataset(root)) == 2
    HARMS[harm](file)
    with pytest.raises(DataError) as error:
        read_dataset(root)
    assert str(file) in str(error.value)


def test_a_damaged_file_alone_is_an_error_with_its_name(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations/instances_train.json"
    for harm in HARMS.values():
        file.write_text(content(1, "a.png"))
        harm(file)
        with pytest.raises(DataError, match=r"instances_train\.json"):
            read_dataset(tmp_path)
        file.rmdir() if file.is_dir() else file.unlink()


def test_sound_json_of_other_kinds_is_no_label_file(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_text(content(1, "a.png"))
    for name, text in {
        "captions_train.json": "{",
        "notes.json": '{"by": "me"}',
        "results.json": "[1]",
        "long.json": f'["{"x" * 2_000_000}"]',
    }.items():
        (tmp_path / "annotations" / name).write_text(text)
    assert len(read_dataset(tmp_path)) == 1


def test_pictures_of_a_split_without_the_file_of_the_others(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / split / "a.png")
        (tmp_path / split / "_annotations.coco.json").write_text(content(1, "a.png"))
    (tmp_path / "test/_annotations.coco.json").unlink()
    (tmp_path / "valid").mkdir()  # nothing in it, nothing lost
    data = read_dataset(tmp_path)
    (found,) = (f for f in data.findings if f.code == "split-without-labels")
    assert (found.severity, found.path) == ("error", "test/_annotations.coco.json")
    assert (data.images["path"].to_list(), data.left_out) == (["train/a.png"], ("test/a.png",))


@pytest.mark.parametrize("kind", ["yolo", "voc", "description"])
def test_an_emptied_list_of_images(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"images/{name}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    lists = tmp_path
    if kind == "yolo":
        (tmp_path / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [x]\n")
    elif kind == "description":
        (tmp_path / "sightline.yaml").write_text("format: yolo\nsplit: {train: train.txt, val: val.txt}\n")
    else:
        lists = tmp_path / "ImageSets/Main"
        lists.mkdir(parents=True)
        box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>12</ymax></bndbox>"
        (tmp_path / "Annotations").mkdir()
        text = f"<annotation><object><name>x</name>{box}</object></annotation>"
        (tmp_path / "Annotations/a.xml").write_text(text)
    (lists / "train.txt").write_text("a\n" if kind == "voc" else "images/a.png\n")
    (lists / "val.txt").write_text("b\n" if kind == "voc" else "images/b.png\n")
    assert set(read_dataset(tmp_path).splits) == {"train", "val"}
    (lists / "val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt: a list of images must name at least one, got an empty file"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("named", ["folder", "file"])
@pytest.mark.parametrize("above", ["outer/set/labels.json", "outer/set/annotations/labels.json"])
def test_no_picture_above_the_named_path_is_found(tmp_path: Path, above: str, named: str) -> None:
    picture(tmp_path / "private.png")
    picture(tmp_path / "images/private.png")
    file = tmp_path / above
    file.parent.mkdir(parents=True)
    file.write_text(content(1, "private.png"))
    folder = next(p for p in file.parents if p.name == "set")
    dataset = read_dataset(folder if named == "folder" else file)
    assert [f.code for f in dataset.findings] == ["image-missing"]
    assert dataset.root.is_relative_to(folder)
    with pytest.raises(DataError, match="images must exist to be copied"):
        write_dataset(dataset, tmp_path / "out", "coco")


def test_the_set_of_a_file_in_annotations_is_the_folder_above(tmp_path: Path) -> None:
    picture(tmp_path / "val2017/a.png")
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations/instances_val2017.json"
    file.write_text(content(1, "a.png"))
    assert read_dataset(file).images["path"].to_list() == ["val2017/a.png"]


def test_sets_of_labels_may_share_the_images_beside_them(tmp_path: Path) -> None:
    picture(tmp_path / "images/train/a.png")
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes/train.json").write_text(content(1, "a.png"))
    for named in ("boxes", "boxes/train.json"):
        assert read_dataset(tmp_path / named).images["path"].to_list() == ["images/train/a.png"]


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A folder to describe, pictures above it and a file of secrets."""
    picture(tmp_path / "images/private.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/private.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "secret").write_text("path,token\nhunter2,hunter3\n")
    picture(tmp_path / "set/images/a.png")
    (tmp_path / "set/labels").mkdir()
    (tmp_path / "set/labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "set/link").symlink_to(tmp_path / "secret")
    return tmp_path / "set"


OUT = (
    {"path": "/"},
    {"path": ".."},
    {"path": "../images"},
    {"table": "/etc/passwd"},
    {"table": "../secret"},
    {"table": "link"},
    {"split": {"val": "../secret"}},
    {"split": {"val": "link"}},
    {"group": "token", "metadata": "../secret"},
    {"format": "masks", "images": "../images", "masks": "labels"},
    {"format": "masks", "train": {"images": "images", "masks": "../labels"}},
    {"video": {"S1": "../film.mp4"}},
)


@pytest.mark.parametrize("values", OUT, ids=str)
def test_a_description_that_was_found_stays_in_its_folder(described: Path, values: dict[str, object]) -> None:
    file = described / "sightline.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="a description found in a folder must stay inside it") as error:
        read_dataset(described)
    assert "hunter" not in str(error.value)
    if "path" not in values:  # who names the file follows it, and still sees nothing of what it names
        with pytest.raises(InputError) as followed:
            read_dataset(file)
        assert "stay inside" not in str(followed.value)
        assert "hunter" not in str(followed.value)


@pytest.mark.parametrize("values", [{"path": ".."}, {"train": "../images"}, {"path": "/", "train": "tmp"}], ids=str)
def test_a_data_yaml_that_was_found_stays_in_its_folder(described: Path, values: dict[str, object]) -> None:
    (described / "data.yaml").write_text(yaml.safe_dump({"train": "images", "names": ["x"]} | values))
    (described / "images").rename(described / "pictures")
    with pytest.raises(ConfigError, match="of a file found in a folder must stay inside it"):
        read_dataset(described)


def test_a_description_that_is_named_may_lead_anywhere(described: Path) -> None:
    file = described / "mine.yaml"
    file.write_text("path: ..\nformat: yolo\n")
    assert read_dataset(file).images["path"].to_list() == ["images/private.png"]
    # The one it builds on was found in a folder again.
    (described.parent / "sightline.yaml").write_text("path: /\n")
    file.write_text("path: ..\n")
    with pytest.raises(ConfigError, match="must stay inside"):
        read_dataset(file)


def test_a_yaml_of_mask_folders_may_name_pictures_beside_its_folder(tmp_path: Path) -> None:
    picture(tmp_path / "pictures/a.png")
    (tmp_path / "labels/train").mkdir(parents=True)
    Image.fromarray(np.ones((24, 32), dtype=np.uint8)).save(tmp_path / "labels/train/a.png")
    text = "train: {{images: {}, masks: train}}\nclasses: [road, crack]\n"
    (tmp_path / "labels/config.yaml").write_text(text.format("../pictures"))
    assert len(read_dataset(tmp_path / "labels")) == 1
    (tmp_path / "labels/config.yaml").write_text(text.format("../../pictures"))
    with pytest.raises(ConfigError, match="must stay inside"):
        read_dataset(tmp_path / "labels")
