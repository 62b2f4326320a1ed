"""Every finding about data: its stable code, how serious it is, what it means and what to do about it.

`error`: something cannot be used as labelled, or a measurement on it would be wrong. `warning`: it is probably not what
was meant. `info`: worth knowing.
"""

from typing import NamedTuple

from sightline.core.findings import Finding, Severity

__all__ = ["CODES", "Code", "finding"]


class Code(NamedTuple):
    """What a finding's code stands for."""

    severity: Severity
    meaning: str
    do: str


CODES: dict[str, Code] = {
    # files
    "image-missing": Code("error", "a listed image does not exist", "Restore the file or remove its entry"),
    "image-unreadable": Code("error", "an image cannot be decoded in full", "Replace or exclude the file"),
    "image-size-mismatch": Code(
        "error",
        "the label file gives another size than the image has",
        "Check that labels and image belong together and that the image was not resized or turned",
    ),
    "image-duplicate-entry": Code("warning", "one image is listed more than once", "List each image once"),
    "image-same-stem": Code("error", "two images have one stem and one of them is used", "Rename or remove one"),
    "image-exif-orientation": Code(
        "warning",
        "an image is stored turned and relies on its EXIF orientation",
        "Check that its labels were drawn on the upright picture",
    ),
    "image-wrong-extension": Code("warning", "a file's content is of another format than its name says", "Rename it"),
    "image-gray": Code("info", "an image has one channel", "Nothing, if the camera is monochrome"),
    "image-alpha": Code("info", "an image has an alpha channel", "Nothing; the stored colours are used"),
    "image-cmyk": Code("warning", "an image is in print colours (CMYK)", "Convert it to RGB to control its colours"),
    "image-16-bit": Code("info", "an image has 16 bits per channel", "Nothing; 16-bit gray is kept"),
    "image-animated": Code("warning", "a file holds several frames, of which the first is used", "Extract the frames"),
    "image-trailing-bytes": Code("warning", "a file goes on after the picture's end", "Export the image again"),
    "image-duplicate": Code("warning", "two files of one split have identical content", "Keep one of the copies"),
    # labels
    "label-malformed": Code("error", "an entry cannot be read", "Correct or delete the entry"),
    "label-missing-file": Code(
        "warning",
        "an image has no label file or mask",
        "Add an empty label file if nothing is to be seen, or label the image",
    ),
    "label-empty-file": Code("info", "a label file names no object", "Nothing, if the image is a true negative"),
    "label-orphan": Code("warning", "a label file or mask has no image", "Restore the image or delete the labels"),
    "label-degenerate-box": Code("error", "a box has no area", "Redraw or delete the box; until then it is ignored"),
    "label-out-of-bounds": Code("warning", "a box reaches outside its image", "Check the image size the label assumes"),
    "label-not-normalised": Code(
        "error", "coordinates that must be 0..1 are far larger", "Divide by the image's width and height"
    ),
    "label-unknown-class": Code("error", "an object's class is not declared", "Declare the class or correct the id"),
    "label-unknown-image": Code("error", "an object belongs to an image that is not listed", "List the image"),
    "label-duplicate": Code("warning", "the same box with the same class twice", "Delete one of the two"),
    "label-near-duplicate": Code(
        "warning", "two nearly identical boxes (IoU ≥ 0.9) of one class", "Keep the better of the two"
    ),
    "label-tiny": Code("info", "a box has a side below 2 pixels", "Check that it is meant"),
    "label-duplicate-id": Code("error", "an id is used twice", "Give every entry an id of its own"),
    "label-bad-segmentation": Code(
        "error", "a segmentation cannot be read; the object's box is kept", "Redraw the mask"
    ),
    "label-filename-mismatch": Code(
        "warning", "a label file names another image than the one beside it", "Correct the name"
    ),
    # classes
    "class-names-missing": Code("warning", "classes have no names", "Give the names: see the format's documentation"),
    "class-conflict": Code("error", "one class id has different names in different files", "Use one class list"),
    "class-duplicate-name": Code("warning", "two class ids share one name and are read as one class", "Merge the ids"),
    "class-unused": Code("info", "a declared class has no object", "Nothing, or remove it from the class list"),
    # masks
    "mask-size-mismatch": Code("error", "a mask has another size than its image", "Export the mask at image size"),
    "mask-unreadable": Code("error", "a mask cannot be decoded", "Export the mask again as PNG"),
    "mask-unexpected-value": Code("error", "a mask holds values of no class", "Add the value to `classes` or correct"),
    "mask-empty": Code("info", "a mask holds background only", "Nothing, if the image is a true negative"),
    "mask-ignored-value": Code("info", "mask pixels of this value never count", "Nothing, or change `ignore_values`"),
    "mask-several-sets": Code("info", "there are several masks per image and one set is used", "Set `mask_suffix`"),
    # sequences
    "track-duplicate-id": Code("error", "one track id on two boxes in a frame", "Give each object its own id"),
    "track-frame-range": Code("error", "an entry's frame is outside the sequence", "Correct seqLength or the entry"),
    # splits and layout
    "split-unlisted": Code("info", "images are in none of the splits", "Add them to a split or exclude them"),
    "split-unknown-image": Code("error", "a split lists an image that does not exist", "Correct the list"),
    "split-overlap-path": Code("error", "an image is in two splits", "Remove it from one"),
    "split-overlap-bytes": Code("error", "two splits hold files of identical content", "Keep one of the copies"),
    "layout-elsewhere": Code("info", "a path was found at another place than the file says", "Correct the path"),
    "layout-unknown-key": Code("info", "a key in the data file is not used", "Nothing, or remove it"),
    "layout-excluded": Code("info", "images are excluded by the data description", "Nothing"),
    # losses when writing
    "loss-crowd": Code("warning", "crowd regions are left out", "Use COCO to keep them"),
    "loss-ignore": Code("warning", "ignored objects are left out", "Use COCO to keep them"),
    "loss-parts": Code("warning", "of masks of several parts the largest is written", "Use COCO to keep them"),
    "loss-outline": Code("warning", "run-length masks are written as outlines", "Use COCO to keep them exactly"),
    "loss-attributes": Code("info", "occlusion, truncation, track ids or times are left out", "Use MOT to keep them"),
}


def finding(
    code: str,
    message: str,
    *,
    path: str | None = None,
    line: int | None = None,
    image_id: int | None = None,
    count: int = 1,
) -> Finding:
    """A `Finding` of a code in `CODES`, with the code's severity and advice."""
    kind = CODES[code]
    return Finding(code, kind.severity, message, path=path, line=line, image_id=image_id, count=count, do=f"{kind.do}.")
