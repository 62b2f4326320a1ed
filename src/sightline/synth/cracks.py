"""Cracks in asphalt and concrete: thin dark branching curves on a worn surface, with the mask they were drawn from."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.kernels import tapered_stroke
from sightline.synth.light import sample_camera
from sightline.synth.plane import Points
from sightline.synth.surface import Surface, sample_surface
from sightline.synth.textures import FloatImage, floats

CRACK_CLASS_NAMES: Final = ("background", "crack")

_SAMPLES: Final = 4  # per pixel and axis
_STEP_PX: Final = 2.0
_MOST_CRACKS: Final = 60


@dataclass(frozen=True, eq=False)
class CrackImage:
    """A picture, RGB uint8 (H, W, 3), and its mask (H, W), True on crack."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Stroke:
    """One crack or branch: points (N, 2) in pixel-edge coordinates, radii (N,) in pixels, darkness (N,) in 0..1."""

    points: Points
    radii: Points
    strengths: Points


def render_cracks(rng: np.random.Generator, size_hw: tuple[int, int]) -> CrackImage:
    """Return one cracked surface seen from close above, 1 to 3 % of it crack (up to what one last branch adds).

    A pixel is crack when crack covers more than half of it, measured at 4 x 4 points; blur, noise and compression come
    after and move nothing. The same state of `rng` gives the same bytes on the same versions of numpy and OpenCV.
    """
    surface = sample_surface(rng, size_hw)
    height, width = size_hw
    inside = np.zeros((height * _SAMPLES, width * _SAMPLES), dtype=np.bool_)
    depth = np.zeros(inside.shape, dtype=np.float32)
    target = float(rng.uniform(0.010, 0.024))
    scale = float(np.clip(min(size_hw) / 320.0, 0.7, 2.5))
    for _ in range(_MOST_CRACKS):
        missing = target - float(inside.mean())
        if missing <= 0.0:
            break
        for stroke in _grow(size_hw, scale, max(missing, 0.004) * height * width, rng):
            tapered_stroke(
                inside, depth, stroke.points * _SAMPLES, stroke.radii * _SAMPLES, stroke.strengths.astype(np.float64)
            )
    mask = _pool(inside.astype(np.float32)) > 0.5
    radiance = _carve(surface, _pool(np.sqrt(depth)), _pool(inside.astype(np.float32)), rng)
    return CrackImage(sample_camera(radiance, rng).expose(radiance, rng), mask)


def _pool(samples: FloatImage) -> FloatImage:
    height, width = samples.shape
    return floats(cv2.resize(samples, (width // _SAMPLES, height // _SAMPLES), interpolation=cv2.INTER_AREA))


def _carve(surface: Surface, dark: FloatImage, coverage: FloatImage, rng: np.random.Generator) -> FloatImage:
    """Return the surface's radiance with cracks in it: deep ones black, faint ones dusty, one rim catching light."""
    azimuth = float(rng.uniform(0.0, 2 * np.pi))
    matrix = np.array([[1.0, 0.0, 1.1 * np.cos(azimuth)], [0.0, 1.0, 1.1 * np.sin(azimuth)]])
    size = (coverage.shape[1], coverage.shape[0])
    moved = cv2.warpAffine(coverage, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rim = np.clip(moved - coverage, 0.0, 1.0)
    dirt = cv2.GaussianBlur(coverage, (0, 0), 2.2)
    filling = np.float32(rng.uniform(0.10, 0.28)) * floats([1.0, 0.92, 0.82])
    albedo = surface.albedo * (1.0 - 0.22 * dirt)[..., None]
    albedo *= (1.0 + np.float32(rng.uniform(0.05, 0.28)) * rim)[..., None]
    albedo *= 1.0 - dark[..., None] * (1.0 - filling)
    return np.asarray(albedo * surface.light, dtype=np.float32)


def _grow(size_hw: tuple[int, int], scale: float, budget_px: float, rng: np.random.Generator) -> list[Stroke]:
    """Return one crack with its branches, about `budget_px` pixels of it at most."""
    faint = rng.random() < 0.22
    darkness = float(rng.uniform(0.40, 0.60) if faint else rng.uniform(0.75, 0.97))
    start, end = _across(size_hw, rng)
    length = float(np.hypot(*(end - start)))
    thin = scale * float(rng.uniform(0.62, 0.80))
    radius = thin if faint else max(thin, min(scale * float(rng.uniform(0.9, 2.1)), budget_px / (2.6 * length)))
    through = min(1.0, budget_px / (2.4 * radius * length))
    trunk = _walk(start, start + (end - start) * through, radius, darkness, through == 1.0, rng)
    strokes, left_px = [trunk], budget_px - 2.0 * radius * through * length
    for _ in range(int(rng.poisson(1.0 + length / (190.0 * scale)))):
        at = int(rng.integers(1, len(trunk.points) - 1))
        ahead = trunk.points[at + 1] - trunk.points[at - 1]
        turn = float(rng.uniform(0.45, 1.35)) * (1 if rng.random() < 0.5 else -1)
        heading = float(np.arctan2(ahead[1], ahead[0])) + turn
        branch_radius = max(thin, float(trunk.radii[at]) * float(rng.uniform(0.5, 0.85)))
        branch_length = min(length * float(rng.uniform(0.12, 0.45)), left_px / (2.2 * branch_radius))
        if branch_length < 12.0 * scale:
            continue
        left_px -= 2.0 * branch_radius * branch_length
        tip = trunk.points[at] + branch_length * np.array([np.cos(heading), np.sin(heading)])
        strokes.append(
            _walk(trunk.points[at], tip, branch_radius, darkness * float(rng.uniform(0.65, 0.95)), False, rng)
        )
    return strokes


def _across(size_hw: tuple[int, int], rng: np.random.Generator) -> tuple[Points, Points]:
    """Return where a crack starts and ends: on two edges of the picture, or one end inside it."""
    height, width = size_hw
    first = int(rng.integers(4))
    second = (first + int(rng.choice([1, 2, 2, 2, 3]))) % 4
    ends = []
    for side in (first, second):
        share = float(rng.uniform(0.08, 0.92))
        corners = ((share * width, -3.0), (width + 3.0, share * height), (share * width, height + 3.0),
                   (-3.0, share * height))  # fmt: skip
        ends.append(np.array(corners[side]))
    if rng.random() < 0.35:
        ends[1] = ends[0] + (ends[1] - ends[0]) * float(rng.uniform(0.35, 0.85))
    return ends[0], ends[1]


def _walk(
    start: Points, end: Points, radius: float, darkness: float, open_end: bool, rng: np.random.Generator
) -> Stroke:
    """Return a random walk pinned to both ends: a fractional Brownian bridge across the straight line between them.

    The bridge is a sine series whose amplitudes fall as n^-(H + 1/2) with a Hurst exponent H of 0.55 to 0.8.
    """
    straight = end - start
    length = max(float(np.hypot(*straight)), 1.0)
    count = max(8, int(length / _STEP_PX))
    share = np.linspace(0.0, 1.0, count)
    waves = np.arange(1, max(3, count // 3))
    amplitudes = rng.normal(0.0, 1.0, size=len(waves)) * waves ** -(0.5 + float(rng.uniform(0.55, 0.8)))
    aside = np.sin(np.pi * np.outer(share, waves)) @ amplitudes * length * float(rng.uniform(0.035, 0.085))
    normal = np.array([-straight[1], straight[0]]) / length
    points = start + np.outer(share, straight) + np.outer(aside, normal)
    points[1:] += rng.normal(0.0, 0.35, size=(count - 1, 2))
    profile = np.clip(1.0 + 0.42 * _smooth(rng.normal(0.0, 1.0, size=count), 6), 0.5, 1.7)
    taper = np.ones(count) if open_end else np.minimum(1.0, (1.0 - share) / 0.35)
    radii = np.maximum(radius * profile * (0.3 + 0.7 * taper), 0.35)
    strengths = darkness * np.clip(0.92 + 0.12 * _smooth(rng.normal(0.0, 1.0, size=count), 10), 0.6, 1.0)
    return Stroke(points, radii, strengths * (0.6 + 0.4 * taper))


def _smooth(values: Points, window: int) -> Points:
    """Return a moving average rescaled to unit deviation for white input, same length."""
    kernel = np.hanning(2 * window + 3)[1:-1]
    kernel /= np.sqrt((kernel**2).sum())
    padded = np.pad(values, window, mode="reflect") if len(values) > window else np.pad(values, window, mode="edge")
    return np.convolve(padded, kernel, mode="valid")
