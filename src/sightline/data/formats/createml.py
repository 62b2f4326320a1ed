"""CreateML: JSON lists of pictures with boxes around their centre, in pixels; a file for each folder of pictures."""

from pathlib import Path
from typing import Any

from sightline.core.dataset import Dataset
from sightline.data.formats.shared.named import NamedObjects, json_files, read_json_list, read_named
from sightline.data.layout import absolute

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "CreateML JSON beside its images"
_MARKS = (b'"image', b'"annotations"', b'"coordinates"')


def detect(path: Path) -> float | None:
    """How surely the path is CreateML, 0..1, or None."""
    return 0.9 if json_files(path, _MARKS) else None


def read(path: Path) -> Dataset:
    """The data set of a CreateML file or folder. DataError when there is none."""
    path = absolute(path)
    return read_named(path, json_files(path, _MARKS), LOOKED_FOR, "createml", _read_file)


def _read_file(found: NamedObjects, file: Path) -> None:
    for entry in read_json_list(file, "images"):
        _read_entry(entry, found)


def _read_entry(entry: Any, found: NamedObjects) -> None:
    name = entry.get("image", entry.get("imagefilename")) if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        found.report("label-malformed", f"an entry must name its image, got {entry!r:.60}", None)
        return
    image, _ = found.picture(name)
    annotations = entry.get("annotations")
    for annotation in annotations if isinstance(annotations, list) else ():
        values = annotation.get("coordinates") if isinstance(annotation, dict) else None
        if not isinstance(values, dict):
            found.report("label-malformed", f"an annotation must have coordinates, got {annotation!r:.60}", None, image)
            continue
        found.add(image, annotation.get("label"), None, box=_corners(values))


def _corners(values: dict[str, Any]) -> list[Any]:
    try:
        x, y, width, height = (float(values[k]) for k in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return [repr(values)]
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
