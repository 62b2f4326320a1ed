"""What is held out for validation shares no picture with what is learnt from, by bytes or by looks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit.splits import hold_out
from sightline.core.dataset import Dataset
from sightline.data import check_split_overlap, read_dataset, split_dataset

SEEDS = range(6)


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC))


def made(root: Path, pictures: dict[str, np.ndarray]) -> Dataset:
    for name, pixels in pictures.items():
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "labels").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / f"images/{name}")
        (root / f"labels/{Path(name).stem}.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (root / "classes.txt").write_text("cat\n")
    return read_dataset(root)


@pytest.mark.parametrize("seed", SEEDS)
def test_identical_and_near_identical_pictures_stay_on_one_side(tmp_path, seed):
    pictures = {f"{i:02d}.png": picture(i) for i in range(12)}
    pictures |= {f"{i:02d}-copy.png": picture(i) for i in range(6)}
    pictures |= {f"{i:02d}-export.jpg": picture(i) for i in range(6, 12)}  # the same picture, other bytes
    data = made(tmp_path, pictures)
    divided, said = hold_out(data, train="train", val="val", fraction=0.4, seed=seed)
    check_split_overlap(divided)
    split_of = {Path(p).stem: s for p, s in divided.images.select("path", "split").iter_rows()}
    for i in range(12):
        assert split_of[f"{i:02d}"] == split_of[f"{i:02d}-{'copy' if i < 6 else 'export'}"]
    assert said[1] == "24 pictures that are alike stay together"
    assert set(split_of.values()) == {"train", "val"}


def test_without_duplicates_the_division_is_that_of_the_names(tmp_path):
    data = made(tmp_path, {f"{i:02d}.png": picture(i) for i in range(12)})
    divided, said = hold_out(data, train="train", val="val", fraction=0.25, seed=3)
    assert len(said) == 1
    assert divided.images.equals(split_dataset(data, {"train": 0.75, "val": 0.25}, 3).images)


def test_a_set_that_is_alike_throughout_is_still_divided(tmp_path):
    rng = np.random.default_rng(0)
    base = picture(1)
    pictures = {
        f"{i:02d}.png": np.clip(base + rng.integers(-2, 3, base.shape), 0, 255).astype(np.uint8) for i in range(10)
    }
    pictures["10.png"] = pictures["00.png"]
    divided, _ = hold_out(made(tmp_path, pictures), train="train", val="val", fraction=0.3, seed=0)
    check_split_overlap(divided)
    assert divided.images["split"].value_counts()["count"].min() >= 3
