"""Mistakes of a whole set of labels are one finding, with the evidence and what to do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.audit import audit_dataset
from sightline.audit.quarantine import quarantined_images
from sightline.core.findings import Finding
from sightline.data import read_dataset

SIZE_WH = (64, 48)


@pytest.fixture
def yolo(tmp_path: Path, save_image):
    """A YOLO data set of the given rows, by split and file."""

    def make(rows: dict[str, str], **more: str) -> Path:
        for name, text in rows.items():
            save_image(f"images/{name}.jpg", size_hw=SIZE_WH[::-1])
            label = tmp_path / f"labels/{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
        splits = dict.fromkeys(name.split("/")[0] for name in rows)
        lines = [f"{split}: images/{split}" for split in splits] + ["names: [cell, dot]"]
        (tmp_path / "data.yaml").write_text("\n".join([*lines, *(f"{k}: {v}" for k, v in more.items())]))
        return tmp_path

    return make


@pytest.fixture
def coco(tmp_path: Path, save_image):
    def make(annotations: list[dict[str, Any]], images: int = 1, **dump: Any) -> Path:
        listed = []
        for number in range(images):
            save_image(f"images/{number}.jpg", size_hw=SIZE_WH[::-1])
            listed.append({"id": number, "file_name": f"{number}.jpg", "width": SIZE_WH[0], "height": SIZE_WH[1]})
        entries = [{"id": i, "image_id": 0, "category_id": 1, "iscrowd": 0} | a for i, a in enumerate(annotations)]
        content = {"images": listed, "annotations": entries, "categories": [{"id": 1, "name": "cat"}]}
        (tmp_path / "labels.json").write_text(json.dumps(content, **dump))
        return tmp_path / "labels.json"

    return make


def found(path: Path, code: str | None = None) -> list[Finding]:
    findings = audit_dataset(read_dataset(path)).findings
    return [f for f in findings if code is None or f.code == code]


def test_all_labels_empty_is_an_error_of_the_set_and_of_each_split(yolo) -> None:
    messages = [f.message for f in found(yolo({"train/a": "", "train/b": "", "val/c": ""}), "label-nothing-to-learn")]
    assert [m.partition(" or measured")[0] for m in messages] == [
        "nothing can be learnt from the data set",
        "nothing can be learnt from 'train'",
        "nothing can be learnt from 'val'",
    ]


def test_one_empty_split_is_an_error_and_a_split_with_an_object_none(yolo) -> None:
    row = "0 0.5 0.5 0.25 0.5\n"
    (only,) = found(yolo({"train/a": row, "train/b": "", "val/c": ""}), "label-nothing-to-learn")
    assert only.severity == "error"
    assert only.facts == {"ignored": 0, "images": 1}
    assert "'val'" in only.message


def test_nothing_but_crowds_is_nothing_to_learn_from(coco) -> None:
    (only,) = found(coco([{"bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 1}] * 2), "label-nothing-to-learn")
    assert only.facts["ignored"] == 2


def boxes(count: int, seed: int = 0) -> list[list[float]]:
    """Boxes x1, y1, x2, y2 inside the images."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.uniform(0.05, 0.95, (count, 2, 2)), axis=1) * SIZE_WH
    return [[*a, *b] for a, b in ends.tolist()]


def test_corners_for_sizes_are_one_finding(coco) -> None:
    (only,) = [f for f in found(coco([{"bbox": box} for box in boxes(40)])) if f.code.startswith("label-")]
    assert only.code == "label-corners-for-sizes"
    assert only.count == only.facts["as_corners"] == only.facts["boxes"] == 40
    assert only.facts["as_sizes"] < 36


def test_sizes_are_not_taken_for_corners(coco) -> None:
    sizes = [{"bbox": [x1, y1, x2 - x1, y2 - y1]} for x1, y1, x2, y2 in boxes(40)]
    assert not found(coco(sizes), "label-corners-for-sizes")


def test_yolo_corners_for_centre_and_size(yolo) -> None:
    rows = "".join(f"0 {x1 / 64} {y1 / 48} {x2 / 64} {y2 / 48}\n" for x1, y1, x2, y2 in boxes(40))
    (only,) = [f for f in found(yolo({"train/a": rows})) if f.code.startswith("label-")]
    assert (only.code, only.count) == ("label-corners-for-sizes", 40)


def test_stated_areas_far_from_box_and_mask_are_named_with_both(coco) -> None:
    ring = [10, 10, 30, 10, 10, 30]
    entries = [
        {"bbox": [10, 10, 20, 20], "area": 200, "segmentation": [ring]},
        {"bbox": [10, 10, 20, 20], "area": 400, "segmentation": [ring]},  # the box's: as many exporters write it
        {"bbox": [11, 10, 20, 20], "area": 1.0, "segmentation": [[v + 1 for v in ring]]},
        {"bbox": [12, 10, 20, 20], "area": 1e9},
        {"bbox": [13, 10, 20, 20], "area": None},
    ]
    wrong = found(coco(entries, indent=1), "label-wrong-area")
    assert [(f.entry, f.facts["stated"]) for f in wrong] == [(2, 1.0), (3, 1e9)]
    assert wrong[0].facts["true"] == pytest.approx(200, rel=0.1)
    assert "id 3" in wrong[1].message
    assert "the box has 400" in wrong[1].message
    assert wrong[0].line != wrong[1].line


def test_findings_in_a_file_of_one_line_name_entry_id_and_image(coco) -> None:
    (only,) = found(coco([{"bbox": [2, 2, 9, 9]}, {"id": 77, "bbox": [20, 2, 90, 9]}]), "label-out-of-bounds")
    assert only.message.endswith("(annotations[1], id 77, image images/0.jpg)")
    entries = [{"id": 5, "bbox": [2, 2, 9, 9]}, {"id": 5, "bbox": [20, 2, 90, 9]}]
    (only,) = found(coco(entries), "label-out-of-bounds")
    assert only.message.endswith("(annotations[1], image images/0.jpg)")  # ids are numbered anew: none is the file's


def test_two_outlines_in_one_box_are_two_objects(coco) -> None:
    upper, lower = [10, 10, 30, 10, 10, 30], [30, 30, 30, 10, 10, 30]
    entries = [{"bbox": [10, 10, 20, 20], "area": 200, "segmentation": [ring]} for ring in (upper, lower)]
    assert not found(coco(entries), "label-duplicate")
    entries[1]["segmentation"] = [upper]
    assert len(found(coco(entries), "label-duplicate")) == 1


def test_boxes_among_outlines_are_counted_and_placed(yolo) -> None:
    outline = "0 0.1 0.1 0.4 0.1 0.4 0.4\n"
    (only,) = found(yolo({"train/a": outline * 1 + "1 0.7 0.7 0.2 0.2\n", "train/b": outline}), "label-mixed-shapes")
    assert (only.path, only.line, only.count) == ("labels/train/a.txt", 2, 1)
    assert only.message == "1 of 3 objects are boxes without an outline, the others have one"


def test_an_outline_on_a_line_has_no_area_and_is_ignored(yolo) -> None:
    folder = yolo({"train/a": "0 0.1 0.1 0.2 0.2 0.3 0.3\n0 0.1 0.6 0.2 0.7 0.1 0.6\n0 0.6 0.1 0.9 0.1 0.9 0.3\n"})
    flat = found(folder, "label-degenerate-box")
    assert [(f.path, f.line) for f in flat] == [("labels/train/a.txt", 1), ("labels/train/a.txt", 2)]
    assert read_dataset(folder).objects["ignore"].to_list() == [True, True, False]


def test_rows_with_keypoints_are_recognised_without_their_shape(yolo) -> None:
    rows = "0 0.5 0.5 0.25 0.5 0.4 0.4 2 0.6 0.6 1\n1 0.5 0.5 0.5 0.5 0.3 0.3 2 0 0 0\n"
    folder = yolo({"train/a": rows})
    (only,) = found(folder, "label-no-keypoint-shape")
    assert (only.line, only.count, only.facts) == (1, 2, {"keypoints": 2})
    dataset = read_dataset(folder)
    assert dataset.task == "detect"
    assert dataset.objects["keypoints"].list.len().to_list() == [6, 6]
    assert dataset.objects["x2"].to_list() == [40, 48]
    stated = read_dataset(yolo({"train/a": rows}, kpt_shape="[2, 3]"))
    assert stated.objects.equals(dataset.objects)
    assert not stated.findings


def test_rows_of_even_length_are_still_refused_where_they_hold_no_keypoints(yolo) -> None:
    folder = yolo({"train/a": "0 0.5 0.5 0.25 0.5 0.4 0.4 2\n0 0.1 0.1 0.4 0.1 0.4 0.4\n"})
    assert [(f.line, f.code) for f in read_dataset(folder).findings] == [(1, "label-malformed")]


def test_voc_boxes_from_pixel_0_are_said_once(tmp_path: Path, save_image) -> None:
    box = "<object><name>a</name><bndbox><xmin>{}</xmin><ymin>4</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    save_image("JPEGImages/a.jpg")
    (tmp_path / "Annotations").mkdir()
    text = "".join(box.format(x) for x in (0, 3, 1))
    (tmp_path / "Annotations/a.xml").write_text(f"<annotation>{text}</annotation>")
    (only,) = found(tmp_path, "label-counted-from-zero")
    assert (only.path, only.count, only.facts["boxes"]) == ("Annotations/a.xml", 1, 3)


def test_masks_of_background_alone_are_nothing_to_learn_from(tmp_path: Path, save_image, save_mask) -> None:
    for name in "ab":
        save_image(f"images/{name}.jpg")
        save_mask(f"masks/{name}.png", np.zeros((24, 32)))
    assert [f.count for f in found(tmp_path, "label-nothing-to-learn")] == [2]


def test_labels_all_in_pixels_are_one_finding(yolo) -> None:
    rows = {"train/a": "0 12 10 8 6\n" * 3, "train/b": "0 30 20 9 9\n1 50 40 5 5\n"}
    (only,) = found(yolo(rows), "label-not-normalised")
    assert (only.path, only.line, only.count) == ("labels/train/a.txt", 1, 5)
    assert only.facts == {"largest": 50.0, "rows": 5}


def test_an_area_below_0_is_said(coco) -> None:
    (only,) = found(coco([{"bbox": [2, 2, 9, 9], "area": -5}]), "label-wrong-area")
    assert (only.entry, only.path) == (0, "labels.json")
    assert read_dataset(coco([{"bbox": [2, 2, 9, 9], "area": -5}])).objects["area"].to_list() == [81]


def test_what_all_pictures_share_is_said_once(tmp_path: Path) -> None:
    for k in range(12):
        for split in ("train", "val"):
            put_gray(tmp_path, split, k)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    (gray,) = [f for f in audit_dataset(read_dataset(tmp_path)).findings if f.code == "image-gray"]
    assert gray.count == 24
    assert gray.message.startswith("24 of 24 images: the image has one channel")
    assert len(gray.facts["images"]) == 24
    left_out, general = quarantined_images(read_dataset(tmp_path), (gray,))
    assert (len(left_out), general) == (24, ())


def put_gray(root: Path, split: str, number: int) -> None:
    pixels = np.random.default_rng([number, len(split)]).integers(0, 256, (40, 50), dtype=np.uint8)
    (root / "images" / split).mkdir(parents=True, exist_ok=True)
    (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / f"images/{split}/{number}.png")
    (root / f"labels/{split}/{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
