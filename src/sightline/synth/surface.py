"""Pavement from close above: asphalt or concrete with stains, paint, joints, leaves and uneven light, but no cracks."""

from dataclasses import dataclass

import cv2
import numpy as np

from sightline.synth.kernels import blend_layer
from sightline.synth.plane import fill
from sightline.synth.textures import BLOTCHES, CLOUDS, GRAIN, ROUGH, FloatImage, floats, noise, smoothstep, texture


@dataclass(frozen=True, eq=False)
class Surface:
    """`albedo` (H, W, 3) linear reflectance; `light` (H, W, 3) irradiance, shadows included."""

    albedo: FloatImage
    light: FloatImage


def sample_surface(rng: np.random.Generator, size_hw: tuple[int, int]) -> Surface:
    """Return a random pavement, two thirds asphalt, one third concrete."""
    albedo = _asphalt(size_hw, rng) if rng.random() < 0.66 else _concrete(size_hw, rng)
    if rng.random() < 0.55:
        _stain(albedo, rng)
    if rng.random() < 0.28:
        _paint(albedo, rng)
    if rng.random() < 0.25:
        _litter(albedo, rng)
    return Surface(albedo, _uneven_light(size_hw, rng))


def _asphalt(size_hw: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Return bitumen with stones of a few pixels in it."""
    tone = float(rng.uniform(0.085, 0.20))
    warmth = float(rng.uniform(-0.06, 0.08))
    base = texture(size_hw, {CLOUDS: 0.07, ROUGH: 0.10, GRAIN: 0.16}, rng)
    albedo = np.empty((*size_hw, 3), dtype=np.float32)
    np.multiply(base[..., None], floats([tone * (1 + warmth), tone, tone * (1 - 1.2 * warmth)]), out=albedo)
    zoom = float(rng.uniform(1.3, 2.6))
    stones = noise(GRAIN, size_hw, rng, zoom)
    contrast = float(rng.uniform(0.6, 1.2))
    light = smoothstep(0.7, 1.8, stones) * np.float32(0.55 * contrast)
    blend_layer(albedo, light, floats([2.2 * tone, 2.1 * tone, 1.9 * tone]), base)
    blend_layer(albedo, smoothstep(0.8, 1.8, -stones) * np.float32(0.6 * contrast), floats([0.3 * tone] * 3), base)
    coloured = smoothstep(1.5, 2.1, noise(GRAIN, size_hw, rng, zoom)) * np.float32(0.5 * contrast)
    blend_layer(albedo, coloured, floats([2.0 * tone, 1.55 * tone, 1.0 * tone]), base)
    if rng.random() < 0.22:  # an old repair of another tone, its edge ragged
        edge = _half_plane(size_hw, rng) + np.float32(2.5) * noise(ROUGH, size_hw, rng)
        other = np.float32(rng.choice([0.72, 1.3]))
        albedo *= (1.0 + (other - 1.0) * smoothstep(-2.0, 2.0, edge))[..., None]
    return albedo


def _concrete(size_hw: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Return cement with fine grain, broom marks, pores and sometimes a straight joint."""
    tone = float(rng.uniform(0.24, 0.42))
    base = texture(size_hw, {BLOTCHES: 0.04, CLOUDS: 0.06, ROUGH: 0.05, GRAIN: 0.07}, rng)
    if rng.random() < 0.5:
        strokes = cv2.GaussianBlur(noise(GRAIN, size_hw, rng), (0, 0), sigmaX=9.0, sigmaY=0.7)
        base = base + np.float32(0.16 * rng.uniform(0.3, 1.0)) * (strokes.T if size_hw[0] == size_hw[1] else strokes)
    pores = smoothstep(2.1, 2.6, noise(GRAIN, size_hw, rng, float(rng.uniform(1.5, 2.5))))
    base = np.maximum(base * (1.0 - 0.55 * pores), np.float32(0.2))
    if rng.random() < 0.3:
        offset = np.abs(_half_plane(size_hw, rng))
        base = base * (1.0 - 0.55 * (1.0 - smoothstep(2.2, 3.4, offset)))
    colour = floats([tone * (1 + rng.uniform(0.0, 0.06)), tone, tone * (1 - rng.uniform(0.0, 0.12))])
    albedo = np.empty((*size_hw, 3), dtype=np.float32)
    np.multiply(base[..., None], colour, out=albedo)
    return albedo


def _half_plane(size_hw: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Return the signed distance in pixels (H, W) from a random line through the picture."""
    height, width = size_hw
    angle = rng.uniform(0.0, np.pi)
    x0, y0 = rng.uniform(0.15, 0.85, size=2) * (width, height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.asarray(
        (x - np.float32(x0)) * np.float32(np.cos(angle)) + (y - np.float32(y0)) * np.float32(np.sin(angle))
    )


def _stain(albedo: FloatImage, rng: np.random.Generator) -> None:
    size_hw = (albedo.shape[0], albedo.shape[1])
    level = float(rng.uniform(0.7, 1.5))
    spot = smoothstep(level, level + float(rng.uniform(0.3, 0.9)), noise(BLOTCHES, size_hw, rng))
    albedo *= (1.0 + np.float32(rng.choice([-0.38, -0.22, 0.25])) * spot)[..., None]


def _paint(albedo: FloatImage, rng: np.random.Generator) -> None:
    """Lay a worn stripe of road paint."""
    size_hw = (albedo.shape[0], albedo.shape[1])
    half = float(rng.uniform(0.06, 0.13)) * min(size_hw)
    offset = np.abs(_half_plane(size_hw, rng)) + noise(ROUGH, size_hw, rng)
    worn = 1.0 - smoothstep(
        float(rng.uniform(-0.2, 0.9)), 1.8, noise(ROUGH, size_hw, rng) + noise(CLOUDS, size_hw, rng)
    )
    stripe = (1.0 - smoothstep(half - 1.0, half + 1.0, offset)) * worn * np.float32(0.9)
    colour = (0.60, 0.60, 0.58) if rng.random() < 0.75 else (0.58, 0.40, 0.07)
    blend_layer(albedo, stripe, floats(colour), texture(size_hw, {GRAIN: 0.06, ROUGH: 0.05}, rng))


def _litter(albedo: FloatImage, rng: np.random.Generator) -> None:
    """Scatter a few leaves and pebbles."""
    size_hw = (albedo.shape[0], albedo.shape[1])
    grain = texture(size_hw, {ROUGH: 0.2}, rng)
    for _ in range(int(rng.integers(1, 6))):
        canvas = np.zeros(size_hw, dtype=np.uint8)
        centre = rng.uniform(0.0, 1.0, size=2) * size_hw[::-1]
        long, turn = float(rng.uniform(2.0, 7.0)), float(rng.uniform(0.0, np.pi))
        slim = long * float(rng.uniform(0.35, 0.9))
        angles = np.linspace(0.0, 2 * np.pi, 14, endpoint=False)
        outline = np.stack([long * np.cos(angles), slim * np.sin(angles)], axis=1) * rng.uniform(
            0.8, 1.15, size=(14, 1)
        )
        frame = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        fill(canvas, [outline @ frame + centre + (1.5, 1.5)])
        albedo *= (1.0 - np.float32(0.45 / 255) * canvas)[..., None]
        canvas[:] = 0
        fill(canvas, [outline @ frame + centre])
        colour = ((0.22, 0.12, 0.04), (0.30, 0.22, 0.06), (0.32, 0.31, 0.29), (0.10, 0.13, 0.03))[int(rng.integers(4))]
        blend_layer(albedo, canvas.astype(np.float32) / np.float32(255), floats(colour), grain)


def _uneven_light(size_hw: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Return daylight (H, W, 3) with a gradient and, sometimes, the soft shadow of something outside the picture."""
    slope = _half_plane(size_hw, rng) / np.float32(max(size_hw))
    level = 1.0 + np.float32(rng.uniform(0.0, 0.38)) * slope
    light = np.empty((*size_hw, 3), dtype=np.float32)
    np.multiply(level[..., None], floats([1.0, 0.99, 0.97]), out=light)
    if rng.random() < 0.42:
        softness = float(rng.uniform(1.5, 9.0))
        edge = _half_plane(size_hw, rng)
        if rng.random() < 0.4:  # a pole or a branch rather than a wall
            edge = np.abs(edge) - np.float32(rng.uniform(6.0, 26.0))
        elif rng.random() < 0.4:  # leaves
            edge = edge + np.float32(16.0) * noise(BLOTCHES, size_hw, rng)
        shade = 1.0 - smoothstep(-softness, softness, edge)
        light *= 1.0 - shade[..., None] * floats([0.60, 0.56, 0.50]) * np.float32(rng.uniform(0.5, 1.0))
    return light
