"""Seeing it: boxes, masks, labels, sheets, strips, overlays and trails on RGB uint8 pictures."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.draw.detections import PALETTE, Drawer, class_colours
    from sightline.draw.judged import (
        DETECTION_KEY,
        JUDGED,
        PIXEL_KEY,
        JudgedBox,
        draw_judged,
        error_parts,
        judge,
        tint_found,
        tint_judged,
    )
    from sightline.draw.lettering import CAPTION_PX, GROUND, Tag, draw_caption, lay_out, text_width, write_tags
    from sightline.draw.reviewed import MAP_KEY, TWO_CLASS_KEY, draw_masked_box, draw_objects, id_picture, map_errors
    from sightline.draw.shapes import dot, outline_box, outline_mask, tint
    from sightline.draw.sheets import class_key
    from sightline.draw.truth import TINT, draw_class_map
    from sightline.draw.view import View, show_tones, view_whole

__all__ = [
    "CAPTION_PX",
    "DETECTION_KEY",
    "GROUND",
    "JUDGED",
    "MAP_KEY",
    "PALETTE",
    "PIXEL_KEY",
    "TINT",
    "TWO_CLASS_KEY",
    "Drawer",
    "JudgedBox",
    "Tag",
    "View",
    "class_colours",
    "class_key",
    "dot",
    "draw_caption",
    "draw_class_map",
    "draw_judged",
    "draw_masked_box",
    "draw_objects",
    "error_parts",
    "id_picture",
    "judge",
    "lay_out",
    "map_errors",
    "outline_box",
    "outline_mask",
    "show_tones",
    "text_width",
    "tint",
    "tint_found",
    "tint_judged",
    "view_whole",
    "write_tags",
]

__getattr__, __dir__ = door(__name__)
