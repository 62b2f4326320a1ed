"""Tables and data sets out of label files: columns, images found in folders or named by label files, classes.

Columns of numbers and of lists are made whole at once, entry by entry only where that fails.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import CLASSES_SCHEMA, IMAGES_SCHEMA, Dataset, Task, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.layout import read_text, relative
from sightline.media import MAX_PIXELS, MAX_SIDE, ImageError, read_header

__all__ = [
    "LARGEST",
    "MASKED",
    "ImageCollector",
    "build_dataset",
    "build_image_table",
    "class_table",
    "float_rows",
    "floats",
    "has_masks",
    "integers",
    "label_lines",
    "labels_of_images",
    "list_column",
    "nested_column",
]

Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
_INT64 = 2**63
LARGEST = 1e15
"""What is beyond it is no place in a picture; areas of what is below can be calculated."""


def integers(values: Sequence[Any]) -> tuple[Ints, Bools]:
    """The values as int64 and a mask of those that are no integer (0 in the array). "12" and 12.0 are integers."""
    if set(map(type, values)) <= {int}:
        try:
            return np.array(values, dtype=np.int64), np.zeros(len(values), dtype=np.bool_)
        except OverflowError:
            pass
    parsed = [_integer(v) for v in values]
    bad = np.array([v is None for v in parsed], dtype=np.bool_)
    return np.array([v or 0 for v in parsed], dtype=np.int64), bad


def floats(values: Sequence[Any]) -> tuple[Floats, Bools]:
    """The values as float64 and a mask of those that are no number up to `LARGEST` (NaN in the array)."""
    try:
        column = np.array(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        column = np.zeros((0, 0))
    if column.ndim != 1:  # lists among the numbers
        column = np.array([_float_row([v], 1)[0] for v in values], dtype=np.float64)
    bad: Bools = np.asarray(~(np.abs(column) <= LARGEST))
    column[bad] = np.nan
    return column, bad


def float_rows(rows: Sequence[Any], width: int) -> tuple[Floats, Bools]:
    """Rows of `width` numbers up to `LARGEST` as float64 (N, width), and a mask of those that are not (NaN there)."""
    try:
        table = np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    except (ValueError, TypeError, OverflowError):
        table = np.zeros((len(rows), 0))
    if table.shape[1] != width:
        table = np.array([_float_row(r, width) for r in rows], dtype=np.float64).reshape(len(rows), width)
    bad: Bools = np.asarray(~(np.abs(table) <= LARGEST).all(axis=1))
    table[bad] = np.nan
    return table, bad


MASKED = pl.col("rle").is_not_null() | pl.col("polygon").is_not_null()
"""Objects of an objects table with a polygon or run lengths."""


def build_dataset(
    path: Path,
    format_name: str,
    images: pl.DataFrame,
    objects: pl.DataFrame,
    classes: pl.DataFrame,
    findings: list[Finding],
    *,
    root: Path | None = None,
    task: Task | None = None,
    amodal: bool = False,
) -> Dataset:
    """The data set read from `path`, named like it; `root` is `path` where none is given.

    Boxes without area are ignored, as nothing can be learnt from or matched with them. The task is "instance" where
    any object has a mask, else "detect", unless one is given.
    """
    flat = (pl.col("x2") <= pl.col("x1")) | (pl.col("y2") <= pl.col("y1"))
    return dataset_from_rows(
        images,
        objects.with_columns(pl.col("ignore") | flat),
        classes,
        root=root or path,
        name=path.stem if path.is_file() else path.name,
        task=task or ("instance" if has_masks(objects) else "detect"),
        format=format_name,
        findings=findings,
        amodal=amodal,
    )


def has_masks(objects: pl.DataFrame) -> bool:
    """Whether any object of an objects table has a polygon or run lengths."""
    columns = {"rle", "polygon"} & set(objects.columns)
    return any(objects[column].null_count() < objects.height for column in columns)


def class_table(names: Sequence[str], **columns: Sequence[Any]) -> pl.DataFrame:
    """The classes table of the names in their order, with other `columns` of it."""
    values = {"class_id": range(len(names)), "name": names, **columns}
    return pl.DataFrame(values, schema={column: CLASSES_SCHEMA[column] for column in values})


def labels_of_images(
    images: pl.DataFrame, labels: Mapping[str, Path], findings: list[Finding], what: str = "annotation"
) -> Iterator[tuple[int, str, Path]]:
    """Id, path and label file of each image; one that has none in `labels`, by path, is reported."""
    for image_id, path in images.select("image_id", "path").iter_rows():
        if path in labels:
            yield image_id, path, labels[path]
        else:
            message = f"the image has no {what}"
            findings.append(finding("label-missing-file", message, path=path, image_id=image_id))


def label_lines(file: Path, name: str, image_id: int, findings: list[Finding]) -> list[tuple[int, str]]:
    """The lines of a label file that are not blank with their numbers; a file without any, or unreadable, is reported.

    `name` is the file's path in findings.
    """
    try:
        lines = read_text(file).splitlines()
    except DataError as error:
        findings.append(finding("label-malformed", error.what, path=name, image_id=image_id))
        return []
    kept = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not kept:
        findings.append(finding("label-empty-file", "no object", path=name, image_id=image_id))
    return kept


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value) if isinstance(value, (int, str)) else _whole(value)
    except ValueError:
        return None
    return number if number is not None and -_INT64 <= number < _INT64 else None


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) and value == int(value) else None


def _float_row(row: Any, width: int) -> list[float]:
    nothing = [math.nan] * width
    if not isinstance(row, (list, tuple)) or len(row) != width:
        return nothing
    try:
        return [math.nan if isinstance(v, bool) else float(v) for v in row]
    except (ValueError, TypeError, OverflowError):
        return nothing


def list_column(flat: Floats, lengths: Ints) -> pl.Series:
    """`flat` cut into pieces of the given lengths (N,) as a List(Float64) column; null where a length is 0."""
    rows = np.flatnonzero(lengths)
    return _spread(_grouped(pl.Series(flat, dtype=pl.Float64), lengths[rows]), rows, len(lengths))


def nested_column(flat: Floats, ring_lengths: Ints, ring_rows: Ints, count: int) -> pl.Series:
    """`flat` cut into rings and these given to rows, as a List(List(Float64)) column (count,); null in other rows.

    `ring_rows` (R,) rises and has the row of each ring; no ring is empty.
    """
    rings = _grouped(pl.Series(flat, dtype=pl.Float64), ring_lengths)
    firsts = np.flatnonzero(np.diff(ring_rows, prepend=-1))
    rings_of_row = np.diff(firsts, append=len(ring_rows))
    return _spread(_grouped(rings, rings_of_row), ring_rows[firsts], count)


def _grouped(values: pl.Series, lengths: Ints) -> pl.Series:
    """Successive values as lists; grouping by a key known to be sorted copies slices and hashes nothing."""
    if not len(lengths):
        return pl.Series([], dtype=pl.List(values.dtype))
    keys = pl.Series(np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)).set_sorted()
    table = pl.DataFrame({"key": keys, "values": values})
    return table.group_by("key", maintain_order=True).agg("values")["values"]


def _spread(lists: pl.Series, rows: Ints, count: int) -> pl.Series:
    """The lists in their rows (rising) of a column of `count`, null in the others."""
    if len(rows) == count:
        return lists
    slots = np.full(count, len(rows), dtype=np.int64)
    slots[rows] = np.arange(len(rows))
    places = pl.Series(slots)
    return lists.gather(pl.select(pl.when(places < len(rows)).then(places)).to_series())


_COLUMNS = ("image_id", "path", "width", "height", "split")


def build_image_table(files: Iterable[tuple[Path, str | None]], root: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """The images table (image_id, path, width, height, split) of the files with their splits, and findings.

    An image whose header cannot be read is left out and reported; one that is listed twice is kept once, in the split
    that lists it first, and reported. Ids count from 0 in the order of the paths.
    """
    splits: dict[str, str | None] = {}
    foreign: list[str] = []
    shared: Counter[tuple[str | None, str | None]] = Counter()
    example: dict[tuple[str | None, str | None], str] = {}
    for file, split in files:
        path = relative(file, root)
        if not file.as_posix().endswith(path):  # written out
            foreign.append(path)
        elif path in splits:
            pair = (splits[path], split)
            shared[pair] += 1
            example.setdefault(pair, path)
        else:
            splits[path] = split
    findings = [_listed_twice(pair, count, example[pair]) for pair, count in shared.items()]
    message = "the name of a file must be UTF-8, got other bytes; it is left out"
    findings += [finding("image-unreadable", message, path=path) for path in foreign]
    rows: list[tuple[int, str, int, int, str | None]] = []
    for path in sorted(splits):
        try:
            height, width = read_header(root / path).size_hw
        except DataError as error:
            code = error.code if isinstance(error, ImageError) else "image-unreadable"
            findings.append(finding(code, error.what, path=path))
            continue
        rows.append((len(rows), path, width, height, splits[path]))
    return pl.DataFrame(rows, schema={k: IMAGES_SCHEMA[k] for k in _COLUMNS}, orient="row"), findings


def _listed_twice(pair: tuple[str | None, str | None], count: int, example: str) -> Finding:
    first, second = pair
    if first == second:
        return finding("image-duplicate-entry", f"{count} images are listed twice", path=example, count=count)
    message = f"{count} images are listed in '{first}' and in '{second}' and kept in the first"
    return finding("split-overlap-path", message, path=example, count=count, facts={"splits": [first, second]})


_NAMED_COLUMNS = ("image_id", "path", "width", "height", "split", "group", "frame")


@dataclass
class _Row:
    """One image as it will stand in the table; `missing` holds what to say when the file is not there."""

    size_hw: tuple[int, int] | None
    split: str | None
    group: str | None
    frame: int | None
    missing: Finding | None = None


class ImageCollector:
    """Collects images in any order; `table` gives them ids in the order of their paths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self._rows: dict[str, _Row] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._rows

    def size_of(self, path: str) -> tuple[int, int] | None:
        """Height and width of an image that has been taken in."""
        return self._rows[path].size_hw

    def add(
        self,
        path: str,
        *,
        stated_wh: tuple[Any, Any] = (None, None),
        split: str | None = None,
        group: str | None = None,
        frame: int | None = None,
        place: tuple[str, int | None] = ("", None),
        note: str = "",
    ) -> tuple[int, int] | None:
        """Take in an image once; returns its height and width, the stated ones where it does not exist, or None.

        `place` is where the label file names it, `note` what to add when it is missing.
        """
        known = self._rows.get(path)
        if known is not None:
            message = f"'{path}' is listed again; its objects are merged"
            self.findings.append(finding("image-duplicate-entry", message, path=place[0] or path, line=place[1]))
            return known.size_hw
        stated = _sane_size(stated_wh)
        row = self._rows[path] = _Row(stated, split, group, frame)
        file = self.root / path
        if not file.is_file():
            message = f"the image '{path}' does not exist; its objects are left out{note}"
            row.missing = finding("image-missing", message, path=place[0] or path, line=place[1])
            return row.size_hw
        try:
            row.size_hw = read_header(file).size_hw
        except DataError as error:
            self.findings.append(finding("image-unreadable", error.what, path=path))
            row.size_hw = None
        if stated is not None and row.size_hw is not None and stated != row.size_hw:
            message = (
                f"the label file gives {stated[1]} × {stated[0]} pixels, '{path}' has {row.size_hw[1]} × "
                f"{row.size_hw[0]}"
            )
            facts = {"image": path}
            self.findings.append(
                finding("image-size-mismatch", message, path=place[0] or path, line=place[1], facts=facts)
            )
        return row.size_hw

    def table(self, note: str = "") -> tuple[pl.DataFrame, dict[str, int]]:
        """The images table, and the id of each path that is in it.

        Labels without any picture are kept (they can be evaluated against) and reported once, with `note`; single
        missing pictures are left out and reported one by one.
        """
        missing = [row.missing for row in self._rows.values() if row.missing is not None]
        alone = bool(missing) and len(missing) == len(self._rows)
        if alone:
            message = f"none of the {len(missing)} images was found; the labels can be evaluated, not trained on{note}"
            self.findings.append(finding("image-missing", message, path=missing[0].path, count=len(missing)))
        else:
            self.findings += missing
        kept = [(p, r) for p, r in sorted(self._rows.items()) if r.size_hw is not None and (alone or not r.missing)]
        rows = [
            (i, path, row.size_hw[1], row.size_hw[0], row.split, row.group, row.frame)
            for i, (path, row) in enumerate(kept)
            if row.size_hw is not None
        ]
        table = pl.DataFrame(rows, schema={c: IMAGES_SCHEMA[c] for c in _NAMED_COLUMNS}, orient="row")
        return table, {path: i for i, (path, _) in enumerate(kept)}


def _sane_size(stated_wh: tuple[Any, Any]) -> tuple[int, int] | None:
    width, height = stated_wh
    whole = all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in (width, height))
    return (height, width) if whole and width * height <= MAX_PIXELS else None
