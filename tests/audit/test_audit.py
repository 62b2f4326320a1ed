"""The audit: each planted fault is found with its code and place, and a clean data set gives nothing."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit import audit_dataset
from sightline.audit.result import ImageSize, SplitCounts
from sightline.core.dataset import dataset_from_rows
from sightline.data import CODES, read_dataset


@pytest.fixture
def folder(tmp_path: Path, save_image):
    for split, names in {"train": ("a", "b", "c"), "val": ("d",)}.items():
        for name in names:
            save_image(f"images/{split}/{name}.jpg", quality=90, size_hw=(48, 64))
            label = tmp_path / f"labels/{split}/{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell]\n")
    return tmp_path


def found(folder: Path) -> set[tuple[str, str | None]]:
    return {(f.code, f.path) for f in audit_dataset(read_dataset(folder)).findings}


def test_clean_data_gives_no_finding(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = audit_dataset(read_dataset(folder), progress=lambda done, total, what: calls.append((done, total)))
    assert result.findings == ()
    assert result.worst is None
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (result.images, result.objects, result.objects_by_class) == (4, 4, {"cell": 4})
    assert result.splits == {"train": SplitCounts(3, 3), "val": SplitCounts(1, 1)}
    assert result.sizes == (ImageSize(64, 48, 4),)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda d: d[: len(d) // 2], "image-truncated"),
        (lambda d: d[:-2], "image-truncated"),
        (lambda d: d[: len(d) // 2] + bytes(300) + d[len(d) // 2 + 300 :], "image-corrupt"),
        (lambda d: d + b"appended", "image-trailing-bytes"),
        (lambda d: b"", "image-empty-file"),
        (lambda d: b"<html>", "image-unreadable"),
    ],
)
def test_damaged_jpegs(folder: Path, damage, code: str) -> None:
    file = folder / "images/train/b.jpg"
    file.write_bytes(damage(file.read_bytes()))
    assert found(folder) == {(code, "images/train/b.jpg")}


def test_one_flipped_bit_in_a_jpeg_is_found(folder: Path) -> None:
    """A flipped bit derails the entropy-coded data of almost any place; 1/8-scale decoding must see as much as full."""
    file = folder / "images/train/b.jpg"
    whole = file.read_bytes()
    seen = 0
    for place in np.linspace(len(whole) * 0.4, len(whole) * 0.9, 12).astype(int):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        file.write_bytes(bytes(damaged))
        seen += ("image-corrupt", "images/train/b.jpg") in found(folder)
    assert seen >= 6


def test_odd_files(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 3

    def put(name: str, kind: str, picture: Image.Image, **options: object) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        (folder / "images/train" / name).write_bytes(buffer.getvalue())
        (folder / "labels/train" / name).with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n")

    put("turned.jpg", "JPEG", image, exif=exif)
    put("named.jpg", "PNG", image)
    put("gray.png", "PNG", image.convert("L"))
    put("alpha.png", "PNG", image.convert("RGBA"))
    put("cmyk.jpg", "JPEG", image.convert("CMYK"))
    put("deep.png", "PNG", Image.fromarray(pixels[..., 0].astype(np.uint16) * 256))
    put("moving.webp", "WEBP", image, save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)])
    assert found(folder) == {
        ("image-exif-orientation", "images/train/turned.jpg"),
        ("image-wrong-extension", "images/train/named.jpg"),
        ("image-gray", "images/train/gray.png"),
        ("image-alpha", "images/train/alpha.png"),
        ("image-cmyk", "images/train/cmyk.jpg"),
        ("image-gray", "images/train/deep.png"),
        ("image-16-bit", "images/train/deep.png"),
        ("image-animated", "images/train/moving.webp"),
        ("image-near-duplicate", "images/train/cmyk.jpg"),
    }


def test_pictures_of_16_bits_from_a_camera_of_12(folder: Path) -> None:
    dim = np.random.default_rng(0).integers(0, 4096, (64, 96)).astype(np.uint16)
    Image.fromarray(dim).save(folder / "images/train/deep.png")
    (folder / "labels/train/deep.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (only,) = [f for f in audit_dataset(read_dataset(folder)).findings if f.code == "image-16-bit-dark"]
    assert (only.facts["greatest"], only.count) == (int(dim.max()), 1)
    Image.fromarray(dim * 16).save(folder / "images/train/deep.png")
    assert "image-16-bit-dark" not in {code for code, _ in found(folder)}


def test_same_bytes_across_and_within_splits(folder: Path) -> None:
    content = (folder / "images/train/a.jpg").read_bytes()
    (folder / "images/train/c.jpg").write_bytes(content)
    (folder / "images/val/d.jpg").write_bytes(content)
    assert found(folder) == {
        ("image-duplicate", "images/train/c.jpg"),
        ("split-identical", None),
        ("split-overlap-bytes", "images/val/d.jpg"),
    }


def test_size_that_the_labels_do_not_expect(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    images = [{"id": 1, "file_name": "a.png", "width": 64, "height": 24}]
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
    content = {"images": images, "annotations": [entry], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "l.json").write_text(json.dumps(content))
    assert found(tmp_path) == {("image-size-mismatch", "a.png")}


def test_unused_classes_and_reader_findings_are_there(folder: Path) -> None:
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell, ghost, spectre]\n")
    (folder / "labels/train/a.txt").write_text("0 0.5 0.5 0 0.5\n")
    result = audit_dataset(read_dataset(folder))
    assert result.counts_by_code == {"label-degenerate-box": 1, "class-unused": 2}
    assert result.worst == "error"
    assert [f.code for f in result.at_least("warning")] == ["label-degenerate-box"]
    assert result.to_frame()["first"].to_list()[0] == "labels/train/a.txt:1"
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["objects_by_class"] == {"cell": 4, "ghost": 0, "spectre": 0}
    assert plain["findings"][0]["line"] == 1
    assert "label-degenerate-box" in result.to_markdown()


def test_masks(tmp_path: Path, save_image, save_mask) -> None:
    crack = np.zeros((24, 32), np.uint8)
    crack[0, :16] = 1
    for name, mask in {"a": crack, "b": crack * 0, "c": crack * 9}.items():
        save_image(f"images/{name}.png")
        save_mask(f"masks/{name}.png", mask)
    (tmp_path / "sightline.yaml").write_text("classes: [road, crack, pothole]\n")
    result = audit_dataset(read_dataset(tmp_path))
    assert {(f.code, f.path) for f in result.findings} == {
        ("mask-empty", "masks/b.png"),
        ("mask-unexpected-value", "masks/c.png"),
        ("mask-empty", "masks/c.png"),
        ("class-imbalance", None),
        ("class-unused", None),
    }
    assert result.masks is not None
    assert result.masks.pixels_by_class == {"road": 24 * 32 * 3 - 32, "crack": 16, "pothole": 0}
    assert result.masks.foreground_max == pytest.approx(16 / (24 * 32))
    assert result.masks.share_below_5_percent == 1.0


def test_data_that_came_from_no_reader_is_checked_too(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    box = {"image_id": 0, "class_id": 0, "x1": 1, "y1": 1, "x2": 9, "y2": 9}
    dataset = dataset_from_rows(
        [{"image_id": 0, "path": "a.png", "width": 32, "height": 24}],
        [box, box],
        [{"class_id": 0, "name": "x"}],
        root=tmp_path,
        name="x",
        task="detect",
        format="generated",
    )
    assert [(f.code, f.path) for f in audit_dataset(dataset).findings] == [("label-duplicate", "a.png")]


def test_every_code_is_in_kebab_case_and_explained() -> None:
    for name, code in CODES.items():
        assert name.islower()
        assert " " not in name
        assert code.meaning
        assert code.do
