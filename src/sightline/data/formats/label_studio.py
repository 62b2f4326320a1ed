"""Label Studio: JSON and JSON-MIN with rectangles, polygons, ellipses and brush masks, in per cent of the picture.

Where several people annotated a picture the newest annotation that was not cancelled is read, and that there were
others is said.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.data.formats.shared.named import NamedObjects, finite, json_files, read_json_list, read_named
from sightline.data.formats.shared.shapes import ellipse_ring, turned_box_ring
from sightline.data.layout import absolute
from sightline.ops import rle

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "Label Studio JSON or JSON-MIN"
_KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels")
_NO_SHAPES = {"choices", "textarea", "rating", "labels", "relation"}
_FULL = 100.0  # coordinates are per cent of the picture's sides


def detect(path: Path) -> float | None:
    """How surely the path is of this tool, 0..1, or None."""
    return 0.9 if _files(path) else None


def read(path: Path) -> Dataset:
    """The data set of such a file or folder. DataError when there is none."""
    path = absolute(path)
    return read_named(path, _files(path), LOOKED_FOR, "label-studio", _read_file)


def _read_file(found: NamedObjects, file: Path) -> None:
    for task in read_json_list(file, "tasks"):
        _read_task(task, found)


def _files(path: Path) -> list[Path]:
    """Of a folder the files of the folder itself, else those one below: an export often has the same labels twice."""
    found = {file for kind in _KINDS for file in json_files(path, (kind.encode(), b'"original_width"'))}
    here = sorted(file for file in found if path in {file.parent, file})
    return here or sorted(found)


def _read_task(task: Any, found: NamedObjects) -> None:
    if not isinstance(task, dict):
        found.report("label-malformed", f"a task must be an object, got {task!r:.60}", None)
        return
    given = task.get("data")
    data = given if isinstance(given, dict) else task
    names = [v for k, v in data.items() if isinstance(v, str) and k in {"image", "img", "photo", "picture", "url"}]
    if not names:
        found.report("label-malformed", f"a task must name its image, got {list(data)[:6]}", None)
        return
    regions = _regions(task, found)
    sizes = [(r.get("original_width"), r.get("original_height")) for r in regions if isinstance(r, dict)]
    image, size_hw = found.picture(_without_query(names[0]), stated_wh=sizes[0] if sizes else (None, None))
    for region in regions:
        _read_region(region, image, size_hw, found)


def _without_query(name: str) -> str:
    """The path an address of Label Studio's own storage means: `/data/local-files/?d=folder/a.jpg`."""
    return name.rpartition("?d=")[2] if "?d=" in name else name


def _regions(task: dict[str, Any], found: NamedObjects) -> list[Any]:
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list):  # JSON-MIN: the regions of each control stand in the task itself
        lists = [v for v in task.values() if isinstance(v, list)]
        return [r for part in lists for r in part if isinstance(r, dict) and any(k in r for k in _KINDS)]
    kept = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    if len(kept) > 1:
        message = f"{len(kept)} people annotated the image; the newest annotation is read"
        found.report("image-duplicate-entry", message, None)
    newest = max(kept, key=lambda a: str(a.get("updated_at") or a.get("created_at") or ""), default={})
    result = newest.get("result", [])
    if isinstance(result, list):
        return result
    found.report("label-malformed", f"an annotation's result must be a list, got {result!r:.30}", None)
    return []


def _read_region(region: Any, image: str, size_hw: tuple[int, int] | None, found: NamedObjects) -> None:
    if not isinstance(region, dict):
        found.report("label-malformed", f"a region must be a JSON object, got {region!r:.30}", None, image)
        return
    value = region.get("value", region)
    kind = next((k for k in _KINDS if isinstance(value, dict) and k in value), None)
    if kind is None:
        if region.get("type") not in _NO_SHAPES:
            found.report("label-unsupported-shape", f"a {region.get('type')!r:.30} is not read", None, image)
        return
    names = value[kind]
    label = names[0] if isinstance(names, list) and names else None
    width, height = (region.get(k, value.get(k)) for k in ("original_width", "original_height"))
    if not isinstance(width, int) or not isinstance(height, int):
        height, width = size_hw or (None, None)
    if not width or not height:
        found.report("label-malformed", "a region must state the size of its picture, got none", None, image)
        return
    try:
        outline = _outline(kind, value, float(width) / _FULL, float(height) / _FULL, (int(height), int(width)))
    except (LookupError, TypeError, ValueError, OverflowError, DataError) as error:
        found.report("label-malformed", f"a region of {kind} cannot be read: {error!r:.60}", None, image)
        return
    found.add(image, label, None, **outline)


def _outline(kind: str, value: dict[str, Any], per_x: float, per_y: float, size_hw: tuple[int, int]) -> dict[str, Any]:
    if kind == "polygonlabels":
        return {"ring": [finite(v) * s for x, y in value["points"] for v, s in ((x, per_x), (y, per_y))]}
    if kind == "brushlabels":
        mask = _brush(value["rle"], size_hw)
        counts = rle.encode(mask)
        return {"box": rle.to_box(counts, size_hw).tolist(), "rle": counts}
    x, y = finite(value["x"]) * per_x, finite(value["y"]) * per_y
    degrees = finite(value.get("rotation") or 0.0)
    if kind == "ellipselabels":
        return {"ring": ellipse_ring(x, y, finite(value["radiusX"]) * per_x, finite(value["radiusY"]) * per_y, degrees)}
    box = (x, y, x + finite(value["width"]) * per_x, y + finite(value["height"]) * per_y)
    return {"box": box} if not degrees else {"ring": _turned_at_corner(box, degrees)}


def _turned_at_corner(box: tuple[float, float, float, float], degrees: float) -> list[float]:
    """Label Studio turns a rectangle around its top left corner, clockwise."""
    around_centre = np.reshape(turned_box_ring(box, degrees), (-1, 2))
    turned: list[float] = (around_centre + (np.array(box[:2]) - around_centre[0])).reshape(-1).tolist()
    return turned


def _brush(values: Any, size_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """A brush mask: bits in runs as Label Studio packs an RGBA picture, of which the alpha is the mask."""
    bits = np.unpackbits(np.array(values, dtype=np.uint8))
    place = 0

    def take(count: int) -> int:
        nonlocal place
        chunk = bits[place : place + count]
        if len(chunk) < count:
            raise ValueError("the mask ends early")
        place += count
        return int(chunk.dot(1 << np.arange(count - 1, -1, -1)))

    total = take(32)
    if total != size_hw[0] * size_hw[1] * 4:
        raise ValueError(f"the mask must be of {size_hw[0]} × {size_hw[1]} pixels")
    word = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out = np.zeros(total, dtype=np.uint8)
    done = 0
    while done < total:
        is_run = take(1)
        length = take(sizes[take(2)]) + 1
        if is_run:
            out[done : done + length] = take(word)
        else:
            for i in range(done, min(done + length, total)):
                out[i] = take(word)
        done += length
    return out.reshape(*size_hw, 4)[..., 3] > 0
