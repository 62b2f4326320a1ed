"""Labels by construction: which pixels of the final picture belong to which vehicle, and how much of it is hidden.

A pixel belongs to a vehicle when the vehicle's visible outline covers more than half of it. Outlines are the
geometric ones: blur, noise and compression never move a label. Since the visible shares of one pixel sum to at most
one, masks of different vehicles never share a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from sightline.ops import rle
from sightline.synth.kernels import add_convex
from sightline.synth.placement import Placed
from sightline.synth.plane import SUPERSAMPLE, View
from sightline.synth.textures import FloatImage

Box = tuple[float, float, float, float]
BoolArray = npt.NDArray[np.bool_]

MIN_VISIBILITY: Final = 0.25  # share of the whole vehicle; below it the object is marked ignore
MIN_VISIBLE_PX: Final = 40
_SCAN_LINES: Final = 4


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One labelled vehicle of a picture.

    `box_xyxy` is the tight box of the visible mask (modal), in image pixels, x2 and y2 exclusive; of the full mask
    where nothing is visible. `full_box_xyxy` is the tight box of the full mask inside the picture (amodal).
    `visible_area` and `full_area` count pixels. `occlusion` = 1 - visible_area / full_area is hidden by something
    above; `truncation` is the share of the vehicle's outline outside the picture. `ignore` is set where less than
    `MIN_VISIBILITY` of the whole vehicle or fewer than `MIN_VISIBLE_PX` pixels can be seen. `mask_rle` is the visible
    mask (COCO compressed run lengths).
    """

    class_id: int
    box_xyxy: Box
    full_box_xyxy: Box
    mask_rle: bytes
    visible_area: int
    full_area: int
    occlusion: float
    truncation: float
    ignore: bool
    track_id: int | None = None

    @property
    def visibility(self) -> float:
        """Share of the whole vehicle that is seen, 0..1: neither hidden nor outside the picture."""
        return (1.0 - self.occlusion) * (1.0 - self.truncation)

    def with_track(self, track_id: int) -> "SceneObject":
        """Return the same label under another track id."""
        return replace(self, track_id=track_id)


@dataclass(frozen=True, eq=False)
class Footprint:
    """A vehicle's outline on the canvas: `coverage` (h, w) in 0..1 at (`top`, `left`), both multiples of the
    supersampling factor; `inside_share` of the outline lies in the picture.
    """

    top: int
    left: int
    coverage: FloatImage
    inside_share: float


def trace(view: View, placed: Placed) -> Footprint | None:
    """Return the footprint of a vehicle on a borderless canvas, or None where it lies outside."""
    parts = [view.to_canvas(placed.to_world(points)) for points, _ in placed.vehicle.outlines]
    every = np.concatenate(parts)
    height, width = view.canvas_hw
    low = np.floor(every.min(axis=0) / SUPERSAMPLE).astype(int) * SUPERSAMPLE
    high = np.ceil(every.max(axis=0) / SUPERSAMPLE).astype(int) * SUPERSAMPLE
    left, top = (int(v) for v in np.maximum(low, 0))
    right, bottom = (int(v) for v in np.minimum(high, (width, height)))
    if right <= left or bottom <= top:
        return None
    coverage = np.zeros((bottom - top, right - left), dtype=np.float32)
    for part in parts:
        add_convex(coverage, part - (left, top), _SCAN_LINES)  # parts do not overlap: their shares add up
    np.minimum(coverage, 1.0, out=coverage)
    whole = placed.vehicle.area_m2 * view.canvas_px_per_m**2
    return Footprint(top, left, coverage, min(1.0, float(coverage.sum(dtype=np.float64)) / whole))


def pool(canvas: FloatImage) -> FloatImage:
    """Return the mean over each final pixel of a canvas window (h, w) aligned to final pixels."""
    height, width = canvas.shape
    blocks = canvas.reshape(height // SUPERSAMPLE, SUPERSAMPLE, width // SUPERSAMPLE, SUPERSAMPLE)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def masks_of(footprint: Footprint, transmittance: FloatImage) -> tuple[BoolArray, BoolArray, tuple[int, int]]:
    """Return the full and the visible mask (h, w) on final pixels, and the (top, left) of both.

    `transmittance` (H, W) on the canvas is the share of light that passes everything above the vehicle.
    """
    rows = slice(footprint.top, footprint.top + footprint.coverage.shape[0])
    columns = slice(footprint.left, footprint.left + footprint.coverage.shape[1])
    full = pool(footprint.coverage) > 0.5
    visible = pool(footprint.coverage * transmittance[rows, columns]) > 0.5
    return full, visible, (footprint.top // SUPERSAMPLE, footprint.left // SUPERSAMPLE)


def label(view: View, placed: Placed, transmittance: FloatImage, track_id: int | None = None) -> SceneObject | None:
    """Return the label of one vehicle, or None where no pixel of the picture is half covered by it."""
    footprint = trace(view, placed)
    if footprint is None:
        return None
    full, visible, corner = masks_of(footprint, transmittance)
    full_area, visible_area = int(full.sum()), int(visible.sum())
    if full_area == 0:
        return None
    occlusion, truncation = 1.0 - visible_area / full_area, 1.0 - footprint.inside_share
    seen = (1.0 - occlusion) * (1.0 - truncation)
    full_box = _tight_box(full, corner)
    canvas = np.zeros(view.size_hw, dtype=np.bool_)
    canvas[corner[0] : corner[0] + full.shape[0], corner[1] : corner[1] + full.shape[1]] = visible
    return SceneObject(
        class_id=placed.vehicle.class_id,
        box_xyxy=_tight_box(visible, corner) if visible_area else full_box,
        full_box_xyxy=full_box,
        mask_rle=rle.encode(canvas),
        visible_area=visible_area,
        full_area=full_area,
        occlusion=occlusion,
        truncation=truncation,
        ignore=seen < MIN_VISIBILITY or visible_area < MIN_VISIBLE_PX,
        track_id=track_id,
    )


def label_all(
    view: View, placed: Sequence[Placed], transmittances: Sequence[FloatImage], track_ids: Sequence[int | None]
) -> tuple[SceneObject, ...]:
    """Return the labels of all vehicles that reach into the picture; `transmittances` are by level."""
    pairs = zip(placed, track_ids, strict=True)
    found = (label(view, vehicle, transmittances[vehicle.level], track_id) for vehicle, track_id in pairs)
    return tuple(item for item in found if item is not None)


def _tight_box(mask: BoolArray, corner: tuple[int, int]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = corner
    return (float(left + columns[0]), float(top + rows[0]), float(left + columns[-1] + 1), float(top + rows[-1] + 1))
