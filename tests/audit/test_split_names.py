"""Copies and tiles of one picture in several splits are known by their names."""

from pathlib import Path

import pytest

from sightline.audit import audit_dataset
from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import DataError
from sightline.data import check_split_overlap, read_dataset


def divided(tmp_path: Path, train: list[str], val: list[str]) -> list[tuple[int, int]]:
    """How many images and pictures each finding of a divided group is about."""
    rows = [
        {"image_id": i, "path": f"{split}/{name}.jpg", "width": 8, "height": 8, "split": split}
        for i, (split, name) in enumerate([("train", n) for n in train] + [("val", n) for n in val])
    ]
    dataset = dataset_from_rows(
        rows, [], [{"class_id": 0, "name": "x"}], root=tmp_path, name="x", task="detect", format="none"
    )
    found = [f for f in audit_dataset(dataset).findings if f.code == "split-overlap-group"]
    assert all(f.severity == "error" for f in found)
    return [(f.count, f.facts["pictures"]) for f in found]


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (["a_jpg.rf.0f3", "b_jpg.rf.11a"], ["a_jpg.rf.9c2"], [(2, 1)]),
        (["a_jpg.rf.0f3", "a_jpg.rf.9c2"], ["b_jpg.rf.11a"], []),
        (["scene_tile_0", "scene_tile_1"], ["scene_tile_2"], [(3, 1)]),
        (["s_x0_y0", "t_x0_y0"], ["s_x512_y0"], [(2, 1)]),
        (["P1__1__0___0", "P1__1__824___0"], ["P1__1__0___824"], [(3, 1)]),
        (["P1__1__0___0", "P1__1__7___0"], ["P1__1__0___7"], []),
        (["IMG_20200101_120000", "IMG_20200101_120007"], ["IMG_20200102_090000"], []),
        (["seq_0001_000001", "seq_0001_000002"], ["seq_0001_000003"], []),
    ],
)
def test_names(tmp_path: Path, train: list[str], val: list[str], expected: list[tuple[int, int]]) -> None:
    assert divided(tmp_path, train, val) == expected


def test_train_and_val_of_one_folder_are_refused_as_the_same_images(tmp_path: Path, save_image) -> None:
    save_image("images/a.jpg")
    (tmp_path / "images/a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cell]\n")
    dataset = read_dataset(tmp_path)
    with pytest.raises(DataError, match="the splits 'train' and 'val' are the same images"):
        check_split_overlap(dataset)
    with pytest.raises(DataError, match="are the same images"):
        dataset.split("val")
