"""Writing Pascal VOC: annotations, images, split lists, `labelmap.txt`, and pictures of the instances' masks."""

import io
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import write_bytes_atomic, write_text_atomic
from sightline.core.findings import Finding
from sightline.core.process import Progress
from sightline.data.formats.shared.image_tables import has_masks
from sightline.data.formats.shared.shapes import foreground, object_rle, paint
from sightline.data.formats.shared.writing import (
    check_listed_names,
    check_writable,
    common_losses,
    counted_losses,
    flat_targets,
    images_with_objects,
    number_text,
    place_images,
)
from sightline.data.formats.shared.xml import element_text
from sightline.data.formats.voc.objects import BACKGROUND, LABELMAP_NAME, VOID, one_more, voc_colours
from sightline.media import read_header
from sightline.ops import rle

__all__ = ["write"]

Ids: TypeAlias = npt.NDArray[np.uint8]
_MOST = VOID - 1  # objects of one image, and classes, that a palette picture can tell apart
_LOSSES = {
    "loss-crowd": "{} crowd regions are written as difficult objects",
    "loss-attributes": "of {} objects occlusion or truncation is a share and is written as 0 or 1, whichever is nearer",
    "loss-masks": f"the masks of {{}} objects are left out, their boxes are kept: others cover them, or {_MOST} "
    "objects of the image come before",
    "loss-polygons": "the polygons of {} objects are written as pixels",
    "loss-overlap": "{} pixels of overlapping objects go to the smaller one",
    "loss-to-ignored": "{} boxes of at most one pixel in width or height read back as boxes without area",
}


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set of boxes or instances as VOC below `folder`; returns what VOC cannot hold, counted.

    Images go to `JPEGImages/` under their own names (under their whole paths, `_` for `/`, where names repeat); with
    `copy_images=False` they must lie there. Coordinates are written to all their decimals and read back exactly;
    ignored and crowd objects become `difficult`. Masks become pictures with the VOC palette, the larger object below
    the smaller one. `labelmap.txt` keeps the order of the classes, those without an object too.
    """
    check_writable(dataset, "VOC")
    if has_masks(dataset.objects) and dataset.classes.height > _MOST:
        raise DataError(
            f"VOC segmentations must have at most {_MOST} classes, got {dataset.classes.height}",
            do="Write COCO, or the boxes alone: task detect",
        )
    paths = dataset.images["path"].to_list()
    targets = flat_targets(paths, ["JPEGImages"] * len(paths))
    check_listed_names(dataset, [PurePosixPath(target).stem for target in targets.values()])
    place_images(dataset, folder, targets, copy=copy_images, progress=progress)
    lost: Counter[str] = Counter()
    for image, rows in images_with_objects(dataset):
        _write_image(image, rows, dataset.class_names, folder / targets[image["path"]], lost)
    _write_lists(dataset, folder, targets)
    return counted_losses(lost, _LOSSES) + common_losses(dataset, keeps=("occlusion", "truncation"))


def _write_lists(dataset: Dataset, folder: Path, targets: dict[str, str]) -> None:
    for split in dataset.splits:
        stems = [PurePosixPath(targets[p]).stem for p in dataset.images.filter(pl.col("split") == split)["path"]]
        write_text_atomic(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{s}\n" for s in stems))
    colours = voc_colours()
    rows = ["# label:color_rgb:parts:actions"]
    for index, name in enumerate((BACKGROUND, *dataset.class_names)):
        red, green, blue = colours[index % len(colours)]
        rows.append(f"{name}:{red},{green},{blue}::")
    write_text_atomic(folder / LABELMAP_NAME, "".join(f"{row}\n" for row in rows))


def _write_image(
    image: dict[str, Any], rows: list[dict[str, Any]], names: tuple[str, ...], picture: Path, lost: Counter[str]
) -> None:
    folder, stem = picture.parents[1], picture.stem
    size_hw = (image["height"], image["width"])
    masks = {number: object_rle(row, size_hw) for number, row in enumerate(rows, start=1)}
    painted = {number: mask for number, mask in masks.items() if mask is not None and number <= _MOST}
    if painted:
        numbers = _paint(painted, rows, size_hw, lost)
        seen = [number for number in np.unique(numbers).tolist() if number]
        lost["loss-masks"] += sum(mask is not None for mask in masks.values()) - len(seen)
        lost["loss-polygons"] += sum(rows[number - 1]["rle"] is None for number in seen)
        classes = np.array([0, *(row["class_id"] + 1 for row in rows[:_MOST])], dtype=np.uint8)[numbers]
        _save_palette(folder / "SegmentationObject" / f"{stem}.png", numbers)
        _save_palette(folder / "SegmentationClass" / f"{stem}.png", classes)
    depth = 1 if read_header(picture).channels in {"gray", "gray16"} else 3
    lines = [
        "<annotation>",
        "\t" + element_text("folder", "JPEGImages"),
        "\t" + element_text("filename", picture.name),
        "\t<size>",
        *(f"\t\t{element_text(k, v)}" for k, v in (("width", size_hw[1]), ("height", size_hw[0]), ("depth", depth))),
        "\t</size>",
        "\t" + element_text("segmented", int(bool(painted))),
        *(line for row in rows for line in _object_lines(row, names[row["class_id"]], lost)),
        "</annotation>",
    ]
    write_text_atomic(folder / "Annotations" / f"{stem}.xml", "".join(f"{line}\n" for line in lines))


def _object_lines(row: dict[str, Any], name: str, lost: Counter[str]) -> list[str]:
    lost["loss-crowd"] += row["crowd"]
    shares = {"truncated": row["truncation"], "occluded": row["occlusion"]}
    lost["loss-attributes"] += any(share is not None and share not in {0.0, 1.0} for share in shares.values())
    hidden = row["ignore"] or row["crowd"]
    lost["loss-to-ignored"] += not hidden and (row["x2"] <= row["x1"] + 1 or row["y2"] <= row["y1"] + 1)
    flags = [element_text(key, int(share >= 0.5)) for key, share in shares.items() if share is not None]
    corners = zip(
        ("xmin", "ymin", "xmax", "ymax"),
        (one_more(row["x1"]), one_more(row["y1"]), number_text(row["x2"]), number_text(row["y2"])),
        strict=True,
    )
    return [
        "\t<object>",
        "\t\t" + element_text("name", name),
        *("\t\t" + flag for flag in flags),
        "\t\t" + element_text("difficult", int(hidden)),
        "\t\t<bndbox>",
        *(f"\t\t\t{element_text(key, value)}" for key, value in corners),
        "\t\t</bndbox>",
        "\t</object>",
    ]


def _paint(masks: dict[int, bytes], rows: list[dict[str, Any]], size_hw: tuple[int, int], lost: Counter[str]) -> Ids:
    """The picture of object numbers: crowds first, then the larger before the smaller."""
    order = sorted(masks, key=lambda n: (not rows[n - 1]["crowd"], -rle.area(masks[n]), n))
    picture, covered = paint(((number, foreground(masks[number], size_hw)) for number in order), size_hw)
    lost["loss-overlap"] += sum(covered)
    return picture


def _save_palette(file: Path, values: Ids) -> None:
    image = Image.fromarray(values)
    image.putpalette([channel for colour in voc_colours() for channel in colour])
    # Not by Pillow itself, which leaves a cut file without a word where the disk takes no more.
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    write_bytes_atomic(file, encoded.getvalue())
