"""Writing LabelMe: one JSON file beside each image, and `labels.txt`."""

import base64
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.files import write_json_atomic, write_text_atomic
from sightline.core.findings import Finding
from sightline.core.process import Progress
from sightline.data.formats.labelme.read import BACKGROUND_LABEL, IGNORE_LABEL, LABELS_NAME
from sightline.data.formats.shared.shapes import crop_of_rle
from sightline.data.formats.shared.writing import (
    check_writable,
    common_losses,
    counted_losses,
    encoded_png,
    flat_targets,
    images_with_objects,
    mask_box_losses,
    place_images,
)

__all__ = ["write"]

_VERSION = "5.5.0"  # the version of LabelMe whose shapes (masks among them) these are
_LOSSES = {
    "loss-attributes": "of {} objects occlusion or truncation is a share and is written as 0 or 1, whichever is nearer",
    "loss-boxes": "{} boxes that end before they begin are written the right way round",
    "loss-to-ignored": f"{{}} objects of a class called {IGNORE_LABEL} or {BACKGROUND_LABEL} become ignored",
    "loss-masks": "the masks of {} objects have no pixel and are left out, the boxes are kept",
}


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set of boxes or instances as LabelMe below `folder`; returns what LabelMe cannot hold, counted.

    A split is a folder. Images keep their own names (their whole paths, `_` for `/`, where names of a folder repeat);
    with `copy_images=False` they must lie there. Polygons, pixel masks and plain boxes read back exactly; an object
    with a mask gets the mask's box and area. Ignored and crowd objects carry flags of that name, full or no occlusion
    and truncation as well.
    """
    check_writable(dataset, "LabelMe")
    paths, splits = dataset.images["path"].to_list(), dataset.images["split"].to_list()
    targets = flat_targets(paths, [split or "" for split in splits])
    place_images(dataset, folder, targets, copy=copy_images, progress=progress)
    lost: Counter[str] = Counter()
    for image, rows in images_with_objects(dataset):
        target = PurePosixPath(targets[image["path"]])
        size_hw = (image["height"], image["width"])
        content = {
            "version": _VERSION,
            "flags": {},
            "shapes": _shapes(rows, dataset.class_names, size_hw, lost),
            "imagePath": target.name,
            "imageData": None,
            "imageHeight": size_hw[0],
            "imageWidth": size_hw[1],
        }
        write_json_atomic(folder / target.with_suffix(".json"), content)
    names = [IGNORE_LABEL, BACKGROUND_LABEL]
    own = [i for i, name in enumerate(dataset.class_names) if name in names]
    lost["loss-to-ignored"] = dataset.usable_objects.filter(pl.col("class_id").is_in(own)).height
    names += [name for name in dataset.class_names if name not in names]
    write_text_atomic(folder / LABELS_NAME, "".join(f"{name}\n" for name in names))
    return (
        counted_losses(lost, _LOSSES)
        + mask_box_losses(dataset)
        + common_losses(dataset, keeps=("occlusion", "truncation"))
    )


def _shapes(
    rows: list[dict[str, Any]], names: tuple[str, ...], size_hw: tuple[int, int], lost: Counter[str]
) -> list[dict[str, Any]]:
    """The shapes of an image; the rings of one object share a group id."""
    shapes: list[dict[str, Any]] = []
    groups = 0
    for row in rows:
        drawn = _drawn(row, size_hw, lost)
        group = groups if len(drawn) > 1 else None
        groups += group is not None
        common = {"label": names[row["class_id"]], "group_id": group, "description": "", "flags": _flags(row, lost)}
        shapes += [{**common, "mask": None, **shape} for shape in drawn]
    return shapes


def _drawn(row: dict[str, Any], size_hw: tuple[int, int], lost: Counter[str]) -> list[dict[str, Any]]:
    if row["polygon"] is not None:
        return [{"shape_type": "polygon", "points": np.reshape(r, (-1, 2)).tolist()} for r in row["polygon"]]
    crop = None if row["rle"] is None else crop_of_rle(row["rle"], size_hw)
    lost["loss-masks"] += crop is None and row["rle"] is not None
    if crop is not None:
        mask, left, top = crop
        height, width = mask.shape
        # The corners are the first and the last pixel.
        corners = [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]]
        png = encoded_png(mask.astype(np.uint8))
        return [{"shape_type": "mask", "points": corners, "mask": base64.b64encode(png).decode("ascii")}]
    lost["loss-boxes"] += row["x2"] < row["x1"] or row["y2"] < row["y1"]
    return [{"shape_type": "rectangle", "points": [[row["x1"], row["y1"]], [row["x2"], row["y2"]]]}]


def _flags(row: dict[str, Any], lost: Counter[str]) -> dict[str, bool]:
    shares = {"occluded": row["occlusion"], "truncated": row["truncation"]}
    lost["loss-attributes"] += any(share is not None and share not in {0.0, 1.0} for share in shares.values())
    flags = {name: True for name in ("ignore", "crowd") if row[name]}
    return flags | {name: share >= 0.5 for name, share in shares.items() if share is not None}
