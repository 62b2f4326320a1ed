"""Whether a mask belongs to its image: do the outlines it draws lie where the image has edges?

The sum of edge strength along the outline is compared with the sums along the same outline moved everywhere else. A
mask that was drawn on the image stands out by many standard deviations; one of another image, or one that was moved,
does not. No class, colour or contrast direction enters, so that thin cracks and street scenes are judged alike.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import irfft2, rfft2
from scipy.ndimage import uniform_filter

from sightline.core.errors import DataError
from sightline.media import decode_reduced, parse_header, read_bytes

__all__ = ["Outline", "examine_outline"]

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
