"""What can be chosen about an audit; every default is written here and nowhere else."""

from pydantic import Field

from sightline.core.config import Config

__all__ = ["AuditOptions"]


class AuditOptions(Config):
    """The thresholds of the checks that have any."""

    imgsz: int = Field(default=640, ge=1)
    """Longest side in pixels at which a network is meant to see the images; judges which objects become too small."""
    small_px: float = Field(default=8.0, gt=0)
    """An object whose shorter side is below this at `imgsz` is hardly learnable."""
    near_duplicate_bits: int = Field(default=6, ge=0, le=15)
    """Two images are near-duplicates when their 64-bit hashes differ in at most this many bits."""
