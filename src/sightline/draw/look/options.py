"""What can be chosen about a look at a data set; apart from the drawing, which the help of the verb need not load."""

from pydantic import Field

from sightline.core.config import Config

__all__ = ["LookOptions"]


class LookOptions(Config):
    """How many pictures of each kind, how large, and which: the same seed shows the same pictures."""

    images: int = Field(default=16, ge=0)
    """Whole images, drawn at random."""
    per_class: int = Field(default=16, ge=0)
    """Objects (or regions of a mask) of each class, drawn at random."""
    per_finding: int = Field(default=12, ge=0)
    """Places shown for each finding code."""
    tracks: int = Field(default=8, ge=0)
    """Tracks shown of each sequence."""
    imgsz: int = Field(default=400, ge=64, le=4096)
    """Longest side in pixels of a whole image in a grid; crops of objects are half as large."""
    seed: int = 0
