"""Datumaro: `annotations/<subset>.json` with `categories`, `items` and their boxes, outlines and masks.

The name of a file is the split of its items ("default" is none). Boxes are x, y, width, height; outlines are flat lists
of numbers; masks are COCO's run lengths. Labels of whole images, captions, points and lines have no area: they are
reported. Pictures are found by their path, or by the item's id where none is given.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.data.formats.shared.named import NamedObjects, json_files, read_json, read_named
from sightline.data.layout import absolute, split_of
from sightline.ops import rle

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "Datumaro's JSON (categories, items)"
_MARKS = (b'"categories"', b'"label"', b'"labels"')
_WITHOUT_AREA = frozenset({"label", "caption", "points", "polyline", "cuboid_3d", "skeleton", "ellipse", "hash_key"})


def detect(path: Path) -> float | None:
    """How surely the path is Datumaro's, 0..1, or None."""
    return 0.94 if json_files(path, _MARKS) else None


def read(path: Path) -> Dataset:
    """The data set of such a file or folder. DataError when there is none."""
    path = absolute(path)
    return read_named(path, json_files(path, _MARKS), LOOKED_FOR, "datumaro", _read_file)


def _read_file(found: NamedObjects, file: Path) -> None:
    value = read_json(file)
    items = value.get("items") if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise DataError("must be an object with a list of items, got none", where=str(file))
    names = _names(value, file)
    found.class_names += [name for name in names if name not in found.class_names]
    for item in items:
        _read_item(item, names, found, file.stem)


def _names(value: dict[str, Any], file: Path) -> list[str]:
    categories = value.get("categories")
    label = categories.get("label") if isinstance(categories, dict) else None
    labels = label.get("labels") if isinstance(label, dict) else None
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in labels or ()]
    if not isinstance(labels, list) or not all(isinstance(name, str) and name for name in names):
        raise DataError("'categories' must list its labels with a name each", where=str(file))
    return [str(name) for name in names]


def _read_item(item: Any, names: list[str], found: NamedObjects, subset: str) -> None:
    picture = item.get("image") if isinstance(item, dict) else None
    given = picture.get("path") if isinstance(picture, dict) else None
    name = given or (item.get("id") if isinstance(item, dict) else None)
    if not isinstance(name, str) or not name:
        found.report("label-malformed", f"an item must have an id or the path of its image, got {item!r:.60}", None)
        return
    size = picture.get("size") if isinstance(picture, dict) else None
    stated = (size[1], size[0]) if isinstance(size, list) and len(size) == 2 else (None, None)
    # Pictures lie in a folder of their subset, whose names need not be unique beyond it.
    own = f"images/{subset}/{name}"
    place = own if not absolute(found.root / own).parts.count("..") and (found.root / own).is_file() else name
    image, _ = found.picture(place, stated_wh=stated, split=split_of(subset))
    given_list = item.get("annotations")
    annotations = given_list if isinstance(given_list, list) else []
    groups = [a["group"] for a in annotations if isinstance(a, dict) and a.get("group") not in (None, 0)]
    shared = {str(group) for group in groups if groups.count(group) > 1}
    if shared:
        message = f"{len(shared)} objects in several parts ('group'): each part is read as an object of its own"
        found.report("label-unsupported-shape", message, None, image)
    for annotation in annotations:
        _read_annotation(annotation, names, image, found)


def _read_annotation(annotation: Any, names: list[str], image: str, found: NamedObjects) -> None:
    kind = annotation.get("type") if isinstance(annotation, dict) else None
    if kind in _WITHOUT_AREA:
        found.report("label-unsupported-shape", f"a {kind} has no area that can be read", None, image)
        return
    if kind not in {"bbox", "polygon", "mask"}:
        found.report("label-malformed", f"an annotation must be of a known type, got {annotation!r:.60}", None, image)
        return
    number = annotation.get("label_id")
    if type(number) is not int or not 0 <= number < len(names):
        message = f"an annotation has label {number!r:.20} of {len(names)}, not declared"
        found.report("label-unknown-class", message, None, image)
        return
    given = annotation.get("attributes")
    attributes = given if isinstance(given, dict) else {}
    flags: dict[str, Any] = {
        "crowd": attributes.get("is_crowd") in (True, 1),
        "occlusion": 0.5 if attributes.get("occluded") is True else None,  # it says no share
    }
    try:
        shape = _shape(kind, annotation)
    except (KeyError, TypeError, ValueError, OverflowError, DataError) as error:
        found.report("label-malformed", f"a {kind} cannot be read: {error!r:.60}", None, image)
        return
    found.add(image, names[number], None, **shape, **flags)


def _shape(kind: str, annotation: dict[str, Any]) -> dict[str, Any]:
    if kind == "bbox":
        x, y, width, height = (float(v) for v in annotation["bbox"])
        return {"box": [x, y, x + width, y + height]}
    if kind == "polygon":
        return {"ring": annotation["points"]}
    height, width = annotation["rle"]["size"]
    counts = annotation["rle"]["counts"]
    size_hw = (int(height), int(width))
    if isinstance(counts, list):
        code = rle.runs_to_counts(np.array(counts, dtype=np.int64), size_hw)
    else:
        code = counts.encode("ascii")
        rle.counts_to_runs(code, size_hw)  # DataError where they do not fill the picture
    return {"box": rle.to_box(code, size_hw).tolist(), "rle": code}
