"""COCO panoptic: segments in a JSON, their pixels in PNG files."""
