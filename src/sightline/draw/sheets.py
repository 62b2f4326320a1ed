"""A sheet: pictures that belong together, with their captions; painted as one picture or shown on a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.draw.detections import palette_colour
from sightline.draw.lettering import lay_out
from sightline.draw.view import Picture

__all__ = ["Cell", "Key", "Sheet", "class_key", "paint_sheet"]

Key = tuple[tuple[tuple[int, int, int], str], ...]
MAX_KEY = 24
LEAST_PX = 160
"""The largest picture of a sheet is at least so large."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A picture, the path of what it shows, and what else is to be said about it, one line each."""

    picture: Picture
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Sheet:
    """Pictures under a title. `name` is fit for a file name and unlike those of the other sheets."""

    name: str
    kind: Literal["images", "class", "tracks", "finding", "augment"]
    title: str
    cells: Sequence[Cell]
    note: str = ""
    key: Key = ()
    columns: int = 4
    facts: dict[str, str | int] = field(default_factory=dict)


def paint_sheet(sheet: Sheet) -> Picture:
    """The sheet as one picture; pictures too small to see (a network's input of 64 pixels) are enlarged alike."""
    largest = max((max(cell.picture.shape[:2]) for cell in sheet.cells), default=LEAST_PX)
    times = max(1, -(-LEAST_PX // largest))
    pictures = [(cell.picture.repeat(times, 0).repeat(times, 1), (cell.title, *cell.lines)) for cell in sheet.cells]
    return lay_out(pictures, title=sheet.title, note=sheet.note, key=sheet.key, columns=sheet.columns)


def class_key(dataset: Dataset, image_ids: Sequence[int]) -> Key:
    """Colour and name of the classes on these images, the commonest first; nothing where there is one class only."""
    names = dataset.class_names
    if len(names) < 2:
        return ()
    if dataset.task == "semantic":
        present = list(range(len(names)))
    else:
        shown = dataset.objects.filter(pl.col("image_id").is_in(list(image_ids)))
        counts = np.bincount(shown["class_id"].to_numpy(), minlength=len(names))
        present = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i]]
    named = [(palette_colour(i), names[i]) for i in present[:MAX_KEY]]
    more = len(present) - len(named)
    return (*named, *((((250, 250, 250), f"and {more} more"),) if more else ()))
