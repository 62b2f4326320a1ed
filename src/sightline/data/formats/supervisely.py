"""Supervisely: a project with `meta.json`, and in each data set's folder `ann/<image>.json` beside `img/`.

Rectangles, polygons (with holes) and bitmaps are read; points, lines and graphs of points have no area: they are
reported.
The split is that of the folder's name, else of the image's tag (train, val, test), as the tool's own exports have it.
"""

import base64
import binascii
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.data.formats.shared.named import NamedObjects, open_named, read_json
from sightline.data.formats.shared.shapes import rle_of_crop
from sightline.data.layout import absolute, list_files, list_images, read_head, relative, split_of
from sightline.media import decode_mask, parse_header
from sightline.ops import rle

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "a Supervisely project (`meta.json`, `<data set>/ann/*.json` beside `<data set>/img/`)"
_META = "meta.json"
_WITHOUT_AREA = frozenset({"point", "line", "graph", "cuboid", "cuboid_2d", "multichannelBitmap"})
_BITMAP_BYTES = 1 << 26  # unpacked; a mask of the largest picture is far smaller
_HEAD = 1 << 12


def detect(path: Path) -> float | None:
    """How surely the path is such a project, or a data set of one, 0..1, or None."""
    files = [file for folder in _folders(path) for file in list_files(folder / "ann", (".json",))[:1]]
    heads = [read_head(file, _HEAD) for file in files]
    return 0.95 if any(b'"size"' in head and b'"objects"' in head for head in heads) else None


def read(path: Path) -> Dataset:
    """The data set of a project. DataError when it is none."""
    path = absolute(path)
    folders = _folders(path)
    found = open_named(path, folders, LOOKED_FOR)
    found.class_names = _class_names(path)
    for folder in folders:
        labels = {p.name: p for p in list_files(folder / "ann", (".json",))}
        for picture in list_images(folder / "img"):
            name = next((n for n in (f"{picture.name}.json", f"{picture.stem}.json") if n in labels), None)
            found.label_path = relative(folder / "ann" / (name or f"{picture.name}.json"), found.root)
            if name is None:
                image, _ = found.picture(relative(picture, found.root), split=split_of(folder.name))
                found.report("label-missing-file", "the image has no annotation", None, image)
            else:
                _read_file(labels.pop(name), relative(picture, found.root), split_of(folder.name), found)
        for file in labels.values():
            found.label_path = relative(file, found.root)
            found.report("label-orphan", "the annotation has no image", None)
    return found.dataset(path, "supervisely")


def _folders(path: Path) -> list[Path]:
    """The data sets of a project, nested ones too, or the folder itself where it is one."""
    if not path.is_dir():
        return []
    annotated = [path / "ann", *path.glob("*/ann"), *path.glob("*/datasets/*/ann")]
    return sorted(p.parent for p in annotated if p.is_dir() and (p.parent / "img").is_dir())


def _class_names(path: Path) -> list[str]:
    """The classes of the project, which a single data set of it has beside its folder or not at all."""
    if not (path / _META).is_file():
        return []
    meta = read_json(path / _META)
    classes = meta.get("classes") if isinstance(meta, dict) else None
    titles = [c.get("title") if isinstance(c, dict) else None for c in classes] if isinstance(classes, list) else [None]
    if not all(isinstance(title, str) and title.strip() for title in titles):
        raise DataError("'classes' must be a list of objects with a title", where=str(path / _META))
    return [str(title).strip() for title in titles]


def _read_file(file: Path, name: str, split: str | None, found: NamedObjects) -> None:
    try:
        value = read_json(file)
    except DataError as error:
        image, _ = found.picture(name, split=split)
        found.report("label-malformed", error.what, None, image)
        return
    value = value if isinstance(value, dict) else {}
    size = value.get("size")
    stated = (size.get("width"), size.get("height")) if isinstance(size, dict) else (None, None)
    image, size_hw = found.picture(name, stated_wh=stated, split=split or _tagged(value.get("tags")))
    objects = value.get("objects")
    if not isinstance(objects, list):
        found.report("label-malformed", f"the file must have a list of objects, got {objects!r:.30}", None, image)
        return
    for entry in objects:
        _read_object(entry, image, size_hw, found)


def _tagged(tags: Any) -> str | None:
    names = [tag.get("name") for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    return next((s for name in names if isinstance(name, str) and (s := split_of(name)) is not None), None)


def _read_object(entry: Any, image: str, size_hw: tuple[int, int] | None, found: NamedObjects) -> None:
    kind = entry.get("geometryType") if isinstance(entry, dict) else None
    if kind in _WITHOUT_AREA:
        found.report("label-unsupported-shape", f"a {kind} has no area that can be read", None, image)
        return
    try:
        if size_hw is None:
            raise ValueError("the size of the image is not known")
        shape = _shape(str(kind), entry, size_hw)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, DataError) as error:
        what = error.what if isinstance(error, DataError) else repr(error)
        found.report("label-malformed", f"an object of kind {kind!r:.20} cannot be read: {what:.80}", None, image)
        return
    found.add(image, entry.get("classTitle"), None, **shape)


def _shape(kind: str, entry: dict[str, Any], size_hw: tuple[int, int]) -> dict[str, Any]:
    if kind == "bitmap":
        code = _bitmap(entry["bitmap"], size_hw)
        return {"box": rle.to_box(code, size_hw).tolist(), "rle": code}
    outer = [[float(v) for v in pair] for pair in entry["points"]["exterior"]]
    if kind == "rectangle":
        (x1, y1), (x2, y2) = outer
        return {"box": [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]}
    if kind != "polygon":
        raise ValueError("no known geometryType")
    ring = [v for pair in outer for v in pair]
    holes = [[float(v) for pair in hole for v in pair] for hole in entry["points"].get("interior") or ()]
    if not holes:
        return {"ring": ring}
    left = rle.decode(rle.from_polygons([ring], size_hw), size_hw)
    code = rle.encode(left & ~rle.decode(rle.from_polygons(holes, size_hw), size_hw))
    return {"box": rle.to_box(code, size_hw).tolist(), "rle": code}


def _bitmap(value: dict[str, Any], size_hw: tuple[int, int]) -> bytes:
    """A PNG of indices, packed with zlib and written in base 64, that is the mask from `origin` on."""
    try:
        packed = zlib.decompressobj()
        data = packed.decompress(base64.b64decode(value["data"], validate=True), _BITMAP_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from None
    if packed.unconsumed_tail:
        raise ValueError("its bitmap is too large")
    left, top = (int(v) for v in value["origin"])
    header = parse_header(io.BytesIO(data), "the bitmap")
    if header.alpha and header.channels in {"rgba", "gray-alpha"}:
        with Image.open(io.BytesIO(data)) as picture:  # the tool's own writer puts the mask where the transparency is
            inside = np.asarray(picture.convert("RGBA").getchannel("A")) > 0
    else:
        inside = np.asarray(decode_mask(data, "the bitmap") > 0)
    return rle_of_crop(inside, left, top, size_hw)
