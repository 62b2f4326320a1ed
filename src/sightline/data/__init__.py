"""Data sets: reading, writing, decoding, splitting, auditing. The names below are the public door."""

from sightline.data.audit import AuditOptions, AuditResult, LabelErrors, audit_dataset, rank_label_errors
from sightline.data.codes import CODES
from sightline.data.decode import image_size, read_image, read_mask
from sightline.data.format_conformance import check_format, check_written
from sightline.data.formats.mot_txt import read_mot_txt, write_mot_txt
from sightline.data.image_copy import watch_copying
from sightline.data.image_header import MAX_PIXELS, ImageHeader, read_header
from sightline.data.labels import MASK_IGNORE, read_class_mask
from sightline.data.quarantine import write_quarantine
from sightline.data.registry import FORMATS, detect_format, read_dataset, write_dataset
from sightline.data.split_file import write_split
from sightline.data.split_plan import SplitOptions, plan_splits
from sightline.data.splits import check_split_overlap, split_dataset

__all__ = [
    "CODES",
    "FORMATS",
    "MASK_IGNORE",
    "MAX_PIXELS",
    "AuditOptions",
    "AuditResult",
    "ImageHeader",
    "LabelErrors",
    "SplitOptions",
    "audit_dataset",
    "check_format",
    "check_split_overlap",
    "check_written",
    "detect_format",
    "image_size",
    "plan_splits",
    "rank_label_errors",
    "read_class_mask",
    "read_dataset",
    "read_header",
    "read_image",
    "read_mask",
    "read_mot_txt",
    "split_dataset",
    "watch_copying",
    "write_dataset",
    "write_mot_txt",
    "write_quarantine",
    "write_split",
]
