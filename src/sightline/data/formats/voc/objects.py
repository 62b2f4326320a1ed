"""VOC annotations: one XML file as text fields with lines, the objects of all files as a table, and segmentations.

Segmentations are palette pictures of object numbers and of classes. In `SegmentationObject/<name>.png` the value k
marks the k-th object of the annotation; in `SegmentationClass/` a value is a class. 0 is background, 255 belongs to
nobody (borders, "void"). Pictures that exporters have turned into RGB are read through the VOC palette. `labelmap.txt`
(`label:r,g,b:parts:actions`, one class a line, background first) is how exporters give class names other than VOC's
twenty.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA
from sightline.core.errors import DataError
from sightline.core.files import check_regular
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import LARGEST, class_table
from sightline.data.formats.shared.shapes import split_ids, turned_box_ring
from sightline.data.formats.shared.xml import Attributes, line_in, walk_xml
from sightline.data.layout import read_text, relative
from sightline.media import read_header, read_mask
from sightline.ops import rle

__all__ = [
    "BACKGROUND",
    "LABELMAP_NAME",
    "VOID",
    "AnnotatedObject",
    "Annotation",
    "LabelMap",
    "ObjectReader",
    "Segments",
    "one_more",
    "read_label_map",
    "voc_colours",
]

VOID = 255
BACKGROUND = "background"
LABELMAP_NAME = "labelmap.txt"
_VOID_COLOUR = (224, 224, 192)
_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_ROW = re.compile(r"(?P<name>.+?):(?P<red>\d{1,3}),(?P<green>\d{1,3}),(?P<blue>\d{1,3}):[^:]*:[^:]*")

Colour: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class LabelMap:
    """Class names by value in `SegmentationClass/` (0 is background), and the colour that stands for each value."""

    names: dict[int, str]
    colours: dict[Colour, int]
    declared: bool  # by a file, rather than VOC's own twenty


@dataclass(frozen=True)
class Segments:
    """The masks of one image by object number, and the class value most of each one's pixels have, where known."""

    size_hw: tuple[int, int]
    rles: dict[int, bytes]
    classes: dict[int, int]


def voc_colours() -> list[Colour]:
    """The 256 colours of the VOC palette: the bits of the index dealt out to red, green and blue, highest first."""
    colours = []
    for index in range(256):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
        colours.append((channels[0], channels[1], channels[2]))
    return colours


def read_label_map(root: Path) -> LabelMap:
    """The label map of a VOC folder, or that of VOC's own twenty classes. DataError (with line) for a bad row."""
    file = root / LABELMAP_NAME
    if not file.is_file():
        names = dict(enumerate(_NAMES, start=1))
        return LabelMap(names, _palette(), declared=False)
    rows: list[tuple[str, Colour]] = []
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        row = _ROW.fullmatch(text.strip())
        if row is not None:
            rows.append((row["name"], (int(row["red"]), int(row["green"]), int(row["blue"]))))
        elif text.strip() and not text.lstrip().startswith("#"):
            raise DataError(
                f"a row must be 'label:r,g,b:parts:actions', got '{text.strip():.60}'", where=f"{file}:{line}"
            )
    first = 0 if rows and rows[0] == (BACKGROUND, (0, 0, 0)) else 1
    names = {i: name for i, (name, _) in enumerate(rows, start=first) if i}
    if len(set(names.values())) < len(names):
        raise DataError("class names must differ, got one twice", where=str(file))
    colours = {colour: i for i, (_, colour) in enumerate(rows, start=first)}
    return LabelMap(names, {_VOID_COLOUR: VOID} | colours, declared=True)


def read_segments(objects: Path, classes: Path | None, labels: LabelMap) -> Segments:
    """The masks in a picture of object numbers; DataError when one of the pictures cannot be read."""
    values = _read_ids(objects, _palette())
    rles = {number: counts for number, counts in split_ids(values).items() if number not in {0, VOID}}
    pixels = None if classes is None else _read_ids(classes, labels.colours)
    of_class = {} if pixels is None or pixels.shape != values.shape else _commonest(values, pixels)
    return Segments((values.shape[0], values.shape[1]), rles, of_class)


def _read_ids(file: Path, colours: dict[Colour, int]) -> npt.NDArray[Any]:
    """The values of a picture: its palette's indices, its grays, or what its colours stand for."""
    is_colour = read_header(file).channels in {"rgb", "rgba", "rgb16"}
    return read_mask(file, colours if is_colour else None)


def _commonest(numbers: npt.NDArray[Any], classes: npt.NDArray[Any]) -> dict[int, int]:
    """The class value that most labelled pixels of each object have; objects without such pixels are left out."""
    if max(int(numbers.max()), int(classes.max())) > VOID:
        return {}
    pairs = numbers.astype(np.int64).ravel() * (VOID + 1) + classes.ravel()
    counts = np.bincount(pairs, minlength=(VOID + 1) ** 2).reshape(VOID + 1, VOID + 1)
    counts[:, [0, VOID]] = 0
    return {number: int(row.argmax()) for number, row in enumerate(counts) if row.any()}


@cache
def _palette() -> dict[Colour, int]:
    return {colour: i for i, colour in enumerate(voc_colours())}


@dataclass
class AnnotatedObject:
    """An `<object>` as text: `fields` holds its children and those of its first `<bndbox>`; `line` is the box's."""

    line: int
    fields: dict[str, str] = field(default_factory=dict)
    has_box: bool = False
    unread: list[str] = field(default_factory=list)  # kinds of shapes inside it that are passed over


@dataclass
class Annotation:
    """An annotation file as text: `fields` by path ("size/width"), the line of each, and the objects."""

    fields: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    objects: list[AnnotatedObject] = field(default_factory=list)


def parse_annotation(source: bytes | BinaryIO, where: str) -> Annotation:
    """The annotation in an XML text; DataError when it is no well-formed XML or declares entities.

    Tag names count in any case and with any namespace. Parts of objects (`<part>`) are not objects of their own.
    """
    result = Annotation()
    stack: list[str] = []
    root = 1  # how many elements stand around the annotation's own

    def start(tag: str, _: Attributes, line: int) -> None:
        nonlocal root
        stack.append(tag)
        if tag == "annotation" and len(stack) == 2 and stack[0] != "annotation":
            root = 2  # some exporters wrap the annotation once more
        path = stack[root:]
        if path == ["object"]:
            result.objects.append(AnnotatedObject(line))
        elif path == ["object", "bndbox"] and not result.objects[-1].has_box:
            result.objects[-1].line, result.objects[-1].has_box = line, True
        elif path[:1] == ["object"] and len(path) == 2 and path[1] in _OTHER_SHAPES:
            result.objects[-1].unread.append(path[1])

    def end(_: str, value: str, line: int) -> None:
        path = stack[root:]
        if path[:1] == ["object"] and path[1:] and path[1] != "part":
            result.objects[-1].fields.setdefault("/".join(path[1:]), value)
        elif path and path[0] != "object":
            result.fields.setdefault("/".join(path), value)
            result.lines.setdefault("/".join(path), line)
        stack.pop()

    walk_xml(source, where, start, end)
    return result


_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0, "no": 0.0, "yes": 1.0}
_EXACT = Context(prec=50, traps=[])
_FEWEST_NUMBERS = 6  # of an outline: three corners
_LONGEST = 40  # characters of a coordinate that are worth exact arithmetic
_COLUMNS = ("image_id", "x1", "y1", "x2", "y2", "area", "crowd", "ignore", "occlusion", "truncation", "rle", "polygon")
_OTHER_SHAPES = frozenset({"part", "segmentation", "mask", "keypoints", "point", "points", "line", "ellipse", "cuboid"})


def one_less(text: str) -> float:
    """The number in a text less 1, calculated in decimals: what `one_more` was given comes back to the last bit."""
    exact = float(_EXACT.subtract(_EXACT.create_decimal(text), 1)) if len(text) <= _LONGEST else math.nan
    return exact if math.isfinite(exact) else float(text) - 1


def one_more(value: float) -> str:
    """`value` plus 1 as text, to all its decimals."""
    return format(_EXACT.add(Decimal(repr(value)), 1).normalize(_EXACT), "f")


@dataclass
class ObjectReader:
    """Collects the objects of all annotation files."""

    root: Path
    images: pl.DataFrame
    labels: LabelMap
    findings: list[Finding] = field(default_factory=list)
    unsegmented: list[str] = field(default_factory=list)  # images with objects and without masks
    _rows: list[tuple[Any, ...]] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _places: list[tuple[str, int | None]] = field(default_factory=list)
    _flat: list[bool] = field(default_factory=list)
    _unused: Counter[tuple[str, str]] = field(default_factory=Counter)
    _unread: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # kind → places

    def read_file(self, file: Path, image_id: int, masks: tuple[Path, Path | None] | None) -> None:
        """Take in one annotation file and the image's pictures of object numbers and classes, where it has them."""
        name = relative(file, self.root)
        try:
            check_regular(file)
            with file.open("rb") as stream:
                annotation = parse_annotation(stream, name)
        except (DataError, OSError) as error:
            line = line_in(error, name) if isinstance(error, DataError) else None
            what = error.what if isinstance(error, DataError) else f"cannot read the file ({error.strerror})"
            self.findings.append(finding("label-malformed", what, path=name, line=line, image_id=image_id))
            return
        self._check_image(annotation, name, image_id)
        if not annotation.objects:
            self.findings.append(finding("label-empty-file", "no object", path=name, image_id=image_id))
        segments = None if masks is None else self._segments(masks, image_id)
        if masks is None and annotation.objects:
            self.unsegmented.append(name)
        for number, entry in enumerate(annotation.objects, start=1):
            self._add(entry, name, image_id, None if segments is None else segments.rles.get(number))
        if masks is not None and segments is not None:
            self._check_segments(annotation, segments, masks[0], image_id, name)

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The objects and classes tables."""
        used = set(self._names)
        names = list(self.labels.names.values()) if self.labels.declared else []
        undeclared = sorted(used - set(names))
        if names and undeclared:
            message = f"{LABELMAP_NAME} does not name {', '.join(undeclared[:8])}; the objects are kept"
            self.findings.append(finding("label-unknown-class", message, path=LABELMAP_NAME, count=len(undeclared)))
        names += undeclared
        slots = {name: i for i, name in enumerate(names)}
        objects = pl.DataFrame(self._rows, schema={c: OBJECTS_SCHEMA[c] for c in _COLUMNS}, orient="row")
        objects = objects.with_columns(pl.Series("class_id", [slots[n] for n in self._names], dtype=pl.Int32))
        objects = objects.with_columns(
            pl.col("ignore") | pl.Series(self._flat, dtype=pl.Boolean),
            pl.Series("label_path", [path for path, _ in self._places], dtype=pl.Categorical),
            pl.Series("entry", [line for _, line in self._places], dtype=pl.Int32),
            pl.Series("reported", self._flat, dtype=pl.Boolean),
        )
        for (key, value), count in sorted(self._unused.items()):
            message = f"'{key}' must be 0 or 1 to be used, got '{value}' on {count} objects"
            self.findings.append(finding("layout-unknown-key", message, count=count))
        for kind, places in sorted(self._unread.items()):
            message = f"{len(places)} elements <{kind}> inside objects are not read"
            place = {"path": places[0][0], "line": places[0][1], "count": len(places)}
            self.findings.append(finding("label-unsupported-shape", message, facts={"kind": kind}, **place))  # type: ignore[arg-type]
        return objects, class_table(names)

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

    def _add(self, entry: AnnotatedObject, path: str, image_id: int, counts: bytes | None) -> None:
        name = entry.fields.get("name", "")
        texts = [entry.fields.get(f"bndbox/{c}", "") for c in _CORNERS]
        xmin, ymin, xmax, ymax = (_number(text) for text in texts)
        ring = _outline(entry)
        if ring is not None and None in (xmin, ymin, xmax, ymax):
            low, high = np.array(ring).reshape(-1, 2).min(axis=0), np.array(ring).reshape(-1, 2).max(axis=0)
            xmin, ymin, xmax, ymax = (float(v) for v in (*(low + 1), *high))
            texts = [repr(v) for v in (xmin, ymin, xmax, ymax)]
        self._count_unread(entry, path)
        if not name or xmin is None or ymin is None or xmax is None or ymax is None:
            got = ", ".join(f"{c}={entry.fields.get(f'bndbox/{c}', 'missing')!s:.20}" for c in _CORNERS)
            message = f"an object must have a name and a box of four numbers, got name '{name}', {got}"
            self.findings.append(finding("label-malformed", message, path=path, line=entry.line, image_id=image_id))
            return
        flat = xmax <= xmin or ymax <= ymin
        if flat:
            message = f"box of {name} has no area: xmin={xmin:g}, ymin={ymin:g}, xmax={xmax:g}, ymax={ymax:g}"
            box = one_less(texts[0]), one_less(texts[1]), xmax, ymax
            self.findings.append(
                finding("label-degenerate-box", message, path=path, line=entry.line, image_id=image_id, box_xyxy=box)
            )
        self._flat.append(flat)
        self._names.append(name)
        self._places.append((path, entry.line))
        x1, y1 = one_less(texts[0]), one_less(texts[1])
        area = max(xmax - x1, 0) * max(ymax - y1, 0) if counts is None else rle.area(counts)
        flags = [self._flag(entry, key) for key in ("difficult", "occluded", "truncated")]
        rings = None if ring is None or counts is not None else [ring]
        self._rows.append((image_id, x1, y1, xmax, ymax, area, False, flags[0] == 1, *flags[1:], counts, rings))

    def _count_unread(self, entry: AnnotatedObject, path: str) -> None:
        for kind in entry.unread:
            self._unread.setdefault(kind, []).append((path, entry.line))

    def _flag(self, entry: AnnotatedObject, key: str) -> float | None:
        text = entry.fields.get(key, "")
        number = _number(text)
        value = _FLAGS.get(text.lower()) if number is None else number
        if value is not None and 0 <= value <= 1:
            return value
        if text and text.lower() != "unspecified":
            self._unused[key, text[:20]] += 1
        return None

    def _segments(self, masks: tuple[Path, Path | None], image_id: int) -> Segments | None:
        _, _, width, height, _ = self.images.row(image_id)
        path = relative(masks[0], self.root)
        try:
            segments = read_segments(*masks, self.labels)
        except DataError as error:
            path = relative(Path(error.where), self.root) if error.where else path
            message = f"{error.what}; the objects' boxes are kept"
            self.findings.append(finding("mask-unreadable", message, path=path, image_id=image_id))
            return None
        if segments.size_hw == (height, width):
            return segments
        got = f"{segments.size_hw[1]} × {segments.size_hw[0]}"
        message = f"the mask has {got} pixels, its image {width} × {height}; the objects' boxes are kept"
        self.findings.append(finding("mask-size-mismatch", message, path=path, image_id=image_id))
        return None

    def _check_segments(self, annotation: Annotation, segments: Segments, file: Path, image_id: int, name: str) -> None:
        """Numbers without an object, objects without a pixel, and classes on which the two sides differ."""
        path = relative(file, self.root)
        for number in sorted(set(segments.rles) - set(range(1, len(annotation.objects) + 1))):
            message = f"pixels of object {number}, of which {name} lists {len(annotation.objects)}"
            self.findings.append(finding("mask-unlisted-segment", message, path=path, image_id=image_id))
        for number, entry in enumerate(annotation.objects, start=1):
            label = entry.fields.get("name", "")
            painted = self.labels.names.get(segments.classes.get(number, 0), label)
            if number not in segments.rles:
                code, message = "mask-missing-segment", f"object {number} ({label}) has no pixel in {path}"
            elif painted != label and label in self.labels.names.values():
                code, message = "class-conflict", f"object {number} is '{label}' here and '{painted}' in its class mask"
            else:
                continue
            self.findings.append(finding(code, message, path=name, line=entry.line, image_id=image_id))


def _outline(entry: AnnotatedObject) -> list[float] | None:
    """The outline of an object's polygon or turned box, with pixels from 0; None where it has none that can be read."""
    values = {key: _number(text) for key, text in entry.fields.items() if key.startswith(("polygon/", "robndbox/"))}
    turned = [values.get(f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle")]
    if None not in turned:
        cx, cy, w, h, angle = (float(v) for v in turned if v is not None)
        return turned_box_ring((cx - 1 - w / 2, cy - 1 - h / 2, cx - 1 + w / 2, cy - 1 + h / 2), math.degrees(angle))
    ring: list[float] = []
    for number in range(1, len(values) + 1):
        x, y = values.get(f"polygon/x{number}"), values.get(f"polygon/y{number}")
        if x is None or y is None:
            break
        ring += [x - 1, y - 1]
    return ring if len(ring) >= _FEWEST_NUMBERS else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST else None
