"""VGG Image Annotator: regions of pictures as JSON (project or annotations) or CSV.

Rectangles, polygons, circles and ellipses are read; points and lines have no area and are reported. The class is the
region attribute that most regions have a value of.
"""

import csv
import math
from collections import Counter
from pathlib import Path
from typing import Any

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.text import parse_json
from sightline.data.formats.shared.named import NamedObjects, finite, json_files, open_named, read_json
from sightline.data.formats.shared.shapes import ellipse_ring
from sightline.data.layout import absolute, read_head, read_text, relative

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "VGG Image Annotator JSON or CSV"
_MARKS = (b'"filename"', b'"regions"', b'"shape_attributes"')
_CSV_HEAD = b"region_shape_attributes"


def detect(path: Path) -> float | None:
    """How surely the path is of this tool, 0..1, or None."""
    return 0.9 if _files(path) else None


def read(path: Path) -> Dataset:
    """The data set of such a file or folder; of a folder the JSON is read, and the CSV where there is none."""
    path = absolute(path)
    files = _files(path)
    found = open_named(path, files, LOOKED_FOR)
    parts = [(file, _of_json(file) if file.suffix.lower() == ".json" else _of_csv(file)) for file in files]
    attribute = _class_attribute([region for _, pictures in parts for _, regions in pictures for region in regions])
    for file, pictures in parts:
        found.label_path = relative(file, found.root)
        for name, regions in pictures:
            image, _ = found.picture(name)
            for region in regions:
                _read_region(region, image, attribute, found)
    return found.dataset(path, "via")


def _files(path: Path) -> list[Path]:
    found = json_files(path, _MARKS)
    if found:
        return found
    places = [path] if path.is_file() else sorted(path.glob("*.csv")) if path.is_dir() else []
    return [p for p in places if p.suffix.lower() == ".csv" and _CSV_HEAD in read_head(p, 512)]


def _of_json(file: Path) -> list[tuple[str, list[Any]]]:
    value = read_json(file)
    if isinstance(value, dict) and "_via_img_metadata" in value:
        value = value["_via_img_metadata"]
    if not isinstance(value, dict):
        raise DataError(f"must be an object of pictures, got a {type(value).__name__}", where=str(file))
    pictures = []
    for entry in value.values():
        if isinstance(entry, dict) and isinstance(entry.get("filename"), str) and entry["filename"]:
            regions = entry.get("regions", [])
            pictures.append((entry["filename"], list(regions.values() if isinstance(regions, dict) else regions or [])))
    return pictures


def _of_csv(file: Path) -> list[tuple[str, list[Any]]]:
    pictures: dict[str, list[Any]] = {}
    for row in csv.DictReader(read_text(file).splitlines()):
        regions = pictures.setdefault(row.get("filename") or row.get("#filename") or "unnamed", [])
        try:
            shape, attributes = (parse_json(row[k] or "{}") for k in ("region_shape_attributes", "region_attributes"))
        except (ValueError, KeyError):
            shape, attributes = repr(row), None
        if shape:
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
    return list(pictures.items())


def _class_attribute(regions: list[Any]) -> str:
    attributes = [r.get("region_attributes") for r in regions if isinstance(r, dict)]
    named = Counter(k for a in attributes if isinstance(a, dict) for k, v in a.items() if isinstance(v, str) and v)
    return named.most_common(1)[0][0] if named else ""


def _read_region(region: Any, image: str, attribute: str, found: NamedObjects) -> None:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        found.report("label-malformed", f"a region must have a shape, got {region!r:.60}", None, image)
        return
    # Without any attribute the regions are of one class that nobody named.
    label = (attributes.get(attribute) if isinstance(attributes, dict) else None) if attribute else "object"
    kind = str(shape.get("name"))
    try:
        outline = _outline(kind, shape)
    except (KeyError, TypeError, ValueError, OverflowError):
        found.report("label-malformed", f"a {kind:.20} must have its numbers, got {shape!r:.60}", None, image)
        return
    if outline is None:
        found.report("label-unsupported-shape", f"a {kind:.20} has no area that can be read", None, image)
        return
    found.add(image, label, None, **outline)


def _outline(kind: str, shape: dict[str, Any]) -> dict[str, Any] | None:
    if kind == "rect":
        x, y, width, height = (finite(shape[k]) for k in ("x", "y", "width", "height"))
        return {"box": [x, y, x + width, y + height]}
    if kind == "polygon":
        pairs = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        return {"ring": [finite(v) for pair in pairs for v in pair]}
    if kind in {"circle", "ellipse"}:
        x, y = finite(shape["cx"]), finite(shape["cy"])
        radii = (finite(shape["r"]),) * 2 if kind == "circle" else (finite(shape["rx"]), finite(shape["ry"]))
        return {"ring": ellipse_ring(x, y, *radii, math.degrees(finite(shape.get("theta", 0.0))))}
    return None
