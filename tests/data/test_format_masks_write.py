"""Mask folders that are written: values and colours kept, objects painted, and what is painted over counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.core.errors import DataError
from sightline.data import read_class_mask, read_dataset, write_dataset
from sightline.media.decode import id_of_colour, read_mask
from written_datasets import SIZE_HW, binary, box, boxes, coloured, made, painted, saved, semantic


def test_values_suffixes_and_splits(tmp_path: Path) -> None:
    before = semantic(tmp_path)
    assert write_dataset(before, tmp_path / "out", "masks") == []
    after = read_dataset(tmp_path / "out")
    assert after.images.select("path", "split", "mask_path").rows() == [
        ("images/train/a/one.jpg", "train", "masks/train/a/one.png"),
        ("images/val/zwei ä.png", "val", "masks/val/zwei ä.png"),
    ]
    assert after.classes["source_id"].to_list() == [0, 3, 9]
    assert after.ignore_values == (255,)
    for old, new in zip(before.images["mask_path"], after.images["mask_path"], strict=True):
        assert (tmp_path / old).read_bytes() == (tmp_path / "out" / new).read_bytes()


def test_binary_masks_stay_0_and_255(tmp_path: Path) -> None:
    write_dataset(binary(tmp_path), tmp_path / "out", "masks")
    masks = sorted((tmp_path / "out/masks").iterdir())
    assert [m.name for m in masks] == ["a.png", "b.png"]
    assert all(np.unique(read_mask(m)).tolist() == [0, 255] for m in masks)


def test_colours_become_an_indexed_png_of_the_same_colours(tmp_path: Path) -> None:
    before = coloured(tmp_path)
    write_dataset(before, tmp_path / "out", "masks")
    with Image.open(tmp_path / "out/masks/a.png") as written, Image.open(tmp_path / "m.png") as original:
        assert written.mode == "P"
        assert np.array_equal(written.convert("RGB"), original)
    after = read_dataset(tmp_path / "out")
    assert after.classes["source_id"].to_list() == before.classes["source_id"].to_list()


def test_gray_stored_as_rgb_becomes_gray(tmp_path: Path) -> None:
    images = saved(tmp_path, "a.png")
    images[0]["mask_path"] = "m.png"
    Image.fromarray(np.full((*SIZE_HW, 3), 255, dtype=np.uint8)).save(tmp_path / "m.png")
    names = [{"name": n, "source_id": id_of_colour((v, v, v))} for n, v in (("no", 0), ("yes", 255))]
    losses = write_dataset(made(tmp_path, "semantic", images, [], names), tmp_path / "out", "masks")
    assert [(f.code, f.count) for f in losses] == [("loss-attributes", 2)]  # both classes were things
    after = read_dataset(tmp_path / "out")
    assert after.classes.select("name", "source_id").rows() == [("no", 0), ("yes", 255)]
    assert (read_class_mask(tmp_path / "out/masks/a.png", after) == 1).all()


def test_objects_are_painted_small_ones_last(tmp_path: Path) -> None:
    objects = [
        {"image_id": 0, "class_id": 1, **painted((10, 10, 14, 14))},
        {"image_id": 0, "class_id": 0, **painted((0, 0, 30, 30))},
        {"image_id": 0, "class_id": 0, "crowd": True, **painted((20, 20, 40, 40))},
        box(0, 1, 50, 40, 60, 46),
        box(0, 0, 1, 45, 9, 47, polygon=[[1.0, 45.0, 9.0, 45.0, 9.0, 47.0, 1.0, 47.0]], keypoints=[1.0, 45.0, 2.0]),
    ]
    dataset = made(tmp_path, "instance", saved(tmp_path, "a.png"), objects, ["cat", "background"])
    losses = {f.code: f.count for f in write_dataset(dataset, tmp_path / "out", "masks")}
    assert losses == {"loss-instances": 5, "loss-overlap": 16 + 100, "loss-boxes": 1, "loss-keypoints": 1}
    expected = np.zeros(SIZE_HW, dtype=np.uint8)
    expected[20:40, 20:40] = 255
    expected[0:30, 0:30] = 1
    expected[10:14, 10:14] = 2
    expected[40:46, 50:60] = 255
    expected[45:47, 1:9] = 1
    assert np.array_equal(read_mask(tmp_path / "out/masks/a.png"), expected)
    after = read_dataset(tmp_path / "out")
    assert after.class_names == ("no object", "cat", "background")
    assert after.ignore_values == (255,)


def test_what_masks_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mask folders need masks, got a data set of 6 boxes"):
        write_dataset(boxes(tmp_path), tmp_path / "out", "masks")
    images = saved(tmp_path, "a.png", "a.jpg")
    objects = [{"image_id": 0, "class_id": 0, **painted((0, 0, 9, 9))}]
    with pytest.raises(DataError, match="must have a label file of its own"):
        write_dataset(made(tmp_path, "instance", images, objects, ["x"]), tmp_path / "out", "masks")
    many = [f"class {i}" for i in range(255)]
    with pytest.raises(DataError, match="masks can hold 254 classes, got 255"):
        write_dataset(made(tmp_path, "instance", images[:1], objects, many), tmp_path / "out", "masks")
    with pytest.raises(DataError, match="every image must have a mask"):
        write_dataset(made(tmp_path, "semantic", images[:1], [], ["x"]), tmp_path / "out", "masks")
    images[0]["split"] = "fold 1"
    with pytest.raises(DataError, match="knows the splits train, val and test"):
        write_dataset(made(tmp_path, "instance", images[:1], objects, ["x"]), tmp_path / "out", "masks")
    assert not (tmp_path / "out").exists()


def test_colours_without_a_palette_are_named_and_bounded(tmp_path: Path, save_image, save_mask) -> None:
    save_image("data/images/a.png", (4, 64))
    shades = np.arange(4 * 64 * 3, dtype=np.uint8).reshape(4, 64, 3)
    shades[0] = [[0, 0, 0]] * 64
    shades[1:] = [[128, 0, 0], [0, 5, 255]] * 32
    save_mask("data/masks/a.png", shades)
    dataset = read_dataset(tmp_path / "data")
    assert dataset.class_names == ("background", "colour_0005ff", "colour_800000")
    assert {f.code for f in dataset.findings} == {"class-names-missing"}
    shades[2, :, 1] = np.arange(64)
    shades[3, :, 2] = np.arange(64)
    save_mask("data/masks/a.png", shades)
    with pytest.raises(DataError, match="at most 64 colours to be read without a palette, got"):
        read_dataset(tmp_path / "data")


def test_gray_pictures_of_values_are_read_as_values(tmp_path: Path, save_image, save_mask) -> None:
    save_image("data/images/a.png", (2, 4))
    values = np.repeat(np.array([[0, 1, 7, 255]] * 2, dtype=np.uint8)[..., None], 3, axis=2)
    save_mask("data/masks/a.png", values)
    dataset = read_dataset(tmp_path / "data")
    assert dataset.class_names == ("class_0", "class_1", "class_7")
    ids = read_class_mask(tmp_path / "data/masks/a.png", dataset)
    assert ids.tolist() == [[0, 1, 2, 255]] * 2


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("place", "images", "classes"),
    [
        ("seg_camvid", 701, 12),
        ("seg_chasedb1", 28, 2),
        ("seg_crackforest", 118, 2),
        ("vos_chair", 60, 2),
        ("coco128_lightly/semantic_segmentation", 96, 130),
    ],
)
def test_real_masks_are_read_without_a_word(data_root: Path, place: str, images: int, classes: int) -> None:
    dataset = read_dataset(data_root / place)
    assert (dataset.format, dataset.task) == ("masks", "semantic")
    assert (len(dataset), dataset.classes.height) == (images, classes)


@pytest.mark.real_data
def test_real_masks_read_back_the_same(data_root: Path, tmp_path: Path) -> None:
    before = read_dataset(data_root / "coco128_lightly/semantic_segmentation")
    assert write_dataset(before, tmp_path / "out", "masks") == []
    after = read_dataset(tmp_path / "out")
    assert after.class_names == before.class_names
    assert after.images["split"].value_counts().sort("split").rows() == [("train", 48), ("val", 48)]
    for old, new in zip(before.images.iter_rows(named=True), after.images.iter_rows(named=True), strict=True):
        first, second = (read_mask(d.image_path(r["mask_path"])) for d, r in ((before, old), (after, new)))
        assert np.array_equal(first, second)
