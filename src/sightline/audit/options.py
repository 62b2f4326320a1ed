"""What can be chosen about an audit; every default is written here and nowhere else."""

from pydantic import Field

from sightline.core.config import Config

__all__ = ["AuditOptions"]


class AuditOptions(Config, use_attribute_docstrings=True):
    """The thresholds of the checks that have any."""

    imgsz: int = Field(default=640, ge=1)
    """Longest side in pixels at which a network is meant to see the images; judges which objects become too small."""
    small_px: float = Field(default=8.0, gt=0)
    """An object whose shorter side is below this at `imgsz` is hardly learnable."""
    near_duplicate_bits: int = Field(default=6, ge=0, le=15)
    """Two images are near-duplicates when their 64-bit hashes differ in at most this many bits."""
    alike_cosine: float = Field(default=0.98, gt=0, le=1)
    """Two images look alike to a network when the cosine of their vectors is at least this."""
    extreme_luma: float = Field(default=16.0, ge=0, le=255)
    """An image is dark when mean + 3 standard deviations of its luma (0..255) are below this; bright likewise."""
    flat_contrast: float = Field(default=2.5, ge=0)
    """An image is flat when the standard deviation of its luma (0..255) is below this."""
    blur_factor: float = Field(default=10.0, ge=1)
    """An image is blurred when its sharpness is this many times below the data set's median, and far out of line."""
    blocky_quality: int = Field(default=15, ge=0, le=100)
    """A JPEG is blocky at this quality and below."""
    blockiness: float = Field(default=2.0, ge=1)
    """Where every pixel was decoded: steps across 8 × 8 borders this many times the others are visible blocks."""
    odd_size_factor: float = Field(default=25.0, ge=1)
    """An image's size is odd when its area is this many times the median or less than that part of it."""
    odd_aspect_factor: float = Field(default=3.0, ge=1)
    """An image's size is odd when its sides' ratio is this many times that of the others."""
    odd_colour: float = Field(default=60.0, ge=0)
    """An image's colours are odd when its mean is this far from the data set's in red-green and yellow-blue."""
    outlier_share: float = Field(default=0.05, ge=0, le=1)
    """What more images than this share have is a part of the data set, not out of line with it."""
