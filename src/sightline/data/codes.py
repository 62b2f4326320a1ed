"""Every finding about data: its stable code, how serious it is, what it means and what to do about it.

`error`: something cannot be used as labelled, or a measurement on it would be wrong. `warning`: it is probably not what
was meant. `info`: worth knowing.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl

from sightline.core.findings import Finding, Severity
from sightline.core.text import well_formed

__all__ = ["CODES", "Code", "finding", "images_of_findings"]


class Code(NamedTuple):
    """What a finding's code stands for."""

    severity: Severity
    meaning: str
    do: str


CODES: dict[str, Code] = {
    # files
    "image-missing": Code("error", "a listed image does not exist", "Restore the file or remove its entry"),
    "image-unreadable": Code("error", "an image cannot be decoded in full", "Replace or exclude the file"),
    "image-empty-file": Code("error", "an image file has no bytes", "Restore the file or remove its entry"),
    "image-truncated": Code("error", "an image ends before its picture does", "Restore the file from its source"),
    "image-corrupt": Code("error", "an image's compressed data is damaged", "Restore the file from its source"),
    "image-too-large": Code(
        "error", "an image claims more pixels than any camera gives", "Check where the file comes from; tile it if real"
    ),
    "image-size-mismatch": Code(
        "error",
        "the label file gives another size than the image has",
        "Check that labels and image belong together and that the image was not resized or turned",
    ),
    "image-duplicate-entry": Code("warning", "one image is listed more than once", "List each image once"),
    "image-unlisted": Code(
        "warning",
        "pictures lie in the data set's folders and are not read",
        "Add them to the labels, lists or splits, or move them away",
    ),
    "image-without-objects": Code(
        "info", "listed images have no object", "Nothing, if they are true negatives; else label them"
    ),
    "image-same-stem": Code(
        "error", "two images have one stem: they share a label, or one of them is used", "Rename or remove one"
    ),
    "image-exif-orientation": Code(
        "warning",
        "an image is stored turned and relies on its EXIF orientation",
        "Check that its labels were drawn on the upright picture",
    ),
    "image-wrong-extension": Code("warning", "a file's content is of another format than its name says", "Rename it"),
    "image-gray": Code("info", "an image has one channel", "Nothing, if the camera is monochrome"),
    "image-alpha": Code("info", "an image has an alpha channel", "Nothing; the stored colours are used"),
    "image-cmyk": Code("warning", "an image is in print colours (CMYK)", "Convert it to RGB to control its colours"),
    "image-16-bit": Code("info", "an image has more than 8 bits per channel", "Nothing; 16-bit gray is kept"),
    "image-16-bit-dark": Code(
        "warning",
        "16-bit images use a small part of their range, as of cameras of 10 to 14 bits",
        "Scale all of them alike, so that the camera's white becomes 65535",
    ),
    "image-animated": Code("warning", "a file holds several frames, of which the first is used", "Extract the frames"),
    "image-trailing-bytes": Code("warning", "a file goes on after the picture's end", "Export the image again"),
    "image-duplicate": Code("warning", "two files of one split have identical content", "Keep one of the copies"),
    "image-near-duplicate": Code(
        "info", "images of one split look the same up to size, compression, flips and turns", "Keep one of each"
    ),
    "image-alike": Code("info", "images of one split look alike to a network", "Look; keep one of each if they are"),
    "image-stem-in-two-folders": Code(
        "info", "images in different folders share a name", "Keep the folders in every list of names"
    ),
    "image-dark": Code("info", "an image is almost black", "Look at it; exclude it if nothing can be seen"),
    "image-bright": Code("info", "an image is almost white", "Look at it; exclude it if nothing can be seen"),
    "image-flat": Code("info", "an image has hardly any contrast", "Look at it; exclude it if nothing can be seen"),
    "image-blurred": Code(
        "info", "an image is far less sharp than the others", "Look at it; keep it if such images will come"
    ),
    "image-blocky": Code(
        "info", "an image shows the blocks of strong JPEG compression", "Use the original if there is one"
    ),
    "image-odd-size": Code(
        "info", "an image's size or aspect is far from the others'", "Check that it belongs to the data set"
    ),
    "image-odd-colour": Code(
        "info", "an image's colours are far from the others'", "Check its channels and white balance"
    ),
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
    "label-left-out": Code("info", "objects are left out with their image", "See the finding about the image"),
    "label-duplicate": Code("warning", "the same box with the same class twice", "Delete one of the two"),
    "label-near-duplicate": Code(
        "warning", "two nearly identical boxes (IoU ≥ 0.9) of one class", "Keep the better of the two"
    ),
    "label-nothing-to-learn": Code(
        "error", "no object counts, in the data set or in a split", "Check that the labels belong to the images"
    ),
    "label-corners-for-sizes": Code(
        "error",
        "boxes are stored as two corners where the format asks for a place and a size",
        "Write x, y, width, height (YOLO: the centre and the size), that is x2 - x1 and y2 - y1 for the last two",
    ),
    "label-wrong-area": Code(
        "warning",
        "the stated area is neither the box's nor the mask's",
        "Calculate the areas again: the size ranges of COCO's metrics depend on them",
    ),
    "label-mixed-shapes": Code(
        "warning",
        "some objects are boxes where the others have outlines",
        "Outline them too, or read the data as boxes: trainers of masks leave such objects out, or fail",
    ),
    "label-counted-from-zero": Code(
        "warning",
        "frames or pixels are counted from 0 where the format counts from 1",
        "Add 1 when writing the labels, or export them in the format's own way",
    ),
    "label-no-keypoint-shape": Code(
        "warning", "rows hold a box and keypoints, and nothing says how many", "Write `kpt_shape` into the data YAML"
    ),
    "label-federated": Code(
        "warning",
        "not every category was looked for in every image, and what says which is not kept (LVIS)",
        "Compare models with LVIS's own evaluation; numbers here are too low for rare categories",
    ),
    "label-tiny": Code("info", "a box has a side below 2 pixels", "Check that it is meant"),
    "label-small-at-size": Code(
        "info",
        "objects are only a few pixels wide at the network's input size",
        "Train at a larger size, or on tiles",
    ),
    "label-oriented-box": Code(
        "info", "objects are rectangles that stand turned; they are read as outlines of four corners", "Nothing"
    ),
    "label-scaled": Code(
        "info", "labels made for another image size are scaled to the image's", "Nothing, or correct the stated size"
    ),
    "label-extreme-aspect": Code("info", "a box is more than 20 times as long as wide", "Check that it is meant"),
    "label-crowd": Code("info", "objects are marked as crowds", "Nothing; they are neither learnt nor scored"),
    "label-ignored": Code("info", "objects are marked to be ignored", "Nothing; they are neither learnt nor scored"),
    "label-mixed-coordinates": Code(
        "error",
        "some or all labels are relative (0..1) where others, or the format, count in pixels",
        "Write all labels in the one way the format asks for",
    ),
    "label-polygon-crossing": Code("warning", "a polygon crosses itself", "Redraw the outline"),
    "label-box-mismatch": Code("warning", "a box is not the box of its own mask", "Redraw one of the two"),
    "label-overlooked": Code(
        "warning", "the model is sure of an object where no label is", "Look; add the label if the object is there"
    ),
    "label-badly-located": Code(
        "warning", "the model places the object elsewhere than its label", "Look; redraw the box if it is off"
    ),
    "label-swapped": Code(
        "warning", "the model is sure that an object is of another class", "Look; correct the class if it is wrong"
    ),
    "label-unsupported-shape": Code(
        "warning", "shapes without an area (points, lines, tags) are left out", "Outline the object, or ignore this"
    ),
    "label-duplicate-id": Code("error", "an id is used twice", "Give every entry an id of its own"),
    "label-bad-segmentation": Code(
        "error", "a segmentation cannot be read; the object's box is kept", "Redraw the mask"
    ),
    "label-bad-keypoints": Code(
        "error", "keypoints cannot be read; the object's box is kept", "Correct or delete the keypoints"
    ),
    "label-filename-mismatch": Code(
        "warning", "a label file names another image than the one beside it", "Correct the name"
    ),
    # classes
    "class-names-missing": Code("warning", "classes have no names", "Give the names: see the format's documentation"),
    "class-conflict": Code("error", "one class id has different names", "Use one class list"),
    "class-duplicate-name": Code(
        "warning", "two class ids share one name; a class each where both have objects", "Merge the ids"
    ),
    "class-unused": Code("info", "a declared class has no object", "Nothing, or remove it from the class list"),
    "class-grouping": Code(
        "info",
        "a category is the group of others and has no object",
        "Nothing: converters leave it out; or remove it from the class list",
    ),
    "class-off-by-one": Code(
        "error",
        "class ids run from 1 to the number of classes, where the format counts from 0",
        "Subtract 1 from every id, or add the missing first class",
    ),
    "class-coco-ids": Code(
        "error",
        "class ids are COCO's category ids, 1 to 90 with gaps, where its 80 classes are numbered from 0",
        "Map the ids to 0 to 79, or declare the names by COCO's ids",
    ),
    "class-similar-names": Code("warning", "class names differ only in case, spaces or hyphens", "Merge the classes"),
    "class-imbalance": Code(
        "info",
        "the commonest class has 100 times the objects (or pixels) of the rarest",
        "Report metrics per class; get more data",
    ),
    # masks
    "mask-size-mismatch": Code("error", "a mask has another size than its image", "Export the mask at image size"),
    "mask-unreadable": Code("error", "a mask cannot be decoded", "Export the mask again as PNG"),
    "mask-unexpected-value": Code("error", "a mask holds values of no class", "Add the value to `classes` or correct"),
    "mask-mixed-values": Code(
        "error",
        "one mask's foreground is 1 where the others' is 255, or the reverse",
        "Export the mask like the others",
    ),
    "mask-soft": Code(
        "warning",
        "masks hold grays between background and foreground; from 128 on they count as foreground",
        "Say `threshold` in a sightline.yaml, or export the masks with hard edges",
    ),
    "mask-empty": Code("info", "a mask holds background only", "Nothing, if the image is a true negative"),
    "mask-full": Code("info", "a mask holds no background", "Check that the mask is not inverted"),
    "mask-inverted": Code(
        "warning", "a mask's foreground and background are exchanged against the others", "Invert the mask"
    ),
    "mask-interpolated": Code(
        "error",
        "a mask was resized with interpolation: ids between the classes stand along the edges",
        "Resize the original mask with nearest-neighbour interpolation",
    ),
    "mask-misaligned": Code(
        "warning",
        "a mask's outlines do not lie where its image has edges, as those of the others do",
        "Look at the overlay; find the mask that belongs to the image, or exclude the pair",
    ),
    "mask-overlap": Code("info", "masks of single objects overlap", "Nothing, or give each pixel to one object"),
    "mask-unlisted-segment": Code(
        "error", "a mask holds an instance id that no list gives a class", "List the segment or clear its pixels"
    ),
    "mask-missing-segment": Code(
        "error", "a listed segment has no pixel in its mask", "Remove the entry or restore the pixels"
    ),
    "pair-order-differs": Code(
        "warning",
        "the image and mask folders sort differently: pairing them by position would mix them up",
        "Name masks like their images",
    ),
    "mask-ignored-value": Code("info", "mask pixels of this value never count", "Nothing, or change `ignore_values`"),
    "mask-several-sets": Code("info", "there are several masks per image and one set is used", "Set `mask_suffix`"),
    # sequences
    "track-duplicate-id": Code("error", "one track id on two boxes in a frame", "Give each object its own id"),
    "track-frame-range": Code("error", "an entry's frame is outside the sequence", "Correct seqLength or the entry"),
    "track-ids-reset": Code(
        "error", "track ids begin anew in every frame", "Label identities, or read the data as detection"
    ),
    "track-gap": Code("info", "a track is absent for some frames", "Nothing, if the object was out of sight"),
    "track-jump": Code(
        "warning", "a track moves further between two frames than its size allows", "Check for exchanged identities"
    ),
    "track-occluded": Code("info", "objects are marked as hidden", "Nothing; see the evaluation's rules"),
    "sequence-frame-missing": Code("warning", "a sequence lacks frames", "Restore the frames or correct the numbering"),
    "sequence-frame-duplicate": Code(
        "warning", "a frame shows exactly what the frame before it shows", "Remove the copy, or record anew"
    ),
    "sequence-time-irregular": Code(
        "warning", "the time between frames is not constant", "Give trackers the frames' own times"
    ),
    # splits and layout
    "split-unlisted": Code("info", "images are in none of the splits", "Add them to a split or exclude them"),
    "split-without-labels": Code(
        "error",
        "a split's folder has pictures and lacks the label file that the others have",
        "Restore the label file, or move the folder away",
    ),
    "split-unknown-image": Code("error", "a split lists an image that does not exist", "Correct the list"),
    "split-overlap-path": Code("error", "an image is in two splits", "Remove it from one"),
    "split-overlap-bytes": Code("error", "two splits hold files of identical content", "Keep one of the copies"),
    "split-overlap-near": Code(
        "warning",
        "two splits hold near-duplicates: the same picture up to size, compression, flips and turns",
        "Keep the images of such a group in one split: `sightline split`",
    ),
    "split-overlap-alike": Code(
        "warning", "two splits hold images that look alike to a network", "Look; keep such images in one split"
    ),
    "split-overlap-group": Code(
        "error", "one video, patient or scene is in two splits", "Split by group: `sightline split`"
    ),
    "split-identical": Code("error", "two splits are the same images", "Hold out a part of the data"),
    "split-label-conflict": Code(
        "warning", "images that look the same have different labels", "Correct the labels of one of them"
    ),
    "split-class-absent": Code(
        "warning", "a class occurs in one split and not in the other", "Split again, stratified by class"
    ),
    "split-class-shift": Code(
        "warning", "the shares of the classes differ between splits", "Split again, stratified by class"
    ),
    "split-size-shift": Code(
        "warning", "the sizes of the objects differ between splits", "Split again, stratified by size"
    ),
    "split-changed": Code(
        "warning", "a split is not the one that was recorded", "Compare metrics only on one and the same split"
    ),
    "group-undeclared": Code(
        "warning",
        "images are consecutive frames of one scene, and nothing says so",
        "Give `group` in a sightline.yaml, or split with `sightline split --group-by`",
    ),
    "baseline-strong": Code(
        "warning",
        "a prediction that ignores the image scores suspiciously well",
        "Report a metric under which it does not, and compare with it",
    ),
    "layout-elsewhere": Code("info", "a path was found at another place than the file says", "Correct the path"),
    "layout-unknown-key": Code("info", "a key in the data file is not used", "Nothing, or remove it"),
    "layout-excluded": Code("info", "images are excluded by the data description", "Nothing"),
    "layout-text-ids": Code("info", "ids are text where the format has integers", "Nothing, or write integers"),
    "layout-other-set": Code(
        "info", "pictures in the folder belong to a data set of another format", "Nothing, or name that folder"
    ),
    "layout-junk": Code("info", "folders of an operating system are left out", "Nothing, or delete them"),
    "card-not-stated": Code(
        "info", "the data card lacks what only people can say", "Write it in card.yaml: `sightline card --init`"
    ),
    # losses when writing
    "loss-crowd": Code("warning", "crowd regions are left out", "Use COCO to keep them"),
    "loss-ignore": Code("warning", "ignored objects are left out", "Use COCO to keep them"),
    "loss-outside": Code(
        "info", "coordinates outside the image are written", "Clip the boxes, or correct them: see `sightline audit`"
    ),
    "loss-parts": Code("warning", "of masks of several parts the largest is written", "Use COCO to keep them"),
    "loss-outline": Code("warning", "run-length masks are written as outlines", "Use COCO to keep them exactly"),
    "loss-polygons": Code("info", "polygons are written as the pixels they cover", "Use COCO to keep the outlines"),
    "loss-to-ignored": Code("warning", "objects that count read back as ignored", "Use COCO to keep them"),
    "loss-attributes": Code("info", "occlusion, truncation, track ids or times are left out", "Use MOT to keep them"),
    "loss-masks": Code("warning", "masks are left out, boxes are kept", "Use COCO to keep them"),
    "loss-boxes": Code("warning", "boxes are replaced by the box of the mask", "Use COCO to keep them"),
    "loss-overlap": Code("warning", "pixels of overlapping objects go to one of them", "Use COCO to keep them"),
    "loss-rounding": Code("info", "coordinates are rounded", "Use COCO to keep them exactly"),
    "loss-keypoints": Code("warning", "keypoints are left out", "Use COCO to keep them"),
    "loss-splits": Code("warning", "splits are left out", "Use COCO, YOLO or VOC to keep them"),
    "loss-groups": Code("info", "groups are left out", "Use MOT to keep them"),
    "loss-classes": Code("warning", "classes without an object are left out", "Use COCO to keep them"),
    "loss-empty-images": Code("warning", "images without an object are left out", "Use COCO to keep them"),
    "loss-instances": Code("warning", "objects become pixels of their class", "Use COCO to tell them apart"),
    "loss-objects": Code("warning", "objects the format cannot hold are left out", "Use COCO to keep them"),
    "loss-ids": Code("info", "object ids are numbered anew", "Use COCO to keep them"),
}


def finding(
    code: str,
    message: str,
    *,
    path: str | None = None,
    line: int | None = None,
    image_id: int | None = None,
    count: int = 1,
    box_xyxy: tuple[float, float, float, float] | None = None,
    other: str | None = None,
    facts: Mapping[str, Any] | None = None,
    entry: int | None = None,
) -> Finding:
    """A `Finding` of a code in `CODES`, with the code's severity and advice; what no text can hold is written out."""
    kind = CODES[code]
    do, message, said = f"{kind.do}.", well_formed(message), well_formed(dict(facts or {}))
    path, other = (None if name is None else well_formed(name) for name in (path, other))
    return Finding(code, kind.severity, message, path, line, image_id, count, do, box_xyxy, other, said, entry)


def images_of_findings(findings: Iterable[Finding], images: pl.DataFrame) -> list[int | None]:
    """The `image_id` each finding is about; None for one that is about the data set, or an image not in the table.

    A finding names its image by id, by path in its fact `image`, or by having the image's or its mask's path as place.
    A finding that sums up several images (a `count` above 1 without an id) is about none of them.
    """
    known = set(images["image_id"].to_list())
    by_path: dict[str | None, int] = dict(images.select("path", "image_id").iter_rows())
    by_path |= dict(images.drop_nulls("mask_path").select("mask_path", "image_id").iter_rows())

    def image_of(f: Finding) -> int | None:
        if f.image_id is not None:
            return f.image_id if f.image_id in known else None
        return by_path.get(f.facts.get("image", f.path)) if f.count == 1 else None

    return [image_of(f) for f in findings]
