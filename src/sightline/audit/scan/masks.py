"""What the audit learns from one mask file: are its values classes, its edges sharp, does its outline follow the image?

All of it comes from one read: the pixels of each class, the share of the border that is foreground, and the evidence
that the outline lies where the image has edges. What needs the other masks to judge stands in
`sightline.audit.checks.masks`.

Does a mask belong to its image? The sum of edge strength along the outline is compared with the sums along the same
outline moved everywhere else. A mask that was drawn on the image stands out by many standard deviations; one of another
image, or one that was moved, does not. No class, colour or contrast direction enters, so that thin cracks and street
scenes are judged alike.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import irfft2, rfft2
from scipy.ndimage import uniform_filter

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import IGNORE_INDEX
from sightline.core.kernels import njit
from sightline.data import BACKGROUND_NAMES, ClassMask, examine_class_mask, finding
from sightline.media import PaletteError, decode_reduced, parse_header, read_bytes, read_header

__all__ = ["MaskReport", "count_ramps", "examine_mask"]

_SIDE = 256  # pixels of the longest side at which outlines are compared
_SLACK = 3  # pixels at that size by which a mask may be drawn beside the edge
_NEIGHBOURHOOD = 31  # pixels; what is smoother than this is shading, not an edge
_STRONGEST = 3.0  # local standard deviations beyond which an edge counts no more: one road line must not decide
_SHORTEST = 16  # pixels of outline below which nothing can be said
Floats = npt.NDArray[np.float32]


class Outline(NamedTuple):
    """How far the edge strength along a mask's outline stands out, in standard deviations over all shifts of the
    outline, and how many pixels (of at most 256 × 256) the outline touches."""

    strength: float
    length: int


def examine_outline(image: Path, ids: npt.NDArray[np.uint8], ignored: int) -> Outline | None:
    """How well the borders between the class ids follow the image file's edges; borders of `ignored` do not count.

    None where there is no outline to speak of, or the image cannot be read or has another shape.
    """
    scale = min(1.0, _SIDE / max(ids.shape))
    size_wh = max(round(ids.shape[1] * scale), 1), max(round(ids.shape[0] * scale), 1)
    outline = _resize(_borders(ids, ignored), size_wh)
    length = int(np.count_nonzero(outline))
    if length < _SHORTEST:
        return None
    try:
        gray = _gray(image)
    except DataError:
        return None  # the pass over the images names it
    edges = _edge_strength(_resize(gray, size_wh))
    template = outline - _smooth(outline)
    matches = irfft2(np.conj(rfft2(template)) * rfft2(edges), s=edges.shape)
    spread = float(matches.std())
    if spread <= 0:
        return None
    near = np.roll(matches, (_SLACK, _SLACK), (0, 1))[: 2 * _SLACK + 1, : 2 * _SLACK + 1]
    return Outline(float(near.max()) / spread, length)


def _borders(ids: npt.NDArray[np.uint8], ignored: int) -> npt.NDArray[np.uint8]:
    """255 where a pixel's class differs from the class to its left or above, else 0."""
    known = ids != ignored
    borders = np.zeros(ids.shape, dtype=np.bool_)
    borders[:, 1:] |= (ids[:, 1:] != ids[:, :-1]) & known[:, 1:] & known[:, :-1]
    borders[1:] |= (ids[1:] != ids[:-1]) & known[1:] & known[:-1]
    return borders.astype(np.uint8) * np.uint8(255)


def _gray(file: Path) -> npt.NDArray[np.uint8]:
    """The upright image in gray, as small as decoding gives it for free."""
    data = read_bytes(file)
    pixels = decode_reduced(data, parse_header(io.BytesIO(data), str(file)), str(file), _SIDE)
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def _resize(pixels: npt.NDArray[np.uint8], size_wh: tuple[int, int]) -> Floats:
    """The picture at another size, by the mean of the pixels each new one covers."""
    image = Image.fromarray(pixels)
    if image.size != size_wh:
        image = image.convert("F").resize(size_wh, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)


def _edge_strength(gray: Floats) -> Floats:
    """Gradient magnitude, freed of shading and of the local amount of texture: about mean 0, deviation 1 everywhere."""
    padded = np.pad(gray, 1, mode="edge")
    strength = np.hypot(padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1])
    strength -= _smooth(strength)
    deviation = np.sqrt(np.maximum(_smooth(strength * strength), 0)) + 0.1
    return np.asarray(np.clip(strength / deviation, -_STRONGEST, _STRONGEST))


def _smooth(values: Floats) -> Floats:
    return uniform_filter(values, _NEIGHBOURHOOD, mode="reflect")


_RAMPS_FEWEST = 20
_RAMPS_SHARE = 0.15  # of all steps; the sharp masks of CamVid have at most 0.015, interpolated ones at least 0.28
_NEAR_PX = 8  # interpolation and 8 × 8 compression blocks reach no further from an edge
_NEAR_SHARE = 0.95
_RINGING = 1 / 16  # of the gap between two classes; compression stays closer to a class, interpolation fills the gap


@dataclass
class MaskReport:
    """One mask file: findings and the number of pixels of each class id (ignored pixels in none).

    `border` is the share of the outermost pixels that are foreground (any class but the first), `outline` how well
    the mask's outline follows the image; both are None where they could not be measured.
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    pixels: NDArray[np.int64] | None = None
    image_id: int | None = None
    border: float | None = None
    outline: Outline | None = None

    def add(self, code: str, message: str) -> None:
        """Note a finding about this mask."""
        self.findings.append(finding(code, message, path=self.path, image_id=self.image_id))


def examine_mask(dataset: Dataset, image_id: int, path: str, mask_path: str, size_hw: tuple[int, int]) -> MaskReport:
    """Read a mask and check it against its image and the data set's classes. Never raises for what the file holds.

    `path` and `mask_path` are the files of image and mask as the tables name them, `size_hw` is the image's size.
    """
    report = MaskReport(mask_path, image_id=image_id)
    try:
        _examine(report, dataset, path, mask_path, size_hw)
    except DataError as error:
        report.add("mask-unexpected-value" if isinstance(error, PaletteError) else "mask-unreadable", error.what)
    except MemoryError:
        report.add("mask-unreadable", "the mask does not fit into the memory there is")
    return report


def _examine(report: MaskReport, dataset: Dataset, path: str, mask_path: str, size_hw: tuple[int, int]) -> None:
    """Fill the report in; DataError for a mask that cannot be read."""
    file = dataset.image_path(mask_path)
    mask = examine_class_mask(file, dataset)
    ids, strange = mask.ids, mask.strange
    if not _note_interpolation(report, file, mask, dataset) and strange:
        report.add("mask-unexpected-value", f"the mask holds the values {list(strange[:10])}, which belong to no class")
    counts = np.bincount(ids.ravel(), minlength=IGNORE_INDEX + 1)
    report.pixels = counts[: len(dataset.classes)].astype(np.int64)
    _note_one_sided(report, dataset.class_names, all_ignored=counts[IGNORE_INDEX] == ids.size)
    report.border = _border_share(ids)
    if ids.shape == size_hw:
        report.outline = examine_outline(dataset.image_path(path), ids, IGNORE_INDEX)
    else:
        own, image = f"{ids.shape[1]} × {ids.shape[0]}", f"{size_hw[1]} × {size_hw[0]}"
        report.add("mask-size-mismatch", f"the mask has {own} pixels, its image {image}")


def count_ramps(values: NDArray[np.int32]) -> tuple[int, int, int]:
    """Steps between neighbouring pixels, pixels that lie between the two they separate, and pixels that do not.

    The last two count runs of one pixel along rows and columns: 0 3 8 is a ramp, 0 8 3 is none. Where a mask was
    interpolated nearly every step belongs to a ramp; drawn objects of one pixel's width give as many of either kind.
    """
    rows, columns = _count_along_rows(values), _count_along_rows(np.ascontiguousarray(values.T))
    return rows[0] + columns[0], rows[1] + columns[1], rows[2] + columns[2]


@njit(cache=True, nogil=True)
def _count_along_rows(values: NDArray[np.int32]) -> tuple[int, int, int]:
    height, width = values.shape
    steps = ramps = others = 0
    for y in range(height):
        for x in range(1, width):
            before, here = values[y, x - 1], values[y, x]
            if before == here:
                continue
            steps += 1
            if x + 1 < width and values[y, x + 1] != here:
                between = (before < here) == (here < values[y, x + 1])
                ramps += between
                others += not between
    return steps, ramps, others


def _note_interpolation(report: MaskReport, file: Path, mask: ClassMask, dataset: Dataset) -> bool:
    """Whether the values tell of interpolation or lossy compression, noted if so."""
    values, strange = mask.values, mask.strange
    if dataset.mask_threshold is not None:  # whatever lies between has been decided
        return False
    if values is None:  # colours between two colours are in no palette
        return False
    if strange:
        known = np.array(sorted({*_sources(dataset), *dataset.ignore_values}), dtype=np.int64)
        kind = _kind_of_strangeness(file, values.astype(np.int64), np.array(strange), known)
        if kind is not None:
            report.add("mask-interpolated", f"the mask holds {len(strange)} values between the classes, {kind}")
            return True
    steps, ramps, others = count_ramps(values.astype(np.int32))
    if ramps < max(_RAMPS_FEWEST, _RAMPS_SHARE * steps) or ramps <= others:
        return False
    report.add("mask-interpolated", f"at {ramps} of {steps} steps one pixel of an id in between stands on the edge")
    return True


def _kind_of_strangeness(
    file: Path, values: NDArray[np.int64], strange: NDArray[np.int64], known: NDArray[np.int64]
) -> str | None:
    """How values that belong to no class came about, in words; None when nothing but wrong ids explains them."""
    if len(known) < 2 or len(strange) < 3:
        return None
    above = np.clip(np.searchsorted(known, values), 1, len(known) - 1)
    low, high = known[above - 1], known[above]
    nearest = np.where(values - low <= high - values, low, high)
    odd = nearest != values
    distance = np.abs(values - nearest)[odd]
    gaps = (high - low)[odd]
    edge = np.zeros(values.shape, dtype=np.float32)
    edge[:, 1:] += nearest[:, 1:] != nearest[:, :-1]
    edge[1:] += nearest[1:] != nearest[:-1]
    near = uniform_filter(edge, 2 * _NEAR_PX + 1, mode="nearest") > 1e-4
    inside = (values[odd] > known[0]) & (values[odd] < known[-1])
    ringing = float(np.median(distance / gaps)) <= _RINGING
    if ringing and read_header(file).kind == "jpeg":
        return "the traces of JPEG compression: masks must be saved without loss"
    if not inside.all() or near[odd].mean() < _NEAR_SHARE:
        return None
    return "close to classes, as JPEG compression leaves them along edges" if ringing else "all of them along edges"


def _note_one_sided(report: MaskReport, names: tuple[str, ...], *, all_ignored: bool) -> None:
    pixels = report.pixels
    if pixels is None or len(pixels) < 2:
        return
    if all_ignored:
        report.add("mask-empty", "every pixel of the mask is ignored")
    elif pixels[1:].sum() == 0:
        report.add("mask-empty", f"the mask holds nothing but {names[0]}")
    elif pixels[0] == 0 and (len(pixels) == 2 or names[0].lower() in BACKGROUND_NAMES):
        report.add("mask-full", f"the mask has no pixel of {names[0]}")


def _border_share(ids: NDArray[np.uint8]) -> float | None:
    border = np.concatenate([ids[0], ids[-1], ids[:, 0], ids[:, -1]])
    border = border[border != IGNORE_INDEX]
    return float((border > 0).mean()) if len(border) else None


def _sources(dataset: Dataset) -> list[int]:
    return [i if s is None else s for i, s in enumerate(dataset.classes["source_id"].to_list())]
