"""Sequences: some frames with ids, and each track's object over time, one strip a track."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.draw.lettering import write_corner
from sightline.draw.look.options import LookOptions
from sightline.draw.scenes import Scenes
from sightline.draw.sheets import Cell, Sheet
from sightline.draw.truth import TruthStyle
from sightline.draw.view import Picture

__all__ = ["track_sheets"]

MAX_SEQUENCES = 4
FRAMES = 6
STEPS = 10
_GAP_PX = 4
_BY_TRACK = TruthStyle(colour_by="track")


def track_sheets(scenes: Scenes, options: LookOptions) -> Iterator[Sheet]:
    """For each of the first sequences a sheet of frames with ids, and one of strips of random tracks."""
    boxes = _tracked(scenes.dataset)
    if not options.tracks or boxes.is_empty():
        return
    groups = boxes["group"].unique(maintain_order=True).to_list()
    for number, group in enumerate(groups[:MAX_SEQUENCES]):
        mine = boxes.filter(pl.col("group") == group)
        name = f"{number + 1:02d}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', group)[:60].strip('-.') or 'sequence'}"
        of_all = f" (sequence {number + 1} of {len(groups)})" if len(groups) > 1 else ""
        yield _frame_sheet(scenes, options, mine, name, f"{group}{of_all}")
        yield _strip_sheet(scenes, options, mine, name, f"{group}{of_all}", number)


def _tracked(dataset: Dataset) -> pl.DataFrame:
    frames = dataset.images.select(
        "image_id", "path", group=pl.col("group").fill_null("one sequence"), frame=pl.col("frame").fill_null(-1)
    )
    tracked = dataset.objects.drop_nulls("track_id").filter(pl.col("track_id") >= 0)
    return tracked.join(frames, on="image_id").sort("group", "frame", "track_id")


def _frame_sheet(scenes: Scenes, options: LookOptions, boxes: pl.DataFrame, name: str, title: str) -> Sheet:
    frames = boxes.select("image_id", "frame", "path").unique(maintain_order=True)
    chosen = frames[_even(frames.height, FRAMES)]
    cell = (options.imgsz, round(options.imgsz * 4 / 3))
    cells = []
    for image_id, frame, path in chosen.iter_rows():
        count = boxes.filter(pl.col("image_id") == image_id).height
        cells.append(Cell(scenes.whole(image_id, cell, _BY_TRACK), path, (f"frame {frame} · {count} tracks",)))
    note = "Frames at even distances. Each track has one colour."
    return Sheet(f"frames-{name}", "tracks", f"{title}: frames with track ids", cells, note, columns=3)


def _strip_sheet(
    scenes: Scenes, options: LookOptions, boxes: pl.DataFrame, name: str, title: str, number: int
) -> Sheet:
    lengths = boxes.group_by("track_id").len().sort("track_id")
    generator = np.random.default_rng([options.seed, 4, number])
    count = min(options.tracks, lengths.height)
    chosen = np.sort(generator.choice(lengths.height, count, replace=False))
    cells = [
        _strip(scenes, boxes.filter(pl.col("track_id") == track), options)
        for track in lengths["track_id"].gather(chosen.tolist()).to_list()
    ]
    note = "Each row is one track, its object at even distances in time: it must stay the same object."
    title = f"{title}: {count} of {lengths.height} tracks"
    return Sheet(f"tracks-{name}", "tracks", title, cells, note, columns=1)


def _strip(scenes: Scenes, boxes: pl.DataFrame, options: LookOptions) -> Cell:
    side = round(options.imgsz * 0.38)
    chosen = boxes[_even(boxes.height, STEPS)]
    crops = [_crop(scenes, row, side) for row in chosen.iter_rows(named=True)]
    gap = np.full((side, _GAP_PX, 3), 250, np.uint8)
    strip = np.concatenate([part for crop in crops for part in (crop, gap)][:-1], axis=1)
    track, class_id = boxes.row(0, named=True)["track_id"], boxes["class_id"][0]
    first, last = int(boxes["frame"][0]), int(boxes["frame"][-1])
    facts = f"{scenes.dataset.class_names[class_id]} · {boxes.height} boxes in frames {first} to {last}"
    return Cell(strip, f"track {track}", (facts,))


def _crop(scenes: Scenes, row: dict[str, Any], side: int) -> Picture:
    box = (row["x1"], row["y1"], row["x2"], row["y2"])
    style = TruthStyle(colour_by="track", names=False, subject=row["object_id"])
    crop = scenes.around(row["image_id"], box, (side, side), style, context=1.5)
    whole = np.full((side, side, 3), 250, np.uint8)
    whole[: crop.shape[0], : crop.shape[1]] = crop[:side, :side]
    write_corner(whole, str(row["frame"]))
    return whole


def _even(count: int, wanted: int) -> list[int]:
    """Up to `wanted` different row numbers at even distances, the first and the last among them."""
    return sorted({round(v) for v in np.linspace(0, count - 1, min(wanted, count)).tolist()})
