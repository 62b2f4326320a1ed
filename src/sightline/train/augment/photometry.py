"""Changes of the values of pixels: colour, blur, noise, compression. None of them moves a label."""

from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from sightline.train.augment.policy import Augmentation

__all__ = ["adjust_colour", "change_pixels", "shift_hue"]

Pixels = NDArray[np.uint8]
_LUMA = np.array([0.2989, 0.587, 0.114])  # ITU-R 601-2, as torchvision weighs them
_HUE_STEPS = 180  # of OpenCV's 8-bit hue


def change_pixels(image: Pixels, policy: Augmentation, rng: np.random.Generator) -> Pixels:
    """The image (H, W, C) uint8 with what the policy draws; an image that nothing happens to is returned as it is.

    The same number of values is drawn whatever happens, so that one setting does not change what others do.
    """
    brightness, contrast, saturation = (
        1.0 + rng.uniform(-1, 1) * share for share in (policy.brightness, policy.contrast, policy.saturation)
    )
    hue = rng.uniform(-1, 1) * policy.hue
    chances = rng.random(4)
    sigma, spread, quality = rng.random(3)
    noise_seed = int(rng.integers(2**32))
    if chances[0] < policy.gray:
        saturation = 0.0
    image = adjust_colour(image, brightness, contrast, saturation)
    if hue:
        image = shift_hue(image, hue)
    if chances[1] < policy.blur:
        image = _same_rank(cv2.GaussianBlur(image, (0, 0), max(0.1, sigma * policy.blur_sigma)), image)
    if chances[2] < policy.noise:
        image = _with_noise(image, spread * policy.noise_std, noise_seed)
    if chances[3] < policy.jpeg:
        image = _as_jpeg(image, round(policy.jpeg_quality + quality * (95 - policy.jpeg_quality)))
    return image


def adjust_colour(image: Pixels, brightness: float, contrast: float, saturation: float) -> Pixels:
    """torchvision's three blends in this order (with black, the mean grey, and the grey picture) as one linear map.

    Values are rounded and cut to 0..255 once at the end, where torchvision does so after each.
    """
    channels = image.shape[2]
    if brightness == contrast == saturation == 1.0 or (channels == 1 and brightness == contrast == 1.0):
        return image
    means = np.array(cv2.mean(image)[:channels])
    luma = _LUMA if channels == 3 else np.ones(1)
    mean_gray = float(luma @ means) * brightness
    to_gray = np.tile(luma, (channels, 1))
    blend = saturation * np.eye(channels) + (1.0 - saturation) * to_gray
    linear = blend * brightness * contrast
    constant = np.full((channels, 1), (1.0 - contrast) * mean_gray)
    return _same_rank(cv2.transform(image, np.hstack([linear, constant])), image)


def shift_hue(image: Pixels, share: float) -> Pixels:
    """Hues turned by a share (-0.5..0.5) of the circle, in steps of two degrees; grey pictures stay."""
    if image.shape[2] != 3:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    turned = np.roll(np.arange(_HUE_STEPS), -round(share * _HUE_STEPS))
    hsv[..., 0] = cv2.LUT(hsv[..., 0], np.resize(turned, 256).astype(np.uint8))
    return _same_rank(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), image)


def _with_noise(image: Pixels, std: float, seed: int) -> Pixels:
    noise = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(std)
    noise += image
    out: Pixels = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
    return out


def _as_jpeg(image: Pixels, quality: int) -> Pixels:
    space = "RGB" if image.shape[2] == 3 else "GRAY"
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorspace=space, colorsubsampling="420"
    )
    decoded: Pixels = simplejpeg.decode_jpeg(data, colorspace=space)
    return decoded


def _same_rank(out: NDArray[Any], like: Pixels) -> Pixels:
    return out if out.ndim == like.ndim else out[..., None]
