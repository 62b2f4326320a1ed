"""Every picture in a data set's folders is read or named; what is named as left out destroys no good label."""

import json
from pathlib import Path

import pytest

from sightline.audit import audit_dataset
from sightline.core.dataset import Dataset
from sightline.data import read_dataset


def counted(dataset: Dataset, folder: Path) -> None:
    """Found = read + listed, where what is found is counted by hand; every left-out picture is in a finding."""
    counts = audit_dataset(dataset).pictures
    assert counts is not None
    found = [p for p in folder.rglob("*") if p.suffix in {".jpg", ".png", ".dng"} and "__MACOSX" not in p.parts]
    labels = [p for p in found if {"masks", "maps"} & set(p.parts)]
    assert counts.found == counts.read + counts.listed == len(found) - len(labels)
    named = {f.path for f in dataset.findings} | {f.facts.get("image") for f in dataset.findings}
    named |= {path for f in dataset.findings for path in f.facts.get("images", ())}
    assert set(dataset.left_out) <= named


def write_label(folder: Path, name: str) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("0 0.5 0.5 0.25 0.5\n")


def listed(dataset: Dataset) -> dict[str, int]:
    return {f.path or "": f.count for f in dataset.findings if f.code == "image-unlisted"}


def test_folders_and_loose_pictures_beside_splits(tmp_path: Path, save_image) -> None:
    for name in ("train/a", "val/b", "batch2/c", "batch2/d", "loose"):
        save_image(f"images/{name}.jpg")
        write_label(tmp_path, f"labels/{name}.txt")
    save_image("extra/e.jpg")
    dataset = read_dataset(tmp_path)
    assert len(dataset) == 2
    assert listed(dataset) == {"extra/e.jpg": 1, "images/batch2/c.jpg": 2, "images/loose.jpg": 1}
    counted(dataset, tmp_path)


def test_names_of_split_folders_that_leave_no_doubt(tmp_path: Path, save_image) -> None:
    names = ("train2017/a", "dev/b", "eval/c", "holdout/d", "folds/e", "test-dev/f")
    for name in names:
        save_image(f"images/{name}.jpg")
        write_label(tmp_path, f"labels/{name}.txt")
    dataset = read_dataset(tmp_path)
    splits = {path.split("/")[1]: split for path, split in dataset.images.select("path", "split").iter_rows()}
    assert splits == {"train2017": "train", "dev": "val", "eval": "test", "holdout": "test", "test-dev": "test"}
    assert listed(dataset) == {"images/folds/e.jpg": 1}
    counted(dataset, tmp_path)


def test_a_split_no_yaml_names(tmp_path: Path, save_image) -> None:
    for name in ("train", "valid", "test"):
        save_image(f"{name}/images/{name}.jpg")
        write_label(tmp_path, f"{name}/labels/{name}.txt")
    (tmp_path / "data.yaml").write_text("train: train/images\nval: valid/images\nnames: [cell]\n")
    for place in (tmp_path, tmp_path / "data.yaml"):
        dataset = read_dataset(place)
        assert listed(dataset) == {"test/images/test.jpg": 1}
        counted(dataset, tmp_path)


def test_images_a_list_leaves_out_are_in_no_split_and_their_labels_good(tmp_path: Path, save_image) -> None:
    for name in "abc":
        save_image(f"images/{name}.jpg")
        write_label(tmp_path, f"labels/{name}.txt")
    write_label(tmp_path, "labels/nobody.txt")
    (tmp_path / "train.txt").write_text("images/a.jpg\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [cell]\n")
    dataset = read_dataset(tmp_path)
    assert [f.path for f in dataset.findings if f.code == "label-orphan"] == ["labels/nobody.txt"]
    (unlisted,) = [f for f in dataset.findings if f.code == "split-unlisted"]
    assert (unlisted.count, unlisted.facts["images"]) == (2, ["images/b.jpg", "images/c.jpg"])
    assert "labels, which are good" in unlisted.message
    counted(dataset, tmp_path)


def test_what_cannot_be_decoded_is_named_and_its_label_is_no_orphan(tmp_path: Path, save_image) -> None:
    save_image("images/a.jpg")
    for name in ("a", "camera", "scan.nii"):
        write_label(tmp_path, f"labels/{name}.txt")
    (tmp_path / "images/camera.dng").write_bytes(b"II*")
    (tmp_path / "images/scan.nii.gz").write_bytes(b"\x1f\x8b")
    dataset = read_dataset(tmp_path)
    found = {f.path: f.message for f in dataset.findings if f.code == "image-unreadable"}
    assert set(found) == {"images/camera.dng", "images/scan.nii.gz"}
    assert "camera raw" in found["images/camera.dng"]
    assert all("its label is good" in message for message in found.values())
    assert not [f for f in dataset.findings if f.code == "label-orphan"]


@pytest.mark.parametrize("suffix", ["gif", "avif", "jp2", "jfif"])
def test_what_can_be_decoded_is_read(tmp_path: Path, save_image, suffix: str) -> None:
    save_image(f"images/a.{suffix}", **({"format": "JPEG"} if suffix == "jfif" else {}))
    write_label(tmp_path, "labels/a.txt")
    dataset = read_dataset(tmp_path)
    assert dataset.images.row(0)[1:4] == (f"images/a.{suffix}", 32, 24)
    assert not [f for f in audit_dataset(dataset).findings if f.code in {"image-wrong-extension", "image-unreadable"}]


def test_voc_does_not_look_into_folders_and_says_so(tmp_path: Path, save_image) -> None:
    xml = "<annotation><object><name>a</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for name in ("a", "sub/b"):
        save_image(f"JPEGImages/{name}.jpg")
        file = tmp_path / f"Annotations/{name}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{xml}</object></annotation>")
    dataset = read_dataset(tmp_path)
    assert listed(dataset) == {"JPEGImages/sub/b.jpg": 1}
    counted(dataset, tmp_path)


def test_pictures_a_json_does_not_list_and_images_without_objects(tmp_path: Path, save_image) -> None:
    for name in "abcd":
        save_image(f"images/{name}.jpg")
    images = [{"id": i, "file_name": f"{n}.jpg", "width": 32, "height": 24} for i, n in enumerate("abc")]
    boxes = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    for place in (tmp_path, tmp_path / "labels.json"):
        dataset = read_dataset(place)
        assert listed(dataset) == {"images/d.jpg": 1}
        (bare,) = [f for f in audit_dataset(dataset).findings if f.code == "image-without-objects"]
        assert (bare.count, bare.facts["images"]) == (2, ["images/b.jpg", "images/c.jpg"])
        counted(dataset, tmp_path)


def test_masks_are_no_pictures_and_images_without_one_are_listed_once(tmp_path: Path, save_image, save_mask) -> None:
    for name in "abc":
        save_image(f"images/{name}.jpg")
    for name in "ab":
        save_mask(f"masks/{name}.png", [[0, 255] * 16] * 24)
    dataset = read_dataset(tmp_path)
    assert [(f.code, f.path) for f in dataset.findings] == [("label-missing-file", "images/c.jpg")]
    counted(dataset, tmp_path)


def test_what_a_description_excludes_is_counted(tmp_path: Path, save_image) -> None:
    for name in "abc":
        save_image(f"images/{name}.jpg")
        write_label(tmp_path, f"labels/{name}.txt")
    (tmp_path / "sightline.yaml").write_text("format: yolo\nexclude: [b]\n")
    dataset = read_dataset(tmp_path)
    assert dataset.left_out == ("images/b.jpg",)
    counts = audit_dataset(dataset).pictures
    assert counts is not None
    assert (counts.found, counts.read, counts.listed) == (3, 2, 1)


def test_what_an_operating_system_left_is_said_once(tmp_path: Path, save_image) -> None:
    save_image("ds/images/a.jpg")
    save_image("__MACOSX/ds/images/._a.jpg")
    save_image("__MACOSX/ds/images/b.jpg")
    write_label(tmp_path, "ds/labels/a.txt")
    write_label(tmp_path, "__MACOSX/ds/labels/b.txt")
    dataset = read_dataset(tmp_path)
    assert [(f.code, f.count) for f in dataset.findings if f.code != "class-names-missing"] == [("layout-junk", 3)]
    assert dataset.left_out == ()


def test_the_pictures_of_another_data_set_below_are_said_to_be_that(tmp_path: Path, save_image) -> None:
    save_image("images/a.jpg")
    write_label(tmp_path, "labels/a.txt")
    for number in (1, 2):
        save_image(f"video/seq/img1/{number:06d}.jpg")
    (tmp_path / "video/seq/gt").mkdir()
    (tmp_path / "video/seq/gt/gt.txt").write_text("1,1,2,2,9,9,1,-1,-1,-1\n")
    dataset = read_dataset(tmp_path)
    (other,) = [f for f in dataset.findings if f.code == "layout-other-set"]
    assert (other.severity, other.count) == ("info", 2)
    assert "video (mot)" in other.message
    assert not listed(dataset)
    counted(dataset, tmp_path)
