"""Formats of data sets: what is recognised, and how it becomes a data set and is written.

A format `some-name` is the folder `some_name/` with `read.py` and `write.py`, or the module `some_name.py` alone. There
are `LOOKED_FOR` (what it looks like on disk), `detect`, `read`, `write` (but for formats that are only read), and
`entry_lines` where the entries of a
label file are no lines themselves.
"""

__all__ = ["FORMAT_NAMES", "WRITTEN_NAMES"]

WRITTEN_NAMES = (
    *("coco", "coco-panoptic", "roboflow", "yolo", "voc", "visdrone", "labelme", "cvat", "mot"),
    *("masks", "instance-files"),
)
"""Every format that is read and written."""
FORMAT_NAMES = (
    *(*WRITTEN_NAMES, "kitti", "createml", "via", "bdd100k", "label-studio", "dota", "csv-boxes"),
    *("datumaro", "supervisely", "cityscapes"),
)
"""Every format; where two are recognised equally surely, it is the earlier one."""
