"""Masks in the audit: each fault planted into sound pairs is found at its file, and the sound pairs give nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sightline.audit import audit_dataset
from sightline.audit.scan.masks import count_ramps
from sightline.data import read_dataset

Mask = NDArray[np.uint8]


def crack(seed: int, size_hw: tuple[int, int] = (96, 128)) -> Mask:
    """A dark line that wanders from left to right, 3 pixels thick."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    line = np.clip(rng.integers(15, height - 15) + np.cumsum(rng.normal(0, 1.2, width)), 4, height - 5)
    rows = np.arange(height)[:, None]
    return (np.abs(rows - line[None, :]) <= 1.5).astype(np.uint8) * 255


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(8):
        mask = crack(i)
        noise = np.random.default_rng(100 + i).normal(140, 12, mask.shape)
        image = np.clip(np.where(mask > 0, noise - 60, noise), 0, 255).astype(np.uint8)
        Image.fromarray(image).convert("RGB").save(tmp_path / f"images/{i}.jpg", quality=95)
        Image.fromarray(mask).save(tmp_path / f"masks/{i}.png")
    (tmp_path / "sightline.yaml").write_text("classes: {0: road, 255: crack}\n")
    return tmp_path


def change(folder: Path, name: str, edit: Callable[[Mask], Any]) -> None:
    file = folder / "masks" / name
    with Image.open(file) as image:
        values = np.array(image)
    changed = edit(values)
    (changed if isinstance(changed, Image.Image) else Image.fromarray(changed)).save(file)


def found(folder: Path) -> dict[str | None, str]:
    return {f.path: f.code for f in audit_dataset(read_dataset(folder)).findings if f.code.startswith("mask")}


def as_jpeg(folder: Path) -> Callable[[Mask], Image.Image]:
    def edit(mask: Mask) -> Image.Image:
        Image.fromarray(mask).save(folder / "lossy.jpg", quality=85)
        with Image.open(folder / "lossy.jpg") as image:
            return image.copy()

    return edit


def halved(mask: Mask) -> Image.Image:
    height, width = mask.shape
    small = Image.fromarray(mask).resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    return small.resize((width, height), Image.Resampling.BILINEAR)


def test_sound_pairs_give_nothing(pairs: Path) -> None:
    result = audit_dataset(read_dataset(pairs))
    assert [f for f in result.findings if f.severity != "info"] == []
    assert result.masks is not None
    assert result.masks.masks_by_class == {"road": 8, "crack": 8}
    assert sum(result.masks.foreground_histogram.masks) == 8
    low, middle, high = (result.masks.foreground_quantiles[q] for q in ("0.05", "0.5", "0.95"))
    assert result.masks.foreground_min <= low <= middle <= high <= result.masks.foreground_max


def test_planted_faults(pairs: Path) -> None:
    change(pairs, "0.png", lambda m: 255 - m)
    change(pairs, "1.png", halved)
    change(pairs, "2.png", as_jpeg(pairs))
    (pairs / "lossy.jpg").unlink()
    change(pairs, "3.png", lambda m: np.roll(m, 25, axis=0))
    change(pairs, "4.png", lambda m: m * 0)
    change(pairs, "5.png", lambda m: m // 255 * 9)
    findings = {f.path: f for f in audit_dataset(read_dataset(pairs)).findings if f.severity != "info"}
    assert {path: f.code for path, f in findings.items()} == {
        "masks/0.png": "mask-inverted",
        "masks/1.png": "mask-interpolated",
        "masks/2.png": "mask-interpolated",
        "masks/3.png": "mask-misaligned",
        "masks/5.png": "mask-unexpected-value",
    }
    assert "JPEG" in findings["masks/2.png"].message
    assert "JPEG" not in findings["masks/1.png"].message
    assert findings["masks/0.png"].image_id == 0


def test_exchanged_masks_are_both_named(pairs: Path) -> None:
    (pairs / "masks/6.png").rename(pairs / "masks/x.png")
    (pairs / "masks/2.png").rename(pairs / "masks/6.png")
    (pairs / "masks/x.png").rename(pairs / "masks/2.png")
    assert found(pairs) == {"masks/2.png": "mask-misaligned", "masks/6.png": "mask-misaligned"}


def test_jpeg_files_as_masks(tmp_path: Path, pairs: Path) -> None:
    with Image.open(pairs / "masks/1.png") as image:
        image.save(pairs / "masks/1.jpg", quality=60)
    (pairs / "masks/1.png").unlink()
    (finding,) = [f for f in audit_dataset(read_dataset(pairs)).findings if f.severity == "error"]
    assert (finding.code, finding.path) == ("mask-interpolated", "masks/1.jpg")
    assert "JPEG" in finding.message


def test_full_and_ignored_masks(pairs: Path) -> None:
    (pairs / "sightline.yaml").write_text("classes: {0: road, 255: crack}\nignore_values: [7]\n")
    change(pairs, "0.png", lambda m: m * 0 + np.uint8(255))
    change(pairs, "1.png", lambda m: m * 0 + np.uint8(7))
    change(pairs, "2.png", lambda m: np.where(np.arange(m.shape[1]) < 20, np.uint8(7), m))
    assert found(pairs) == {"masks/0.png": "mask-full", "masks/1.png": "mask-empty"}


def test_a_mask_of_another_size_is_left_out_by_the_reader(pairs: Path) -> None:
    change(pairs, "0.png", lambda m: m[:-1])
    dataset = read_dataset(pairs)
    assert len(dataset) == 7
    assert found(pairs) == {"masks/0.png": "mask-size-mismatch"}


def test_a_mask_of_another_size_than_a_data_set_says(pairs: Path) -> None:
    dataset = read_dataset(pairs)
    change(pairs, "0.png", lambda m: m[:-1])
    codes = {f.path: f.code for f in audit_dataset(dataset).findings}
    assert codes == {"masks/0.png": "mask-size-mismatch"}


def test_ids_between_classes_that_are_classes_themselves(tmp_path: Path, save_image) -> None:
    (tmp_path / "masks").mkdir()
    values = np.zeros((60, 80), np.uint8)
    values[20:40, 10:70] = 8
    values[5:15, 30:50] = 3
    for i in range(3):
        save_image(f"images/{i}.png", size_hw=(60, 80))
        Image.fromarray(values).save(tmp_path / f"masks/{i}.png")
    (tmp_path / "sightline.yaml").write_text(f"classes: {[f'c{i}' for i in range(9)]}\n")
    assert found(tmp_path) == {}
    change(tmp_path, "1.png", halved)
    assert found(tmp_path) == {"masks/1.png": "mask-interpolated"}


def test_ramps_are_counted_along_rows_and_columns() -> None:
    assert count_ramps(np.array([[0, 3, 8]], np.int32)) == (2, 1, 0)
    assert count_ramps(np.array([[8], [3], [0]], np.int32)) == (2, 1, 0)
    assert count_ramps(np.array([[0, 8, 3]], np.int32)) == (2, 0, 1)
    assert count_ramps(np.array([[0, 3, 3, 8]], np.int32)) == (2, 0, 0)
    assert count_ramps(np.zeros((4, 5), np.int32)) == (0, 0, 0)


@pytest.mark.real_data
def test_crackforest_names_image_042(data_root: Path, tmp_path: Path) -> None:
    """SOURCE.md of the data: the annotation of 042 does not match its image (checked by eye)."""
    folder = data_root / "seg_crackforest"
    (tmp_path / "sightline.yaml").write_text(
        f"path: {folder}\nimages: image\nmasks: derived_masks_png\nclasses: {{0: background, 255: crack}}\n"
    )
    assert found(tmp_path / "sightline.yaml") == {"derived_masks_png/042.png": "mask-misaligned"}


@pytest.mark.real_data
def test_camvid_names_the_mask_that_is_moved(data_root: Path) -> None:
    """The test mask of Seq05VD_f02610 is moved to the left by a fifth and wraps around (seen by eye)."""
    codes = {f.path: f.code for f in audit_dataset(read_dataset(data_root / "seg_camvid")).findings}
    assert [p for p, c in codes.items() if c.startswith("mask")] == ["testannot/Seq05VD_f02610.png"]


@pytest.mark.real_data
def test_thin_vessels_give_nothing(data_root: Path) -> None:
    assert set(found(data_root / "seg_chasedb1").values()) == {"mask-several-sets"}


def test_a_resized_binary_mask_does_not_become_a_mask_of_many_classes(pairs: Path) -> None:
    (pairs / "sightline.yaml").unlink()
    block = np.zeros((96, 128), np.uint8)
    block[30:60, 30:90] = 255
    change(pairs, "1.png", lambda _: halved(block).rotate(7, Image.Resampling.BICUBIC))
    assert read_dataset(pairs).class_names == ("background", "foreground")
    assert found(pairs)["masks/1.png"] == "mask-interpolated"


def test_what_the_reader_said_of_a_file_is_not_said_again(pairs: Path) -> None:
    (pairs / "sightline.yaml").unlink()
    file = pairs / "masks/3.png"
    file.write_bytes(file.read_bytes()[:60])
    found = audit_dataset(read_dataset(pairs)).findings
    assert [f.path for f in found if f.code == "mask-unreadable"] == ["masks/3.png"]
