"""Faults of semantic masks."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

from sightline.synth.faults.site import Fault, Picture, Plant, Planted, Site

__all__ = ["MASK_FAULTS"]


def _changed(code: str, change: Callable[[Picture], Picture]) -> Plant:
    def plant(site: Site) -> list[Planted]:
        mask = site.mask(_largest(site))
        site.write_picture(mask, change(site.picture(mask)))
        return [Planted(code, mask)]

    return plant


def _largest(site: Site) -> str:
    """The image with the most foreground: what is planted in it is there to be seen."""
    return max(site.pictures(), key=lambda p: int((site.picture(site.mask(p)) > 0).sum()))


def _interpolated(mask: Picture) -> Picture:
    small = cv2.resize(mask, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _with_value(mask: Picture) -> Picture:
    changed = mask.copy()
    changed[4:20, 4:20] = 77
    return changed


def _unreadable(site: Site) -> list[Planted]:
    mask = site.mask(site.pictures()[1])
    site.write(mask, site.read(mask)[:60])
    return [Planted("mask-unreadable", mask)]


def _misaligned(site: Site) -> list[Planted]:
    """The mask of another image: sizes and values are right, the place is not."""
    first = _largest(site)
    other = max((p for p in site.pictures() if p != first), key=lambda p: int((site.picture(site.mask(p)) > 0).sum()))
    one, two = site.read(site.mask(first)), site.read(site.mask(other))
    site.write(site.mask(first), two)
    site.write(site.mask(other), one)
    return [Planted("mask-misaligned", site.mask(first)), Planted("mask-misaligned", site.mask(other))]


def _ignored_value(site: Site) -> list[Planted]:
    """Three ids and 255, and no class list that says what 255 is."""
    for picture in site.pictures():
        mask = site.picture(site.mask(picture)) // 255
        mask[4:40, 4:40] = 2
        mask[60:90, 60:90] = 255
        site.write_picture(site.mask(picture), mask)
    content = {"format": "masks", "train": {"images": "images/train", "masks": "masks/train"}}
    site.write("sightline.yaml", yaml.safe_dump(content))
    return [Planted("mask-ignored-value")]


def _several_sets(site: Site) -> list[Planted]:
    """Two observers' masks beside each image, as some medical data sets come."""
    for picture in site.pictures():
        target = f"images/train/{Path(picture).stem}"
        mask = site.read(site.mask(picture))
        site.write(f"{target}_first.png", mask)
        site.write(f"{target}_second.png", mask)
        site.remove(site.mask(picture))
    content = {"format": "masks", "path": "images/train"}
    site.write("sightline.yaml", yaml.safe_dump(content))
    return [Planted("mask-several-sets")]


def _sorted_otherwise(site: Site) -> list[Planted]:
    """`road.jpg` sorts before `road_b.jpg`, `road_b_mask.png` before `road_mask.png`."""
    for number, picture in enumerate(site.pictures()):
        name = f"road{number // 2:02d}" + ("_b" if number % 2 else "")
        image, mask = site.read(picture), site.read(site.mask(picture))
        site.remove(picture)
        site.remove(site.mask(picture))
        site.write(f"images/train/{name}.jpg", image)
        site.write(f"masks/train/{name}_mask.png", mask)
    content = {"path": ".", "images": "images/train", "masks": "masks/train", "mask_suffix": "_mask"}
    site.write("sightline.yaml", yaml.safe_dump(content | {"classes": {0: "background", 255: "crack"}}))
    return [Planted("pair-order-differs")]


MASK_FAULTS: dict[str, Fault] = {
    "mask-size-mismatch": Fault("cracks", _changed("mask-size-mismatch", lambda m: m[:-8, :-8])),
    "mask-unreadable": Fault("cracks", _unreadable),
    "mask-unexpected-value": Fault("cracks", _changed("mask-unexpected-value", _with_value)),
    "mask-empty": Fault("cracks", _changed("mask-empty", np.zeros_like)),
    "mask-full": Fault("cracks", _changed("mask-full", lambda m: np.full_like(m, 255))),
    "mask-inverted": Fault("cracks", _changed("mask-inverted", lambda m: np.asarray(255 - m, np.uint8))),
    "mask-interpolated": Fault("cracks", _changed("mask-interpolated", _interpolated)),
    "mask-misaligned": Fault("cracks", _misaligned),
    "mask-ignored-value": Fault("cracks", _ignored_value, ("class-names-missing", "image-unlisted")),
    "mask-several-sets": Fault("cracks", _several_sets),
    "pair-order-differs": Fault("cracks", _sorted_otherwise, ("image-unlisted",)),
}
