"""Predictions as JSON: COCO results, as every trainer writes them, and the list of boxes supervision writes."""

from pathlib import Path
from typing import Any

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import check_regular
from sightline.core.predictions import Predictions
from sightline.core.text import parse_json
from sightline.data.image_names import ImageNames
from sightline.data.predictions.panoptic import is_panoptic, panoptic_predictions
from sightline.data.predictions.rows import Found, predictions_of
from sightline.ops import rle as rle_codes

__all__ = ["NAME_KEYS", "read_coco_results"]

NAME_KEYS = ("file_name", "filename", "image_name", "image_path", "file", "image", "path", "source")
"""Under which keys or in which columns the name of an image is looked for, first come first."""


def read_coco_results(path: str | Path, dataset: Dataset) -> Predictions:
    """COCO results, a JSON list of `image_id, category_id, score` and `bbox`, `segmentation` or `keypoints`, for this
    data set; or panoptic ones, an object whose `annotations` list segments, see `panoptic_predictions`.

    An image is found by `file_name` where the entry has one, else by `image_id`: an id of the data set's own source, a
    file name, or the number in it. Category ids are those of the data set's source, else class ids.

    As in pycocotools the first entry decides how all are sized: by their boxes if it has one, else by their masks. A
    mask without a box gets its own tight box, a box without a mask among masks is one itself. DataError, naming the
    entry, for what is no such list or belongs to another data set.
    """
    file = Path(path)
    content = _content(file)
    if is_panoptic(content):
        return panoptic_predictions(content, file, dataset)
    entries = _entries(content, file)
    kind = _Kind(dataset, entries)
    rows = [_found(entry, f"{file}: entry {n}", kind) for n, entry in enumerate(entries)]
    return predictions_of(dataset, rows, [], str(file), f"COCO results {file.name}")


def _content(file: Path) -> Any:
    try:
        check_regular(file)
        return parse_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror or error})", where=str(file)) from None
    except ValueError as error:
        raise DataError(f"must be JSON, got: {error}", where=str(file)) from None


def _entries(content: Any, file: Path) -> list[Any]:
    if not isinstance(content, list):
        raise DataError(f"COCO results must be a list, got a JSON {type(content).__name__}", where=str(file))
    return content


class _Kind:
    """What the entries of a file are, taken together; and height and width of the images, which masks must have."""

    def __init__(self, dataset: Dataset, entries: list[Any]) -> None:
        known = [entry for entry in entries if isinstance(entry, dict)]
        self.sized_by_box = bool(known) and bool(known[0].get("bbox"))
        self.masks = any(entry.get("segmentation") is not None for entry in known)
        self.names = ImageNames(dataset)
        rows = dataset.images.select("path", "height", "width").iter_rows()
        self._sizes_hw = {path: (height, width) for path, height, width in rows}

    def size_hw(self, image: str | int, where: str) -> tuple[int, int] | None:
        """None where the data set has no such image."""
        if isinstance(image, str):
            path = self.names.path_of(image)
        else:
            path = self.names.paths_of_numbers([image], where)[image]
        return None if path is None else self._sizes_hw[path]


def _found(entry: Any, where: str, kind: _Kind) -> Found:
    if isinstance(entry, dict) and {"x_min", "y_min", "x_max", "y_max", "class_id", "confidence"} <= entry.keys():
        return _of_supervision(entry, where)
    if not isinstance(entry, dict) or not {"category_id", "score"} <= entry.keys():
        raise DataError("must have image_id, category_id and score, got an entry without", where=where)
    if not entry.get("bbox") and entry.get("segmentation") is None and not entry.get("keypoints"):
        raise DataError("must have a bbox, a segmentation or keypoints, got none of them", where=where)
    image = _image(entry, where)
    size_hw = kind.size_hw(image, where) if kind.masks else None
    try:
        code = None if size_hw is None else _mask(entry, size_hw)
        box, size_wh = np.zeros(4), None  # so for a mask of an image the data set does not have: it is left out
        if entry.get("bbox"):
            x, y, width, height = (float(v) for v in entry["bbox"])
            box, size_wh = np.array([x, y, x + width, y + height]), (width, height)
        elif code is not None and size_hw is not None:
            box = rle_codes.to_box(code, size_hw)
        turned = None if entry.get("oriented") is None else [float(v) for v in entry["oriented"]]
        points = [float(v) for v in entry.get("keypoints") or ()]
        if len(points) % 3:
            raise ValueError(f"keypoints are three numbers each, not {len(points)} together")
        if points and not entry.get("bbox") and code is None:  # as the reference sizes them
            box = np.array([min(points[0::3]), min(points[1::3]), max(points[0::3]), max(points[1::3])])
        score, label = float(entry["score"]), _whole(entry["category_id"], "category_id", where)
        area = None
        if code is not None:
            area = width * height if kind.sized_by_box and size_wh else float(rle_codes.area(code))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        message = f"bbox, segmentation, keypoints and score must be numbers as COCO has them, got: {error}"
        raise DataError(message, where=where) from None
    own = {"size_wh": size_wh, "area": area, "keypoints": points or None, "oriented": turned}
    return Found(image, label, score, box, where, code, **own)  # type: ignore[arg-type]


def _mask(entry: dict[str, Any], size_hw: tuple[int, int]) -> bytes:
    if entry.get("segmentation") is not None:
        return _counts(entry["segmentation"], size_hw)
    x, y, width, height = (float(v) for v in entry["bbox"])
    return _counts([[x, y, x, y + height, x + width, y + height, x + width, y]], size_hw)


def _of_supervision(entry: dict[str, Any], where: str) -> Found:
    try:
        box = np.array([float(entry[k]) for k in ("x_min", "y_min", "x_max", "y_max")])
        score, label = float(entry["confidence"]), int(entry["class_id"])
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"boxes and confidences must be numbers, got: {error}", where=where) from None
    return Found(_image(entry, where), label, score, box, where)


def _image(entry: dict[str, Any], where: str) -> str | int:
    for key in NAME_KEYS:
        if isinstance(entry.get(key), str) and entry[key]:
            return str(entry[key])
    image = entry.get("image_id")
    if isinstance(image, str) and image:
        return image
    if image is None:
        looked_for = ", ".join(("image_id", *NAME_KEYS))
        raise DataError(f"an entry must name its image ({looked_for}), got none of these", where=where)
    return _whole(image, "image_id", where)


def _whole(value: Any, name: str, where: str) -> int:
    """A whole number, 1.0 as well as 1."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise DataError(f"{name} must be a whole number, got {value!r:.60}", where=where)


def _counts(segmentation: Any, size_hw: tuple[int, int]) -> bytes:
    if isinstance(segmentation, list):
        return rle_codes.from_polygons(segmentation, size_hw)
    if list(segmentation["size"]) != list(size_hw):
        raise ValueError(f"a mask of size {list(size_hw)} is needed, not {segmentation['size']}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return rle_codes.runs_to_counts(np.asarray(counts, np.int64), size_hw)
    code = counts.encode() if isinstance(counts, str) else bytes(counts)
    rle_codes.area(code)  # refuses what does not decode
    return code
