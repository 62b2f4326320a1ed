"""KITTI object detection: `label_2/*.txt` beside `image_2/`, fifteen values a row.

A row is `type truncated occluded alpha x1 y1 x2 y2` and seven values in space, which are not read; a sixteenth is a
score. "DontCare" regions are crowd regions: neither found nor missed. Truncation is a share; occlusion 0, 1, 2 is read
as 0, 0.25 and 0.75, 3 (unknown) says nothing.
"""

from functools import partial
from pathlib import Path

from sightline.core.dataset import Dataset
from sightline.data.formats.shared.named import NamedObjects, folders_beside, open_named
from sightline.data.layout import absolute, list_files, read_head

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "KITTI `label_2/*.txt` beside `image_2/`"
_DONT_CARE = "DontCare"
_WIDTHS = (15, 16)
_OCCLUSION = {"0": 0.0, "1": 0.25, "2": 0.75}
_LABELS, _IMAGES = ("label_2", "labels"), ("image_2", "images")


def detect(path: Path) -> float | None:
    """How surely the path is KITTI, 0..1, or None."""
    for labels, _ in _parts(path):
        for file in list_files(labels, (".txt",))[:100]:
            head = read_head(file, 512).decode("utf-8", errors="replace").strip()
            if head:
                return 0.9 if _is_row(head.splitlines()[0].split()) else None
    return None


def read(path: Path) -> Dataset:
    """The data set of a KITTI folder. DataError when it is none."""
    path = absolute(path)
    parts = _parts(path)
    found = open_named(path, [labels for labels, _ in parts], LOOKED_FOR)
    for labels, images in parts:
        found.read_texts(labels, images, partial(_read_file, found))
    return found.dataset(path, "kitti")


def _read_file(found: NamedObjects, file: Path, image: str) -> None:
    for number, line in found.lines(file, image):
        row = line.split()
        if len(row) not in _WIDTHS:
            message = f"a row must have {_WIDTHS[0]} values, got {len(row)}: '{line:.60}'"
            found.report("label-malformed", message, number, image)
            continue
        crowd = row[0] == _DONT_CARE
        share = _share(row[1])
        hidden = _OCCLUSION.get(row[2])
        found.add(image, row[0], number, box=row[4:8], crowd=crowd, occlusion=hidden, truncation=share)


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _parts(path: Path) -> list[tuple[Path, Path]]:
    return folders_beside(path, _LABELS, _IMAGES)


def _is_row(row: list[str]) -> bool:
    try:
        return len(row) in _WIDTHS and not row[0][:1].isdigit() and len([float(v) for v in row[1:]]) >= 14
    except ValueError:
        return False
