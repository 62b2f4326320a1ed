"""Boxes as CSV: with a head (filename, class, xmin, …), without one (path, x1, y1, x2, y2, class), or Open Images.

Columns of a head are known by the names tools use; Open Images has fractions of the picture, names of classes in
`class-descriptions-boxable.csv` beside it, and groups, which are crowd regions.
"""

import csv
from pathlib import Path
from typing import Any

from sightline.core.dataset import Dataset
from sightline.data.formats.shared.named import NamedObjects, read_named
from sightline.data.layout import absolute, read_head, read_text, split_of

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "CSV boxes with a head, without one, or of Open Images"
_IMAGE = ("filename", "file_name", "image", "image_path", "path", "imageid", "image_id", "img")
_CLASS = ("class", "label", "labelname", "class_name", "category", "name")
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("x_min", "y_min", "x_max", "y_max"))
_DESCRIPTIONS = "class-descriptions"
_HEADLESS = 6
_HEAD = 1 << 12


def detect(path: Path) -> float | None:
    """How surely the path is CSV boxes, 0..1, or None."""
    return 0.6 if _files(path) else None


def read(path: Path) -> Dataset:
    """The data set of such a file, or of a folder with one, or with one in each folder of a split."""
    path = absolute(path)
    return read_named(path, _files(path), LOOKED_FOR, "csv-boxes", _read_file)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".csv" and _columns(path) is not None else []
    if not path.is_dir():
        return []
    here = [p for p in sorted(path.glob("*.csv")) if _columns(p) is not None]
    return here or [p for p in sorted(path.glob("*/*.csv")) if _columns(p) is not None]


def _columns(file: Path) -> dict[str, int] | None:
    """Where image, class and corners stand in a row, `head` 1 where the first row names them; None for other files."""
    text = read_head(file, _HEAD).decode("utf-8-sig", errors="replace")
    rows = list(csv.reader(text.splitlines()[:2]))
    if not rows:
        return None
    names = [cell.strip().lower() for cell in rows[0]]
    image, label = (next((names.index(n) for n in known if n in names), None) for known in (_IMAGE, _CLASS))
    corners = next((c for c in _CORNERS if set(c) <= set(names)), None)
    if image is not None and label is not None and corners is not None:
        places: dict[str, int] = {
            key: names.index(name) for key, name in zip(("x1", "y1", "x2", "y2"), corners, strict=True)
        }
        places |= {key: names.index(key) for key in ("width", "height", "isgroupof") if key in names}
        return {"head": 1, "image": image, "class": label, **places}
    if len(names) == _HEADLESS and (all(_is_number(cell) for cell in names[1:5]) or names[1:] == [""] * 5):
        return {"head": 0, "image": 0, "x1": 1, "y1": 2, "x2": 3, "y2": 4, "class": 5}
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_file(found: NamedObjects, file: Path) -> None:
    places = _columns(file) or {}
    names = _descriptions(file)
    split = split_of(file.stem) or split_of(file.parent.name)
    fractions = "isgroupof" in places
    for number, row in enumerate(csv.reader(read_text(file).splitlines()), start=1):
        if number <= places["head"] or not row:
            continue
        if len(row) <= max(v for k, v in places.items() if k != "head"):
            message = f"a row must have as many cells as the first, got '{','.join(row):.60}'"
            found.report("label-malformed", message, number)
            continue
        cells = {key: row[place].strip() for key, place in places.items() if key != "head"}
        stated = tuple(int(cells[k]) if cells.get(k, "").isdecimal() else None for k in ("width", "height"))
        image, size_hw = found.picture(cells["image"], stated_wh=(stated[0], stated[1]), split=split, entry=number)
        box: list[Any] = [cells[k] for k in ("x1", "y1", "x2", "y2")]
        if not any(box) and not cells["class"]:
            continue  # a picture without objects
        if fractions and size_hw is not None:
            box = _in_pixels(box, size_hw)
        label = names.get(cells["class"], cells["class"])
        found.add(image, label, number, box=box, crowd=cells.get("isgroupof") == "1")


def _in_pixels(box: list[Any], size_hw: tuple[int, int]) -> list[Any]:
    height, width = size_hw
    return [float(v) * s if _is_number(v) else v for v, s in zip(box, (width, height, width, height), strict=True)]


def _descriptions(file: Path) -> dict[str, str]:
    """Open Images' names of its class ids."""
    places = sorted(file.parent.glob(f"{_DESCRIPTIONS}*.csv"))
    rows = csv.reader(read_text(places[0]).splitlines()) if places else ()
    return {row[0]: row[1] for row in rows if len(row) == 2}
