"""Splits: exact shares, groups kept whole, stable, and overlap refused."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import ConfigError, DataError
from sightline.data import check_split_overlap, finding, read_dataset, split_dataset
from sightline.data.formats.shared.image_tables import build_image_table
from sightline.data.splits.division import declared_groups


def dataset(groups: list[str | None], root: Path | None = None, splits: list[str] | None = None) -> Dataset:
    images = [
        {
            "image_id": i,
            "path": f"{i}.png",
            "width": 4,
            "height": 4,
            "group": group,
            "split": splits[i] if splits else None,
        }
        for i, group in enumerate(groups)
    ]
    classes = [{"class_id": 0, "name": "x"}]
    return dataset_from_rows(images, [], classes, root=root or Path(), name="x", task="detect", format="none")


@given(count=st.integers(20, 300), share=st.floats(0.1, 0.9), seed=st.integers(0, 1000))
def test_shares_are_met_to_the_image(count: int, share: float, seed: int) -> None:
    images = split_dataset(dataset([None] * count), {"train": 1 - share, "val": share}, seed).images
    assert abs((images["split"] == "val").sum() - share * count) <= 1
    assert images["split"].null_count() == 0


@given(groups=st.lists(st.sampled_from("abcdefghij"), min_size=60, max_size=120), seed=st.integers(0, 50))
def test_groups_are_never_divided(groups: list[str], seed: int) -> None:
    groups[:2] = "ab"
    images = split_dataset(dataset(list(groups)), {"train": 0.5, "val": 0.5}, seed).images
    assert images.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    assert images["split"].n_unique() == 2


def test_same_seed_same_split_whatever_the_order_of_rows() -> None:
    first = split_dataset(dataset([None] * 50), {"train": 0.8, "val": 0.2}, 7).images
    again = split_dataset(dataset([None] * 50), {"train": 0.8, "val": 0.2}, 7).images
    other = split_dataset(dataset([None] * 50), {"train": 0.8, "val": 0.2}, 8).images
    assert first.equals(again)
    assert not first.equals(other)
    source = dataset([None] * 50)
    turned = Dataset(source.images.reverse(), source.objects, source.classes, Path(), "x", "detect", "none")
    assert split_dataset(turned, {"train": 0.8, "val": 0.2}, 7).images.sort("image_id").equals(first)


@pytest.mark.parametrize("fractions", [{}, {"train": 0.5}, {"train": 1.2, "val": -0.2}])
def test_fractions_must_divide_one(fractions: dict[str, float]) -> None:
    with pytest.raises(DataError, match="split fractions must be at least 0 and sum to 1"):
        split_dataset(dataset([None] * 10), fractions)


def test_few_large_groups_fill_every_split() -> None:
    for sizes in ((71, 179), (179, 71), (1, 200, 1), (200, 1, 1)):
        groups = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
        images = split_dataset(dataset(groups), {"train": 0.8, "val": 0.2}).images
        assert images["split"].n_unique() == 2


def test_fewer_groups_than_splits_is_refused() -> None:
    with pytest.raises(DataError, match="each split must get an image, got 1 images or groups for 2 splits"):
        split_dataset(dataset(["one"] * 10), {"train": 0.8, "val": 0.2})


def test_identical_bytes_in_two_splits_are_refused(tmp_path: Path, save_image) -> None:
    save_image("0.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    save_image("2.png")
    check_split_overlap(dataset([None] * 3, tmp_path, ["train", "train", "val"]))
    with pytest.raises(DataError, match=r"got 1 files of identical content \(0.png and 1.png\)"):
        check_split_overlap(dataset([None] * 3, tmp_path, ["train", "val", "val"]))


def test_train_and_val_at_the_same_images_are_refused(tmp_path: Path, save_image) -> None:
    for name in ("a", "b"):
        save_image(f"images/{name}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [x]\n")
    with pytest.raises(DataError, match="the splits 'train' and 'val' are the same images, got 2 that are in both"):
        check_split_overlap(read_dataset(tmp_path))
    (tmp_path / "data.yaml").write_text("train: images\ntest: images\nnames: [x]\n")
    check_split_overlap(read_dataset(tmp_path))
    with pytest.raises(DataError, match="'train' and 'test' are the same images"):
        check_split_overlap(read_dataset(tmp_path), "train", "test")


@pytest.mark.parametrize("held_out", ["val", "my val", "hold out", "it's held"])
def test_an_overlap_is_found_whatever_the_splits_are_called(held_out: str, tmp_path: Path) -> None:
    note = finding("split-overlap-path", "one image is in both", facts={"splits": ["train", held_out]})
    overlapping = replace(dataset([None] * 3, tmp_path, ["train", held_out, "other"]), findings=(note,))
    with pytest.raises(DataError, match="must not share images, got 1 that are in both"):
        check_split_overlap(overlapping, "train", held_out)
    check_split_overlap(overlapping, "train", "other")
    check_split_overlap(overlapping, held_out, "other")


@pytest.mark.parametrize("subset", ["my val", "hold out"])
def test_readers_say_which_splits_share_an_image(subset: str, tmp_path: Path, save_image) -> None:
    file = save_image("a.png")
    _, notes = build_image_table([(file, "train"), (file, subset)], tmp_path)
    assert [(f.code, f.facts) for f in notes] == [("split-overlap-path", {"splits": ["train", subset]})]


def test_a_pattern_that_would_be_matched_for_ever() -> None:
    paths = pl.Series([f"{'a' * 60}b.png", "seq7/a.png"])
    assert declared_groups(paths, r"((?:a+)+)b").to_list() == ["a" * 60, None]
    assert declared_groups(paths, r"((?:a+)+c|seq\d)").to_list() == [None, "seq7"]
    with pytest.raises(ConfigError, match=r"searched for in one pass, got .*look-ahead"):
        declared_groups(paths, "(?=s)(seq)")
