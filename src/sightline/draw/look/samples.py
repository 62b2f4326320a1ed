"""Random looks: whole images, objects or regions of each class, and sequences with their tracks over time."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.data import read_class_mask
from sightline.draw.lettering import write_corner
from sightline.draw.look.options import LookOptions
from sightline.draw.scenes import Box, Scenes
from sightline.draw.sheets import Cell, Sheet, class_key
from sightline.draw.truth import ColourBy, TruthStyle
from sightline.draw.view import Picture

__all__ = ["class_sheets", "evenly", "image_sheets", "track_sheets", "usual_colours"]

MAX_CLASSES = 100
MAX_MASKS = 400
"""Masks read in search of a rare class."""
_ROW_PX = 1640  # pictures side by side fill about this width


def image_sheets(scenes: Scenes, options: LookOptions) -> Iterator[Sheet]:
    """One sheet of images drawn at random."""
    dataset = scenes.dataset
    count = min(options.images, len(dataset))
    if not count:
        return
    chosen = np.random.default_rng([options.seed, 0]).choice(len(dataset), count, replace=False)
    rows = [dataset.images.row(i, named=True) for i in sorted(chosen.tolist())]
    rows.sort(key=lambda row: round(row["height"] / row["width"], 1))  # equal shapes side by side fill the rows
    cells = [
        Cell(
            scenes.whole(row["image_id"], (options.imgsz, options.imgsz), TruthStyle(usual_colours(dataset))),
            row["path"],
            (_image_facts(dataset, row),),
        )
        for row in rows
    ]
    yield Sheet(
        "images",
        "images",
        f"{dataset.name}: {count} of {len(dataset)} images",
        cells,
        f"Drawn at random with seed {options.seed}.{_line_meaning(dataset)}",
        class_key(dataset, [row["image_id"] for row in rows]) if usual_colours(dataset) == "class" else (),
        columns=max(1, _ROW_PX // options.imgsz),
    )


def class_sheets(scenes: Scenes, options: LookOptions) -> Iterator[Sheet]:
    """A sheet for each class that has objects (pixels, in masks): random ones, from different images first."""
    if not options.per_class:
        return
    found = _regions if scenes.dataset.task == "semantic" else _objects
    yield from found(scenes, options)


def _objects(scenes: Scenes, options: LookOptions) -> Iterator[Sheet]:
    dataset = scenes.dataset
    totals = dataset.counts_by_class()
    shown = [i for i, n in enumerate(totals.values()) if n][:MAX_CLASSES]
    for class_id in shown:
        name = dataset.class_names[class_id]
        of_class = dataset.objects.filter(pl.col("class_id") == class_id)
        chosen = _spread(of_class, options.per_class, np.random.default_rng([options.seed, 1, class_id]))
        cells = [_object_cell(scenes, row, options) for row in chosen.iter_rows(named=True)]
        title = f"{name}: {len(cells)} of {totals[name]} objects"
        yield _class_sheet(scenes, class_id, cells, title, options, chosen["image_id"].to_list())


def _spread(objects: pl.DataFrame, count: int, generator: np.random.Generator) -> pl.DataFrame:
    """Random rows, as many images as possible; the largest first, each image's objects side by side."""
    shuffled = objects[generator.permutation(objects.height)]
    turn = shuffled.select(pl.int_range(pl.len()).over("image_id")).to_series()
    return shuffled.with_columns(turn=turn).sort("turn", maintain_order=True).head(count).sort("area", descending=True)


def _object_cell(scenes: Scenes, row: dict[str, Any], options: LookOptions) -> Cell:
    side = options.imgsz // 2
    box = (row["x1"], row["y1"], row["x2"], row["y2"])
    style = TruthStyle(usual_colours(scenes.dataset), names=False, subject=row["object_id"])
    picture = scenes.around(row["image_id"], box, (side, side), style)
    flags = "".join(f", {flag}" for flag in ("crowd", "ignore") if row[flag])
    size = f"{row['x2'] - row['x1']:.4g} × {row['y2'] - row['y1']:.4g} px{flags}"
    return Cell(picture, scenes.row(row["image_id"])["path"], (size,))


def _regions(scenes: Scenes, options: LookOptions) -> Iterator[Sheet]:
    """One connected region of a class from each of some random masks."""
    dataset = scenes.dataset
    order = np.random.default_rng([options.seed, 2]).permutation(len(dataset))[:MAX_MASKS]
    found: dict[int, list[tuple[int, Box, int]]] = defaultdict(list)
    for place in order.tolist():
        row = dataset.images.row(place, named=True)
        try:
            ids = read_class_mask(dataset.image_path(row["mask_path"] or ""), dataset)
        except DataError:
            continue
        for class_id in np.unique(ids).tolist():
            if class_id < len(dataset.class_names) and len(found[class_id]) < options.per_class:
                generator = np.random.default_rng([options.seed, 3, place, class_id])
                found[class_id].append((row["image_id"], *_region(ids == class_id, generator)))
        if all(len(found[i]) >= options.per_class for i in range(len(dataset.class_names))):
            break
    for class_id in sorted(found)[:MAX_CLASSES]:
        cells = [_region_cell(scenes, *region, options) for region in found[class_id]]
        title = f"{dataset.class_names[class_id]}: a region from each of {len(cells)} images"
        yield _class_sheet(scenes, class_id, cells, title, options, [])


def _region(mask: npt.NDArray[np.bool_], generator: np.random.Generator) -> tuple[Box, int]:
    """The box and the pixels of the connected region that a random pixel of the mask belongs to."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    pixels = np.flatnonzero(mask)
    x, y, width, height, area = stats[labels.ravel()[generator.choice(pixels)]].tolist()
    return (float(x), float(y), float(x + width), float(y + height)), int(area)


def _region_cell(scenes: Scenes, image_id: int, box: Box, area: int, options: LookOptions) -> Cell:
    side = options.imgsz // 2
    picture = scenes.around(image_id, box, (side, side), TruthStyle(), context=1.2)
    return Cell(picture, scenes.row(image_id)["path"], (f"{area} px",))


def _class_sheet(
    scenes: Scenes, class_id: int, cells: list[Cell], title: str, options: LookOptions, image_ids: list[int]
) -> Sheet:
    columns = max(1, _ROW_PX // (options.imgsz // 2))
    note = f"Drawn at random with seed {options.seed}, the largest first."
    if scenes.dataset.task == "semantic":
        note = f"Drawn at random with seed {options.seed}."
    facts: dict[str, str | int] = {"class_id": class_id, "class": scenes.dataset.class_names[class_id]}
    key = class_key(scenes.dataset, image_ids) if usual_colours(scenes.dataset) == "class" else ()
    return Sheet(f"class-{class_id:03d}", "class", title, cells, note, key, columns=columns, facts=facts)


def _image_facts(dataset: Dataset, row: dict[str, Any]) -> str:
    facts = [row["split"]] if row["split"] else []
    facts.append(f"{row['width']} × {row['height']}")
    if dataset.task != "semantic":
        count = dataset.objects.filter(pl.col("image_id") == row["image_id"]).height
        facts.append(f"{count} object{'s' if count != 1 else ''}")
    return " · ".join(facts)


def usual_colours(dataset: Dataset) -> ColourBy:
    """Colours tell classes; tracks where there are such; touching objects where there is one class only."""
    if dataset.task == "track":
        return "track"
    return "object" if dataset.task == "instance" and len(dataset.class_names) == 1 else "class"


def _line_meaning(dataset: Dataset) -> str:
    """What lines other than solid ones mean, where there are such."""
    if dataset.task == "semantic":
        return " Hatched pixels never count." if dataset.ignore_values else ""
    crowd, ignored = bool(dataset.objects["crowd"].any()), bool(dataset.objects["ignore"].any())
    meanings = [" Dashed: ignored objects."] if ignored else []
    meanings += [" Dashed and hatched: crowds."] if crowd else []
    return "".join(meanings)


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
    chosen = frames[evenly(frames.height, FRAMES)]
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
    chosen = boxes[evenly(boxes.height, STEPS)]
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


def evenly(count: int, wanted: int) -> list[int]:
    """Up to `wanted` different row numbers at even distances, the first and the last among them."""
    return sorted({round(v) for v in np.linspace(0, count - 1, min(wanted, count)).tolist()})
