"""Masks of two classes that hold more than two values, and which file is the mask of which."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sightline.audit import audit_dataset
from sightline.core.errors import ConfigError, DataError
from sightline.data import read_class_mask, read_dataset, write_dataset

SIZE_HW = (48, 64)


@pytest.fixture
def folder(tmp_path: Path, save_image, save_mask):
    """Five images with a rectangle each as 0 and 255."""
    for number in range(5):
        save_image(f"images/{number}.png", size_hw=SIZE_HW)
        save_mask(f"masks/{number}.png", rectangle(number))
    return tmp_path


def rectangle(number: int) -> np.ndarray:
    mask = np.zeros(SIZE_HW, dtype=np.uint8)
    mask[10:30, 8 + number : 40] = 255
    return mask


def foreground(folder: Path) -> list[int]:
    dataset = read_dataset(folder)
    assert dataset.class_names == ("background", "foreground")
    masks = [read_class_mask(dataset.image_path(p), dataset) for p in dataset.images["mask_path"]]
    assert all(set(np.unique(mask)) <= {0, 1} for mask in masks)  # nothing is ignored
    return [int(mask.sum()) for mask in masks]


@pytest.mark.parametrize("alone", [1, 255])
def test_one_mask_in_ones_among_255_is_named_and_read_as_foreground(folder: Path, save_mask, alone: int) -> None:
    expected = foreground(folder)
    for number in range(5):
        value = alone if number == 3 else 256 - alone
        save_mask(f"masks/{number}.png", rectangle(number) // 255 * value)
    assert foreground(folder) == expected
    (named,) = [f for f in audit_dataset(read_dataset(folder)).findings if f.severity == "error"]
    assert (named.code, named.path) == ("mask-mixed-values", "masks/3.png")
    assert named.facts == {"own": alone, "others": 256 - alone}


def test_ids_with_255_for_unlabelled_stay_as_they_were(folder: Path, save_mask) -> None:
    for number in range(5):
        mask = rectangle(number) // 255
        mask[40:] = 255
        save_mask(f"masks/{number}.png", mask)
    dataset = read_dataset(folder)
    assert (dataset.ignore_values, dataset.mask_threshold) == ((255,), None)


def test_soft_masks_are_two_classes_and_each_threshold_is_said(folder: Path) -> None:
    expected = foreground(folder)
    for number in range(5):
        soft = Image.fromarray(rectangle(number)).filter(ImageFilter.GaussianBlur(3))
        soft.save(folder / f"masks/{number}.png")
    assert foreground(folder) == pytest.approx(expected, rel=0.07)  # blurring rounds the corners off
    (said,) = [f for f in audit_dataset(read_dataset(folder)).findings if f.code.startswith("mask-")]
    assert (said.code, said.count, said.facts["threshold"]) == ("mask-soft", 5, 128)
    shares = list(said.facts["shares"].values())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 1.2 * shares[-1]


def test_a_stated_threshold_is_used_and_written(folder: Path, tmp_path: Path) -> None:
    for number in range(5):
        Image.fromarray(rectangle(number)).filter(ImageFilter.GaussianBlur(3)).save(folder / f"masks/{number}.png")
    soft = read_dataset(folder)
    (folder / "sightline.yaml").write_text("images: images\nmasks: masks\nthreshold: 20\n")
    dataset = read_dataset(folder)
    assert not dataset.findings
    assert min(foreground(folder)) > 600
    assert dataset.label_digest() != soft.label_digest()
    write_dataset(dataset, tmp_path / "out", "masks")
    assert read_dataset(tmp_path / "out").mask_threshold == 20


def test_a_threshold_divides_two_classes(folder: Path) -> None:
    (folder / "sightline.yaml").write_text("masks: masks\nthreshold: 20\nclasses: {0: a, 1: b, 2: c}\n")
    with pytest.raises(ConfigError, match="'threshold' divides gray masks into two classes"):
        read_dataset(folder)


def test_masks_compressed_as_jpeg_are_two_classes(folder: Path) -> None:
    expected = foreground(folder)
    for number in range(5):
        (folder / f"masks/{number}.png").unlink()
        Image.fromarray(rectangle(number)).save(folder / f"masks/{number}.jpg", quality=85)
    (folder / "sightline.yaml").write_text("images: images\nmasks: masks\n")
    assert foreground(folder) == pytest.approx(expected, rel=0.02)


def test_pictures_and_masks_of_one_stem_in_one_folder(tmp_path: Path, save_image, save_mask) -> None:
    for number in range(3):
        save_image(f"set/{number}.jpg", size_hw=SIZE_HW)
        save_mask(f"set/{number}.png", rectangle(number))
    by_kind = read_dataset(tmp_path / "set")
    assert by_kind.images.select("path", "mask_path").row(0) == ("0.jpg", "0.png")
    (tmp_path / "sightline.yaml").write_text("images: set\nmasks: set\n")
    assert len(read_dataset(tmp_path / "sightline.yaml")) == 3
    for number in range(3):
        (tmp_path / f"set/{number}.png").unlink()
    with pytest.raises(DataError, match="a picture cannot be its own mask"):
        read_dataset(tmp_path / "sightline.yaml")


def test_images_and_masks_that_differ_in_their_first_word(tmp_path: Path, save_image, save_mask) -> None:
    for number in range(3):
        save_image(f"images/img_{number}.png", size_hw=SIZE_HW)
        save_mask(f"masks/mask_{number}.png", rectangle(number))
    assert read_dataset(tmp_path).images["mask_path"].to_list() == [f"masks/mask_{n}.png" for n in range(3)]
    for number in range(3):
        (tmp_path / f"images/img_{number}.png").rename(tmp_path / f"images/img_10{number}.png")
    with pytest.raises(DataError, match="must hold images and masks of the same names"):
        read_dataset(tmp_path)
