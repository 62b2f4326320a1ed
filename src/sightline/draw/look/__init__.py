"""Looking at data: sheets of images with their labels, of each class, of tracks over time, of what an audit found."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.draw.look.evidence import Evidence, finding_sheets, look_at
    from sightline.draw.look.options import LookOptions
    from sightline.draw.scenes import Scenes
    from sightline.draw.sheets import Cell, Sheet, paint_sheet

__all__ = ["Cell", "Evidence", "LookOptions", "Scenes", "Sheet", "finding_sheets", "look_at", "paint_sheet"]

__getattr__, __dir__ = door(__name__)
