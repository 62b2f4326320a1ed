"""Faults of a whole set: pictures nothing names, nothing to learn from, numbers in another convention."""

from typing import Any

import cv2
import numpy as np
import yaml

from sightline.synth.faults.site import Fault, Planted, Site

__all__ = ["WHOLE_FAULTS"]

_PARTS = ("annotations/instances_train.json", "annotations/instances_val.json")
_MASKS_ALONE = {"format": "masks", "train": {"images": "images/train", "masks": "masks/train"}}


def _not_listed(site: Site) -> list[Planted]:
    site.write("images/train/nobody_lists_me.jpg", site.read(site.pictures()[0]))
    return [Planted("image-unlisted", "images/train/nobody_lists_me.jpg")]


def _bare_image(site: Site) -> list[Planted]:
    document = site.document(_PARTS[0])
    used = {a["image_id"] for a in document["annotations"]}
    image = next(i for i in document["images"] if i["id"] in used)
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != image["id"]]
    site.write_document(_PARTS[0], document)
    return [Planted("image-without-objects")]


def _empty_split(site: Site) -> list[Planted]:
    for picture in site.pictures("val"):
        site.write(site.label(picture), "")
    return [Planted("label-nothing-to-learn")]


def _corners(site: Site) -> list[Planted]:
    for part in _PARTS:
        document = site.document(part)
        for entry in document["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x, y, x + w, y + h]
        site.write_document(part, document)
    return [Planted("label-corners-for-sizes", _PARTS[0])]


def _one_changed(site: Site, code: str, **changes: Any) -> list[Planted]:
    document = site.document(_PARTS[0])
    entries = document["annotations"]
    index = max(range(len(entries)), key=lambda i: float(entries[i]["area"]))
    entries[index] |= changes
    places = site.write_document(_PARTS[0], document)
    return [Planted(code, _PARTS[0], places["annotations", index])]


def _from_zero(site: Site) -> list[Planted]:
    file = sorted((site.root / "Annotations").rglob("*.xml"))[3]
    path = file.relative_to(site.root).as_posix()
    lines = site.lines(path)
    number = next(i for i, line in enumerate(lines) if "<xmin>" in line)
    lines[number] = "<xmin>0</xmin>"
    site.write_lines(path, lines)
    return [Planted("label-counted-from-zero", path)]


def _posed(site: Site) -> list[Planted]:
    """Two keypoints behind each box, and no word of them in the data YAML."""
    for picture in [*site.pictures("train"), *site.pictures("val")]:
        rows = [[*row, row[1], row[2], 2, row[1], row[2], 1] for row in site.rows(picture)]
        site.write_rows(picture, rows)
    return [Planted("label-no-keypoint-shape")]


def _grouped(site: Site) -> list[Planted]:
    for part in _PARTS:
        document = site.document(part)
        for category in document["categories"]:
            category["supercategory"] = "everything"
        document["categories"].append({"id": 900, "name": "everything", "supercategory": "none"})
        site.write_document(part, document)
    return [Planted("class-grouping")]


def _one_in_ones(site: Site) -> list[Planted]:
    mask = site.mask(max(site.pictures(), key=lambda p: int((site.picture(site.mask(p)) > 0).sum())))
    site.write_picture(mask, np.asarray(site.picture(mask) // 255, np.uint8))
    site.write("sightline.yaml", yaml.safe_dump(_MASKS_ALONE))
    return [Planted("mask-mixed-values", mask)]


def _softened(site: Site) -> list[Planted]:
    for picture in site.pictures():
        mask = site.picture(site.mask(picture))
        site.write_picture(site.mask(picture), np.asarray(cv2.GaussianBlur(mask, (0, 0), 2.0), np.uint8))
    site.write("sightline.yaml", yaml.safe_dump(_MASKS_ALONE))
    return [Planted("mask-soft")]


WHOLE_FAULTS: dict[str, Fault] = {
    "image-unlisted": Fault("coco", _not_listed),
    "image-without-objects": Fault("coco", _bare_image),
    "label-nothing-to-learn": Fault("yolo", _empty_split),
    "label-corners-for-sizes": Fault("coco", _corners),
    "label-wrong-area": Fault("coco", lambda site: _one_changed(site, "label-wrong-area", area=1e9)),
    "label-mixed-shapes": Fault("coco", lambda site: _one_changed(site, "label-mixed-shapes", segmentation=[])),
    "label-counted-from-zero": Fault("voc", _from_zero),
    "label-no-keypoint-shape": Fault("yolo", _posed),
    "class-grouping": Fault("coco", _grouped),
    "mask-mixed-values": Fault("cracks", _one_in_ones, ("image-unlisted",)),
    "mask-soft": Fault("cracks", _softened, ("image-unlisted",)),
}
