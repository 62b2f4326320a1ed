"""Sun, sky and the camera: what turns reflectances into a photograph."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.kernels import develop
from sightline.synth.plane import Points
from sightline.synth.textures import FloatImage, floats, srgb_from_linear

_LUMA: Final = floats([0.2126, 0.7152, 0.0722])
_TONE_RANGE: Final = 4.0


@dataclass(frozen=True, eq=False)
class Light:
    """Irradiance of sun and sky on flat ground, RGB; `azimuth_rad` points to the sun in picture directions (y down).

    `slope` is the cotangent of the sun's elevation: how many metres of shadow a metre of height throws.
    """

    sun_rgb: FloatImage
    sky_rgb: FloatImage
    azimuth_rad: float
    slope: float

    def shadow_shift_m(self, height_m: float) -> Points:
        """Where the shadow of a point at a height falls, relative to its foot, in metres along picture axes."""
        return -self.slope * height_m * np.array([np.cos(self.azimuth_rad), np.sin(self.azimuth_rad)])


def sample_light(rng: np.random.Generator) -> Light:
    """Return clear, hazy or overcast daylight with the sun 32 to 65 degrees high."""
    elevation = np.deg2rad(rng.uniform(32.0, 65.0))
    clear = float(rng.choice([1.0, 0.85, 0.45, 0.12], p=[0.45, 0.25, 0.15, 0.15]))
    warmth = float(rng.uniform(0.0, 0.10))
    sun = clear * 0.95 * np.array([1.0 + warmth, 1.0, 0.94 - warmth])
    sky = (0.24 + 0.5 * (1.0 - clear)) * np.array([0.92, 1.0, 1.0 + 0.20 * clear])
    return Light(
        sun_rgb=sun.astype(np.float32),
        sky_rgb=sky.astype(np.float32),
        azimuth_rad=float(rng.uniform(0.0, 2 * np.pi)),
        slope=float(1.0 / np.tan(elevation)),
    )


@dataclass(frozen=True, eq=False)
class Camera:
    """Exposure, colour, sharpness, noise and vignetting of one shot or one video; blur kernels are centred, so that
    nothing in the picture moves.
    """

    exposure: float
    balance_rgb: FloatImage
    contrast: float
    saturation: float
    blur_px: float
    shake: FloatImage | None
    read_noise: float
    shot_noise: float
    vignette: float

    def expose(self, radiance: FloatImage, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """Return the photograph, RGB uint8 (H, W, 3), of linear radiance at final size."""
        picture = radiance
        if self.shake is not None:
            picture = floats(cv2.filter2D(picture, cv2.CV_32F, self.shake, borderType=cv2.BORDER_REFLECT))
        if self.blur_px > 0.2:
            picture = floats(cv2.GaussianBlur(picture, (0, 0), self.blur_px))
        developed: npt.NDArray[np.uint8] = develop(
            picture,
            rng.standard_normal(picture.shape, dtype=np.float32),
            self.balance_rgb * np.float32(self.exposure),
            np.float32(self.vignette),
            floats([self.read_noise, self.shot_noise]),
            _tone_table(),
            np.float32(_TONE_RANGE),
            np.float32(self.saturation),
            np.float32(self.contrast),
        )
        return developed


def sample_camera(radiance: FloatImage, rng: np.random.Generator) -> Camera:
    """Return a camera set for a scene: metered on its mean radiance, off by up to a third of a stop or so."""
    mean = float((radiance.reshape(-1, 3) @ _LUMA).mean())
    return Camera(
        exposure=float(0.20 / max(mean, 1e-3) * 2.0 ** rng.uniform(-0.45, 0.35)),
        balance_rgb=(1.0 + rng.uniform(-0.06, 0.06, size=3)).astype(np.float32),
        contrast=float(rng.uniform(0.92, 1.10)),
        saturation=float(rng.uniform(0.80, 1.10)),
        blur_px=float(rng.uniform(0.25, 0.75)),
        shake=_shake_kernel(rng) if rng.random() < 0.2 else None,
        read_noise=float(rng.uniform(0.002, 0.006)),
        shot_noise=float(rng.uniform(0.010, 0.028)),
        vignette=float(rng.uniform(0.0, 0.22)),
    )


def _shake_kernel(rng: np.random.Generator) -> FloatImage:
    """Return a normalised 5 x 5 kernel of a straight camera movement of up to 2.5 pixels, symmetric."""
    angle, length = rng.uniform(0.0, np.pi), rng.uniform(0.8, 2.5)
    kernel = np.zeros((5, 5))
    for step in np.linspace(-length / 2, length / 2, 21):
        x, y = 2 + step * np.cos(angle), 2 + step * np.sin(angle)
        left, top = int(x), int(y)
        kernel[top, left] += (1 - x + left) * (1 - y + top)
        kernel[top, min(left + 1, 4)] += (x - left) * (1 - y + top)
        kernel[min(top + 1, 4), left] += (1 - x + left) * (y - top)
        kernel[min(top + 1, 4), min(left + 1, 4)] += (x - left) * (y - top)
    kernel += kernel[::-1, ::-1]
    return floats(kernel / kernel.sum())


@lru_cache(maxsize=1)
def _tone_table() -> FloatImage:
    """Encoded values of linear ones from 0 to `_TONE_RANGE`: sRGB, with highlights above 0.7 rolled off towards 1."""
    linear = np.linspace(0.0, _TONE_RANGE, 32769)
    over = np.maximum(linear - 0.7, 0.0)
    return srgb_from_linear(np.minimum(linear, 0.7) + 0.3 * (1.0 - np.exp(-over / 0.3)))
