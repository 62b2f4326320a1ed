"""Checks between splits: what differs by more than chance is found, what a random division gives is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sightline.audit import audit_dataset
from sightline.audit.result import AuditOptions
from sightline.audit.scan.one_pass import SCAN_SCHEMA, Scan
from sightline.audit.splits.checks import check_splits
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.data import read_dataset
from sightline.data.splits.table import changed_parts, split_digests

NOTHING = Scan(pl.DataFrame(schema=SCAN_SCHEMA), [], [])


def scenes(images: int, *, scene: int = 1, groups: bool = False, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Images in runs of `scene` that share their mix of three classes and their object size, 8 objects each."""
    rng = np.random.default_rng(seed)
    of_scene = np.arange(images) // scene
    mix = rng.dirichlet([1.0, 1.0, 1.0], of_scene.max() + 1)
    size = rng.uniform(5, 60, of_scene.max() + 1)
    table = pl.DataFrame({"image_id": np.arange(images), "path": [f"{i:05d}.jpg" for i in range(images)]})
    table = table.with_columns(width=100, height=100, group=pl.Series(of_scene).cast(pl.String) if groups else None)
    rows = [
        {"image_id": i, "class_id": int(c), "x1": 0.0, "y1": 0.0, "x2": side, "y2": side}
        for i in range(images)
        for c, side in zip(
            rng.choice(3, 8, p=mix[of_scene[i]]), size[of_scene[i]] * rng.uniform(0.9, 1.1, 8), strict=True
        )
    ]
    return table, pl.DataFrame(rows)


def dataset(images: pl.DataFrame, objects: pl.DataFrame, val: np.ndarray) -> Dataset:
    return dataset_from_rows(
        images.with_columns(split=pl.Series(np.where(val, "val", "train"))),
        objects,
        [{"class_id": i, "name": n} for i, n in enumerate("abc")],
        root="/nowhere",
        name="t",
        task="detect",
        format="by hand",
    )


def codes(data: Dataset) -> set[str]:
    return {f.code for f in check_splits(data, NOTHING, AuditOptions())}


def test_random_splits_are_not_reported() -> None:
    images, objects = scenes(150)
    fired = 0
    for seed in range(40):
        val = np.random.default_rng(seed).random(150) < 0.2
        fired += bool(codes(dataset(images, objects, val)))
    assert fired <= 2


@pytest.mark.parametrize("groups", [True, False])
def test_whole_scenes_held_out_at_random_are_not_reported(groups: bool) -> None:
    """Scenes of 25 images: a test that took images for independent would find each such split significant."""
    images, objects = scenes(600, scene=25, groups=groups)
    fired = 0
    for seed in range(20):
        held = np.random.default_rng(seed).choice(24, 6, replace=False)
        fired += bool(codes(dataset(images, objects, np.isin(np.arange(600) // 25, held))))
    assert fired <= (1 if groups else 4)


def test_shifted_classes_and_sizes_are_reported() -> None:
    images, objects = scenes(150)
    val = np.random.default_rng(0).random(150) < 0.3
    in_val = pl.Series(val[objects["image_id"].to_numpy()])
    turned = pl.Series(np.random.default_rng(1).random(len(objects)) < 0.5) & in_val
    classes = objects.with_columns(class_id=pl.when(turned).then(2).otherwise("class_id"))
    (found,) = check_splits(dataset(images, classes, val), NOTHING, AuditOptions())
    assert found.code == "split-class-shift"
    assert "c " in found.message
    assert "p = 0.001" in found.message
    larger = objects.with_columns(pl.when(in_val).then(pl.col("x2", "y2") * 1.6).otherwise(pl.col("x2", "y2")))
    assert codes(dataset(images, larger, val)) == {"split-size-shift"}


def test_class_in_one_split_only() -> None:
    images, objects = scenes(60)
    val = np.arange(60) % 3 == 0
    rare = objects.filter(pl.Series(~val[objects["image_id"].to_numpy()]) | (pl.col("class_id") != 1))
    found = {f.code: f for f in check_splits(dataset(images, rare, val), NOTHING, AuditOptions())}
    assert "1 classes occur in 'train' and not in 'val': b" in found["split-class-absent"].message
    unlabelled = objects.filter(pl.Series(~val[objects["image_id"].to_numpy()]))
    assert codes(dataset(images, unlabelled, val)) == set()  # a test set without labels


def yolo(folder: Path, save_image: Any, splits: dict[str, tuple[str, ...]]) -> Path:
    for split, names in splits.items():
        for name in names:
            image = save_image(f"images/{split}/{name}.png")
            label = folder / f"labels/{split}/{image.stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.5 0.5\n")
    lines = "".join(f"{split}: images/{split}\n" for split in splits)
    (folder / "data.yaml").write_text(f"{lines}names: [cell]\n")
    return folder


def test_identical_splits_by_content_and_by_path(tmp_path: Path, save_image) -> None:
    folder = yolo(tmp_path, save_image, {"train": ("a", "b"), "val": ("c", "d")})
    for one, other in (("a", "c"), ("b", "d")):
        (folder / f"images/val/{other}.png").write_bytes((folder / f"images/train/{one}.png").read_bytes())
    found = {f.code: f for f in audit_dataset(read_dataset(folder)).findings}
    assert "'train' and 'val' hold the same 2 pictures" in found["split-identical"].message
    (folder / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cell]\n")
    found = {f.code: f for f in audit_dataset(read_dataset(folder)).findings}
    assert "all 2 images of 'val' are the same files as in 'train'" in found["split-identical"].message


def test_split_that_changed_since_an_earlier_audit(tmp_path: Path, save_image) -> None:
    folder = yolo(tmp_path, save_image, {"train": ("a", "b"), "val": ("c", "d")})
    before = audit_dataset(read_dataset(folder))
    assert sorted(before.split_digests) == ["train", "val"]

    def changes() -> list[str]:
        now = audit_dataset(read_dataset(folder), since=before)
        return [f.message for f in now.findings if f.code == "split-changed"]

    assert changes() == []
    (folder / "labels/val/c.txt").write_text("0 0.5 0.5 0.5 0.4\n")
    assert changes() == ["the labels of 'val' have changed (as many as then)"]
    save_image("images/val/c.png", size_hw=(24, 33))
    assert changes() == ["the pictures and labels of 'val' have changed (as many as then)"]
    (folder / "images/train/b.png").unlink()
    (folder / "labels/train/b.txt").unlink()
    assert changes()[0] == (
        "the pictures and labels of 'train' have changed (2 images then, 1 now, 2 objects then, 1 now)"
    )
    (folder / "data.yaml").write_text("train: images/train\ntest: images/val\nnames: [cell]\n")
    assert changes()[0] == "'test' was not recorded"
    assert changes()[-1] == "'val' is gone"


def test_masks_belong_to_the_labels_of_a_split(tmp_path: Path, save_image, save_mask) -> None:
    save_image("images/a.png")
    save_mask("masks/a.png", np.arange(24 * 32).reshape(24, 32) % 2)
    data = read_dataset(tmp_path)
    files = pl.DataFrame({"path": ["images/a.png"], "sha256": [b"x"]})
    before = split_digests(data, files)
    save_mask("masks/a.png", 1 - np.arange(24 * 32).reshape(24, 32) % 2)  # as many pixels of each class
    assert changed_parts(before[""], split_digests(data, files)[""]) == ["labels"]
    assert changed_parts(before[""], split_digests(data, files.with_columns(sha256=pl.lit(b"y")))[""]) == [
        "images",
        "labels",
    ]
    # What the values mean is as much a label as the values are.
    swapped = data.classes.with_columns(name=pl.col("name").reverse())
    for other in (replace(data, classes=swapped), replace(data, ignore_values=(1,))):
        assert changed_parts(split_digests(data, files)[""], split_digests(other, files)[""]) == ["labels"]
