"""Looking at data: sheets of images with their labels, of each class, of tracks over time, of what an audit found."""

from sightline.data.look.evidence import Evidence, finding_sheets
from sightline.data.look.options import LookOptions
from sightline.data.look.scenes import Scenes
from sightline.data.look.sheets import Cell, Sheet, paint_sheet
from sightline.data.look.sighting import look_at

__all__ = ["Cell", "Evidence", "LookOptions", "Scenes", "Sheet", "finding_sheets", "look_at", "paint_sheet"]
