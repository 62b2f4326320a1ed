"""Data sets: reading, writing, decoding, splitting, auditing. The names below are the public door."""

from sightline.data.audit import AuditOptions, AuditResult, audit_dataset
from sightline.data.codes import CODES
from sightline.data.decode import image_size, read_image, read_mask
from sightline.data.formats.mot import write_mot_gt
from sightline.data.formats.mot_txt import read_mot_txt, write_mot_txt
from sightline.data.image_header import MAX_PIXELS, ImageHeader, read_header
from sightline.data.labels import MASK_IGNORE, read_class_mask
from sightline.data.registry import FORMATS, detect_format, read_dataset, write_dataset
from sightline.data.splits import check_split_overlap, split_dataset

__all__ = [
    "CODES",
    "FORMATS",
    "MASK_IGNORE",
    "MAX_PIXELS",
    "AuditOptions",
    "AuditResult",
    "ImageHeader",
    "audit_dataset",
    "check_split_overlap",
    "detect_format",
    "image_size",
    "read_class_mask",
    "read_dataset",
    "read_header",
    "read_image",
    "read_mask",
    "read_mot_txt",
    "split_dataset",
    "write_dataset",
    "write_mot_gt",
    "write_mot_txt",
]
