"""VisDrone-DET: `images/` beside `annotations/*.txt`, eight whole numbers a row.

Recognised: a folder with both inside, or folders of such (`VisDrone2019-DET-train`, `-val`, `-test-dev`; the split is
read from the name). A row is `x,y,w,h,score,category,truncation,occlusion`, with or without a comma at the end; x and y
count from 0, so the box ends at `x + w`.

Classes are always all twelve, the ten that are evaluated first: category k of 1..10 is class k - 1, then "ignored
regions" (category 0) and "others" (11), whose objects are ignored, as are those of score 0. A `classes.txt` beside the
data (ours, not VisDrone's: line k names category k) gives other classes; category 0 stays what it is.

Truncation and occlusion are stated in steps and read as shares: 0 as 0, 1 (1 to 50 %) as 0.25, occlusion 2 (50 to
100 %) as 0.75; any other value, as the -1 of result files, says nothing.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import (
    build_dataset,
    build_image_table,
    class_table,
    float_rows,
    label_lines,
    labels_of_images,
)
from sightline.data.layout import absolute, list_files, list_images, read_head, read_text, relative, split_of, subfolder

__all__ = ["CATEGORIES", "CLASSES_NAME", "IGNORED_REGIONS", "LOOKED_FOR", "OTHERS", "SHARES", "detect", "read"]

LOOKED_FOR = "VisDrone-DET `images/` beside `annotations/*.txt` (x,y,w,h,score,category,truncation,occlusion)"
IGNORED_REGIONS = "ignored regions"
OTHERS = "others"
CATEGORIES = (
    *("pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor"),
    *(IGNORED_REGIONS, OTHERS),
)
"""VisDrone's class names by class id."""
SHARES = (0.0, 0.25, 0.75)
"""What the steps of truncation and occlusion stand for."""
CLASSES_NAME = "classes.txt"

_ROW = re.compile(r"(-?\d+,){7}-?\d+,?")
_WIDTH = 8
_MOST_CATEGORIES = 10_000
_LOOKED_AT = 1000  # files in which the first row is looked for

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


def detect(path: Path) -> float | None:
    """How surely the path is VisDrone-DET, 0..1, or None."""
    if not path.is_dir():
        return None
    found = [_sureness(annotations) for _, annotations, _ in _parts(path)]
    return max((sure for sure in found if sure is not None), default=None)


def read(path: Path) -> Dataset:
    """The data set of a VisDrone-DET folder. DataError when it is none."""
    path = absolute(path)
    parts = _parts(path) if path.is_dir() else []
    if not parts:
        raise DataError(f"must be {LOOKED_FOR}, got none of these", where=str(path))
    files: list[tuple[Path, str | None]] = []
    labels: dict[str, Path] = {}
    findings: list[Finding] = []
    for images, annotations, split in parts:
        pictures = list_images(images)
        files += [(p, split) for p in pictures]
        texts = {p.stem: p for p in list_files(annotations, (".txt",))}
        labels |= {relative(p, path): texts[p.stem] for p in pictures if p.stem in texts}
        for stem in sorted(set(texts) - {p.stem for p in pictures}):
            message = "the annotation has no image"
            findings.append(finding("label-orphan", message, path=relative(texts[stem], path)))
    images_table, notes = build_image_table(files, path)
    reader = _Reader(path, findings + notes)
    for image_id, _, label in labels_of_images(images_table, labels, reader.findings):
        reader.read_file(label, image_id)
    objects, classes = reader.tables(*_categories(path, reader))
    return build_dataset(path, "visdrone", images_table, objects, classes, reader.findings, task="detect")


def _parts(path: Path) -> list[tuple[Path, Path, str | None]]:
    """Image folder, annotation folder and split of each part."""
    found = []
    for place in (path, *sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))):
        images, annotations = subfolder(place, ("images",)), subfolder(place, ("annotations",))
        if images is not None and annotations is not None:
            found.append((images, annotations, split_of(place.name) if place != path else None))
        if found and place == path:
            break
    return [part for part in found if list_files(part[1], (".txt",))]


def _sureness(annotations: Path) -> float | None:
    """What the first row there is says; little where no image seems to have an object."""
    for file in list_files(annotations, (".txt",))[:_LOOKED_AT]:
        head = read_head(file, 256).decode("utf-8-sig", errors="replace").strip()
        if head:
            return 0.9 if _ROW.fullmatch(head.splitlines()[0].replace(" ", "")) else None
    return 0.4


@dataclass
class _Reader:
    """Collects the rows of all annotation files, then turns them into columns at once."""

    root: Path
    findings: list[Finding]
    _rows: list[list[str]] = field(default_factory=list)
    _images: list[int] = field(default_factory=list)
    _places: list[tuple[str, int | None]] = field(default_factory=list)

    def read_file(self, file: Path, image_id: int) -> None:
        """Take in the rows of one file; rows of another length are reported."""
        name = relative(file, self.root)
        for number, line in label_lines(file, name, image_id, self.findings):
            row = line.removesuffix(",").split(",")
            if len(row) == _WIDTH:
                self._rows.append(row)
                self._images.append(image_id)
                self._places.append((name, number))
                continue
            message = f"a row must have {_WIDTH} numbers, got {len(row)}: '{line:.60}'"
            self.findings.append(finding("label-malformed", message, path=name, line=number, image_id=image_id))

    def tables(self, class_of: dict[int, str], never: set[int]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The objects and classes tables; `class_of` names the categories, in the order of the classes, and objects
        of the categories in `never` are ignored.
        """
        values, bad = float_rows(self._rows, _WIDTH)
        self._report(bad, "label-malformed", "a row must hold numbers up to 1e15, got '{}'")
        slots = {category: i for i, category in enumerate(class_of)}
        category = np.where(bad, -1.0, values[:, 5])
        class_id = np.array([slots.get(c, -1) for c in category.tolist()], dtype=np.int64)
        self._report((class_id < 0) & ~bad, "label-unknown-class", "the category of '{}' is not declared")
        rows = np.flatnonzero(class_id >= 0)
        values, class_id = values[rows], class_id[rows]
        objects = pl.DataFrame(
            {
                "image_id": np.array(self._images, dtype=np.int64)[rows],
                "class_id": class_id,
                "x1": values[:, 0],
                "y1": values[:, 1],
                "x2": values[:, 0] + values[:, 2],
                "y2": values[:, 1] + values[:, 3],
                "crowd": np.zeros(len(rows), dtype=np.bool_),
                "ignore": (values[:, 4] == 0) | np.isin(values[:, 5], list(never)),
                "occlusion": _shares(values[:, 7]),
                "truncation": _shares(values[:, 6]),
                "label_path": [self._places[i][0] for i in rows.tolist()],
                "entry": [self._places[i][1] for i in rows.tolist()],
            },
            schema_overrides={c: OBJECTS_SCHEMA[c] for c in ("class_id", "label_path", "entry")},
        ).with_columns(pl.col("occlusion", "truncation").fill_nan(None))
        return objects, class_table(list(class_of.values()), source_id=list(class_of))

    def uses(self, category: int) -> bool:
        """Whether a row has the category."""
        return any(row[5].strip() == str(category) for row in self._rows)

    def _report(self, hit: npt.NDArray[np.bool_], code: str, message: str) -> None:
        for row in np.flatnonzero(hit).tolist():
            path, line = self._places[row]
            shown = ",".join(self._rows[row])[:60]
            self.findings.append(finding(code, message.format(shown), path=path, line=line, image_id=self._images[row]))


def _categories(path: Path, reader: _Reader) -> tuple[dict[int, str], set[int]]:
    """The names of the categories, in the order of the classes, and the categories that never count."""
    file = path / CLASSES_NAME
    if not file.is_file():
        return {**dict(enumerate(CATEGORIES[:10], start=1)), 0: IGNORED_REGIONS, 11: OTHERS}, {0, 11}
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if len(set(names)) < len(names) or not names or len(names) > _MOST_CATEGORIES:
        raise DataError(f"class names must differ and be 1 to {_MOST_CATEGORIES}, got {len(names)}", where=str(file))
    known = dict(enumerate(names, start=1))
    return (known | {0: IGNORED_REGIONS} if reader.uses(0) and IGNORED_REGIONS not in names else known), {0}


def _shares(steps: Floats) -> Floats:
    """The shares the steps stand for, NaN for a value that is no step."""
    known = np.isin(steps, np.arange(len(SHARES)))
    return np.where(known, np.array(SHARES)[np.where(known, steps, 0).astype(np.int64)], np.nan)
