"""Data sets: recognising, reading, describing, splitting and writing them. The names below are the public door."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.data.class_masks import BACKGROUND_NAMES, ClassMask, examine_class_mask, read_class_mask
    from sightline.data.codes import CODES, finding, images_of_findings
    from sightline.data.description import DESCRIPTION_NAME, Description
    from sightline.data.doors import (
        FORMATS,
        dataset_files,
        detect_format,
        entry_lines,
        read_dataset,
        write_dataset,
        written_formats,
    )
    from sightline.data.formats import FORMAT_NAMES, WRITTEN_NAMES
    from sightline.data.formats.mot.sequence import read_mot_txt, write_mot_txt
    from sightline.data.image_names import ImageNames
    from sightline.data.layout import absolute, inside, list_images, path_from, split_of
    from sightline.data.predictions.panoptic import check_panoptic_labels
    from sightline.data.predictions.read import read_predictions, write_mot_predictions
    from sightline.data.splits.division import check_split_overlap, split_dataset

__all__ = [
    "BACKGROUND_NAMES",
    "CODES",
    "DESCRIPTION_NAME",
    "FORMATS",
    "FORMAT_NAMES",
    "WRITTEN_NAMES",
    "ClassMask",
    "Description",
    "ImageNames",
    "absolute",
    "check_panoptic_labels",
    "check_split_overlap",
    "dataset_files",
    "detect_format",
    "entry_lines",
    "examine_class_mask",
    "finding",
    "images_of_findings",
    "inside",
    "list_images",
    "path_from",
    "read_class_mask",
    "read_dataset",
    "read_mot_txt",
    "read_predictions",
    "split_dataset",
    "split_of",
    "write_dataset",
    "write_mot_predictions",
    "write_mot_txt",
    "written_formats",
]

__getattr__, __dir__ = door(__name__)
