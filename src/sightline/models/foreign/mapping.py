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
    RepConv,
)
from sightline.models.yolo.detector import YoloDetector
from sightline.models.yolo.dual_head import DualHead
from sightline.models.yolo.head import DetectHead
from sightline.models.yolo.mask_head import MaskHead, Prototypes
from sightline.models.yolo.yolo9 import ELAN, SPPELAN, AConv, ADown, RepBottleneck, RepCSP
from sightline.models.yolo.yolo10 import CIB, SCDown

__all__ = ["Fit", "fit_tensors", "foreign_rows"]

_NAMES: dict[type[nn.Module], dict[str, str]] = {
    A2C2f: {"reduce": "cv1", "join": "cv2", "inner": "m", "gain": "gamma"},
    AConv: {"down": "cv1"},
    ADown: {"down": "cv1", "pooled": "cv2"},
    AnchorHead: {"levels": "m"},
    AreaAttention: {"query_key": "qk", "value": "v", "position": "pe", "project": "proj"},
    AreaBlock: {"attention": "attn", "feed_forward": "mlp"},
    Attention: {"project": "proj", "position": "pe"},
    Bottleneck: {"reduce": "cv1", "expand": "cv2"},
    C2PSA: {"split": "cv1", "join": "cv2", "deep": "m"},
    C2f: {"split": "cv1", "join": "cv2", "inner": "m"},
    C3: {"deep_in": "cv1", "straight": "cv2", "join": "cv3", "deep": "m"},
    CIB: {"deep": "cv1"},
    DetectHead: {"box_branches": "cv2", "class_branches": "cv3", "bins": "dfl.conv.weight"},
    DualHead: {
        "many.box_branches": "cv2",
        "many.class_branches": "cv3",
        "one.box_branches": "one2one_cv2",
        "one.class_branches": "one2one_cv3",
        "one.bins": "dfl.conv.weight",
    },
    ELAN: {"split": "cv1", "first": "cv2", "second": "cv3", "join": "cv4"},
    MaskHead: {
        "boxes.box_branches": "cv2",
        "boxes.class_branches": "cv3",
        "boxes.bins": "dfl.conv.weight",
        "prototypes": "proto",
        "coefficients": "cv4",
    },
    PSABlock: {"attention": "attn", "feed_forward": "ffn"},
    Prototypes: {"before": "cv1", "enlarge": "upsample", "behind": "cv2", "maps": "cv3"},
    RepBottleneck: {"first": "cv1", "second": "cv2"},
    RepCSP: {"deep_in": "cv1", "straight": "cv2", "join": "cv3", "deep": "m"},
    RepConv: {"large": "conv1", "small": "conv2"},
    SCDown: {"0": "cv1", "1": "cv2"},
    SPPELAN: {"reduce": "cv1", "join": "cv5"},
    SPPF: {"reduce": "cv1", "join": "cv2"},
}
"""Names of tensors and children; a name with a dot is that of a child's child which has no level of its own there."""
_DEPTHWISE_PAIR = {"large": "conv", "small": "conv1"}
"""`RepConv` of single channels, as YOLOv10 has it."""
_ONE_BLOCK = re.compile(r"^(?=(attn|ffn)\.)")
"""YOLOv10's attention is one block, which there stands without a number."""
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
            rows.setdefault(int(found[2]), {})[_ONE_BLOCK.sub("m.0.", found[3])] = tensor
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


def _names_of(module: nn.Module) -> Mapping[str, str]:
    if isinstance(module, RepConv) and module.large.conv.groups > 1:
        return _DEPTHWISE_PAIR
    if isinstance(module, nn.Sequential) and len(module) == len(_LIGHT_BRANCH) and isinstance(module[-1], nn.Conv2d):
        return {str(i): name for i, name in enumerate(_LIGHT_BRANCH)}
    return next((_NAMES[kind] for kind in type(module).__mro__ if kind in _NAMES), {})


def _pairs(
    module: nn.Module, there: str, names: Mapping[str, str] | None = None
) -> Iterator[tuple[str, tuple[str, Tensor]]]:
    """(our name, (their name, our tensor)) of every tensor that is kept, within a module."""
    names = _names_of(module) if names is None else names
    dropped = module._non_persistent_buffers_set
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for name, tensor in own:
        if name not in dropped:
            yield name, (there + names.get(name, name), tensor)
    for name, child in module.named_children():
        within = {key.removeprefix(f"{name}."): value for key, value in names.items() if key.startswith(f"{name}.")}
        prefix = there if within else f"{there}{names.get(name, name)}."
        for key, pair in _pairs(child, prefix, within or None):
            yield f"{name}.{key}", pair
