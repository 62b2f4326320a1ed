"""Descriptions: composed, with lists, tables and groups; and what is wrong in them, named with its place."""

from pathlib import Path

import polars as pl
import pytest
import yaml

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import ConfigError
from sightline.data import read_dataset
from sightline.data.description import Description, apply_description
from sightline.data.splits.division import declared_groups

BOX = "0 0.5 0.5 0.5 0.5\n"


@pytest.fixture
def folder(tmp_path: Path, save_image) -> Path:
    for name in ("a/1", "a/2", "b/1", "b/3", "c/4"):
        save_image(f"data/images/{name}.png")
        label = tmp_path / f"data/labels/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(BOX)
    (tmp_path / "data/data.yaml").write_text("train: images\nnames: [x]\n")
    return tmp_path


def write(file: Path, values: dict) -> Path:
    file.write_text(yaml.safe_dump(values))
    return file


def paths(dataset: Dataset) -> list[str]:
    return [p.removeprefix("images/").removesuffix(".png") for p in dataset.images["path"]]


def test_exclusions_add_up_and_the_last_split_wins(folder: Path) -> None:
    write(folder / "one.yaml", {"path": "data", "exclude": ["images/a/1.png"], "split": {"val": ["3"], "test": ["4"]}})
    write(folder / "two.yaml", {"path": "one.yaml", "exclude": ["2"]})
    two = read_dataset(folder / "two.yaml")
    assert dict(zip(paths(two), two.images["split"], strict=True)) == {"b/1": "train", "b/3": "val", "c/4": "test"}
    write(folder / "three.yaml", {"path": "two.yaml", "name": "last", "split": {"val": ["4"]}})
    three = read_dataset(folder / "three.yaml")
    assert dict(zip(paths(three), three.images["split"], strict=True)) == {"b/1": "train", "b/3": "train", "c/4": "val"}
    assert three.name == "last"
    assert [f.count for f in three.findings if f.code == "layout-excluded"] == [1, 1]


def test_a_folder_with_a_description_is_built_upon(folder: Path) -> None:
    write(folder / "data/sightline.yaml", {"exclude": ["4"]})
    write(folder / "more.yaml", {"path": "data", "exclude": ["3"]})
    assert paths(read_dataset(folder / "more.yaml")) == ["a/1", "a/2", "b/1"]
    # Who says how to read the folder begins anew.
    write(folder / "anew.yaml", {"path": "data", "format": "yolo", "exclude": ["3"]})
    assert paths(read_dataset(folder / "anew.yaml")) == ["a/1", "a/2", "b/1", "c/4"]


def test_a_circle_is_refused(folder: Path) -> None:
    write(folder / "one.yaml", {"path": "two.yaml"})
    write(folder / "two.yaml", {"path": "one.yaml"})
    with pytest.raises(ConfigError, match=r"in a circle, got one.yaml → two.yaml → one.yaml"):
        read_dataset(folder / "one.yaml")
    write(folder / "self.yaml", {"path": "self.yaml"})
    with pytest.raises(ConfigError, match="in a circle"):
        read_dataset(folder / "self.yaml")
    write(folder / "other.yaml", {"path": "one.yaml", "format": "yolo"})
    with pytest.raises(ConfigError, match="'path' names a description, which must say itself how to read"):
        read_dataset(folder / "other.yaml")


def test_names_in_list_files_are_errors_with_their_line(folder: Path) -> None:
    (folder / "val.txt").write_text("images/a/1.png\n\nimages/a/9.png\n")
    write(folder / "s.yaml", {"path": "data", "split": {"val": "val.txt"}})
    with pytest.raises(ConfigError, match=r"val.txt:3: 'split.val' must name images .* got 'images/a/9.png'"):
        read_dataset(folder / "s.yaml")
    (folder / "val.txt").write_text("b/*\n")
    write(folder / "s.yaml", {"path": "data", "split": {"val": "val.txt", "train": ["1"]}})
    with pytest.raises(ConfigError, match=r"s.yaml: 'split.val' must name images"):
        read_dataset(write(folder / "s.yaml", {"path": "data", "split": {"val": ["b/*"]}}))
    (folder / "val.txt").write_text("*/b/*\n")
    write(folder / "s.yaml", {"path": "data", "split": {"val": "val.txt", "train": ["2", "4"]}})
    assert read_dataset(folder / "s.yaml").images["split"].to_list() == [None, "train", "val", "val", "train"]
    write(folder / "s.yaml", {"path": "data", "split": {"val": "val.txt", "train": ["3"]}})
    with pytest.raises(ConfigError, match=r"must put an image into one split, got 'images/b/3\.png'"):
        read_dataset(folder / "s.yaml")


def test_names_with_the_signs_of_patterns_are_names_first(tmp_path: Path, save_image) -> None:
    for name in ("a[1]", "a1"):
        save_image(f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(BOX)
    write(tmp_path / "sightline.yaml", {"exclude": ["a[1]"]})
    assert read_dataset(tmp_path).images["path"].to_list() == ["a1.png"]


@pytest.mark.timeout(20)
def test_a_hundred_thousand_names_are_found_at_once() -> None:
    count = 100_000
    names = [f"images/{i:06d}.jpg" for i in range(count)]
    images = pl.DataFrame({"image_id": range(count), "path": names, "width": 4, "height": 4})
    dataset = dataset_from_rows(images, [], [], root=".", name="x", task="detect", format="none")
    half = Description.load({"exclude": names[: count // 2], "split": {"val": names[-1000:]}})
    left = apply_description(dataset, half, Path("x.yaml")).images
    assert left.height == count // 2
    assert left["split"].value_counts().sort("count")["count"].to_list() == [1000, count // 2 - 1000]


def test_a_table_gives_splits_and_groups(folder: Path) -> None:
    (folder / "t.csv").write_text(
        "path,split,group\nimages/a/1.png,train,one\nimages/a/2.png,val,\nimages/b/1.png,,one\nimages/gone.png,val,\n"
    )
    dataset = read_dataset(write(folder / "t.yaml", {"path": "data", "table": "t.csv"}))
    assert dataset.images["split"].to_list() == ["train", "val", None, None, None]
    assert dataset.images["group"].to_list() == ["one", None, "one", None, None]
    told = {f.code: (f.path, f.line, f.count) for f in dataset.findings if f.code.startswith("split")}
    assert told == {"split-unknown-image": ("t.csv", 5, 1), "split-unlisted": ("images/b/1.png", None, 3)}


def test_a_fold_is_validation(folder: Path) -> None:
    (folder / "t.csv").write_text("path,fold\nimages/a/1.png,0\nimages/a/2.png,1\nimages/b/1.png,2\n")
    write(folder / "t.yaml", {"path": "data", "table": "t.csv", "fold": 1})
    assert read_dataset(folder / "t.yaml").images["split"].to_list() == ["train", "val", "train", None, None]
    with pytest.raises(ConfigError, match=r"'fold' must be one of 0, 1, 2, got 3"):
        read_dataset(write(folder / "t.yaml", {"path": "data", "table": "t.csv", "fold": 3}))
    with pytest.raises(ConfigError, match="'fold' must say which fold"):
        read_dataset(write(folder / "t.yaml", {"path": "data", "table": "t.csv"}))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,split\n1,train\n", r"t.csv:1: must have a column 'path'"),
        ("path,split\na,train\na,val\n", r"t.csv:3: must name each image once, got 'a' again"),
        ("path,fold\na,x\n", r"t.csv:2: 'fold' must be 0, 1, ..., got 'x'"),
        ("path,split\na,b,c,d\n", r"t.csv: must be a CSV file"),
        ("", r"t.csv: must be a CSV file"),
    ],
)
def test_malformed_tables(folder: Path, text: str, sentence: str) -> None:
    (folder / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_dataset(write(folder / "t.yaml", {"path": "data", "table": "t.csv"}))


def test_keys_that_need_each_other(folder: Path) -> None:
    for values, sentence in (
        ({"fold": 0}, "'fold' needs 'table' beside it"),
        ({"metadata": "m.csv"}, "'metadata' needs 'group' beside it"),
        ({"table": "t.csv", "split": {"val": 0.5}}, "give 'split' or 'table', not both"),
        ({"tabel": "t.csv"}, r"unknown key 'tabel' \(nearest: table"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            read_dataset(write(folder / "t.yaml", {"path": "data", **values}))


def test_groups_by_folder_pattern_and_metadata(folder: Path) -> None:
    (folder / "m.csv").write_text("stem,patient,site\n1,007,x\n2,008,\n")
    cases = [
        ({"group": "parent"}, ["images/a", "images/a", "images/b", "images/b", "images/c"]),
        ({"group": "/([ab])/"}, ["a", "a", "b", "b", None]),
        ({"group": "patient", "metadata": "m.csv"}, ["007", "008", "007", None, None]),
    ]
    for values, groups in cases:
        dataset = read_dataset(write(folder / "g.yaml", {"path": "data", **values}))
        assert dataset.images["group"].to_list() == groups


@pytest.mark.parametrize(
    ("text", "column", "sentence"),
    [
        ("name,patient\n1,a\n", "patient", r"m.csv:1: must name images in a column 'path' or 'stem'"),
        ("stem,patient\n1,a\n", "pateint", r"m.csv:1: unknown column 'pateint' \(nearest: patient\)"),
        ("stem,patient\n1,a\n1,b\n", "patient", r"m.csv:3: must name each image once, got '1' again"),
        ("path,patient\nz,a\n", "patient", r"must name images of the data set in 'path', got none"),
    ],
)
def test_malformed_metadata(tmp_path: Path, text: str, column: str, sentence: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        declared_groups(pl.Series(["1.png"]), column, tmp_path / "m.csv")
