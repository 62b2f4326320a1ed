"""One mask file for each object: layouts, classes, faults in masks, maps of ids."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sightline.core.errors import ConfigError, DataError
from sightline.data import detect_format, read_dataset, write_dataset
from sightline.data.formats.instance_files.read import class_of_folder, folder_of_class
from sightline.data.formats.shared.shapes import foreground, split_ids
from sightline.ops import rle
from written_datasets import boxes, instances


@pytest.fixture
def cells(tmp_path: Path, save_image, save_mask) -> Path:
    """Two images with two objects and none."""
    for name in ("one", "two"):
        save_image(f"cells/{name}/images/{name}.png")
        (tmp_path / f"cells/{name}/masks").mkdir()
    save_mask("cells/one/masks/a.png", filled(2, 3, 10, 9))
    save_mask("cells/one/masks/b.png", filled(12, 12, 20, 24))
    return tmp_path / "cells"


def filled(x1: int, y1: int, x2: int, y2: int, value: int = 255) -> np.ndarray:
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[y1:y2, x1:x2] = value
    return mask


def test_a_file_is_an_object(cells: Path) -> None:
    assert detect_format(cells) == "instance-files"
    dataset = read_dataset(cells)
    assert (dataset.format, dataset.task, dataset.class_names) == ("instance-files", "instance", ("object",))
    assert dataset.images["path"].to_list() == ["one/images/one.png", "two/images/two.png"]
    columns = ["image_id", "x1", "y1", "x2", "y2", "area"]
    assert dataset.objects.select(columns).rows() == [(0, 2, 3, 10, 9, 48), (0, 12, 12, 20, 24, 96)]
    assert rle.decode(dataset.objects["rle"][0], (24, 32))[3:9, 2:10].all()
    assert [(f.code, f.path) for f in dataset.findings] == [("label-empty-file", "two/masks")]


def test_class_names_and_folders_of_classes(cells: Path, save_mask) -> None:
    (cells / "sightline.yaml").write_text("format: instance-files\nclasses: [nucleus]\n")
    assert read_dataset(cells).class_names == ("nucleus",)
    save_mask("cells/one/masks/dog%2Fpuppy/c.png", filled(0, 0, 4, 4))
    (cells / "sightline.yaml").unlink()
    assert read_dataset(cells).counts_by_class() == {"dog/puppy": 1, "object": 2}
    (cells / "sightline.yaml").write_text("format: instance-files\nclasses: [object]\n")
    dataset = read_dataset(cells)
    assert dataset.counts_by_class() == {"object": 2}
    assert [f.path for f in dataset.findings if f.code == "label-unknown-class"] == ["one/masks/dog%2Fpuppy/c.png"]


@pytest.mark.parametrize("name", ["a", "Größe 1", ".hidden", "a/b\\c:*?", "100 %", "%2F", "x\ny"])
def test_names_of_folders_give_back_the_class(name: str) -> None:
    folder = folder_of_class(name)
    assert class_of_folder(folder) == name
    assert not set(folder) & set("/\\:")
    assert not folder.startswith(".")


def test_splits_and_depth(cells: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / f"deep/{split}/a").mkdir(parents=True)
    (cells / "one").rename(tmp_path / "deep/train/a/one")
    (cells / "two").rename(tmp_path / "deep/val/two")
    dataset = read_dataset(tmp_path / "deep")
    assert dataset.images.select("path", "split").rows() == [
        ("train/a/one/images/one.png", "train"),
        ("val/two/images/two.png", "val"),
    ]


def test_each_fault_of_a_mask_is_named(cells: Path, tmp_path: Path, save_image, save_mask) -> None:
    masks = cells / "one/masks"
    save_mask("cells/one/masks/size.png", np.full((20, 32), 255))
    save_mask("cells/one/masks/empty.png", np.zeros((24, 32)))
    save_mask("cells/one/masks/over.png", filled(2, 3, 6, 9))
    save_mask("cells/one/masks/one.png", filled(25, 2, 29, 5, 1))
    soft = filled(22, 12, 30, 20)
    soft[:, 22], soft[:, 29] = np.where(soft[:, 22], 60, 0), np.where(soft[:, 29], 200, 0)
    save_mask("cells/one/masks/soft.png", soft)
    (masks / "bad.png").write_bytes(b"no image")
    Image.fromarray(np.repeat(filled(0, 20, 4, 24)[..., None], 3, axis=2)).save(masks / "rgb.png")
    save_image("cells/two/images/other.png")
    save_mask("cells/three/masks/a.png", filled(1, 1, 5, 5))
    (cells / "three/images").mkdir()
    dataset = read_dataset(cells, format="instance-files")
    found = {(f.code, f.path, f.count) for f in dataset.findings}
    assert found == {
        ("mask-size-mismatch", "one/masks/size.png", 1),
        ("mask-missing-segment", "one/masks/empty.png", 1),
        ("mask-unreadable", "one/masks/bad.png", 1),
        ("mask-unexpected-value", "one/masks/soft.png", 16),
        ("mask-overlap", "one/masks", 24),
        ("label-empty-file", "two/masks", 1),
        ("image-same-stem", "two/images/two.png", 1),
        ("label-orphan", "three", 1),
    }
    boxes_by_x1 = {row[0]: row for row in dataset.objects.select("x1", "y1", "x2", "y2").rows()}
    assert len(dataset.objects) == 6
    assert boxes_by_x1[23.0] == (23, 12, 30, 20)  # 60 is below half of 255, 200 is not
    assert boxes_by_x1[25.0] == (25, 2, 29, 5)
    assert boxes_by_x1[0.0] == (0, 20, 4, 24)


def test_folders_of_classes_of_pixels_are_not_taken_for_objects(tmp_path: Path, save_image, save_mask) -> None:
    for name in ("train", "val"):
        save_image(f"{name}/images/{name}.png")
        save_mask(f"{name}/masks/{name}.png", filled(1, 1, 5, 5))
    assert detect_format(tmp_path) == "masks"


def test_maps_of_ids(tmp_path: Path, save_image, save_mask) -> None:
    save_image("PNGImages/a.png")
    save_image("PNGImages/b.png")
    ids = filled(2, 3, 10, 9, 1) + filled(12, 12, 20, 24, 7) + filled(25, 0, 30, 4, 255)
    save_mask("PedMasks/a_mask.png", ids)
    save_mask("PedMasks/b_mask.png", np.zeros((24, 32)))
    values = {"instances": True, "classes": ["person"], "ignore_values": [255]}
    (tmp_path / "sightline.yaml").write_text(yaml.safe_dump(values))
    dataset = read_dataset(tmp_path)
    assert (dataset.format, dataset.class_names) == ("instance-files", ("person",))
    assert dataset.objects.select("image_id", "x1", "y1", "x2", "y2").rows() == [(0, 2, 3, 10, 9), (0, 12, 12, 20, 24)]
    assert [f.code for f in dataset.findings] == ["label-empty-file"]
    (tmp_path / "sightline.yaml").write_text("format: masks\ninstances: true\n")
    with pytest.raises(ConfigError, match="'instances' belongs to format 'instance-files'"):
        read_dataset(tmp_path)


def test_maps_are_taken_apart_in_one_pass() -> None:
    ids = np.random.default_rng(0).choice(np.array([0, 3, 500]), (17, 13))
    parts = split_ids(ids)
    assert sorted(parts) == [0, 3, 500]
    for value, counts in parts.items():
        mask = rle.decode(counts, ids.shape)
        assert np.array_equal(mask, ids == value)
        assert np.array_equal(foreground(counts, ids.shape), np.flatnonzero((ids == value).ravel(order="F")))


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    losses = {f.code: f.count for f in write_dataset(instances(tmp_path), tmp_path / "out", "instance-files")}
    assert losses == {"loss-crowd": 1, "loss-ignore": 1, "loss-objects": 1, "loss-rounding": 2, "loss-boxes": 1}
    assert (tmp_path / "out/train/sub folder/ç/masks/cat").is_dir()
    with pytest.raises(DataError, match="mask files of objects need masks of objects, got a data set of 6 boxes"):
        write_dataset(boxes(tmp_path), tmp_path / "boxes", "instance-files")


@pytest.mark.real_data
def test_real_nuclei_reconcile(data_root: Path) -> None:
    dataset = read_dataset(data_root / "inst_dsb2018")
    assert (len(dataset), dataset.objects.height) == (110, 3157)
    assert dataset.splits == []
    assert not [f for f in dataset.findings if f.severity == "error"]
    per_image = Counter(p.parent.parent.name for p in (data_root / "inst_dsb2018").rglob("masks/*.png"))
    counts = dataset.objects.join(dataset.images, on="image_id").group_by("path").len().iter_rows()
    assert {Path(path).parts[0]: n for path, n in counts} == per_image


@pytest.mark.real_data
def test_real_maps_of_ids(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "format_samples/pennfudan5/PennFudanPed"
    (tmp_path / "sightline.yaml").write_text(f"path: {folder}\ninstances: true\nclasses: [person]\n")
    dataset = read_dataset(tmp_path / "sightline.yaml")
    stated = {p.stem: int(_stated(p)) for p in (folder / "Annotation").glob("*.txt")}
    counts = dataset.objects.join(dataset.images, on="image_id").group_by("path").len().iter_rows()
    assert {Path(path).stem: n for path, n in counts} == stated


def _stated(annotation: Path) -> str:
    text = annotation.read_text(encoding="latin-1")
    line = next(line for line in text.splitlines() if line.startswith("Objects with ground truth"))
    return line.split(":")[1].split("{")[0]


@pytest.mark.parametrize(("name", "got"), [("", "one without a name"), ("x" * 300, "of 300")])
def test_classes_that_are_no_folders_are_refused(tmp_path: Path, made_dataset, name: str, got: str) -> None:
    mask = rle.encode(np.ones((24, 32), dtype=np.bool_))
    row = {"image_id": 0, "class_id": 0, "x1": 0, "y1": 0, "x2": 32, "y2": 24, "rle": mask}
    dataset = made_dataset([row], (name, "cat"), task="instance")
    with pytest.raises(DataError, match=f"a class name must be one a folder can have .* got .*{got}"):
        write_dataset(dataset, tmp_path / "out", "instance-files")
