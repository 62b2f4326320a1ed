"""Image and video files to pixels: decoding, headers, damage, frames by number."""

from sightline.media.damage import find_zeroed_block
from sightline.media.decode import (
    COLOUR_BASE,
    FileBuffer,
    PaletteError,
    as_rgb8,
    as_uint8,
    colour_of_id,
    decode_image,
    decode_mask,
    decode_reduced,
    decode_scaled,
    id_of_colour,
    image_size,
    read_bytes,
    read_image,
    read_mask,
)
from sightline.media.header import MAX_PIXELS, MAX_SIDE, ImageError, ImageHeader, parse_header, read_header
from sightline.media.video_index import VideoIndex, find_videos, read_frame, video_index

__all__ = [
    "COLOUR_BASE",
    "MAX_PIXELS",
    "MAX_SIDE",
    "FileBuffer",
    "ImageError",
    "ImageHeader",
    "PaletteError",
    "VideoIndex",
    "as_rgb8",
    "as_uint8",
    "colour_of_id",
    "decode_image",
    "decode_mask",
    "decode_reduced",
    "decode_scaled",
    "find_videos",
    "find_zeroed_block",
    "id_of_colour",
    "image_size",
    "parse_header",
    "read_bytes",
    "read_frame",
    "read_header",
    "read_image",
    "read_mask",
    "video_index",
]
