"""What several formats need: tables, shapes, images by name, XML, losses."""

from sightline.data.formats.shared.shapes import object_rle

__all__ = ["object_rle"]
