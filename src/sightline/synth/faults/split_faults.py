"""Faults between splits: the same picture, scene or classes on the wrong sides."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

from sightline.synth.faults.site import Fault, Plant, Planted, Site

__all__ = ["SPLIT_FAULTS"]

_FRAMES = 10


def _mirrored_copy(code: str, relabel: Callable[[list[float]], list[float]]) -> Plant:
    """A training image, mirrored and compressed anew, in the validation split."""

    def plant(site: Site) -> list[Planted]:
        path = max(site.pictures(), key=lambda p: len(site.rows(p)))
        copy = "images/val/z_mirrored.jpg"
        site.write_picture(copy, np.ascontiguousarray(site.picture(path)[:, ::-1]), 70)
        rows = [[row[0], 1 - row[1], *row[2:]] for row in site.rows(path)]
        site.write_rows(copy, [relabel(row) for row in rows])
        site.add_line("val.txt", f"./{copy}")
        return [Planted(code, copy)]

    return plant


def _same_bytes(site: Site) -> list[Planted]:
    path, copy = site.pick(), "images/val/z_copy.jpg"
    site.write(copy, site.read(path))
    site.write(site.label(copy), site.read(site.label(path)))
    site.add_line("val.txt", f"./{copy}")
    return [Planted("split-overlap-bytes", copy)]


def _same_path(site: Site) -> list[Planted]:
    path = site.pick()
    site.add_line("val.txt", f"./{path}")
    return [Planted("split-overlap-path", path)]


def _identical(site: Site) -> list[Planted]:
    """Validation "on" the training images: a copy of the folder under another name."""
    for picture in site.pictures("val"):
        site.remove(picture)
        site.remove(site.label(picture))
    copies = []
    for picture in site.pictures("train"):
        copy = f"images/val/{Path(picture).name}"
        site.write(copy, site.read(picture))
        site.write(site.label(copy), site.read(site.label(picture)))
        copies.append(f"./{copy}")
    site.write_lines("val.txt", copies)
    return [Planted("split-identical")]


def _unlisted(site: Site) -> list[Planted]:
    name = "ImageSets/Main/train.txt"
    site.write_lines(name, site.lines(name)[:-1])
    return [Planted("split-unlisted")]


def _unknown_image(site: Site) -> list[Planted]:
    name = "ImageSets/Main/train.txt"
    return [Planted("split-unknown-image", name, site.add_line(name, "ghost"))]


def _reclassed(code: str, split: str, change: Callable[[list[float], np.random.Generator], list[float]]) -> Plant:
    def plant(site: Site) -> list[Planted]:
        for picture in site.pictures(split):
            site.write_rows(picture, [change(row, site.rng) for row in site.rows(picture)])
        return [Planted(code)]

    return plant


def _grown(row: list[float], _: np.random.Generator) -> list[float]:
    """A box of three times the sides around a middle that keeps it inside the image."""
    w, h = min(row[3] * 3, 0.9), min(row[4] * 3, 0.9)
    return [row[0], float(np.clip(row[1], w / 2, 1 - w / 2)), float(np.clip(row[2], h / 2, 1 - h / 2)), w, h]


def _frames_of_one_scene(site: Site) -> list[Planted]:
    """A camera drifting over one picture: consecutive frames, and nothing that says so."""
    view = site.picture(site.pick())
    large = np.asarray(cv2.resize(view, None, fx=1.3, fy=1.3, interpolation=cv2.INTER_CUBIC), np.uint8)
    height, width = view.shape[:2]
    for i in range(_FRAMES):
        path = f"images/train/street_{i + 1:04d}.jpg"
        noise = site.rng.normal(0, 2, view.shape)
        crop = large[4 * i : 4 * i + height, 6 * i : 6 * i + width]
        site.write_picture(path, np.clip(crop + noise, 0, 255).astype(np.uint8))
        site.write_rows(path, [[0, 0.5 - 0.01 * i, 0.5, 0.1, 0.1]])
        site.add_line("train.txt", f"./{path}")
    return [Planted("group-undeclared")]


def _group_divided(site: Site) -> list[Planted]:
    """Images of one named scene in both splits, the scene being declared."""
    for split in ("train", "val"):
        names = []
        for number, picture in enumerate(site.pictures(split)):
            scene = "shared" if number == 0 else f"{split}{number}"
            target = f"images/{split}/scene-{scene}_{split}{number:03d}.jpg"
            site.write(target, site.read(picture))
            site.write(site.label(target), site.read(site.label(picture)))
            site.remove(picture)
            site.remove(site.label(picture))
            names.append(f"./{target}")
        site.write_lines(f"{split}.txt", names)
    site.write("sightline.yaml", yaml.safe_dump({"format": "yolo", "group": r"(scene-[a-z0-9]+)_"}))
    return [Planted("split-overlap-group")]


SPLIT_FAULTS: dict[str, Fault] = {
    "split-overlap-path": Fault("yolo", _same_path),
    "split-overlap-bytes": Fault("yolo", _same_bytes),
    "split-overlap-near": Fault("yolo", _mirrored_copy("split-overlap-near", lambda row: row)),
    "split-label-conflict": Fault(
        "yolo",
        _mirrored_copy("split-label-conflict", lambda row: [(row[0] + 1) % 4, *row[1:]]),
        ("split-overlap-near",),
    ),
    "split-overlap-group": Fault("yolo", _group_divided),
    "split-identical": Fault("yolo", _identical, ("split-overlap-bytes", "image-stem-in-two-folders")),
    "split-unlisted": Fault("voc", _unlisted),
    "split-unknown-image": Fault("voc", _unknown_image),
    "split-class-absent": Fault(
        "yolo",
        _reclassed("split-class-absent", "train", lambda row, _: [0 if row[0] == 3 else row[0], *row[1:]]),
        ("split-class-shift",),
    ),
    "split-class-shift": Fault(
        "yolo",
        _reclassed("split-class-shift", "val", lambda row, rng: [2 if rng.random() < 0.7 else row[0], *row[1:]]),
    ),
    "split-size-shift": Fault(
        "yolo", _reclassed("split-size-shift", "val", _grown), ("label-near-duplicate", "label-duplicate")
    ),
    "group-undeclared": Fault("yolo", _frames_of_one_scene),
}
