"""Near-duplicates and leakage: what is the same picture is found with its turn, and what only looks alike is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from sightline.audit.checks.pictures import check_outliers
from sightline.audit.duplicates.checks import check_duplicates, near_duplicate_components, turn_boxes
from sightline.audit.duplicates.groups import consecutive_groups
from sightline.audit.result import AuditOptions
from sightline.audit.scan.image_hash import SYMMETRIES, apply_symmetry
from sightline.audit.scan.one_pass import scan_files
from sightline.core.dataset import dataset_from_rows
from sightline.core.findings import Finding
from sightline.data import read_dataset

SIZE_HW = (240, 320)
BOX = (0.1, 0.2, 0.4, 0.5)
OPTIONS = AuditOptions()


def scene(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(0, s * 100, (*size_hw, 3)), (s, s, 0)) for s in (2, 6, 18)]
    return np.clip(sum(layers) + 128, 0, 255).astype(np.uint8)


class Set:
    """A YOLO data set made picture by picture."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, bus]\n")
        for split in ("train", "val"):
            (root / "images" / split).mkdir(parents=True)
            (root / "labels" / split).mkdir(parents=True)

    def add(self, name: str, pixels: np.ndarray, box=BOX, class_id: int = 0, quality: int = 92) -> None:
        file = self.root / "images" / name
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, quality=quality)
        x1, y1, x2, y2 = box
        row = f"{class_id} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n"
        (self.root / "labels" / name).with_suffix(".txt").write_text(row)

    def found(self, check=check_duplicates, **options: object) -> list[Finding]:
        dataset = read_dataset(self.root)
        return check(dataset, scan_files(dataset), AuditOptions(**options))

    def codes(self) -> dict[str, str | None]:
        return {f.code: f.path for f in self.found()}

    def images(self) -> pl.DataFrame:
        return scan_files(read_dataset(self.root)).images


@pytest.fixture
def data(tmp_path: Path) -> Set:
    made = Set(tmp_path)
    for number, name in enumerate(("train/oak", "train/elm", "train/ash", "val/yew", "val/fir")):
        made.add(f"{name}.jpg", scene(number))
    return made


def turned_box(symmetry: int) -> tuple[float, ...]:
    return tuple(turn_boxes(np.array([BOX]), symmetry)[0])


def test_different_pictures_give_nothing(data: Set) -> None:
    assert data.found() == []
    assert near_duplicate_components(data.images(), 10).to_list() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("symmetry", range(8), ids=SYMMETRIES)
def test_every_flip_and_turn_across_splits_is_found_and_named(data: Set, symmetry: int) -> None:
    copy = apply_symmetry(scene(0), symmetry)
    data.add("val/copy.jpg", copy, turned_box(symmetry), quality=60)
    (found,) = data.found()
    assert (found.code, found.path, found.count) == ("split-overlap-near", "images/val/copy.jpg", 1)
    assert "images/train/oak.jpg" in found.message
    # The turn that is named is the one that makes the copy look like the original: the copy's own, undone.
    undone = (0, 1, 2, 3, 4, 6, 5, 7)[symmetry]
    assert (SYMMETRIES[undone] in found.message) == (symmetry > 0)
    assert near_duplicate_components(data.images(), 6).n_unique() == 5


def test_a_component_within_a_split_is_one_finding(data: Set) -> None:
    picture = Image.fromarray(scene(0))
    data.add("train/pine.jpg", np.asarray(picture.resize((160, 120))), quality=70)
    data.add("train/plum.jpg", gaussian_filter(scene(0), (1.5, 1.5, 0)), quality=70)
    (found,) = data.found()
    assert (found.code, found.count) == ("image-near-duplicate", 2)
    assert all(name in found.message + str(found.path) for name in ("oak", "pine", "plum"))


def test_labels_of_the_same_picture_must_agree(data: Set) -> None:
    mirrored = scene(0)[:, ::-1]
    data.add("val/copy.jpg", mirrored, turned_box(1), class_id=1)
    found = {f.code: f for f in data.found()}
    assert set(found) == {"split-overlap-near", "split-label-conflict"}
    assert found["split-label-conflict"].path == "images/val/copy.jpg"
    assert found["split-label-conflict"].message.endswith("but with 1 bus instead of 1 car")
    data.add("val/copy.jpg", mirrored, BOX)  # not mirrored with the picture
    assert "1 of 1 boxes are elsewhere" in {f.code: f for f in data.found()}["split-label-conflict"].message
    data.add("val/copy.jpg", mirrored, turned_box(1))
    assert "split-label-conflict" not in data.codes()
    (data.root / "labels/val/copy.txt").write_text("")
    assert "no object instead of 1 car" in {f.code: f for f in data.found()}["split-label-conflict"].message


def test_conflicts_are_found_in_any_pair_of_a_component(data: Set) -> None:
    """The witness of one picture need not be the one it contradicts."""
    for number, quality in enumerate((85, 75, 65)):
        data.add(f"train/{'abc'[number]}lder.jpg", scene(0), quality=quality, class_id=int(number == 2))
    conflicts = [f for f in data.found() if f.code == "split-label-conflict"]
    assert sorted(str(f.path) for f in conflicts) == ["images/train/clder.jpg"] * 2 + ["images/train/oak.jpg"]


def test_identical_bytes_with_other_labels(data: Set) -> None:
    file = data.root / "images/train/oak.jpg"
    data.add("val/copy.jpg", scene(0), class_id=1)
    (data.root / "images/val/copy.jpg").write_bytes(file.read_bytes())
    assert data.codes() == {
        "split-overlap-bytes": "images/val/copy.jpg",
        "split-label-conflict": "images/val/copy.jpg",
    }
    assert near_duplicate_components(data.images(), 0).n_unique() == 5


def test_masks_of_the_same_picture_must_agree(tmp_path: Path) -> None:
    mask = np.zeros(SIZE_HW, np.uint8)
    mask[:80] = 1
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name, pixels, labels in (
        ("a", scene(0), mask),
        ("b", scene(0)[::-1], mask[::-1]),
        ("c", scene(1), mask),
        ("d", scene(1)[:, ::-1], mask[::-1]),
    ):
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"images/{name}.png")
        Image.fromarray(np.ascontiguousarray(labels)).save(tmp_path / f"masks/{name}.png")
    (tmp_path / "sightline.yaml").write_text("classes: [road, crack]\n")
    dataset = read_dataset(tmp_path)
    found = {(f.code, f.path) for f in check_duplicates(dataset, scan_files(dataset), OPTIONS)}
    assert found == {
        ("image-near-duplicate", "images/b.png"),
        ("image-near-duplicate", "images/d.png"),
        ("split-label-conflict", "images/d.png"),
    }


def test_pictures_without_detail_are_no_duplicates(data: Set) -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(90, 160, SIZE_HW[0])[:, None, None] + np.zeros((*SIZE_HW, 3))
    for number in range(3):
        sky = ramp + rng.normal(0, 1, ramp.shape)
        black = rng.integers(0, 3, ramp.shape)
        data.add(f"train/sky-{'abc'[number]}.jpg", sky.astype(np.uint8))
        data.add(f"val/night-{'abc'[number]}.jpg", black.astype(np.uint8))
    assert data.found() == []


def test_pictures_of_one_kind_share_hashes_and_are_told_apart(data: Set) -> None:
    """Bright discs on black, as retinas and microscope fields are: the broad shape is equal, the details are not."""
    y, x = np.mgrid[-1 : 1 : SIZE_HW[0] * 1j, -1 : 1 : SIZE_HW[1] * 1j]
    disc = (x**2 + y**2 < 0.8)[..., None]
    rng = np.random.default_rng(0)
    for number in range(4):
        texture = gaussian_filter(rng.normal(0, 600, (*SIZE_HW, 1)), (9, 9, 0))
        pixels = np.clip((150 - 60 * x[..., None] + texture) * disc, 0, 255).repeat(3, axis=2)
        data.add(f"{'train' if number % 2 else 'val'}/eye-{'abcd'[number]}.jpg", pixels.astype(np.uint8))
    assert data.found() == []


def frames(count: int, seed: int = 100) -> list[np.ndarray]:
    wide = scene(seed, (300, 560))
    return [wide[2 * i : 2 * i + SIZE_HW[0], 8 * i : 8 * i + SIZE_HW[1]] for i in range(count)]


def test_consecutive_frames_are_one_group(data: Set) -> None:
    for number, pixels in enumerate(frames(12)):
        data.add(f"train/road_{number + 7:04d}.jpg", pixels)
    for number in range(12):
        data.add(f"train/img_{number:04d}.jpg", scene(200 + number))  # numbered, and nothing to do with each other
    (found,) = [f for f in data.found() if f.code != "image-near-duplicate"]
    assert (found.code, found.path, found.count) == ("group-undeclared", "images/train/road_0007.jpg", 12)
    images = data.images()
    groups = dict(zip(images["path"], consecutive_groups(images), strict=True))
    expected = "images/train/road_0007 to road_0018"
    assert {g for p, g in groups.items() if "road" in p} == {expected}
    assert {g for p, g in groups.items() if "road" not in p} == {None}


def test_a_sequence_that_splits_divide_leaks(data: Set) -> None:
    for number, pixels in enumerate(frames(12)):
        data.add(f"{'val' if number % 4 == 3 else 'train'}/road_{number:04d}.jpg", pixels)
    found = {f.code: f for f in data.found()}
    assert found["split-overlap-group"].severity == "error"
    assert "9 in 'train' and 3 in 'val'" in found["split-overlap-group"].message
    assert found["group-undeclared"].count == 12


def test_a_sequence_has_cuts_and_odd_frames(data: Set) -> None:
    """One frame with a flash does not end a scene, another scene under the same name does."""
    scenes = [*frames(8, 100), *frames(8, 101)]
    scenes[4] = np.full_like(scenes[4], 250)
    for number, pixels in enumerate(scenes):
        data.add(f"train/road{number + (40 if number >= 8 else 0)}.jpg", pixels)
    sizes = sorted(f.count for f in data.found() if f.code == "group-undeclared")
    assert sizes == [8, 8]


def test_declared_groups_are_left_alone_and_must_not_be_divided(data: Set) -> None:
    for number, pixels in enumerate(frames(8)):
        data.add(f"{'val' if number == 7 else 'train'}/road_{number:04d}.jpg", pixels)
    (data.root / "sightline.yaml").write_text("format: yolo\ngroup: '(road)_'\n")
    codes = data.codes()
    assert "group-undeclared" not in codes
    assert codes["split-overlap-group"] == "images/train/road_0000.jpg"


def test_few_images_and_images_that_cannot_be_read(tmp_path: Path) -> None:
    rows = [{"image_id": i, "path": f"{i}.png", "width": 8, "height": 8} for i in range(3)]
    (tmp_path / "0.png").write_bytes(b"")
    Image.fromarray(scene(0)).save(tmp_path / "1.png")
    dataset = dataset_from_rows(rows, [], [], root=tmp_path, name="x", task="detect", format="generated")
    scan = scan_files(dataset)
    assert check_duplicates(dataset, scan, OPTIONS) == []
    assert check_outliers(dataset, scan, OPTIONS) == []
    assert near_duplicate_components(scan.images, 6).to_list() == [0, 1, 2]
    empty = scan.images.clear()
    assert near_duplicate_components(empty, 6).to_list() == []
    assert consecutive_groups(empty).to_list() == []


ODD = {
    "image-dark": lambda p: (p * 0.04).astype(np.uint8),
    "image-bright": lambda p: (255 - (255 - p) * 0.04).astype(np.uint8),
    "image-flat": lambda p: (118 + (p.astype(float) - p.mean()) * 0.02).astype(np.uint8),
    "image-blurred": lambda p: gaussian_filter(p, (8, 8, 0)),
    "image-odd-size": lambda p: np.repeat(p[:20], 5, axis=1),
    "image-odd-colour": lambda p: (p * np.array([0.2, 0.3, 1.0])).astype(np.uint8),
}


@pytest.mark.parametrize("code", ODD)
def test_a_picture_out_of_line_is_named(data: Set, code: str) -> None:
    for number in range(15):
        data.add(f"train/{'abcdefghijklmno'[number]}.jpg", scene(300 + number))
    assert data.found(check_outliers) == []
    data.add("train/odd.jpg", ODD[code](scene(0)))
    assert [(f.code, f.path) for f in data.found(check_outliers)] == [(code, "images/train/odd.jpg")]


def test_blocks_of_compression_are_named(data: Set) -> None:
    data.add("train/low.jpg", scene(9), quality=6)
    (data.root / "labels/train/resaved.txt").write_text("")
    with Image.open(data.root / "images/train/low.jpg") as image:
        image.save(data.root / "images/train/resaved.png")
    found = {(f.code, f.path) for f in data.found(check_outliers)}
    assert found == {("image-blocky", f"images/train/{n}") for n in ("low.jpg", "resaved.png")}


def test_a_second_kind_of_picture_is_no_outlier(data: Set) -> None:
    for number in range(15):
        pixels = scene(300 + number)
        data.add(f"train/{'abcdefghijklmno'[number]}.jpg", gaussian_filter(pixels, (8, 8, 0)) if number < 5 else pixels)
    assert data.found(check_outliers) == []


def test_shifts_of_a_thumbnail_are_seen(data: Set) -> None:
    """A camera that moves by a tenth of the picture between frames."""
    wide = scene(100, (SIZE_HW[0], SIZE_HW[1] * 2))
    for number in range(9):
        moved = shift(wide, (0, -24 * number, 0), order=1)[:, : SIZE_HW[1]]
        data.add(f"train/pan_{number}.jpg", moved)
    assert [f.count for f in data.found() if f.code == "group-undeclared"] == [9]


@pytest.mark.real_data
def test_real_sets(data_root: Path) -> None:
    """Groups as the data's own notes say; no false alarm where pictures only look alike."""

    def found(name: str) -> list[Finding]:
        dataset = read_dataset(data_root / name)
        # The masks are not looked at here, and reading them takes longer than all the rest.
        pictures = replace(dataset, images=dataset.images.with_columns(mask_path=pl.lit(None, dtype=pl.String)))
        return check_duplicates(dataset, scan_files(pictures), OPTIONS)

    aerial = found("det_aerial_cars")
    assert {f.code for f in aerial} == {"group-undeclared"}
    assert sorted(f.count for f in aerial) == [4, 8, 11, 20, 20, 25, 26]
    for name in ("seg_crackforest", "seg_chasedb1", "inst_dsb2018", "coco128_lightly/object_detection", "track_mot15"):
        assert found(name) == [], name
    bccd = found("det_bccd")  # two photographs of one field, at another focus, labelled twice
    assert {(f.code, f.path) for f in bccd} == {
        ("split-overlap-near", "JPEGImages/BloodImage_00038.jpg"),
        ("split-label-conflict", "JPEGImages/BloodImage_00038.jpg"),
    }
    camvid = found("seg_camvid")
    assert sorted(f.count for f in camvid if f.code == "group-undeclared") == [68, 101, 124, 171, 237]
    assert {f.code for f in camvid} == {"group-undeclared", "split-overlap-group"}
    chair = found("vos_chair")
    assert [f.count for f in chair if f.code == "group-undeclared"] == [60]
