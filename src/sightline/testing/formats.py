"""What every writer of a format must pass: what is written reads back the same, or the loss is stated and counted.

`check_written` is the quick form that every conversion ends with: the written folder is recognised as what it is, and
images and objects reconcile. `check_format` compares everything, and is what a new format must pass.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import SightlineError
from sightline.core.findings import Finding
from sightline.core.frames import IGNORE_INDEX
from sightline.data import read_class_mask, read_dataset, write_dataset
from sightline.data.formats.shared import object_rle
from sightline.media import read_image
from sightline.ops import rle
from sightline.ops.assignment import assign
from sightline.ops.boxes import iou_matrix

__all__ = ["check_format", "check_written", "mask_iou", "match_images", "match_objects"]

_BOX_SHARE = 1e-7  # of the image's longer side: formats of relative coordinates carry eight decimals
_VALUE_SLACK = 1e-6
_ROUNDED_PX = 1.0  # what is rounded to pixels moves by less
_ALL_OBJECTS = ("loss-instances",)
# The losses that may explain a difference, by what differs.
_EXPLAINED_BY = {
    "split": ("loss-splits",),
    "group": ("loss-groups", "loss-attributes"),
    "frame": ("loss-attributes", "loss-groups"),
    "time_s": ("loss-attributes", "loss-groups"),
    "box": ("loss-boxes", "loss-rounding"),
    "box by a pixel or more": ("loss-boxes",),
    "object's having a mask": ("loss-masks",),
    "mask": ("loss-outline", "loss-parts", "loss-rounding", "loss-boxes"),
    "pixel of a mask": ("loss-overlap",),
    "crowd": ("loss-crowd", "loss-attributes"),
    "ignore": ("loss-ignore", "loss-crowd", "loss-attributes", "loss-to-ignored"),
    "occlusion": ("loss-attributes",),
    "truncation": ("loss-attributes",),
    "track_id": ("loss-attributes",),
    "keypoints": ("loss-keypoints",),
    "keypoint names": ("loss-keypoints", "loss-classes"),
}
Row: TypeAlias = dict[str, Any]
Pair: TypeAlias = tuple[Row, Row]


def check_written(dataset: Dataset, losses: Iterable[Finding], folder: Path, name: str) -> Dataset:
    """What was written to `folder` in format `name`, read back without naming the format.

    SightlineError unless it is recognised as that format and its images and the objects that count are those of
    `dataset` less the stated losses. Crowd and ignored objects may be left out, or kept under the other mark.
    """
    stated = _counted(losses)
    after = read_dataset(folder)
    _require(after.format == name, name, f"must be recognised as what was written, got {after.format}")
    images = len(dataset) - stated["loss-empty-images"]
    _require(len(after) == images, name, f"must read back {images} images, got {len(after)}")
    gone = dataset.objects.height if any(stated[c] for c in _ALL_OBJECTS) else stated["loss-objects"]
    most = dataset.objects.height - gone
    fewest = max(most - stated["loss-crowd"] - stated["loss-ignore"], 0)
    found = after.objects.height
    _require(fewest <= found <= most, name, f"must read back {fewest} to {most} objects, got {found}")
    usable = max(dataset.usable_objects.height - gone - stated["loss-to-ignored"], 0)
    counting = after.usable_objects.height
    _require(counting == usable, name, f"must read back {usable} objects that count, got {counting}")
    return after


def check_format(name: str, dataset: Dataset, folder: Path) -> list[Finding]:
    """Write `dataset` as format `name` into the new folder, read it back and compare; returns the stated losses.

    Images are matched by their pixels, which must differ from image to image; objects by class and box. Everything
    must be equal but for as many differences as the losses count: splits, groups (up to their names), frames, times,
    boxes, masks (pixel by pixel, however they are stored), marks, attributes, keypoints; class names; semantic masks.
    Areas, ids and the order of rows are the format's own. SightlineError names the first thing that does not hold;
    DataError from the writer, that it cannot hold the task, passes through.
    """
    losses = write_dataset(dataset, folder, name)
    after = check_written(dataset, losses, folder, name)
    stated = _counted(losses)
    images = match_images(dataset, after)
    kept = {row["image_id"] for row, _ in images}
    labelled = dataset.images.filter(pl.col("image_id").is_in(dataset.objects["image_id"].unique().implode()))
    lost = [path for image_id, path in labelled.select("image_id", "path").iter_rows() if image_id not in kept]
    _require(not lost, name, f"must keep every image with objects, got {lost[:3]} missing or changed")
    _check_images(name, images, stated)
    _check_classes(name, dataset, after, stated)
    if any(stated[c] for c in _ALL_OBJECTS):
        _check_painted(name, dataset, after, images, stated)
    elif dataset.task == "semantic":
        _check_semantic(name, dataset, after, images)
    else:
        _check_objects(name, dataset, after, images, stated)
    return losses


def match_images(before: Dataset, after: Dataset) -> list[Pair]:
    """The rows of the images table that show the very same pixels before and after."""
    pictures = {_picture(after, row["path"]): row for row in after.images.iter_rows(named=True)}
    pairs = ((row, pictures.get(_picture(before, row["path"]))) for row in before.images.iter_rows(named=True))
    return [(row, other) for row, other in pairs if other is not None]


def match_objects(before: Dataset, after: Dataset, image_ids: Iterable[tuple[int, int]]) -> list[Pair]:
    """Pairs of objects of the same class in matched images (`image_id` before and after), most overlap first."""
    old, new = _objects_by_image(before), _objects_by_image(after)
    pairs: list[Pair] = []
    for first, second in image_ids:
        by_class: dict[str, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
        for side, rows in enumerate((old.get(first, []), new.get(second, []))):
            for row in rows:
                by_class[row["class"]][side].append(row)
        for ours, theirs in by_class.values():
            pairs += _nearest(ours, theirs)
    return pairs


def mask_iou(pair: Pair) -> float:
    """Intersection over union of the masks of two objects of one image size; NaN where either has none."""
    first, second = (object_rle(row, (row["height"], row["width"])) for row in pair)
    if first is None or second is None:
        return float("nan")
    if first == second:
        return 1.0
    size_hw = pair[0]["height"], pair[0]["width"]
    return float(rle.iou_matrix([first], [second], size_hw)[0, 0])


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise SightlineError(f"format '{name}': {what}")


def _counted(losses: Iterable[Finding]) -> Counter[str]:
    stated: Counter[str] = Counter()
    for loss in losses:
        stated[loss.code] += loss.count
    return stated


def _allow(name: str, what: str, differing: Sequence[Any], stated: Counter[str]) -> None:
    allowed = sum(stated[code] for code in _EXPLAINED_BY[what])
    example = f", {differing[0]} the first" if differing else ""
    _require(
        len(differing) <= allowed,
        name,
        f"must keep or state every {what}, got {len(differing)} different where losses state {allowed}{example}",
    )


def _picture(dataset: Dataset, path: str) -> bytes:
    pixels = read_image(dataset.image_path(path))
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def _check_images(name: str, pairs: Sequence[Pair], stated: Counter[str]) -> None:
    sizes = [(a["path"], b["path"]) for a, b in pairs if (a["width"], a["height"]) != (b["width"], b["height"])]
    _require(not sizes, name, f"must keep the images' sizes, got another for {sizes[:1]}")
    _allow(name, "split", [(a["path"], a["split"], b["split"]) for a, b in pairs if a["split"] != b["split"]], stated)
    # Groups are equal when they divide the images alike: their names may follow from folders.
    renamed = dict(Counter((a["group"], b["group"]) for a, b in pairs))
    names = [len({x[side] for x in renamed}) for side in (0, 1)]
    alike = len(renamed) == names[0] == names[1] and all((a is None) == (b is None) for a, b in renamed)
    grouped = [a["path"] for a, b in pairs if a["group"] is not None or b["group"] is not None]
    _allow(name, "group", [] if alike else grouped, stated)
    for column in ("frame", "time_s"):
        other = [(a["path"], a[column], b[column]) for a, b in pairs if not _close(a[column], b[column])]
        _allow(name, column, other, stated)


def _check_classes(name: str, before: Dataset, after: Dataset, stated: Counter[str]) -> None:
    lost = [n for n in before.class_names if n not in after.class_names]
    counts = after.counts_by_class()  # a format may declare classes of its own, without objects
    new = [n for n in after.class_names if n not in before.class_names and counts[n]]
    _require(len(lost) <= stated["loss-classes"], name, f"must keep or state every class, got none of {lost[:3]}")
    _require(not new, name, f"must add no objects of other classes, got {new[:3]}")
    old, read = (dict(d.classes.select("name", "keypoint_names").iter_rows()) for d in (before, after))
    _allow(name, "keypoint names", [n for n in before.class_names if old[n] and old[n] != read.get(n)], stated)


def _check_semantic(name: str, before: Dataset, after: Dataset, images: Sequence[Pair]) -> None:
    slots = {n: i for i, n in enumerate(after.class_names)}
    table = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, dtype=np.uint8)
    table[: before.classes.height] = [slots[n] for n in before.class_names]
    for old, new in images:
        first, second = (read_class_mask(d.image_path(row["mask_path"]), d) for d, row in ((before, old), (after, new)))
        _require(np.array_equal(table[first], second), name, f"must keep the mask of {old['path']}, got another")


def _check_painted(name: str, before: Dataset, after: Dataset, images: Sequence[Pair], stated: Counter[str]) -> None:
    """Objects that have become pixels: each pixel is of a class that covers it, and what never counts gives way."""
    objects, slots = _objects_by_image(before), {n: i for i, n in enumerate(after.class_names)}
    background = [i for n, i in slots.items() if n not in before.class_names]
    _require(len(background) == 1, name, f"must have one class for the background, got {len(background)}")
    covered = 0
    for old, new in images:
        found = read_class_mask(after.image_path(new["mask_path"]), after)
        right, counted, hidden = (np.zeros(found.shape, dtype=np.bool_) for _ in range(3))
        for row in objects.get(old["image_id"], []):
            mask, has_mask = _pixels(row)
            if row["crowd"] or row["ignore"] or not has_mask:
                hidden |= mask
                continue
            covered += int(np.count_nonzero(mask))
            counted |= mask
            right |= mask & (found == slots[row["class"]])
        covered -= int(np.count_nonzero(counted & ~hidden))
        right |= ~counted & np.where(hidden, found == IGNORE_INDEX, found == background[0])
        _require(bool(right.all()), name, f"must paint the objects of {old['path']} as their classes, got others")
    overlap = stated["loss-overlap"]
    _require(covered == overlap, name, f"must state {covered} pixels that several objects cover, got {overlap}")


def _pixels(row: Row) -> tuple[npt.NDArray[np.bool_], bool]:
    """The pixels of an object's mask, else those its box touches, and whether it has a mask."""
    size_hw = (row["height"], row["width"])
    counts = object_rle(row, size_hw)
    if counts is not None:
        return rle.decode(counts, size_hw), True
    x1, y1, x2, y2 = (max(int(v), 0) for v in (*np.floor([row["x1"], row["y1"]]), *np.ceil([row["x2"], row["y2"]])))
    pixels = np.zeros(size_hw, dtype=np.bool_)
    pixels[y1:y2, x1:x2] = True
    return pixels, False


def _check_objects(name: str, before: Dataset, after: Dataset, images: Sequence[Pair], stated: Counter[str]) -> None:
    pairs = match_objects(before, after, [(a["image_id"], b["image_id"]) for a, b in images])
    _require(len(pairs) == after.objects.height, name, "must keep the objects' classes and images, got others")
    different: dict[str, Callable[[Row, Row], bool]] = {
        "box": lambda a, b: _box_distance(a, b) > _BOX_SHARE * max(a["width"], a["height"]) + _VALUE_SLACK,
        "box by a pixel or more": lambda a, b: _box_distance(a, b) >= _ROUNDED_PX,
        "object's having a mask": lambda a, b: _has_mask(a) != _has_mask(b),
        "crowd": lambda a, b: a["crowd"] != b["crowd"],
        "ignore": lambda a, b: a["ignore"] != b["ignore"],
        "occlusion": lambda a, b: not _close(a["occlusion"], b["occlusion"]),
        "truncation": lambda a, b: not _close(a["truncation"], b["truncation"]),
        "track_id": lambda a, b: a["track_id"] != b["track_id"],
        "keypoints": lambda a, b: not _same_keypoints(a, b),
    }
    for what, differ in different.items():
        _allow(name, what, [_box_text(a) for a, b in pairs if differ(a, b)], stated)
    others = [(a, b) for a, b in pairs if _has_mask(a) and _has_mask(b) and _masks_differ(a, b)]
    if any(stated[code] for code in _EXPLAINED_BY["mask"]) or not stated["loss-overlap"]:
        _allow(name, "mask", [_box_text(a) for a, _ in others], stated)
    else:
        lost = [_box_text(a) for a, b in others for _ in range(_pixels_apart(a, b))]
        _allow(name, "pixel of a mask", lost, stated)


def _objects_by_image(dataset: Dataset) -> dict[int, list[Row]]:
    sizes = dataset.images.select("image_id", "width", "height")
    names = dataset.classes.select("class_id", pl.col("name").alias("class"))
    table = dataset.objects.join(sizes, on="image_id", maintain_order="left")
    found: dict[int, list[Row]] = defaultdict(list)
    for row in table.join(names, on="class_id", maintain_order="left").iter_rows(named=True):
        found[row["image_id"]].append(row)
    return found


def _nearest(ours: list[Row], theirs: list[Row]) -> list[Pair]:
    if not ours or not theirs:
        return []
    first, second = (np.array([[r[k] for k in ("x1", "y1", "x2", "y2")] for r in rows]) for rows in (ours, theirs))
    far = np.abs(first[:, None] - second[None]).max(axis=2)
    # Distance tells boxes without area and equal overlaps apart; overlap keeps large boxes with their like.
    cost = far / (1.0 + far) - iou_matrix(first, second)
    rows, columns = assign(cost, max_cost=2.0)
    return [(ours[i], theirs[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]


def _box_distance(a: Row, b: Row) -> float:
    return float(max(abs(a[k] - b[k]) for k in ("x1", "y1", "x2", "y2")))


def _has_mask(row: Row) -> bool:
    return row["rle"] is not None or row["polygon"] is not None


def _masks_differ(a: Row, b: Row) -> bool:
    return not _same_outlines(a, b) and mask_iou((a, b)) != 1.0


def _pixels_apart(a: Row, b: Row) -> int:
    return int(np.count_nonzero(_pixels(a)[0] ^ _pixels(b)[0]))


def _same_outlines(a: Row, b: Row) -> bool:
    """Whether two polygons are the same but for the decimals a format writes, which can flip a pixel at their edge."""
    first, second = (row["polygon"] if row["rle"] is None else None for row in (a, b))
    if first is None or second is None or [len(r) for r in first] != [len(r) for r in second]:
        return False
    slack = _BOX_SHARE * max(a["width"], a["height"]) + _VALUE_SLACK
    return all(bool(np.allclose(r, s, rtol=0, atol=slack)) for r, s in zip(first, second, strict=True))


def _same_keypoints(a: Row, b: Row) -> bool:
    first, second = (_labelled_points(row["keypoints"]) for row in (a, b))
    if first is None or second is None:
        return first is second
    slack = _BOX_SHARE * max(a["width"], a["height"]) + _VALUE_SLACK
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=0, atol=slack))


def _labelled_points(values: list[float] | None) -> npt.NDArray[np.float64] | None:
    """Keypoints (K, 3), places zero where a point is not labelled; None where no point is."""
    points = np.reshape(np.array(values or [], dtype=np.float64), (-1, 3))
    if not (points[:, 2] > 0).any():
        return None
    points[points[:, 2] == 0] = 0
    return points


def _close(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else bool(abs(a - b) <= _VALUE_SLACK)


def _box_text(row: Row) -> str:
    return f"{row['class']} at {', '.join(f'{row[k]:g}' for k in ('x1', 'y1', 'x2', 'y2'))}"
