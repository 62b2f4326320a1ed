"""DOTA: `labelTxt/*.txt` beside `images/`, four corners, a category and a difficulty a row, after two lines of head.

Oriented boxes are read as outlines; objects marked difficult (1) are ignored, as the benchmark does.
"""

from pathlib import Path

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.data.formats.shared.named import NamedObjects
from sightline.data.layout import absolute, list_files, list_images, relative, subfolder

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "DOTA `labelTxt/*.txt` beside `images/`"
_LABELS = ("labelTxt", "labelTxt-v1.0", "labelTxt-v1.5", "labelTxt-v2.0")
_HEADS = ("imagesource", "gsd", "acquisition")


def detect(path: Path) -> float | None:
    """How surely the path is DOTA, 0..1, or None."""
    return 0.95 if any(list_files(labels, (".txt",)) for labels, _ in _parts(path)) else None


def read(path: Path) -> Dataset:
    """The data set of a DOTA folder. DataError when it is none."""
    path = absolute(path)
    parts = _parts(path)
    if not parts:
        raise DataError(f"must be {LOOKED_FOR}, got none of these", where=str(path))
    found = NamedObjects(path)
    for labels, images in parts:
        texts = {p.stem: p for p in list_files(labels, (".txt",))}
        for picture in list_images(images):
            name, _ = found.picture(relative(picture, path))
            if picture.stem in texts:
                _read_file(texts.pop(picture.stem), name, found)
            else:
                found.report("label-missing-file", "the image has no annotation", None, name)
        for file in texts.values():
            found.label_path = relative(file, path)
            found.report("label-orphan", "the annotation has no image", None)
    return found.dataset(path, "dota")


def _read_file(file: Path, image: str, found: NamedObjects) -> None:
    for number, line in found.lines(file, image):
        if line.split(":")[0] in _HEADS:
            continue
        row = line.split()
        if len(row) not in (9, 10):
            message = f"a row must be eight numbers, a category and a difficulty, got {len(row)} words: '{line:.60}'"
            found.report("label-malformed", message, number, image)
            continue
        found.add(image, row[8], number, ring=row[:8], ignore=row[9:] == ["1"])


def _parts(path: Path) -> list[tuple[Path, Path]]:
    """Label folder and image folder of each part."""
    if not path.is_dir():
        return []
    places = (path, *sorted(p for p in path.iterdir() if p.is_dir()))
    pairs = ((subfolder(place, _LABELS), subfolder(place, ("images",))) for place in places)
    return [(labels, images) for labels, images in pairs if labels is not None and images is not None]
