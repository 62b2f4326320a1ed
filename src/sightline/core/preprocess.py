"""How an image becomes a network's input, and back: one spec that travels in weights, ONNX files and reports.

Coordinates are continuous with the origin at the outer corner of the first pixel, so pixel i covers [i, i + 1). In that
frame every policy is the same map, `network = image * scale + offset` for each axis, and its inverse is exact.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import cv2
import numpy as np
import pydantic
from numpy.typing import ArrayLike, NDArray

from sightline.core.config import Config

__all__ = ["Geometry", "Interpolation", "Policy", "Preprocess"]

Policy = Literal["letterbox", "stretch", "shortest_side", "crop", "none"]
Interpolation = Literal["linear", "area", "cubic", "nearest"]
_CV2_FLAGS = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST_EXACT,  # the only nearest that samples pixel centres
}


@dataclass(frozen=True, slots=True)
class Geometry:
    """The map between one image and the network's input: `network = image * scale_xy + offset_xy`, both in pixels.

    `resized_hw` is the image's size after scaling; the part of it that lies inside `target_hw` at `offset_xy` is kept
    (a negative offset crops, a positive one pads).
    """

    source_hw: tuple[int, int]
    target_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    offset_xy: tuple[int, int]

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Network pixels per image pixel, for x and y."""
        return self.resized_hw[1] / self.source_hw[1], self.resized_hw[0] / self.source_hw[0]

    @property
    def content_xyxy(self) -> tuple[int, int, int, int]:
        """The part of the network's input that shows the image, in whole pixels; the rest is padding."""
        rows, columns, _, _ = _window(self)
        return columns.start, rows.start, columns.stop, rows.stop

    def points_to_network(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 2) in image pixels → network pixels."""
        return np.asarray(points_xy, np.float64) * self.scale_xy + self.offset_xy

    def points_to_image(self, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 2) in network pixels → image pixels."""
        return (np.asarray(points_xy, np.float64) - self.offset_xy) / self.scale_xy

    def boxes_to_network(self, boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Boxes (N, 4) in image pixels → network pixels, not clipped."""
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 2, 2)
        return self.points_to_network(boxes).reshape(-1, 4)

    def boxes_to_image(self, boxes_xyxy: ArrayLike, clip: bool = True) -> NDArray[np.float64]:
        """Boxes (N, 4) in network pixels → image pixels; `clip` keeps them inside the image."""
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 2, 2)
        mapped = self.points_to_image(boxes)
        if clip:
            mapped = mapped.clip(0.0, (self.source_hw[1], self.source_hw[0]))
        return mapped.reshape(-1, 4)

    def mask_to_network(self, mask: NDArray[Any], fill: int) -> NDArray[Any]:
        """An (H, W) label map at image size → network size, nearest pixel centres, padding filled with `fill`."""
        if mask.shape != self.source_hw:
            raise ValueError(f"mask must be {self.source_hw}, got {mask.shape}")
        resized = _resize(mask, self.resized_hw, "nearest")
        return _place(resized, self, fill)

    def mask_to_image(
        self, values: NDArray[Any], interpolation: Literal["nearest", "linear"] = "nearest"
    ) -> NDArray[Any]:
        """An (H, W) or (C, H, W) map at network size → image size. Cropped-away parts repeat the nearest known edge."""
        if values.shape[-2:] != self.target_hw:
            raise ValueError(f"map must be {self.target_hw}, got {values.shape[-2:]}")
        planes = values if values.ndim == 3 else values[None]
        inner = np.stack([_unplace(plane, self) for plane in planes])
        back = np.stack([_resize(plane, self.source_hw, interpolation) for plane in inner])
        return back if values.ndim == 3 else back[0]


_MOST_PIXELS = 4096**2
"""No network here works on more at once: a damaged or hostile file must not make us allocate what it only names."""


class Preprocess(Config):
    """The one description of a network's input; `apply` makes it and says how to get back.

    `policy`: letterbox keeps the aspect and pads to `size_hw`; stretch ignores the aspect; shortest_side scales the
    shorter side to `min(size_hw)` and keeps the rest; crop scales to cover `size_hw` and cuts the centre; none leaves
    the size alone. Values are divided by 255 (8 bit) or 65535 (16 bit), then `(x - mean) / std` per channel.
    """

    size_hw: tuple[int, int]
    policy: Policy = "letterbox"
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    mean: tuple[float, ...] = (0.0,)  # one value for all channels, or one for each
    std: tuple[float, ...] = (1.0,)
    pad_value: int = pydantic.Field(default=114, ge=0, le=255)
    interpolation: Interpolation = "linear"

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        count = self.channel_count
        if len(self.mean) not in (1, count) or len(self.std) not in (1, count):
            raise ValueError(f"mean and std must have {'1 value' if count == 1 else f'1 or {count} values'}")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        height, width = self.size_hw
        if min(height, width) < 1 or height * width > _MOST_PIXELS:
            raise ValueError(f"size_hw must be at least 1 and of at most {_MOST_PIXELS} pixels, as 4096 x 4096")
        return self

    @property
    def channel_count(self) -> int:
        """1 for gray, else 3."""
        return 1 if self.channels == "gray" else 3

    def geometry(self, source_hw: tuple[int, int]) -> Geometry:
        """The map for an image of `source_hw`."""
        height, width = source_hw
        target_h, target_w = self.size_hw
        match self.policy:
            case "none":
                return Geometry(source_hw, source_hw, source_hw, (0, 0))
            case "stretch":
                return Geometry(source_hw, self.size_hw, self.size_hw, (0, 0))
            case "shortest_side":
                resized = _scaled(source_hw, min(self.size_hw) / min(source_hw))
                return Geometry(source_hw, resized, resized, (0, 0))
            case "letterbox":
                resized = _scaled(source_hw, min(target_h / height, target_w / width))
            case "crop":
                resized = _scaled(source_hw, max(target_h / height, target_w / width))
        offset = ((target_w - resized[1]) // 2, (target_h - resized[0]) // 2)
        return Geometry(source_hw, self.size_hw, resized, offset)

    def apply(self, image: NDArray[Any]) -> tuple[NDArray[np.float32], Geometry]:
        """An upright RGB (H, W, 3) or gray (H, W) uint8/uint16 image → float32 (C, H', W') and its geometry."""
        geometry = self.geometry((image.shape[0], image.shape[1]))
        return self.normalise(self.warp(image, geometry)), geometry

    def warp(self, image: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
        """The image at network size (H', W', C), same dtype, padding included, values not yet normalised."""
        pixels = _as_channels(image, self.channels)
        pad = self.pad_value * 257 if pixels.dtype == np.uint16 else self.pad_value
        placed = _place(_resize(pixels, geometry.resized_hw, self.interpolation), geometry, pad)
        return placed if placed.ndim == 3 else placed[..., None]

    def normalise(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """(H', W', C) uint8/uint16 → float32 (C, H', W'), scaled to 0..1, then mean and std."""
        scaled = np.empty((pixels.shape[2], *pixels.shape[:2]), np.float32)
        factor = np.float32(1.0 / _full_scale(pixels.dtype))
        for plane, out in zip(cv2.split(pixels), scaled, strict=True):  # apart first: whole rows are then read at once
            np.multiply(plane, factor, out=out, dtype=np.float32, casting="unsafe")
        if any(self.mean) or any(s != 1.0 for s in self.std):
            scaled -= np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
            scaled /= np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        return scaled


def _full_scale(dtype: np.dtype[np.generic]) -> float:
    if dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels must be uint8 or uint16, got {dtype}")
    return 65535.0 if dtype == np.uint16 else 255.0


def _scaled(source_hw: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, round(source_hw[0] * factor)), max(1, round(source_hw[1] * factor))


def _as_channels(image: NDArray[Any], channels: str) -> NDArray[Any]:
    _full_scale(image.dtype)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"image must be (H, W) or (H, W, 3), got {image.shape}")
    if channels == "gray":
        return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    pixels = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    return pixels[..., ::-1] if channels == "bgr" else pixels


def _resize(pixels: NDArray[Any], size_hw: tuple[int, int], interpolation: str) -> NDArray[Any]:
    if pixels.shape[:2] == size_hw:
        return pixels
    flag = _CV2_FLAGS[interpolation]
    wide = (
        pixels.dtype if pixels.dtype in (np.uint8, np.uint16, np.int16, np.float32, np.float64) else np.dtype(np.int32)
    )
    if wide == np.int32:  # OpenCV resizes no integers beyond 16 bit; float64 holds them exactly for nearest
        resized = cv2.resize(pixels.astype(np.float64), size_hw[::-1], interpolation=flag)
        return resized.astype(pixels.dtype)
    return cv2.resize(np.ascontiguousarray(pixels), size_hw[::-1], interpolation=flag)


def _window(geometry: Geometry) -> tuple[slice, slice, slice, slice]:
    """Rows and columns of the kept part, in the target and in the resized image."""
    spans = []
    for offset, resized, target in zip(geometry.offset_xy[::-1], geometry.resized_hw, geometry.target_hw, strict=True):
        start, stop = max(0, offset), min(target, offset + resized)
        spans.append((slice(start, stop), slice(start - offset, stop - offset)))
    (target_rows, rows), (target_columns, columns) = spans
    return target_rows, target_columns, rows, columns


def _place(resized: NDArray[Any], geometry: Geometry, fill: int) -> NDArray[Any]:
    if geometry.resized_hw == geometry.target_hw:
        return resized
    target_rows, target_columns, rows, columns = _window(geometry)
    out = np.full((*geometry.target_hw, *resized.shape[2:]), fill, resized.dtype)
    out[target_rows, target_columns] = resized[rows, columns]
    return out


def _unplace(plane: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    target_rows, target_columns, rows, columns = _window(geometry)
    kept = plane[target_rows, target_columns]
    before_after = [
        (span.start, size - span.stop) for span, size in zip((rows, columns), geometry.resized_hw, strict=True)
    ]
    return kept if not any(map(any, before_after)) else np.pad(kept, before_after, mode="edge")
