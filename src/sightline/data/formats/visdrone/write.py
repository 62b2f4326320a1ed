"""Writing VisDrone-DET: `images/` and `annotations/*.txt`, one folder of both for each split."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.core.process import Progress
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import MASKED
from sightline.data.formats.shared.writing import (
    check_writable,
    common_losses,
    counted_losses,
    flat_targets,
    place_images,
)
from sightline.data.formats.visdrone.read import CATEGORIES, CLASSES_NAME, IGNORED_REGIONS, OTHERS, SHARES

__all__ = ["write"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
_SPLIT_FOLDERS = {"train": "VisDrone2019-DET-train", "val": "VisDrone2019-DET-val", "test": "VisDrone2019-DET-test-dev"}
_NO_SPLIT = "unlisted"
_UNKNOWN = -1
_FARTHEST = float(2**31)  # pixels; what lies beyond is damage, and would not fit an integer
_LOSSES = {
    "loss-attributes": "of {} objects occlusion or truncation is written as the nearest of VisDrone's steps",
    "loss-crowd": "{} crowd regions are written as ignored objects",
    "loss-to-ignored": "{} objects become ignored, as VisDrone never counts their classes",
    "loss-masks": "the masks of {} objects are left out, their boxes are kept",
    "loss-rounding": "the boxes of {} objects are rounded to whole pixels",
}


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write the boxes of a data set as VisDrone-DET below `folder`; returns what VisDrone cannot hold, counted.

    Coordinates are rounded to whole pixels. Class names that are all VisDrone's own become its categories, in folders
    named as VisDrone's; other classes are numbered from 1 and named in a `classes.txt`, which other tools ignore.
    Ignored and crowd objects get the score 0. Images go to `images/` under their own names (under their whole paths,
    `_` for `/`, where names repeat); with `copy_images=False` they must lie there.
    """
    check_writable(dataset, "VisDrone")
    own = set(dataset.class_names) <= set(CATEGORIES)
    categories, findings = _categories(dataset, own)
    paths, splits = dataset.images["path"].to_list(), dataset.images["split"].to_list()
    parts = [_part(split, own, bool(dataset.splits)) for split in splits]
    targets = flat_targets(paths, [f"{part}images" for part in parts])
    place_images(dataset, folder, targets, copy=copy_images, progress=progress)
    lost: Counter[str] = Counter()
    rows = _rows(dataset, categories, lost)
    lines: dict[int, list[str]] = {}
    for image_id, row in zip(dataset.objects["image_id"].to_list(), rows.tolist(), strict=True):
        lines.setdefault(image_id, []).append(",".join(map(str, row)) + "\n")
    for image_id, path, part in zip(dataset.images["image_id"], paths, parts, strict=True):
        file = folder / f"{part}annotations" / f"{PurePosixPath(targets[path]).stem}.txt"
        write_text_atomic(file, "".join(lines.get(image_id, [])))
    if not own:
        names = sorted((c, n) for n, c in zip(dataset.class_names, categories.tolist(), strict=True) if c)
        write_text_atomic(folder / CLASSES_NAME, "".join(f"{name}\n" for _, name in names))
    return findings + counted_losses(lost, _LOSSES) + common_losses(dataset, keeps=("occlusion", "truncation"))


def _part(split: str | None, own: bool, has_splits: bool) -> str:
    if split is None:
        return f"{_NO_SPLIT}/" if has_splits else ""
    return f"{_SPLIT_FOLDERS[split] if own else split}/"


def _categories(dataset: Dataset, own: bool) -> tuple[Ints, list[Finding]]:
    """The category of each class, and what is lost of the classes."""
    names = dataset.class_names
    if own:
        number = {name: i for i, name in enumerate(CATEGORIES[:10], start=1)} | {IGNORED_REGIONS: 0, OTHERS: 11}
        return np.array([number[n] for n in names], dtype=np.int64), []
    numbers, count = [], 0
    for name in names:
        count += name != IGNORED_REGIONS
        numbers.append(0 if name == IGNORED_REGIONS else count)
    unused = IGNORED_REGIONS in names and dataset.counts_by_class()[IGNORED_REGIONS] == 0
    message = f"the class '{IGNORED_REGIONS}' has no object and is left out"
    return np.array(numbers, dtype=np.int64), [finding("loss-classes", message)] if unused else []


def _rows(dataset: Dataset, categories: Ints, lost: Counter[str]) -> Ints:
    """The rows (N, 8) of all objects."""
    objects = dataset.objects
    boxes = objects.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64)
    corners = np.floor(np.clip(boxes, -_FARTHEST, _FARTHEST) + 0.5)
    sides = corners[:, 2:] - corners[:, :2]
    # A box with an area keeps one, however small it is.
    sides = np.where((sides == 0) & (boxes[:, 2:] > boxes[:, :2]), 1.0, sides)
    lost["loss-rounding"] += int((np.hstack([corners[:, :2], corners[:, :2] + sides]) != boxes).any(axis=1).sum())
    lost["loss-crowd"] += int(objects["crowd"].sum())
    lost["loss-masks"] += objects.filter(MASKED).height
    truncation, rough_truncation = _steps(objects["truncation"], SHARES[:2])
    occlusion, rough_occlusion = _steps(objects["occlusion"], SHARES)
    lost["loss-attributes"] += int((rough_truncation | rough_occlusion).sum())
    score = ~(objects["ignore"] | objects["crowd"]).to_numpy()
    category = categories[objects["class_id"].to_numpy()] if len(boxes) else np.zeros(0, dtype=np.int64)
    never = np.array([name in {IGNORED_REGIONS, OTHERS} for name in dataset.class_names], dtype=np.bool_)
    # "others" is an ordinary class where the classes are not VisDrone's own.
    never &= (categories == 0) | (categories == len(CATEGORIES) - 1)
    lost["loss-to-ignored"] += int((never[objects["class_id"].to_numpy()] & score).sum()) if len(boxes) else 0
    columns = [corners[:, 0], corners[:, 1], sides[:, 0], sides[:, 1], score, category, truncation, occlusion]
    return np.stack(columns, axis=1).astype(np.int64)


def _steps(shares: pl.Series, known: tuple[float, ...]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The step of each share (-1 for none given), and where that is not exactly the share."""
    values = shares.fill_null(np.nan).to_numpy().astype(np.float64)
    given = ~np.isnan(values)
    # 0 is nothing, 1 is up to a half, 2 is more: as VisDrone defines its steps.
    steps = np.minimum((values > 0).astype(np.int64) + (values > 0.5), len(known) - 1)
    exact = np.array(known)[steps] == values
    return np.where(given, steps, _UNKNOWN), given & ~exact
