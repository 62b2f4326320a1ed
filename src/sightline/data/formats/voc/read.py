"""Pascal VOC: one XML file of boxes per image, and segmentations of their objects.

Recognised: `Annotations/` (also `annotations/`, `annotations/xmls/`) beside `JPEGImages/` (also `images/`), splits from
`ImageSets/Main/{train,val,test}.txt` (else `ImageSets/Segmentation/`); or a folder with images and XML files of the
same stem.

VOC counts pixels from 1 and includes the last one. At the door: `x1 = xmin - 1`, `y1 = ymin - 1`, `x2 = xmax`,
`y2 = ymax`. A box with `xmax <= xmin` or `ymax <= ymin` is degenerate as labelled: kept, ignored, reported. `difficult`
objects are kept with `ignore = true`, as the VOC protocol does not count them; `truncated` and `occluded` become 0 or 1
in `truncation` and `occlusion`. Classes are those of `labelmap.txt` where there is one, else the names in use, sorted.
`<polygon>` and `<robndbox>` (centre, size, angle in radians) are outlines; parts of objects and other shapes are not
read, but counted. `SegmentationObject/` gives the k-th object of an image its mask (see `voc_masks`); a
folder with `SegmentationClass/` alone holds semantic masks, and without annotations it is read as such.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError, at
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import build_dataset, build_image_table, labels_of_images
from sightline.data.formats.voc.objects import ObjectReader, read_label_map
from sightline.data.layout import absolute, inside, list_files, list_images, read_head, read_list, relative, subfolder

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "Pascal VOC `Annotations/*.xml` beside `JPEGImages/`, or images with .xml files of the same stem"
_IMAGE_FOLDERS = ("JPEGImages", "images", "image", "PNGImages")
_SPLIT_FILES = ("train", "val", "test")
_ROOT = re.compile(rb"<(\w+:)?annotation[\s>]", re.IGNORECASE)  # not `<annotations>`, which is CVAT's
_LIST_FOLDERS = ("Main", "Segmentation")


def detect(path: Path) -> float | None:
    """How surely the path is Pascal VOC, 0..1, or None."""
    if not path.is_dir():
        return None
    xmls = _xml_folder(path)
    if xmls is None:
        return None
    return 0.9 if xmls != path else 0.6


def read(path: Path) -> Dataset:
    """The data set of a VOC folder. DataError when it is none."""
    path = absolute(path)
    xmls = _xml_folder(path) if path.is_dir() else None
    if xmls is None:
        raise DataError(f"must be {LOOKED_FOR}, got none of these", where=str(path))
    folder = subfolder(path, _IMAGE_FOLDERS) or xmls
    files = {p.stem: p for p in reversed(list_images(folder))}
    labels = {p.stem: p for p in list_files(xmls, (".xml",))}
    splits, findings = _splits(path, files)
    for file in list_images(folder):
        if files[file.stem] != file:
            message = f"the image has the stem of {files[file.stem].name}, which the annotation is taken for"
            findings.append(finding("image-same-stem", message, path=relative(file, path)))
    images, notes = build_image_table(
        [(file, split) for stem, file in sorted(files.items()) for split in splits.get(stem, [None])], path
    )
    findings += notes
    reader = ObjectReader(path, images, read_label_map(path))
    masks = _Masks(path)
    label_of = {relative(file, path): labels[stem] for stem, file in files.items() if stem in labels}
    for image_id, _, label in labels_of_images(images, label_of, findings):
        reader.read_file(label, image_id, masks.of(label.stem))
    for stem in sorted(set(labels) - set(files)):
        findings.append(finding("label-orphan", "the annotation has no image", path=relative(labels[stem], path)))
    objects, classes = reader.tables()
    findings += masks.findings(reader.unsegmented)
    return build_dataset(path, "voc", images, objects, classes, findings + reader.findings)


def _xml_folder(path: Path) -> Path | None:
    annotations = subfolder(path, ("Annotations",))
    candidates = [annotations, subfolder(annotations, ("xmls",)) if annotations else None, path]
    return next((c for c in candidates if c is not None and _is_voc(c)), None)


def _is_voc(folder: Path) -> bool:
    return any(_ROOT.search(read_head(file, 2048)) for file in list_files(folder, (".xml",))[:8])


def _splits(path: Path, files: dict[str, Path]) -> tuple[dict[str, list[str]], list[Finding]]:
    """The splits each stem is listed in, and findings about the lists."""
    splits: dict[str, list[str]] = {}
    findings = []
    for split, file in _split_lists(path):
        for line, text in read_list(file):
            name = relative(file, path)
            # A second column says whether a class is in the image; a name may hold blanks as well.
            listed = text if text in files else text.split()[0]
            stem = inside(path, listed, at(name, line))
            stem = stem if stem in files else stem.rpartition(".")[0]
            if stem in files:
                splits.setdefault(stem, []).append(split)
                continue
            message = f"the split lists '{listed}', which does not exist"
            findings.append(finding("split-unknown-image", message, path=name, line=line))
    unlisted = [stem for stem in files if stem not in splits]
    if splits and unlisted:
        message = f"{len(unlisted)} images are in no split"
        findings.append(
            finding("split-unlisted", message, path=relative(files[min(unlisted)], path), count=len(unlisted))
        )
    return splits, findings


def _split_lists(path: Path) -> Iterator[tuple[str, Path]]:
    sets = subfolder(path, ("ImageSets",))
    folder = (subfolder(sets, _LIST_FOLDERS) or sets) if sets is not None else path
    for split in _SPLIT_FILES:
        file = folder / f"{split}.txt"
        if file.is_file():
            yield split, file


class _Masks:
    """The pictures of object numbers and of classes, by stem."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = _pictures(subfolder(root, ("SegmentationObject",)))
        self._classes = _pictures(subfolder(root, ("SegmentationClass",)))

    def of(self, stem: str) -> tuple[Path, Path | None] | None:
        """The pictures of an image, or None when it has none of object numbers."""
        return (self._objects[stem], self._classes.get(stem)) if stem in self._objects else None

    def findings(self, unsegmented: list[str]) -> list[Finding]:
        """What is not used: class masks alone, and boxes of images that have no masks while others do."""
        if self._classes and not self._objects:
            message = f"{len(self._classes)} masks in SegmentationClass/ say nothing of objects; the boxes are read"
            return [finding("layout-unknown-key", message, count=len(self._classes))]
        if not self._objects or not unsegmented:
            return []
        message = f"{len(unsegmented)} annotations have no mask in SegmentationObject/; their objects are boxes"
        return [finding("label-missing-file", message, path=unsegmented[0], count=len(unsegmented))]


def _pictures(folder: Path | None) -> dict[str, Path]:
    return {} if folder is None else {p.stem: p for p in reversed(list_images(folder))}
