"""What a JSON file in COCO's style is about, found out without parsing it."""

import mmap
from pathlib import Path
from typing import Literal

from sightline.data.layout import read_head

__all__ = ["json_kind"]

_WHOLE = 1 << 22  # up to so many bytes all of a file is searched
_NEAR = 1 << 16  # of a larger file, so much behind the key of its annotations: the first entry is in it


def json_kind(path: Path) -> Literal["instances", "panoptic"] | None:
    """What the annotations of a JSON file with images and categories are, by whether they have segments; else None."""
    if path.suffix.lower() != ".json" or not read_head(path, 1):
        return None
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if text.find(b'"images"') < 0 or text.rfind(b'"categories"') < 0:
            return None
        first = max(text.find(b'"annotations"'), 0)
        last = len(text) if len(text) <= _WHOLE else first + _NEAR
        return "instances" if text.find(b'"segments_info"', first, last) < 0 else "panoptic"
