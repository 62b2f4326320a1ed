"""Pascal VOC detection: one XML file per image.

Recognised: `Annotations/` (also `annotations/`, `annotations/xmls/`) beside `JPEGImages/` (also `images/`), splits from
`ImageSets/Main/{train,val,test}.txt`; or a folder with images and XML files of the same stem.

VOC counts pixels from 1 and includes the last one. At the door: `x1 = xmin - 1`, `y1 = ymin - 1`, `x2 = xmax`,
`y2 = ymax`. A box with `xmax <= xmin` or `ymax <= ymin` is degenerate as labelled: kept, ignored, reported. `difficult`
objects are kept with `ignore = true`, as the VOC protocol does not count them; `truncated` and `occluded` become 0 or 1
in `truncation` and `occlusion`. Classes are the names in use, sorted. Parts of objects and segmentations are not read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import DataError, at
from sightline.core.findings import Finding
from sightline.data.box_checks import check_boxes
from sightline.data.codes import finding
from sightline.data.formats.voc_xml import AnnotatedObject, Annotation, parse_annotation
from sightline.data.image_table import build_image_table
from sightline.data.layout import absolute, inside, list_files, list_images, read_text, relative, subfolder

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "Pascal VOC `Annotations/*.xml` beside `JPEGImages/`, or images with .xml files of the same stem"
_IMAGE_FOLDERS = ("JPEGImages", "images", "image", "PNGImages")
_SPLIT_FILES = ("train", "val", "test")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


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
    reader = _Reader(path, images)
    stem_of = {relative(file, path): stem for stem, file in files.items()}
    for image_id, name in images.select("image_id", "path").iter_rows():
        stem = stem_of[name]
        if stem in labels:
            reader.read_file(labels[stem], image_id)
        else:
            findings.append(finding("label-missing-file", "the image has no annotation", path=name, image_id=image_id))
    for stem in sorted(set(labels) - set(files)):
        findings.append(finding("label-orphan", "the annotation has no image", path=relative(labels[stem], path)))
    objects, classes = reader.tables()
    return dataset_from_rows(
        images,
        objects,
        classes,
        root=path,
        name=path.name,
        task="detect",
        format="voc",
        findings=findings + reader.findings,
    )


def _xml_folder(path: Path) -> Path | None:
    annotations = subfolder(path, ("Annotations",))
    candidates = [annotations, subfolder(annotations, ("xmls",)) if annotations else None, path]
    return next((c for c in candidates if c is not None and _is_voc(c)), None)


def _is_voc(folder: Path) -> bool:
    return any(b"<annotation" in _head(file) for file in list_files(folder, (".xml",))[:8])


def _head(file: Path) -> bytes:
    with file.open("rb") as handle:
        return handle.read(2048)


def _splits(path: Path, files: dict[str, Path]) -> tuple[dict[str, list[str]], list[Finding]]:
    """The splits each stem is listed in, and findings about the lists."""
    splits: dict[str, list[str]] = {}
    findings = []
    for split, file in _split_lists(path):
        for line, text in enumerate(read_text(file).splitlines(), start=1):
            if not text.strip():
                continue
            name = relative(file, path)
            stem = inside(path, text.split()[0], at(name, line))
            stem = stem if stem in files else stem.rpartition(".")[0]
            if stem in files:
                splits.setdefault(stem, []).append(split)
                continue
            message = f"the split lists '{text.strip()}', which does not exist"
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
    folder = (subfolder(sets, ("Main",)) or sets) if sets is not None else path
    for split in _SPLIT_FILES:
        file = folder / f"{split}.txt"
        if file.is_file():
            yield split, file


@dataclass
class _Reader:
    """Collects the objects of all annotation files as columns."""

    root: Path
    images: pl.DataFrame
    findings: list[Finding] = field(default_factory=list)
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _places: list[tuple[str, int | None]] = field(default_factory=list)
    _flat: list[bool] = field(default_factory=list)

    def read_file(self, file: Path, image_id: int) -> None:
        """Take in one annotation file; what cannot be read is reported."""
        name = relative(file, self.root)
        try:
            annotation = parse_annotation(file.read_bytes(), name)
        except DataError as error:
            line = int(error.where.rpartition(":")[2]) if error.where and error.where != name else None
            self.findings.append(finding("label-malformed", error.what, path=name, line=line, image_id=image_id))
            return
        self._check_image(annotation, name, image_id)
        if not annotation.objects:
            self.findings.append(finding("label-empty-file", "no object", path=name, image_id=image_id))
        for entry in annotation.objects:
            self._add(entry, name, image_id)

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The objects and classes tables."""
        names = sorted(set(self._names))
        slots = {name: i for i, name in enumerate(names)}
        classes = pl.DataFrame(
            {"class_id": range(len(names)), "name": names}, schema={"class_id": pl.Int32, "name": pl.String}
        )
        columns = ("image_id", "x1", "y1", "x2", "y2", "crowd", "ignore", "occlusion", "truncation")
        objects = pl.DataFrame(self._rows, schema={c: OBJECTS_SCHEMA[c] for c in columns})
        objects = objects.with_columns(
            pl.Series("class_id", [slots[n] for n in self._names], dtype=pl.Int32),
            area=(pl.col("x2") - pl.col("x1")).clip(0) * (pl.col("y2") - pl.col("y1")).clip(0),
        )

        def places(rows: npt.NDArray[np.int64]) -> list[tuple[str, int | None]]:
            return [self._places[i] for i in rows.tolist()]

        flat = np.array(self._flat, dtype=np.bool_)
        objects, found = check_boxes(objects, self.images, names, places, reported=flat)
        self.findings += found
        return objects, classes

    def _check_image(self, annotation: Annotation, name: str, image_id: int) -> None:
        _, path, width, height, _ = self.images.row(image_id)
        stated = annotation.fields.get("filename", "")
        if stated and Path(stated.replace("\\", "/")).stem != Path(path).stem:
            message = f"the annotation names '{stated}', its image is '{path}'"
            line = annotation.lines["filename"]
            self.findings.append(finding("label-filename-mismatch", message, path=name, line=line, image_id=image_id))
        size = [_number(annotation.fields.get(f"size/{side}", "")) for side in ("width", "height")]
        if None not in size and 0 not in size and size != [width, height]:
            message = f"the annotation gives {size[0]:g} × {size[1]:g} pixels, the image has {width} × {height}"
            line = annotation.lines["size/width"]
            self.findings.append(finding("image-size-mismatch", message, path=name, line=line, image_id=image_id))

    def _add(self, entry: AnnotatedObject, path: str, image_id: int) -> None:
        name = entry.fields.get("name", "")
        corners = [_number(entry.fields.get(f"bndbox/{c}", "")) for c in _CORNERS]
        xmin, ymin, xmax, ymax = corners
        if not name or xmin is None or ymin is None or xmax is None or ymax is None:
            got = ", ".join(f"{c}={entry.fields.get(f'bndbox/{c}', 'missing')!s:.20}" for c in _CORNERS)
            message = f"an object must have a name and a box of four numbers, got name '{name}', {got}"
            self.findings.append(finding("label-malformed", message, path=path, line=entry.line, image_id=image_id))
            return
        flat = xmax <= xmin or ymax <= ymin
        if flat:
            message = f"box of {name} has no area: xmin={xmin:g}, ymin={ymin:g}, xmax={xmax:g}, ymax={ymax:g}"
            self.findings.append(
                finding("label-degenerate-box", message, path=path, line=entry.line, image_id=image_id)
            )
        self._flat.append(flat)
        self._names.append(name)
        self._places.append((path, entry.line))
        row: dict[str, Any] = {
            "image_id": image_id,
            "x1": xmin - 1,
            "y1": ymin - 1,
            "x2": xmax,
            "y2": ymax,
            "crowd": False,
        }
        row["ignore"] = entry.fields.get("difficult") == "1"
        row["occlusion"] = _number(entry.fields.get("occluded", ""))
        row["truncation"] = _number(entry.fields.get("truncated", ""))
        self._rows.append(row)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
