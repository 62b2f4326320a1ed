"""Label maps by mask queries (`hf:mask2former-…-semantic`, `hf:eomt-…-semantic`): a query learns the region of a class.

The losses are those of objects, over the cells that count; cells of which a part is ignored weigh as much as is left.
A class's share of a cell is the sum over queries of its probability times the mask's, as the authors', made to sum to 1
over the classes and then made as large as the image.
"""

from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError
from sightline.models.contract import IGNORE_INDEX, MASK_STRIDE, Targets
from sightline.models.segment.segmenter import MAX_CLASSES, map_preprocess
from sightline.models.transformers import eomt, mask2former
from sightline.models.transformers.mask2former import MaskQueries, MaskQueryRaw, Objects

__all__ = ["QUERY_MAP_MODELS", "QueryMaps"]

_LEAST_SHARE = 1e-6  # beside what queries say of a cell: of one that none claims all classes are equal


class QueryMaps(MaskQueries):
    """A network of mask queries that gives label maps."""

    chooses_candidates = False

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        inner: Any,
        raw_of: mask2former.RawOf,
        *,
        imgsz: int | tuple[int, int],
        queries: int,
        channels: int,
    ) -> None:
        super().__init__(name, class_names, inner, raw_of, imgsz=imgsz, queries=queries)
        self.task: Task = "semantic"
        self.preprocess = map_preprocess(self.preprocess.size_hw, channels)
        self.arguments["channels"] = channels
        self.operating_point = None

    def truth(self, targets: Targets, image: int, size_hw: tuple[int, int]) -> Objects:
        """The regions of the classes of an image, on a grid of `size_hw` cells."""
        mask = targets["mask"][image]
        counts = mask != IGNORE_INDEX
        labels: Tensor = torch.unique(mask[counts])
        counted = _shares(counts[None])
        masks = _shares(mask[None] == labels[:, None, None]) / counted.clamp(min=MASK_STRIDE**-2)
        return Objects(labels, masks.flatten(1), counted.flatten())

    def decode(self, raw: MaskQueryRaw) -> Any:
        """Probabilities (B, C, H, W), float32, summing to 1 over C."""
        masks = torch.einsum("bqm,bmhw->bqhw", raw.coefficients[-1].float(), raw.prototypes[-1].float()).sigmoid()
        found = torch.einsum("bqc,bqhw->bchw", raw.logits[-1].float().softmax(-1)[..., :-1], masks) + _LEAST_SHARE
        shares = found / found.sum(1, keepdim=True)
        return functional.interpolate(shares, scale_factor=float(MASK_STRIDE), mode="bilinear", align_corners=False)


def _shares(pixels: Tensor) -> Tensor:
    """(n, H / 4, W / 4): the share of each cell that is true of (n, H, W)."""
    return functional.avg_pool2d(pixels.float().unsqueeze(1), MASK_STRIDE)[:, 0]


def _checked(class_names: tuple[str, ...], channels: int, queries: int) -> int:
    """The number of classes; ConfigError for what no network can have."""
    mask2former.check_queries(queries)
    if not 2 <= len(class_names) <= MAX_CLASSES:
        raise ConfigError(f"class_names must hold 2..{MAX_CLASSES} names, background included, got {len(class_names)}")
    if channels not in (1, 3):
        raise ConfigError(f"channels must be 3 (colour) or 1 (gray), got {channels}")
    return len(class_names)


def build_mask2former_maps(
    kind: mask2former.Kind,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 512,
    queries: int = 100,
    channels: int = 3,
) -> QueryMaps:
    """Mask2Former for label maps; MissingExtraError without transformers."""
    name = f"hf:mask2former-{kind}-semantic"
    inner = mask2former.make_mask2former(name, kind, _checked(class_names, channels, queries), queries, channels)
    raw_of = mask2former.mask2former_raw
    return QueryMaps(name, class_names, inner, raw_of, imgsz=imgsz, queries=queries, channels=channels)


def build_eomt_maps(
    kind: eomt.Kind,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 512,
    queries: int = 100,
    channels: int = 3,
) -> QueryMaps:
    """EoMT for label maps; MissingExtraError without transformers."""
    name = f"hf:eomt-{kind}-semantic"
    inner = eomt.make_eomt(name, kind, _checked(class_names, channels, queries), queries, imgsz, channels)
    return QueryMaps(name, class_names, inner, eomt.eomt_raw, imgsz=imgsz, queries=queries, channels=channels)


QUERY_MAP_MODELS: dict[str, Any] = {
    **{f"hf:mask2former-{kind}-semantic": partial(build_mask2former_maps, kind) for kind in get_args(mask2former.Kind)},
    **{f"hf:eomt-{kind}-semantic": partial(build_eomt_maps, kind) for kind in get_args(eomt.Kind)},
}
"""Builders by name."""
