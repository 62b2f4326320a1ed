"""Quarantine: audit, leave out, read again, and nothing of it is left."""

from pathlib import Path

import pytest
import yaml

from sightline.audit import audit_dataset
from sightline.audit.quarantine import quarantined_images, write_quarantine
from sightline.core.errors import ConfigError
from sightline.data import read_dataset
from sightline.data.codes import finding, images_of_findings

BOX = "0 0.5 0.5 0.5 0.5\n"


@pytest.fixture
def folder(tmp_path: Path, save_image) -> Path:
    labels = {"good": BOX, "flat": "0 0.5 0.5 0 0.5\n", "words": "a b c d e\n", "torn": BOX, "x # y": "0 2 2 1 1\n"}
    for name, text in labels.items():
        save_image(f"data/images/{name}.jpg")
        label = tmp_path / f"data/labels/{name}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text(text)
    torn = tmp_path / "data/images/torn.jpg"
    torn.write_bytes(torn.read_bytes()[:700])
    (tmp_path / "data/images/none.jpg").write_bytes(b"")
    (tmp_path / "data/data.yaml").write_text("train: images\nnames: [x]\n")
    return tmp_path


def test_round_trip(folder: Path) -> None:
    dataset = read_dataset(folder / "data")
    result = audit_dataset(dataset)
    file = folder / "quarantine.yaml"
    count = write_quarantine(dataset, result, file, data=folder / "data")
    entries = yaml.safe_load(file.read_text())["exclude"]
    assert count == len(entries) >= 4
    assert {"images/flat.jpg", "images/words.jpg", "images/torn.jpg", "images/none.jpg"} <= set(entries)
    assert '- "images/flat.jpg"  # label-degenerate-box\n' in file.read_text()
    after = audit_dataset(read_dataset(file))
    assert not after.at_least("error")
    assert after.images == len(dataset) - sum(p in entries for p in dataset.images["path"])
    # On top of a quarantine another one adds to it, and nothing is left of warnings either.
    write_quarantine(read_dataset(file), after, folder / "more.yaml", "warning", data=file)
    left = audit_dataset(read_dataset(folder / "more.yaml"))
    kept = read_dataset(folder / "more.yaml").images
    assert all(i is None for i in images_of_findings(left.at_least("warning"), kept))


def test_without_faults_nothing_is_left_out(tmp_path: Path, save_image) -> None:
    save_image("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(BOX)
    dataset = read_dataset(tmp_path)
    file = tmp_path / "beside.yaml"
    assert write_quarantine(dataset, audit_dataset(dataset), file) == 0
    assert len(read_dataset(file)) == 1
    assert yaml.safe_load(file.read_text()) == {"path": ".", "format": "yolo", "exclude": []}


def test_what_is_about_no_image_is_said(folder: Path) -> None:
    dataset = read_dataset(folder / "data")
    findings = (
        finding("class-conflict", "two\nnames", path="data.yaml"),
        finding("image-missing", "3 images are missing", path="images/good.jpg", count=3),
        finding("label-orphan", "no image", path="labels/good.txt"),
        finding("label-malformed", "no number", path="labels/good.txt", line=1, facts={"image": "images/good.jpg"}),
    )
    out, general = quarantined_images(dataset, findings)
    assert out == {"images/good.jpg": ["label-malformed"]}
    assert [f.code for f in general] == ["class-conflict", "image-missing", "label-orphan"]


def test_wrong_arguments(folder: Path) -> None:
    dataset = read_dataset(folder / "data")
    result = audit_dataset(dataset)
    with pytest.raises(ConfigError, match=r"unknown severity 'eror' \(nearest: error"):
        write_quarantine(dataset, result, folder / "q.yaml", "eror")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must not replace the description it builds on"):
        write_quarantine(dataset, result, folder / "q.yaml", data=folder / "q.yaml")


@pytest.mark.real_data
def test_bccd(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "det_bccd/BCCD"
    dataset = read_dataset(folder)
    file = tmp_path / "quarantine.yaml"
    assert write_quarantine(dataset, audit_dataset(dataset), file, data=folder) == 2
    after = read_dataset(file)
    assert len(after) == 362
    assert not audit_dataset(after).at_least("error")


def test_a_picture_that_cannot_be_read_is_no_label_of_one_with_its_name(tmp_path: Path, save_image) -> None:
    for split in ("train", "val"):
        save_image(f"images/{split}/1.png")
        label = tmp_path / f"labels/{split}/1.txt"
        label.parent.mkdir(parents=True)
        label.write_text(BOX)
    (tmp_path / "images/val/1.png").write_bytes(b"")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [x]\n")
    dataset = read_dataset(tmp_path)
    out, general = quarantined_images(dataset, audit_dataset(dataset).at_least("error"))
    assert (out, general) == ({"images/val/1.png": ["image-empty-file"]}, ())
