"""What is done to a label map behind the network: opening, closing, small holes and small parts, class by class.

Order: opening takes away what a disk does not fit into, closing fills what it does not fit between, then holes and
parts below an area go. A pixel that a class loses becomes background (id 0); a class only gains pixels of the
background, which itself is not touched.
"""

import cv2
import numpy as np
import numpy.typing as npt
import pydantic

from sightline.core.config import Config

__all__ = ["MapCleaning", "clean_map"]

_LONGEST = 1001  # pixels: a larger disk would only be a slip of the pen

Mask = npt.NDArray[np.uint8]


class MapCleaning(Config):
    """In pixels of the image; 0 leaves a step out. `open`, `close`: diameters, odd. `holes`, `min_area`: areas."""

    open: int = pydantic.Field(default=0, ge=0, le=_LONGEST)
    close: int = pydantic.Field(default=0, ge=0, le=_LONGEST)
    holes: int = pydantic.Field(default=0, ge=0)
    min_area: int = pydantic.Field(default=0, ge=0)

    @pydantic.field_validator("open", "close")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value and value % 2 == 0:
            raise ValueError("must be odd, so that it has a middle")
        return value


def clean_map(class_ids: npt.NDArray[np.integer], cleaning: MapCleaning) -> npt.NDArray[np.integer]:
    """The map (H, W) of class ids with background 0, cleaned; the one given stays as it is."""
    cleaned = class_ids.copy()
    for class_id in np.unique(class_ids):
        if class_id == 0:
            continue
        before = (cleaned == class_id).astype(np.uint8)
        after = _cleaned(before, cleaning)
        cleaned[(before == 1) & (after == 0)] = 0
        cleaned[(after == 1) & (cleaned == 0)] = class_id
    return cleaned


def _cleaned(mask: Mask, cleaning: MapCleaning) -> Mask:
    for kind, diameter in ((cv2.MORPH_OPEN, cleaning.open), (cv2.MORPH_CLOSE, cleaning.close)):
        if diameter > 1:
            disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
            # Beyond the edge lies the mirror image: an edge neither eats an object nor grows it.
            around = np.pad(mask, diameter, mode="symmetric")
            changed = cv2.morphologyEx(around, kind, disk)
            mask = np.asarray(changed[diameter:-diameter, diameter:-diameter], np.uint8)
    if cleaning.holes:
        mask = 1 - _without_small(1 - mask, cleaning.holes, connectivity=4, at_edge=False)
    if cleaning.min_area:
        mask = _without_small(mask, cleaning.min_area, connectivity=8, at_edge=True)
    return mask


def _without_small(mask: Mask, area: int, *, connectivity: int, at_edge: bool) -> Mask:
    """Without the parts below `area`; with `at_edge` false those that touch the image's edge stay: no holes."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
    gone = stats[:, cv2.CC_STAT_AREA] < area
    if not at_edge:
        left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
        right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
        gone &= (left > 0) & (top > 0) & (right < mask.shape[1]) & (bottom < mask.shape[0])
    gone[0] = False
    return np.where(gone[parts], 0, mask).astype(np.uint8) if count > 1 else mask
