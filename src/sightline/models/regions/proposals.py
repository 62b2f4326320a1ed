"""The region proposal network of torchvision's two-stage detectors, in a fixed shape; and regions cut out of levels."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.models.regions.selection import gather_rows, stays
from sightline.models.torchvision_models import full_shapes

__all__ = ["Proposed", "propose", "regions_of", "take_regions"]


class Proposed(NamedTuple):
    """What a region proposal network says of A anchors, and the P regions that follow from it."""

    objectness: Tensor  # (B, A) logits
    deltas: Tensor  # (B, A, 4) from anchors to boxes, as its coder has them
    anchors_xyxy: Tensor  # (A, 4) network pixels
    regions_xyxy: Tensor  # (B, P, 4) network pixels, best first, inside the image
    alive: Tensor  # (B, P) bool: false for those that only fill up


def propose(network: Any, features: Sequence[Tensor], images: Tensor) -> Proposed:
    """The proposals of torchvision's `RegionProposalNetwork` by its own thresholds, without its control flow.

    The best of each level enter suppression, and the best of all that stay are the regions: those of its `forward`, in
    its order. Where fewer stay than it takes at most, the rest are empty boxes that are not alive.
    """
    from torchvision.models.detection.image_list import ImageList

    size_hw = (int(images.shape[2]), int(images.shape[3]))
    logits, deltas = network.head(list(features))
    shapes = full_shapes(features)
    anchors = network.anchor_generator(ImageList(images[:1], [size_hw]), shapes)[0]  # one image's are all's
    flat = [_flat(one, sides) for one, sides in zip(logits, deltas, strict=True)]
    objectness, sides = (torch.cat(parts, 1) for parts in zip(*flat, strict=True))
    coder, batch = network.box_coder, images.shape[0]
    every = anchors.float().expand(batch, len(anchors), 4)
    boxes = coder.decode_single(sides.detach().float().flatten(0, 1), every.flatten(0, 1)).reshape(
        batch, len(anchors), 4
    )
    boxes = torch.stack((boxes[..., ::2].clamp(0, size_hw[1]), boxes[..., 1::2].clamp(0, size_hw[0])), -1).flatten(-2)
    regions, alive = _best(network, objectness.detach().float(), boxes, [one.shape[1] for one, _ in flat])
    return Proposed(objectness, sides, anchors, regions, alive)


def _flat(logits: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    """(B, a, H, W) and (B, 4 · a, H, W) -> (B, H · W · a) and (B, H · W · a, 4), in the order of the anchors."""
    batch, count, height, width = logits.shape
    last = sides.reshape(batch, count, 4, height, width).permute(0, 3, 4, 1, 2)
    return logits.permute(0, 2, 3, 1).reshape(batch, height * width * count), last.reshape(
        batch, height * width * count, 4
    )


def _best(network: Any, objectness: Tensor, boxes: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
    """Regions (B, P, 4) and whether they are alive (B, P)."""
    chosen, ranked = [], []
    for level_logits, level_boxes in zip(
        torch.split(objectness, counts, 1), torch.split(boxes, counts, 1), strict=True
    ):
        found, rows = level_logits.topk(min(network.pre_nms_top_n(), level_logits.shape[1]), 1)
        own = gather_rows(level_boxes, rows)
        scores = found.sigmoid()
        alive = (own[..., 2:] - own[..., :2] >= network.min_size).all(-1) & (scores >= network.score_thresh)
        ranked.append(torch.where(stays(own, alive, network.nms_thresh), scores, -1.0))
        chosen.append(own)
    scores = torch.cat(ranked, 1)
    best, rows = scores.topk(min(network.post_nms_top_n(), scores.shape[1]), 1)
    alive = best >= 0
    return torch.where(alive.unsqueeze(-1), gather_rows(torch.cat(chosen, 1), rows), 0.0), alive


def regions_of(boxes_xyxy: Tensor) -> Tensor:
    """Boxes (B, N, 4) as (B · N, 5), the number of the image first."""
    batch, count = boxes_xyxy.shape[:2]
    image = torch.arange(batch, device=boxes_xyxy.device, dtype=boxes_xyxy.dtype).reshape(batch, 1, 1)
    return torch.cat((image.expand(batch, count, 1), boxes_xyxy), 2).flatten(0, 1)


def take_regions(
    pool: Any, features: dict[str, Tensor], regions: Tensor, size_hw: tuple[int, int], *, by_value: bool = False
) -> Tensor:
    """What torchvision's `MultiScaleRoIAlign` cuts out for regions (R, 5), the image's number first: (R, C, h, w).

    Every region is cut out of every level, and that of its size stays, which a graph can do. `by_value` cuts each out
    of its own level alone.
    """
    from torchvision.ops import roi_align

    levels = [features[name] for name in pool.featmap_names if name in features]
    octaves = [round(math.log2(size_hw[0] / x.shape[2])) for x in levels]
    side = ((regions[:, 3] - regions[:, 1]) * (regions[:, 4] - regions[:, 2])).clamp(min=0).sqrt()
    wanted = (pool.canonical_level + (side / pool.canonical_scale).log2() + 1e-6).floor()
    of_level = wanted.clamp(octaves[0], octaves[-1]) - octaves[0]
    taken = levels[0].new_zeros(len(regions), levels[0].shape[1], *pool.output_size) if by_value else None
    for number, (x, octave) in enumerate(zip(levels, octaves, strict=True)):
        own = of_level == number
        here = regions[own] if by_value else regions
        exact = torch.promote_types(x.dtype, torch.float32)  # under autocast 8 bits would hold a coordinate
        cut = roi_align(x.to(exact), here.to(exact), pool.output_size, 0.5**octave, pool.sampling_ratio)
        if by_value and taken is not None:
            taken = taken.index_put((own,), cut.to(taken.dtype))
        else:
            taken = cut if taken is None else torch.where(own.reshape(-1, 1, 1, 1), cut, taken)
    assert taken is not None
    return taken
