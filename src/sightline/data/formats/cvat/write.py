"""Writing CVAT XML 1.1 "for images": `annotations.xml`, images at their own relative paths."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import atomic_path
from sightline.core.findings import Finding
from sightline.core.process import Progress
from sightline.data.formats.shared.shapes import crop_of_rle
from sightline.data.formats.shared.writing import (
    check_class_names,
    check_has_objects,
    common_losses,
    copied_name,
    counted_losses,
    images_with_objects,
    mask_box_losses,
    number_text,
    place_images,
)
from sightline.data.formats.shared.xml import attribute_text, element_text

__all__ = ["write"]

_KEPT = ("occlusion", "truncation", "track_id")
_LOSSES = {
    "loss-masks": "the masks of {} objects have no pixel and are left out, the boxes are kept",
}
_CHECKBOXES = {"crowd": "is_crowd", "ignore": "ignore"}


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set of boxes or instances as CVAT XML below `folder`; returns what CVAT cannot hold, counted.

    Images keep their relative paths, splits are subsets. Polygons, pixel masks and plain boxes read back exactly; an
    object with a mask gets the mask's box and area. What CVAT has no place for is written as attributes that the label
    list declares: occlusion (where it is neither 0 nor 1), truncation, ignore, is_crowd and track_id.
    """
    check_has_objects(dataset, "CVAT")
    check_class_names((*dataset.class_names, *dataset.splits))
    if "default" in {split.lower() for split in dataset.splits}:
        raise DataError("a split must not be called 'default', which is CVAT's word for none", do="Rename it")
    targets = {path: copied_name(path) for path in dataset.images["path"]}
    place_images(dataset, folder, targets, copy=copy_images, progress=progress)
    lost: Counter[str] = Counter()
    with atomic_path(folder / "annotations.xml") as temporary, temporary.open("w", encoding="utf-8") as stream:
        for line in _document(dataset, targets, lost):
            stream.write(f"{line}\n")
    return counted_losses(lost, _LOSSES) + mask_box_losses(dataset) + common_losses(dataset, keeps=_KEPT)


def _document(dataset: Dataset, targets: dict[str, str], lost: Counter[str]) -> Iterator[str]:
    objects = dataset.objects
    flag_used = bool(objects["occlusion"].gt(0).any())
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>"
    yield "  <version>1.1</version>"
    yield from _meta(dataset, flag_used)
    for number, (image, rows) in enumerate(images_with_objects(dataset)):
        size = {"width": image["width"], "height": image["height"]}
        yield f"  <image{attribute_text(id=number, name=targets[image['path']], subset=image['split'], **size)}>"
        for group, row in enumerate(rows, start=1):
            yield from _shapes(row, dataset.class_names[row["class_id"]], group, image, flag_used, lost)
        yield "  </image>"
    yield "</annotations>"


def _meta(dataset: Dataset, flag_used: bool) -> Iterator[str]:
    yield "  <meta>"
    yield "    <task>"
    yield "      " + element_text("name", dataset.name)
    yield "      " + element_text("size", len(dataset))
    yield "      <labels>"
    attributes = _declared(dataset.objects, flag_used)
    for name in dataset.class_names:
        yield "        <label>"
        yield "          " + element_text("name", name)
        yield "          <attributes>"
        for attribute, kind, default in attributes:
            values = (("name", attribute), ("mutable", "False"), ("input_type", kind), ("default_value", default))
            entry = "".join(element_text(k, v) for k, v in (*values, ("values", default)))
            yield f"            <attribute>{entry}</attribute>"
        yield "          </attributes>"
        yield "        </label>"
    yield "      </labels>"
    yield "    </task>"
    yield "  </meta>"


def _declared(objects: pl.DataFrame, flag_used: bool) -> list[tuple[str, str, str]]:
    """Name, input type and default of the attributes in use."""
    used = [(name, "checkbox", "false") for column, name in _CHECKBOXES.items() if objects[column].any()]
    stated = objects["occlusion"].is_not_null()
    shares = objects["occlusion"].drop_nulls().is_in([0.0, 1.0]).not_().any()
    if shares or (stated.any() and not flag_used) or (flag_used and not stated.all()):
        used.append(("occlusion", "text", ""))
    used += [(c, "text", "") for c in ("truncation", "track_id") if objects[c].null_count() < objects.height]
    return used


def _shapes(
    row: dict[str, Any], label: str, group: int, image: dict[str, Any], flag_used: bool, lost: Counter[str]
) -> Iterator[str]:
    """The elements of one object; the rings of an outline share a group id."""
    occluded = int(bool(row["occlusion"]))
    common = {"label": label, "source": "manual", "occluded": occluded}
    inner = _attributes(row, flag_used)
    if row["polygon"] is not None:
        group_id = group if len(row["polygon"]) > 1 else None
        for ring in row["polygon"]:
            pairs = zip(ring[0::2], ring[1::2], strict=True)
            points = ";".join(f"{number_text(x)},{number_text(y)}" for x, y in pairs)
            yield from _element("polygon", {**common, "points": points, "z_order": 0, "group_id": group_id}, inner)
        return
    crop = None if row["rle"] is None else crop_of_rle(row["rle"], (image["height"], image["width"]))
    lost["loss-masks"] += crop is None and row["rle"] is not None
    if crop is not None:
        mask, left, top = crop
        height, width = mask.shape
        place = {"rle": _row_runs(mask), "left": left, "top": top, "width": width, "height": height}
        yield from _element("mask", {**common, **place, "z_order": 0}, inner)
        return
    corners = {
        k: number_text(row[c]) for k, c in zip(("xtl", "ytl", "xbr", "ybr"), ("x1", "y1", "x2", "y2"), strict=True)
    }
    yield from _element("box", {**common, **corners, "z_order": 0}, inner)


def _element(tag: str, attributes: dict[str, Any], inner: list[str]) -> Iterator[str]:
    yield f"    <{tag}{attribute_text(**attributes)}>"
    yield from inner
    yield f"    </{tag}>"


def _attributes(row: dict[str, Any], flag_used: bool) -> list[str]:
    values: dict[str, str] = {name: "true" for column, name in _CHECKBOXES.items() if row[column]}
    occlusion = row["occlusion"]
    if occlusion is None and flag_used:
        values["occlusion"] = ""  # an unset flag would say: seen whole
    elif occlusion is not None and (occlusion not in {0.0, 1.0} or (occlusion == 0 and not flag_used)):
        values["occlusion"] = number_text(occlusion)
    if row["truncation"] is not None:
        values["truncation"] = number_text(row["truncation"])
    if row["track_id"] is not None:
        values["track_id"] = str(row["track_id"])
    return ["      " + element_text("attribute", text, name=name) for name, text in values.items()]


def _row_runs(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    """Run lengths along the rows of a mask, background first."""
    flat = mask.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return ", ".join(map(str, [0, *runs] if flat[0] else runs))
