"""The same network under two names: the rows of a foreign table beside ours, tensor by tensor, in order and by shape.

The names on the right are those of the files of Ultralytics' YOLO and of the authors of YOLO12: facts of a format.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sightline.models.yolo.anchor_head import AnchorHead
from sightline.models.yolo.blocks import (
    C2PSA,
    C3,
    SPPF,
    A2C2f,
    AreaAttention,
    AreaBlock,
    Attention,
    Bottleneck,
    C2f,
    PSABlock,
)
from sightline.models.yolo.detector import YoloDetector
from sightline.models.yolo.head import DetectHead

__all__ = ["Fit", "fit_tensors", "foreign_rows"]

_NAMES: dict[type[nn.Module], dict[str, str]] = {
    A2C2f: {"reduce": "cv1", "join": "cv2", "inner": "m", "gain": "gamma"},
    AnchorHead: {"levels": "m"},
    AreaAttention: {"query_key": "qk", "value": "v", "position": "pe", "project": "proj"},
    AreaBlock: {"attention": "attn", "feed_forward": "mlp"},
    Attention: {"project": "proj", "position": "pe"},
    Bottleneck: {"reduce": "cv1", "expand": "cv2"},
    C2PSA: {"split": "cv1", "join": "cv2", "deep": "m"},
    C2f: {"split": "cv1", "join": "cv2", "inner": "m"},
    C3: {"deep_in": "cv1", "straight": "cv2", "join": "cv3", "deep": "m"},
    DetectHead: {"box_branches": "cv2", "class_branches": "cv3", "bins": "dfl.conv.weight"},
    PSABlock: {"attention": "attn", "feed_forward": "ffn"},
    SPPF: {"reduce": "cv1", "join": "cv2"},
}
_LIGHT_BRANCH = ("0.0", "0.1", "1.0", "1.1", "2")
"""The five parts of a light class branch, which there stand in pairs."""
_NOT_LEARNT = re.compile(r"(^|\.)(anchors|anchor_grid|grid|stride|strides)$")
"""Buffers of heads that follow from the table; anchors are compared by who reads them."""

Rows = list[dict[str, Tensor]]


@dataclass(frozen=True)
class Fit:
    """How foreign rows lie on a network: its tensors by our names, how many there are, and the first that differs."""

    tensors: dict[str, Tensor]
    count: int
    first_difference: str | None


def foreign_rows(tensors: Mapping[str, Tensor]) -> Rows | None:
    """The tensors of each numbered block of a foreign table, in order; None where names have no such numbers."""
    rows: dict[int, dict[str, Tensor]] = {}
    prefixes = set()
    for name, tensor in tensors.items():
        found = re.fullmatch(r"(.*?)(\d{1,4})\.(.+)", name)
        if found is None:
            return None
        prefixes.add(found[1])
        if not _NOT_LEARNT.search(found[3]):
            rows.setdefault(int(found[2]), {})[found[3]] = tensor
    return [rows[i] for i in sorted(rows)] if len(prefixes) == 1 else None


def fit_tensors(model: YoloDetector, rows: Rows) -> Fit:
    """The foreign tensors under the names of `model`, which may have shapes only, as far as both agree."""
    own = [row.name for row in model.rows] + ["head"]
    total = len(model.state_dict())
    if len(rows) != len(own):
        return Fit({}, total, f"{len(rows)} blocks with tensors for {len(own)}")
    placed: dict[str, Tensor] = {}
    difference = None
    for number, (name, theirs) in enumerate(zip(own, rows, strict=True)):
        pairs = dict(_pairs(model.get_submodule(name), ""))
        expected = {name_there: (key, tensor) for key, (name_there, tensor) in pairs.items()}
        for there in sorted(expected.keys() ^ theirs.keys()):
            lack = "no" if there in expected else "another tensor"
            difference = difference or f"{lack} '{there}' in block {number} ({name})"
        for there in expected.keys() & theirs.keys():
            key, tensor = expected[there]
            if _flat(theirs[there]) == _flat(tensor):
                placed[f"{name}.{key}"] = theirs[there].reshape(tensor.shape)
            else:
                shapes = f"{tuple(theirs[there].shape)} for {tuple(tensor.shape)}"
                difference = difference or f"'{there}' of {shapes} in block {number} ({name})"
    return Fit(placed, total, difference)


def _flat(tensor: Tensor) -> tuple[int, ...]:
    """A shape without sides of one at its ends: what a 1x1 convolution over bins and a vector of bins share."""
    sides = list(tensor.shape)
    while sides and sides[0] == 1:
        sides.pop(0)
    while sides and sides[-1] == 1:
        sides.pop()
    return tuple(sides)


def _pairs(module: nn.Module, there: str) -> Iterator[tuple[str, tuple[str, Tensor]]]:
    """(our name, (their name, our tensor)) of every tensor that is kept, within a module."""
    names = next((_NAMES[kind] for kind in type(module).__mro__ if kind in _NAMES), {})
    dropped = module._non_persistent_buffers_set
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for name, tensor in own:
        if name not in dropped:
            yield name, (there + names.get(name, name), tensor)
    light = isinstance(module, nn.Sequential) and len(module) == len(_LIGHT_BRANCH)
    for name, child in module.named_children():
        renamed = _LIGHT_BRANCH[int(name)] if light else names.get(name, name)
        for key, pair in _pairs(child, f"{there}{renamed}."):
            yield f"{name}.{key}", pair
