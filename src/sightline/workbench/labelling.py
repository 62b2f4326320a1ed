"""Labels made from labels: boxes turned into masks, each with how sure it is, and nothing lost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.media import as_rgb8, read_image
from sightline.ops.grabcut import LEAST_SIDE, grabcut_mask
from sightline.ops.instance_masks import MaskCrop, crop_counts

__all__ = ["MaskMaker", "MaskedLabels", "grabcut_masks", "masks_from_boxes"]

SOURCE = "mask of the source"
MaskMaker: TypeAlias = Callable[
    [npt.NDArray[np.uint8], npt.NDArray[np.float64]], Sequence[tuple[MaskCrop | None, float]]
]
"""Of an RGB image (H, W, 3) and boxes (N, 4): the mask of each, None where none is found, and its confidence, 0..1."""


@dataclass(frozen=True)
class MaskedLabels(Result):
    """The data set with masks in place of boxes, and a row for each object.

    `objects`: object_id, image, class, the box, confidence (null without a mask of ours) and `outcome`: "mask", "mask
    of the source", or why the box was kept.
    """

    dataset: Dataset
    objects: pl.DataFrame
    conventions: dict[str, Any]

    def to_frame(self) -> pl.DataFrame:
        """The objects, those that got no mask first, then the least sure."""
        kept = pl.col("outcome").is_in(["mask", SOURCE])
        return self.objects.sort(kept, "confidence", "object_id", nulls_last=True)


def grabcut_masks(
    image: npt.NDArray[np.uint8], boxes_xyxy: npt.NDArray[np.float64]
) -> list[tuple[MaskCrop | None, float]]:
    """A `MaskMaker` without weights, see `grabcut_mask`."""
    return [grabcut_mask(image, box) for box in boxes_xyxy]


def masks_from_boxes(dataset: Dataset, maker: MaskMaker, name: str, progress: Progress | None = None) -> MaskedLabels:
    """Each object's box turned into a mask by `maker`; objects that have a mask keep it, crowds and ignored ones too.

    A box without a sound mask stays a box. ConfigError for label maps and sequences, and where there is no box.
    """
    if dataset.task not in ("detect", "instance"):
        raise ConfigError(
            f"boxes to masks must be of data of boxes, got task '{dataset.task}'", where=str(dataset.root)
        )
    if dataset.objects.is_empty():
        raise ConfigError("there must be boxes to make masks of, got none", where=str(dataset.root))
    images = {row["image_id"]: row for row in dataset.images.iter_rows(named=True)}
    codes: dict[int, bytes] = {}
    areas: dict[int, float] = {}
    rows: list[dict[str, Any]] = []
    for number, ((image_id,), part) in enumerate(dataset.objects.group_by("image_id", maintain_order=True), start=1):
        image, size_hw = images[image_id], (images[image_id]["height"], images[image_id]["width"])
        asked = [_why_not(row) for row in part.iter_rows(named=True)]
        boxes = part.select("x1", "y1", "x2", "y2").to_numpy()
        wanted = [i for i, reason in enumerate(asked) if reason is None]
        given = maker(as_rgb8(read_image(dataset.image_path(image["path"]))), boxes[wanted]) if wanted else []
        found = dict(zip(wanted, given, strict=True))
        for i, (object_id, class_id) in enumerate(part.select("object_id", "class_id").iter_rows()):
            crop, sure = found.get(i, (None, None))
            if crop is not None:
                codes[object_id], areas[object_id] = crop_counts(crop, size_hw), float(crop.pixels.sum())
            outcome = asked[i] or ("no mask was found" if crop is None else "mask")
            rows.append(
                {
                    "object_id": object_id,
                    "image": image["path"],
                    "class": dataset.class_names[class_id],
                    **dict(zip(("x1", "y1", "x2", "y2"), boxes[i].tolist(), strict=True)),
                    "confidence": None if crop is None else sure,
                    "outcome": outcome,
                }
            )
        if progress is not None:
            progress(number, dataset.objects["image_id"].n_unique(), "making masks")
    objects = pl.DataFrame(rows, schema_overrides={"confidence": pl.Float64})
    return MaskedLabels(_with_masks(dataset, codes, areas), objects, {"masks_by": name, "data": dataset.name})


def _why_not(row: dict[str, Any]) -> str | None:
    """Why an object gets no mask, None where it does."""
    if row["rle"] is not None or row["polygon"] is not None:
        return SOURCE
    if row["crowd"] or row["ignore"]:
        return "a crowd or ignored: kept as it is"
    if min(row["x2"] - row["x1"], row["y2"] - row["y1"]) < LEAST_SIDE:
        return f"below {LEAST_SIDE} pixels"
    return None


def _with_masks(dataset: Dataset, codes: dict[int, bytes], areas: dict[int, float]) -> Dataset:
    made = pl.DataFrame(
        {"object_id": list(codes), "new_rle": list(codes.values()), "new_area": list(areas.values())},
        schema={"object_id": pl.Int64, "new_rle": pl.Binary, "new_area": pl.Float64},
    )
    objects = (
        dataset.objects.join(made, on="object_id", how="left", maintain_order="left")
        .with_columns(rle=pl.coalesce("rle", "new_rle"), area=pl.coalesce("new_area", "area"))
        .drop("new_rle", "new_area")
    )
    return replace(dataset, objects=objects, task="instance")
