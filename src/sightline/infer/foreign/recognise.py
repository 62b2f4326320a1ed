"""What a graph made elsewhere is: its input, and in which ways its outputs can be read, by shapes, names and values."""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.core.decoding import Decoding
from sightline.core.errors import ModelError
from sightline.core.text import printable
from sightline.infer.decoding.network import INPUT_TYPES
from sightline.infer.decoding.outputs import pairs_of

__all__ = ["Given", "GraphInput", "Stated", "check_input", "class_count_of", "find_readings", "read_stated"]

_STRIDES = (8, 16, 32)
_MOST_KEPT = 1000  # boxes of a graph that gives each object once; a grid of anchors has more
_SUM_TOLERANCE = 0.02  # of probabilities that were computed in half precision
_ORDERED_SHARE = 0.98  # of boxes whose second corner lies behind the first, for them to be corners
_SHARE_LIMIT = 1.6  # boxes at the border reach beyond 1 a little
_MAX_TEXT = 200_000
_BOX_VALUES = 4

Arrays = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True)
class GraphInput:
    """The one input of a graph; `size_hw` is None where it is left open."""

    name: str
    layout: str
    input_type: str
    size_hw: tuple[int, int] | None
    channel_count: int | None


@dataclass(frozen=True)
class Stated:
    """What a file says about itself in another tool's words (Ultralytics' and what resembles it)."""

    class_names: tuple[str, ...] | None = None
    size_hw: tuple[int, int] | None = None
    task: str | None = None
    tool: str = ""
    licence: str | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def by_ultralytics(self) -> bool:
        """Whether how pictures are prepared is known: letterboxed, RGB, from 0 to 1."""
        return self.tool == "Ultralytics"


@dataclass(frozen=True)
class Given:
    """What is known beside the outputs: how many classes, if that is known, and the network's size."""

    class_count: int | None
    size_hw: tuple[int, int]


def check_input(inputs: Sequence[Any], where: str) -> GraphInput:
    """The input of a graph as ONNX Runtime describes it; ModelError unless it is one picture or a batch of them."""
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise ModelError(f"a graph must take one input, the pictures, got {names}", where=where)
    name, shape, kind = inputs[0].name, inputs[0].shape, inputs[0].type
    if kind not in INPUT_TYPES or len(shape) not in (3, 4):
        got = f"{kind} {shape}"
        raise ModelError(f"the input must be pictures of float32, float16 or uint8, got {got}", where=where)
    known = [side if isinstance(side, int) and side > 0 else None for side in shape]
    batch, rest = ("n", known[1:]) if len(known) == _BOX_VALUES else ("", known)
    last = rest[-1] in (1, 3) and rest[0] not in (1, 3)
    channels, *sides = (rest[-1], *rest[:2]) if last else rest
    if channels not in (1, 3, None):
        raise ModelError(f"pictures must have 1 or 3 channels, got an input {shape}", where=where)
    size = None if None in sides else (int(sides[0] or 0), int(sides[1] or 0))
    return GraphInput(name, batch + ("hwc" if last else "chw"), INPUT_TYPES[kind], size, channels)


def read_stated(entries: Mapping[str, str]) -> Stated:
    """What the entries of a file's metadata say, as far as they can be read."""
    names = _literal(entries.get("names", ""))
    if isinstance(names, dict) and names and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    sound = isinstance(names, list) and names and all(isinstance(n, str) for n in names)
    size = _literal(entries.get("imgsz", ""))
    sides = [size, size] if type(size) is int else size
    square = isinstance(sides, list) and len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)
    licence = re.match(r"[\w.+-]+", entries.get("license", ""))
    kept = ("description", "author", "version", "date", "docs")
    return Stated(
        class_names=tuple(printable(n)[:200] for n in names) if sound else None,
        size_hw=(sides[0], sides[1]) if square else None,
        task=entries.get("task"),
        tool=printable(entries.get("author", ""))[:80],
        licence=printable(licence[0]) if licence else None,
        notes={key: printable(entries[key])[:200] for key in kept if entries.get(key)},
    )


def _literal(text: str) -> Any:
    if not text or len(text) > _MAX_TEXT:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def find_readings(names: Sequence[str], outputs: Arrays, given: Given, fed: GraphInput) -> list[Decoding]:
    """Every way the outputs of one picture can be meant, the likeliest first; none where no way is known."""
    arrays = dict(zip(names, outputs, strict=True))
    found: list[tuple[tuple[str, ...], dict[str, Any]]] = []
    shapes = [array.shape for array in outputs]
    if len(shapes) == 1 and len(shapes[0]) == 3 and np.issubdtype(outputs[0].dtype, np.floating):
        found = [((names[0],), values) for values in _of_rows(outputs[0], given)]
    elif sorted(map(len, shapes)) == [3, 4]:
        found = list(_of_masks(arrays, given))
    elif len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
        found = list(_of_pairs(arrays, given))
    elif len(shapes) == 3 and any(shape[-1:] == (4,) for shape in shapes):
        found = list(_labelled(arrays, given))
    elif {len(shape) for shape in shapes} == {4} and len({shape[1] for shape in shapes}) == 1:
        found = [((names[0],), values) for values in _of_map(outputs[0], given)]  # others are auxiliary
    elif len(shapes) == 1 and len(shapes[0]) == 3:
        found = [((names[0],), {"reading": "ids"})]
    if not found and len(shapes) > 1:
        found = list(_beside_maps(arrays, given))
    base = {"input": fed.name, "layout": fed.layout, "input_type": fed.input_type}
    return [Decoding.load({**base, "outputs": order, **values}) for order, values in found]


def _of_masks(arrays: Mapping[str, npt.NDArray[Any]], given: Given) -> Iterable[tuple[tuple[str, ...], dict[str, Any]]]:
    """Readings of boxes whose values end in coefficients, beside prototypes (B, M, h, w)."""
    order = tuple(sorted(arrays, key=lambda name: arrays[name].ndim))
    values, prototypes = (arrays[name] for name in order)
    if len(values) == len(prototypes) and all(np.issubdtype(a.dtype, np.floating) for a in (values, prototypes)):
        for found in _of_rows(values, given, prototypes.shape[1]):
            yield order, found | {"masks": True}


def _beside_maps(
    arrays: Mapping[str, npt.NDArray[Any]], given: Given
) -> Iterable[tuple[tuple[str, ...], dict[str, Any]]]:
    """Readings of the one array of boxes beside the maps it was made of, as CenterNet's and YOLOv5's graphs give."""
    rows = [name for name, array in arrays.items() if array.ndim == 3 and np.issubdtype(array.dtype, np.floating)]
    if len(rows) == 1 and all(array.ndim > 3 for name, array in arrays.items() if name != rows[0]):
        for values in _of_rows(arrays[rows[0]], given):
            yield (rows[0],), values


def _of_rows(array: npt.NDArray[Any], given: Given, coefficients: int = 0) -> list[dict[str, Any]]:
    """Readings of one array (B, X, Y): heads of YOLO before suppression, or boxes with score and class; behind them so
    many coefficients of masks.
    """
    _, x, y = array.shape
    cells = sum((given.size_hw[0] // stride) * (given.size_hw[1] // stride) for stride in _STRIDES)
    centre = {"boxes": "cxcywh"}
    heads = [  # reading, classes, anchors, anchors of a cell
        ({"reading": "yolo8", **centre}, x - 4 - coefficients, y, 1),
        ({"reading": "yolo5", **centre}, y - 5 - coefficients, x, 3),
        ({"reading": "yolo8-rows", **centre}, y - 4 - coefficients, x, 1),
    ]
    fitting = [head for head in heads if head[1] >= 1 and given.class_count in (None, head[1])]
    if exact := [head for head in fitting if head[2] == cells * head[3]]:
        return [head[0] for head in exact]
    # A head has more anchors than values; without that rule every array has two readings.
    found: list[dict[str, Any]] = [head[0] for head in fitting if head[2] > head[1] + _BOX_VALUES]
    if y == 6 + coefficients and x <= _MOST_KEPT:
        ids, scores = array[..., 5], array[..., 4]
        if np.all(ids == np.rint(ids)) and scores.min() >= 0 and scores.max() <= 1:
            found.insert(0, {"reading": "one-to-one", "suppressed": True})
            if _suppressed(scores, ids):
                found = found[:1]
    return found


def _suppressed(scores: npt.NDArray[Any], ids: npt.NDArray[Any]) -> bool:
    """Whether scores fall and the last column holds several whole numbers or zeros: no head writes that by chance."""
    return bool(np.all(np.diff(scores, axis=-1) <= 0) and ids.min() >= 0)


def _of_pairs(arrays: Mapping[str, npt.NDArray[Any]], given: Given) -> Iterable[tuple[tuple[str, ...], dict[str, Any]]]:
    """Readings of scores (B, A, K) beside boxes (B, A, 4)."""
    names = list(arrays)
    orders = [(names[0], names[1]), (names[1], names[0])]
    orders = [(s, b) for s, b in orders if arrays[b].shape[2] == 4 and arrays[s].shape[:2] == arrays[b].shape[:2]]
    if len(orders) == 2 and (named := [order for order in orders if "box" in order[1].lower()]):
        orders = named
    for order in orders:
        scores, boxes = (np.asarray(arrays[name], np.float32) for name in order)
        for count, background in ((0, "none"), (1, "first"), (1, "last")):
            classes = scores.shape[2] - count
            if classes < 1 or given.class_count not in (None, classes):
                continue
            common = {"reading": "pairs", "background": background, "suppressed": scores.shape[1] <= _MOST_KEPT}
            for values in _pair_values(scores, boxes, background):
                yield order, common | values


def _pair_values(scores: npt.NDArray[Any], boxes: npt.NDArray[Any], background: str) -> Iterable[dict[str, Any]]:
    inside = scores.min() >= 0 and scores.max() <= 1
    sums_to_one = inside and bool(np.all(np.abs(scores.sum(-1) - 1) < _SUM_TOLERANCE))
    if background == "none":
        kinds = ["probability"] if inside else ["sigmoid"]
    else:
        kinds = ["softmax"] if not inside else (["probability"] if sums_to_one or scores.shape[2] == 2 else [])
    units = "share" if np.abs(boxes).max() <= _SHARE_LIMIT else "pixels"
    ordered = np.all(boxes[..., 2:] >= boxes[..., :2], axis=-1).mean() >= _ORDERED_SHARE
    formats = ["cxcywh"] if np.all(boxes[..., 2:] >= 0) else []
    # Both kinds of corners are ordered alike: only labelled pictures tell x from y.
    formats += ["xyxy", "yxyx"] if ordered else []
    for kind in kinds:
        for order in formats:
            yield {"scores": kind, "boxes": order, "units": units}


def _labelled(arrays: Mapping[str, npt.NDArray[Any]], given: Given) -> Iterable[tuple[tuple[str, ...], dict[str, Any]]]:
    """Readings of boxes, labels and scores of one picture."""
    flat = {name: array[0] if array.ndim > 1 and array.shape[0] == 1 and array.shape[-1:] != (4,) else array
            for name, array in arrays.items()}  # fmt: skip
    boxes = [name for name, array in flat.items() if array.shape[-1:] == (4,)]
    whole = [n for n, a in flat.items() if np.issubdtype(a.dtype, np.integer) or "label" in n or "class" in n]
    labels = [name for name in whole if name not in boxes]
    scores = [name for name in flat if name not in (*boxes, *labels)]
    if not (len(boxes) == len(labels) == len(scores) == 1):
        return
    ids = flat[labels[0]]
    units = "share" if flat[boxes[0]].size and np.abs(flat[boxes[0]]).max() <= _SHARE_LIMIT else "pixels"
    order = (boxes[0], labels[0], scores[0])
    from_0 = ids.size == 0 or given.class_count is None or ids.max() < given.class_count
    from_1 = ids.size == 0 or ids.min() > 0
    for background, possible in (("first", from_1), ("none", from_0)):
        if possible:
            yield order, {"reading": "labelled", "units": units, "background": background, "suppressed": True}


def _of_map(array: npt.NDArray[Any], given: Given) -> list[dict[str, Any]]:
    """Readings of (B, C, H, W): of one channel the foreground of two classes."""
    channels = array.shape[1]
    if given.class_count is not None and given.class_count != (2 if channels == 1 else channels):
        return []
    if np.issubdtype(array.dtype, np.integer):
        return [{"reading": "ids"}] if channels == 1 else []
    inside = array.min() >= 0 and array.max() <= 1
    if channels == 1:
        return [{"reading": "map", "scores": "probability" if inside else "sigmoid"}]
    summed = inside and bool(np.all(np.abs(array.sum(1) - 1) < _SUM_TOLERANCE))
    return [{"reading": "map", "scores": "probability" if summed else "softmax"}]


def class_count_of(decoding: Decoding, outputs: Arrays) -> int | None:
    """How many classes the arrays hold under a reading, None where they do not say it."""
    match decoding.reading:
        case "one-to-one" | "labelled" | "ids":
            return None
        case "map":
            return 2 if outputs[0].shape[1] == 1 else int(outputs[0].shape[1])
    behind = outputs[1].shape[1] if decoding.masks else 0
    return int(pairs_of(decoding, outputs, 1)[1].shape[-1]) - behind
