"""Labels drawn on their image: boxes, masks, outlines, keypoints and track ids, each exactly where it was put.

A solid line is an object that counts. A dashed line is one that is ignored, a dashed and hatched region a crowd. A
class has one colour everywhere, and so has a track where colours are those of tracks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.frames import SemanticMap
from sightline.draw import shapes
from sightline.draw.detections import Drawer, palette_colour
from sightline.draw.lettering import Tag, write_tags
from sightline.draw.view import Picture, View
from sightline.ops import rle

__all__ = ["ColourBy", "TruthStyle", "draw_class_map", "draw_objects", "object_colour"]

ColourBy = Literal["class", "track", "object"]
Floats: TypeAlias = npt.NDArray[np.float64]
Row: TypeAlias = dict[str, Any]

TINT = 0.32
MAX_TAGGED_SHARE = 0.055
"""Share of the picture that names may cover; beyond it the commonest class goes unnamed: its colour and the key do."""
_SMALL_PX = 14.0  # objects smaller than this in the picture get thin lines
_NO_POINT, _HIDDEN_POINT = 0, 1


@dataclass(frozen=True)
class TruthStyle:
    """How objects are drawn: what their colour means and whether names are written.

    With `subject` (an object id) only that object is drawn in full, the others by a thin line. `marked_xyxy`, a box of
    the image, gets white corners, and a dashed outline unless it is an object's own.
    """

    colour_by: ColourBy = "class"
    names: bool = True
    subject: int | None = None
    marked_xyxy: tuple[float, float, float, float] | None = None


def draw_objects(picture: Picture, view: View, objects: pl.DataFrame, dataset: Dataset, style: TruthStyle) -> None:
    """Draw rows of the objects table, all of one image, into a picture that `view` shows; large ones first.

    `objects` are those of the image; what lies outside the view is left out. Names are written where they hide little.
    """
    size_hw = _image_size(dataset, objects)
    boxes = view.place_boxes(objects.select("x1", "y1", "x2", "y2").to_numpy())
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    height, width = picture.shape[:2]
    inside = np.all((low <= (width, height)) & (high >= 0), axis=1)
    order = np.argsort(-np.clip(high - low, 0, None).prod(axis=1), kind="stable")
    drawn = [(objects.row(i, named=True), boxes[i]) for i in order.tolist() if inside[i]]
    for row, box in drawn:
        _draw_object(picture, view, row, box, size_hw, style)
    for row, _ in drawn:
        _draw_keypoints(picture, view, row, dataset, object_colour(row, style.colour_by))
    framed = boxes[objects.select(pl.col("rle").is_null() & pl.col("polygon").is_null()).to_series().to_numpy()]
    corners = _mark(picture, view, framed, style.marked_xyxy)
    if style.names:
        _write_names(picture, drawn, dataset, style, corners)


def draw_class_map(
    image: Picture, view: View, class_ids: npt.NDArray[Any], class_names: Sequence[str], *, key: bool = False
) -> Picture:
    """A new picture of the view with each class but the background tinted and outlined; `key` writes names into it.

    `class_ids` (H, W) is at image size. Pixels of no class, which never count, are hatched.
    """
    beyond = np.iinfo(class_ids.dtype).max
    ids = view.show_ids(class_ids, beyond)
    drawer = Drawer(view.size_hw, class_names)
    return drawer.draw(view.show(image), semantic=SemanticMap(ids, tuple(class_names)), legend=key)


def object_colour(row: Row, colour_by: ColourBy) -> tuple[int, int, int]:
    """RGB of an object by its class, its track (its class where it has none) or its id."""
    by = {"class": row["class_id"], "track": row["track_id"], "object": row["object_id"]}[colour_by]
    return palette_colour(int(row["class_id"] if by is None else by))


def _image_size(dataset: Dataset, objects: pl.DataFrame) -> tuple[int, int]:
    if objects.is_empty():
        return 1, 1
    image = dataset.images.filter(pl.col("image_id") == objects["image_id"][0])
    return int(image["height"][0]), int(image["width"][0])


def _mark(picture: Picture, view: View, boxes: Floats, marked: Sequence[float] | None) -> list[shapes.Place]:
    """Point at a box of the image, drawn unless it is one of the `boxes`; returns what the corners cover."""
    if marked is None:
        return []
    box = view.place_boxes([marked])[0]
    if not (np.abs(boxes - box) < 0.5).all(axis=1).any():
        shapes.outline_box(picture, box.tolist(), shapes.LIGHT, 1, dashed=True)
    return shapes.bracket(picture, box.tolist())


def _draw_object(
    picture: Picture, view: View, row: Row, box: Floats, size_hw: tuple[int, int], style: TruthStyle
) -> None:
    colour = object_colour(row, style.colour_by)
    dashed = bool(row["crowd"] or row["ignore"])
    small = float(max(box[2] - box[0], box[3] - box[1])) < _SMALL_PX
    aside = style.subject is not None and row["object_id"] != style.subject
    width = 1 if small or aside else 2
    share = _mask_share(row, view, size_hw)
    if share is None:
        shapes.outline_box(picture, box.tolist(), colour, width, dashed=dashed)
        if row["crowd"] and not aside:
            shapes.hatch(picture, _box_area(picture, box), colour)
        return
    covered = share >= 0.5
    if not aside:
        shapes.tint(picture, share, colour, TINT / 2 if row["crowd"] else TINT)
    if row["crowd"] and not aside:
        shapes.hatch(picture, covered, colour)
    rings = row["polygon"]
    if rings and row["rle"] is None:
        placed = [view.place(np.asarray(ring, np.float64).reshape(-1, 2)) for ring in rings]
        shapes.outline_rings(picture, placed, colour, width, dashed=dashed)
    else:
        shapes.outline_mask(picture, covered, colour, width, dashed=dashed)


def _mask_share(row: Row, view: View, size_hw: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """How much of each pixel the object's mask covers; None where it has none that can be read (the box is drawn)."""
    try:
        counts = row["rle"] if row["rle"] is not None else _drawn(row["polygon"], size_hw)
        return None if counts is None else view.show_share(rle.decode(counts, size_hw))
    except DataError:
        return None


def _drawn(rings: list[list[float]] | None, size_hw: tuple[int, int]) -> bytes | None:
    return rle.from_polygons(rings, size_hw) if rings else None


def _box_area(picture: Picture, box: Floats) -> npt.NDArray[np.bool_]:
    inside = np.zeros(picture.shape[:2], np.bool_)
    x1, y1, x2, y2 = (max(0, round(float(v))) for v in np.clip(box, -1, 1 << 20))
    inside[y1:y2, x1:x2] = True
    return inside


def _draw_keypoints(picture: Picture, view: View, row: Row, dataset: Dataset, colour: tuple[int, int, int]) -> None:
    if not row["keypoints"]:
        return
    points = np.asarray(row["keypoints"], np.float64).reshape(-1, 3)
    placed = view.place(points[:, :2])
    for a, b in dataset.classes.row(int(row["class_id"]), named=True)["skeleton"] or ():
        if max(a, b) < len(points) and points[a, 2] != _NO_POINT and points[b, 2] != _NO_POINT:
            shapes.join(picture, placed[a].tolist(), placed[b].tolist(), colour, 2)
    for place, visible in zip(placed.tolist(), points[:, 2].tolist(), strict=True):
        if visible != _NO_POINT:
            shapes.dot(picture, place, colour, 3, hollow=visible == _HIDDEN_POINT)


def _write_names(
    picture: Picture,
    drawn: Sequence[tuple[Row, Floats]],
    dataset: Dataset,
    style: TruthStyle,
    taken: Sequence[shapes.Place],
) -> None:
    several = len(dataset.class_names) > 1
    tags = []
    for row, box in drawn:
        parts = [dataset.class_names[int(row["class_id"])]] if several else []
        parts += [f"#{row['track_id']}"] if row["track_id"] is not None else []
        parts += ["(crowd)"] if row["crowd"] else ["(ignored)"] if row["ignore"] else []
        if parts:
            x1, y1, x2, y2 = (float(v) for v in box)
            tags.append(Tag(" ".join(parts), (x1, y1, x2, y2), object_colour(row, style.colour_by)))
    boxes = np.array([box for _, box in drawn], np.float64).reshape(-1, 4)
    write_tags(picture, _thinned(tags, MAX_TAGGED_SHARE * picture.shape[0] * picture.shape[1]), boxes, taken)


def _thinned(tags: list[Tag], room_px2: float) -> list[Tag]:
    """The tags without the commonest texts, until what is left may cover no more than the room."""
    kept = list(tags)
    while sum(tag.area_px2 for tag in kept) > room_px2:
        commonest = Counter(tag.text for tag in kept).most_common(1)[0][0]
        kept = [tag for tag in kept if tag.text != commonest]
    return kept
