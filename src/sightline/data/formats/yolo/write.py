"""Writing YOLO: `images/`, `labels/`, one list of images per split, and a data YAML."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from sightline.core.dataset import Dataset
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.core.keypoints import mirrored
from sightline.core.process import Progress
from sightline.data.formats.shared.image_tables import has_masks
from sightline.data.formats.shared.shapes import object_rle
from sightline.data.formats.shared.writing import (
    check_has_objects,
    check_listed_names,
    check_places,
    check_splits,
    common_losses,
    copied_name,
    counted_losses,
    place_images,
)
from sightline.data.formats.yolo.layout import UNLISTED
from sightline.data.formats.yolo.rows import FAR
from sightline.ops.outlines import code_outlines, largest_ring

__all__ = ["write"]

Floats: TypeAlias = npt.NDArray[np.float64]
_BOX_SLACK_PX = 1e-6
_LOSSES = {
    "loss-crowd": "{} crowd regions are left out",
    "loss-ignore": "{} ignored objects are left out",
    "loss-parts": "of {} masks of several parts or with holes the largest part is written, without holes",
    "loss-boxes": "the boxes of {} objects become those of their outlines",
    "loss-masks": "the masks of {} objects are left out, their boxes are kept",
    "loss-to-ignored": "{} objects read back as ignored: far outside their image, or without a side in eight decimals",
    "loss-outside": "{} objects reach outside their image; they are written as they are, with coordinates outside 0..1",
    "loss-splits": "{} images of no split are listed as 'train', as YOLO wants one",
}


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set of boxes or instances as YOLO below `folder`; returns what YOLO cannot hold, counted.

    Coordinates carry eight decimals, so boxes read back to within 1e-8 of the image's size. Instances with a mask
    become polygon rows, others boxes, with keypoints where there are some and no mask. YOLO finds labels by the
    image's path, so with `copy_images=False` the images must lie in `folder/images/` already.
    """
    check_has_objects(dataset, "YOLO")
    check_splits(dataset, "YOLO")
    targets = {path: _target(path) for path in dataset.images["path"]}
    check_places(targets)
    check_listed_names(dataset, targets.values())
    place_images(dataset, folder, targets, copy=copy_images, progress=progress)
    lost: Counter[str] = Counter()
    rows, keypoints = _Rows(dataset, lost), _keypoint_count(dataset)
    lines: dict[int, list[str]] = {}
    for image_id, line in rows.lines(keypoints):
        lines.setdefault(image_id, []).append(line)
    for image_id, path in dataset.images.select("image_id", "path").iter_rows():
        label = folder / "labels" / Path(targets[path]).relative_to("images").with_suffix(".txt")
        write_text_atomic(label, "".join(lines.get(image_id, ())))
    _write_yaml(dataset, folder, targets, keypoints)
    if dataset.images.height and not dataset.splits:
        lost["loss-splits"] = dataset.images.height
    return [*counted_losses(lost, _LOSSES), *common_losses(dataset, keeps=("keypoints",) if keypoints else ())]


def _target(path: str) -> str:
    # Labels are found by the last folder called images, which must be ours.
    return "/".join(["images", *(part for part in copied_name(path).split("/") if part.lower() != "images")])


def _write_yaml(dataset: Dataset, folder: Path, targets: dict[str, str], keypoints: int) -> None:
    values: dict[str, Any] = {}
    splits = dataset.splits
    for split in splits:
        names = [targets[p] for p in dataset.images.filter(pl.col("split") == split)["path"]]
        write_text_atomic(folder / f"{split}.txt", "".join(f"./{n}\n" for n in names))
        values[split] = f"{split}.txt"
    unlisted = [targets[p] for p in dataset.images.filter(pl.col("split").is_null())["path"]]
    if not splits:
        values["train"] = "images"
    elif unlisted:
        write_text_atomic(folder / f"{UNLISTED}.txt", "".join(f"./{n}\n" for n in unlisted))
        values[UNLISTED] = f"{UNLISTED}.txt"
    if keypoints:
        values["kpt_shape"] = [keypoints, 3]
        named = dict(dataset.classes.select("class_id", "keypoint_names").iter_rows())
        if any(names is not None for names in named.values()):
            values["kpt_names"] = {i: names for i, names in named.items() if names is not None}
        if order := _mirror(dataset, keypoints):
            values["flip_idx"] = order
    if dataset.class_names:
        values["names"] = dict(enumerate(dataset.class_names))
    write_text_atomic(folder / "data.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _mirror(dataset: Dataset, keypoints: int) -> list[int]:
    """The keypoints' order in a mirror, as the first class that says it has it: YOLO has one for all."""
    said = [list(order) for order in dataset.classes["mirror"].drop_nulls()]
    said += [list(mirrored(tuple(names))) for names in dataset.classes["keypoint_names"].drop_nulls()]
    return next((order for order in said if len(order) == keypoints), [])


def _keypoint_count(dataset: Dataset) -> int:
    """How many keypoints every object is written with: 0 where there are none, or masks or their number rule it out."""
    objects = dataset.objects
    counts = objects["keypoints"].drop_nulls().list.len().unique().to_list()
    return counts[0] // 3 if len(counts) == 1 and not has_masks(objects) else 0


class _Rows:
    """The objects of a data set as lines of label files."""

    def __init__(self, dataset: Dataset, lost: Counter[str]) -> None:
        objects = dataset.objects
        lost["loss-crowd"] = objects.filter("crowd").height
        lost["loss-ignore"] = objects.filter(pl.col("ignore") & ~pl.col("crowd")).height
        sizes = dataset.images.select("image_id", "width", "height")
        self.objects = objects.filter(~pl.col("crowd") & ~pl.col("ignore")).join(
            sizes, on="image_id", how="left", maintain_order="left"
        )
        self.lost = lost
        corners = self.objects.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64)
        self.sizes_wh = self.objects.select("width", "height").to_numpy().astype(np.float64)
        middle_and_size = np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
        self.corners, self.boxes = corners, middle_and_size / np.tile(self.sizes_wh, 2)

    def lines(self, keypoints: int) -> list[tuple[int, str]]:
        """Image id and line of each object; a polygon where it has a mask, with `keypoints` points where not 0."""
        columns = self.objects.select("image_id", "class_id", "rle", "polygon", "keypoints").iter_rows()
        made = []
        for row, (image_id, class_id, counts, polygon, points) in enumerate(columns):
            masked = counts is not None or polygon is not None
            ring = self._ring(row, counts, polygon) if masked else None
            self.lost["loss-masks"] += masked and ring is None
            values: Sequence[float] = self.boxes[row].tolist()
            if ring is not None:
                values = (ring / self.sizes_wh[row]).ravel().tolist()
                extent = np.concatenate([ring.min(axis=0), ring.max(axis=0)])
                self.lost["loss-boxes"] += bool(np.abs(extent - self.corners[row]).max() > _BOX_SLACK_PX)
            self.lost["loss-outside"] += _reaches_out(np.asarray(values))
            self.lost["loss-to-ignored"] += _is_unusable(np.round(values, 8))
            text = " ".join(f"{v:.8f}" for v in values)
            if keypoints:
                text = f"{text} {self._points(row, points or [0.0] * (3 * keypoints))}"
            made.append((image_id, f"{class_id} {text}\n"))
        return made

    def _points(self, row: int, points: Sequence[float]) -> str:
        width, height = self.sizes_wh[row].tolist()
        triples = zip(points[::3], points[1::3], points[2::3], strict=True)
        return " ".join(f"{x / width:.8f} {y / height:.8f} {int(v)}" for x, y, v in triples)

    def _ring(self, row: int, counts: bytes | None, polygon: list[list[float]] | None) -> Floats | None:
        """The largest outline (P, 2) of an object's mask in pixels; None where it has no area."""
        width, height = (int(v) for v in self.sizes_wh[row])
        holes = 0
        if polygon is not None:
            rings = [np.reshape(np.asarray(r, dtype=np.float64), (-1, 2)) for r in polygon if len(r) >= 6]
        elif readable := object_rle({"rle": counts, "polygon": None}, (height, width)):
            rings, holes = code_outlines(readable, (height, width))
        else:
            rings = []
        self.lost["loss-parts"] += len(rings) > 1 or holes > 0
        return largest_ring(rings)


def _reaches_out(values: Floats) -> bool:
    """Whether a box of centre and size, or an outline, reaches outside 0..1 by more than eight decimals hold."""
    ends = np.concatenate([values[:2] - values[2:] / 2, values[:2] + values[2:] / 2]) if len(values) == 4 else values
    return bool((np.abs(ends - 0.5) > 0.5 + 1e-8).any())


def _is_unusable(values: Floats) -> bool:
    """Whether a reader ignores a row's coordinates: far from 0..1 or, of a box or an outline, without an extent."""
    sides = values[2:] if len(values) == 4 else np.ptp(values.reshape(-1, 2), axis=0)
    return bool((np.abs(values) > FAR).any() or (sides <= 0).any())
