"""Faults that only some formats can have: oriented boxes, keypoints, drawn points, recorded splits, clips."""

import math
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

from sightline.audit.splits import SplitOptions, plan_splits, write_split
from sightline.data import read_dataset
from sightline.synth.faults.site import Fault, Planted, Site
from sightline.synth.writing import write_h264

__all__ = ["FORMAT_FAULTS"]

_TILT = math.radians(25)
_SEQUENCE = "traffic/seqinfo.ini"
_CLIP = "traffic/traffic.mp4"


def _oriented(site: Site) -> list[Planted]:
    """Every box a rectangle that stands turned, as aerial data sets are labelled."""
    for picture in [*site.pictures("train"), *site.pictures("val")]:
        turned = []
        for row in site.rows(picture):
            class_id, cx, cy, w, h = row
            across, up = (w / 3, h / 3)
            corners = [(-across, -up), (across, -up), (across, up), (-across, up)]
            points = [
                (cx + x * math.cos(_TILT) - y * math.sin(_TILT), cy + x * math.sin(_TILT) + y * math.cos(_TILT))
                for x, y in corners
            ]
            turned.append([class_id, *(value for point in points for value in point)])
        site.write_rows(picture, turned)
    return [Planted("label-oriented-box")]


def _coco_ids(site: Site) -> list[Planted]:
    """80 names, and an object with one of the ids COCO has beyond them."""
    content = yaml.safe_load(site.read("data.yaml"))
    content["names"] = {i: content["names"].get(i, f"thing {i}") for i in range(80)}
    site.write("data.yaml", yaml.safe_dump(content, sort_keys=False))
    label = site.label(site.pick())
    return [Planted("class-coco-ids", label, site.add_line(label, "85 0.5 0.5 0.2 0.2"))]


def _changed_split(site: Site) -> list[Planted]:
    """A division on record, and afterwards a label that is gone."""
    plan = plan_splits(read_dataset(site.root), SplitOptions(fractions={"train": 0.7, "val": 0.3}))
    write_split(plan, site.root / "sightline.yaml", str(site.root), format="yolo")
    picture = site.pick("val")
    site.write_rows(picture, site.rows(picture)[:-1])
    return [Planted("split-changed")]


def _bad_keypoints(site: Site) -> list[Planted]:
    name = "annotations/instances_train.json"
    document = site.document(name)
    for category in document["categories"]:
        category["keypoints"] = ["front", "back"]
    document["annotations"][4]["keypoints"] = [10, 10, 2]
    places = site.write_document(name, document)
    return [Planted("label-bad-keypoints", name, places["annotations", 4])]


def _drawn_point(site: Site) -> list[Planted]:
    path = sorted(p.relative_to(site.root).as_posix() for p in site.root.rglob("*.json"))[2]
    document = site.document(path)
    point: dict[str, Any] = {"label": "car", "points": [[50, 60]], "group_id": None, "shape_type": "point", "flags": {}}
    document["shapes"] = [*document["shapes"], point]
    site.write_document(path, document)
    return [Planted("label-unsupported-shape", path)]


def _overlapping(site: Site) -> list[Planted]:
    mask = max(site.root.rglob("masks/**/*.png"), key=lambda p: p.stat().st_size)
    shutil.copyfile(mask, mask.with_name(f"again_{mask.name}"))
    return [Planted("mask-overlap")]


def _hidden(site: Site) -> list[Planted]:
    rows = [line.split(",") for line in site.lines("traffic/gt/gt.txt")]
    for number, row in enumerate(rows):
        row[8] = "0.2" if number == 3 else "1"
    site.write_lines("traffic/gt/gt.txt", (",".join(row) for row in rows))
    return [Planted("track-occluded")]


def _scaled(site: Site) -> list[Planted]:
    """Labels drawn at twice the size of the video."""
    rows = [line.split(",") for line in site.lines("traffic/gt/gt.txt")]
    doubled = ([*row[:2], *(str(float(v) * 2) for v in row[2:6]), *row[6:]] for row in rows)
    site.write_lines("traffic/gt/gt.txt", (",".join(row) for row in doubled))
    settings = dict(line.split("=") for line in site.lines(_SEQUENCE) if "=" in line)
    settings |= {side: str(2 * int(settings[side])) for side in ("imWidth", "imHeight")}
    site.write_lines(_SEQUENCE, ["[Sequence]", *(f"{k}={v}" for k, v in settings.items())])
    return [Planted("label-scaled")]


def _uneven_times(site: Site) -> list[Planted]:
    """A video whose camera dropped frames: every fifth interval is twice as long."""
    with av.open(site.root / _CLIP) as container:
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    ticks, now = [], 0
    for number in range(len(frames)):
        ticks.append(now)
        now += 2 if number % 5 == 4 else 1
    write_h264(site.root / _CLIP, frames, frames[0].shape[:2], 25.0, ticks)
    site.write_lines(_SEQUENCE, [line for line in site.lines(_SEQUENCE) if not line.startswith("frameRate")])
    return [Planted("sequence-time-irregular")]


def _split_without_labels(site: Site) -> list[Planted]:
    """An export with a folder for each split, of which one has lost its label file."""
    for split in ("train", "val"):
        document = site.document(f"annotations/instances_{split}.json")
        (site.root / split).mkdir()
        for image in document["images"]:
            name = Path(image["file_name"]).name
            (site.root / image["file_name"]).rename(site.root / split / name)
            image["file_name"] = name
        if split == "train":
            site.write_document(f"{split}/_annotations.coco.json", document)
        site.remove(f"annotations/instances_{split}.json")
    return [Planted("split-without-labels", "val/_annotations.coco.json")]


def _federated(site: Site) -> list[Planted]:
    """An image of which LVIS would say that not all of a category is labelled."""
    name = "annotations/instances_train.json"
    document = site.document(name)
    document["images"][2]["not_exhaustive_category_ids"] = [document["categories"][0]["id"]]
    places = site.write_document(name, document)
    return [Planted("label-federated", name, places["images", 2])]


FORMAT_FAULTS: dict[str, Fault] = {
    "label-oriented-box": Fault("yolo", _oriented, ("label-out-of-bounds",)),
    "class-coco-ids": Fault("yolo", _coco_ids, ("label-unknown-class", "class-unused")),
    "split-changed": Fault("yolo", _changed_split),
    "label-federated": Fault("coco", _federated),
    "label-bad-keypoints": Fault("coco", _bad_keypoints),
    "split-without-labels": Fault("coco", _split_without_labels, ("image-unlisted", "image-missing")),
    "label-unsupported-shape": Fault("labelme", _drawn_point),
    "mask-overlap": Fault("instances", _overlapping, ("label-duplicate",)),
    "track-occluded": Fault("video", _hidden),
    "label-scaled": Fault("clip", _scaled),
    "sequence-time-irregular": Fault("clip", _uneven_times),
}
