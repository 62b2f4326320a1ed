"""Per-pixel work of the renderer, in place on float32 canvases: NumPy, and compiled where one pass saves many.

The compiled ones release the interpreter lock. Their peer is the same arithmetic in NumPy, one pass for each operation.
"""

import numpy as np
import numpy.typing as npt

from sightline.core.kernels import njit

FloatImage = npt.NDArray[np.float32]
ByteImage = npt.NDArray[np.uint8]


def blend_layer(albedo: FloatImage, weight: FloatImage, colour: FloatImage, modulation: FloatImage) -> None:
    """Mix `colour * modulation` into `albedo` (H, W, 3) by `weight` (H, W) in 0..1."""
    here = weight > 0
    old = albedo[here]
    albedo[here] = old + weight[here][:, None] * (colour * modulation[here][:, None] - old)


def tint(modulation: FloatImage, colour: FloatImage) -> FloatImage:
    """Return `colour` (3,) times `modulation` (H, W), as (H, W, 3)."""
    return np.asarray(modulation[..., None] * colour, np.float32)


def add_scaled(total: FloatImage, field: FloatImage, amount: np.float32) -> None:
    """Add `amount * field` to `total`, both (H, W)."""
    total += amount * field


def ramp(values: FloatImage, low: np.float32, high: np.float32) -> FloatImage:
    """Return the cubic ramp from 0 at `low` to 1 at `high` of `values` (H, W)."""
    with np.errstate(over="ignore"):  # far beyond a narrow ramp, which is 0 or 1 there
        t = np.clip((values - low) * (np.float32(1.0) / (high - low)), np.float32(0.0), np.float32(1.0))
    return np.asarray(t * t * (np.float32(3.0) - np.float32(2.0) * t), np.float32)


@njit(cache=True, nogil=True)
def light_level(
    radiance: FloatImage,
    albedo: FloatImage,
    alpha: FloatImage,
    static_shadow: FloatImage,
    cast_shadow: ByteImage,
    contact: ByteImage,
    sun_rgb: FloatImage,
    sky_rgb: FloatImage,
) -> None:  # pragma: no cover - compiled
    """Lay one lit surface over `radiance`: `albedo` (H, W, 3) with coverage `alpha` (H, W).

    `static_shadow` is in 0..1, `cast_shadow` and `contact` (ambient occlusion below vehicles) in 0..255.
    """
    height, width = alpha.shape
    for y in range(height):
        for x in range(width):
            a = alpha[y, x]
            if a <= 0.0:
                continue
            shade = max(static_shadow[y, x], cast_shadow[y, x] / np.float32(255.0))
            lit = np.float32(1.0) - shade
            open_sky = np.float32(1.0) - np.float32(0.25) * shade - np.float32(0.55) * contact[y, x] / np.float32(255.0)
            for c in range(3):
                value = albedo[y, x, c] * (sun_rgb[c] * lit + sky_rgb[c] * open_sky)
                radiance[y, x, c] += a * (value - radiance[y, x, c])


def over(radiance: FloatImage, layer: FloatImage, top: int, left: int) -> None:
    """Composite a premultiplied `layer` (h, w, 4) over `radiance` with its corner at (`top`, `left`), clipped."""
    rows = slice(max(0, top), max(0, top + layer.shape[0]))
    columns = slice(max(0, left), max(0, left + layer.shape[1]))
    part = radiance[rows, columns]
    seen = layer[rows.start - top :, columns.start - left :][: part.shape[0], : part.shape[1]]
    part *= np.float32(1.0) - seen[..., 3:]
    part += seen[..., :3]


@njit(cache=True, nogil=True)
def _span(points_xy: npt.NDArray[np.float64], line: float) -> tuple[float, float]:  # pragma: no cover - compiled
    """Return where a horizontal line enters and leaves a convex polygon (N, 2); inf, -inf where it does not."""
    left, right = np.inf, -np.inf
    count = points_xy.shape[0]
    for i in range(count):
        x0, y0 = points_xy[i, 0], points_xy[i, 1]
        x1, y1 = points_xy[(i + 1) % count, 0], points_xy[(i + 1) % count, 1]
        if (y0 <= line) != (y1 <= line):
            crossing = x0 + (line - y0) * (x1 - x0) / (y1 - y0)
            left, right = min(left, crossing), max(right, crossing)
    return left, right


@njit(cache=True, nogil=True)
def add_convex(
    coverage: FloatImage, points_xy: npt.NDArray[np.float64], rows_per_pixel: int
) -> None:  # pragma: no cover - compiled
    """Add to `coverage` (H, W) the covered fraction of each pixel by a convex polygon (N, 2) in pixel-edge units.

    Exact along x; along y the mean of `rows_per_pixel` scan lines through each pixel.
    """
    height, width = coverage.shape
    first = max(0, int(np.floor(points_xy[:, 1].min())) * rows_per_pixel)
    last = min(height, int(np.ceil(points_xy[:, 1].max()))) * rows_per_pixel
    for row in range(first, last):
        left, right = _span(points_xy, (row + 0.5) / rows_per_pixel)
        left, right = max(left, 0.0), min(right, float(width))
        if right <= left:
            continue
        for x in range(int(left), min(width, int(np.ceil(right)))):
            covered = min(right, x + 1.0) - max(left, float(x))
            coverage[row // rows_per_pixel, x] += np.float32(covered / rows_per_pixel)


@njit(cache=True, nogil=True)
def _tapered_segment(
    inside: npt.NDArray[np.bool_],
    depth: FloatImage,
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    strengths: npt.NDArray[np.float64],
) -> None:  # pragma: no cover - compiled
    height, width = inside.shape
    along = end - start
    length_sq = along[0] ** 2 + along[1] ** 2
    reach = max(radii[0], radii[1]) + 0.5
    y_first = max(0, int(np.floor(min(start[1], end[1]) - reach)))
    y_last = min(height, int(np.ceil(max(start[1], end[1]) + reach)))
    x_first = max(0, int(np.floor(min(start[0], end[0]) - reach)))
    x_last = min(width, int(np.ceil(max(start[0], end[0]) + reach)))
    for y in range(y_first, y_last):
        for x in range(x_first, x_last):
            px, py = x + 0.5 - start[0], y + 0.5 - start[1]
            t = 0.0 if length_sq == 0.0 else min(1.0, max(0.0, (px * along[0] + py * along[1]) / length_sq))
            radius = radii[0] + t * (radii[1] - radii[0])
            ratio = ((px - t * along[0]) ** 2 + (py - t * along[1]) ** 2) / (radius * radius)
            if ratio >= 1.0:
                continue
            inside[y, x] = True
            value = np.float32((strengths[0] + t * (strengths[1] - strengths[0])) * (1.0 - ratio))
            depth[y, x] = max(depth[y, x], value)


@njit(cache=True, nogil=True)
def tapered_stroke(
    inside: npt.NDArray[np.bool_],
    depth: FloatImage,
    points_xy: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    strengths: npt.NDArray[np.float64],
) -> None:  # pragma: no cover - compiled
    """Mark the sample points of a grid that lie inside a polyline of varying radius.

    `inside` (H, W) becomes True where a sample's distance to a segment is below the radius interpolated along it;
    `depth` (H, W) is raised to strength * (1 - (distance / radius)^2) there. All in grid units, samples at centres.
    """
    for i in range(points_xy.shape[0] - 1):
        both = slice(i, i + 2)
        _tapered_segment(inside, depth, points_xy[i], points_xy[i + 1], radii[both], strengths[both])


@njit(cache=True, nogil=True)
def place_sprite(
    radiance: FloatImage,
    albedo: FloatImage,
    direct: FloatImage,
    static_shadow: FloatImage,
    top: int,
    left: int,
    sun_rgb: FloatImage,
    sky_rgb: FloatImage,
) -> None:  # pragma: no cover - compiled
    """Composite a sprite (premultiplied `albedo` (h, w, 4) and `direct` (h, w)) under the light at its place.

    The window (`top`, `left`, h, w) must lie inside `radiance`.
    """
    height, width = direct.shape
    for y in range(height):
        for x in range(width):
            a = albedo[y, x, 3]
            if a <= np.float32(1e-4):
                continue
            shade = static_shadow[top + y, left + x]
            hit = direct[y, x] / a * (np.float32(1.0) - shade)
            open_sky = np.float32(1.0) - np.float32(0.25) * shade
            for c in range(3):
                value = albedo[y, x, c] * (sun_rgb[c] * hit + sky_rgb[c] * open_sky)
                radiance[top + y, left + x, c] = radiance[top + y, left + x, c] * (np.float32(1.0) - a) + value


@njit(cache=True, nogil=True)
def develop(
    radiance: FloatImage,
    unit_noise: FloatImage,
    gain_rgb: FloatImage,
    vignette: np.float32,
    noise_levels: FloatImage,
    tone_table: FloatImage,
    tone_range: np.float32,
    saturation: np.float32,
    contrast: np.float32,
) -> ByteImage:  # pragma: no cover - compiled
    """Return the 8-bit picture (H, W, 3) of linear radiance: gain, vignetting, noise, tone curve, colour, contrast.

    `noise_levels` are the standard deviation in the dark and its growth with the square root of the signal;
    `tone_table` holds encoded values for linear values from 0 to `tone_range`.
    """
    height, width = radiance.shape[:2]
    picture = np.empty((height, width, 3), dtype=np.uint8)
    last = tone_table.shape[0] - 1
    encoded = np.empty(3, dtype=np.float32)
    middle = np.float32(0.45)
    for y in range(height):
        v = np.float32(2.0 * (y + 0.5) / height - 1.0)
        for x in range(width):
            u = np.float32(2.0 * (x + 0.5) / width - 1.0)
            fall = np.float32(1.0) - vignette * np.float32(0.5) * (u * u + v * v)
            for c in range(3):
                signal = max(radiance[y, x, c] * gain_rgb[c] * fall, np.float32(0.0))
                spread = np.sqrt(noise_levels[0] ** 2 + noise_levels[1] ** 2 * signal)
                value = (signal + spread * unit_noise[y, x, c]) / tone_range
                encoded[c] = tone_table[int(min(max(value, np.float32(0.0)), np.float32(1.0)) * last + np.float32(0.5))]
            gray = np.float32(0.2126) * encoded[0] + np.float32(0.7152) * encoded[1] + np.float32(0.0722) * encoded[2]
            for c in range(3):
                value = (gray + (encoded[c] - gray) * saturation - middle) * contrast + middle
                picture[y, x, c] = np.uint8(min(max(value, np.float32(0.0)), np.float32(1.0)) * 255 + np.float32(0.5))
    return picture
