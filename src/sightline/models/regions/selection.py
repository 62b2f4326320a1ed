"""Choosing among boxes in a fixed shape: no value decides how many there are, so that it can stand in a graph."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Pairs", "best_pairs", "gather_rows", "stays"]

_ROUNDS = 20


class Pairs(NamedTuple):
    """The K best pairs of a region and a class of each image, best first."""

    boxes_xyxy: Tensor  # (B, K, 4) network pixels
    scores: Tensor  # (B, K)
    labels: Tensor  # (B, K) int64

    def by_class(self, class_count: int) -> Tensor:
        """Scores (B, K, C): a pair's own in the column of its class, 0 elsewhere."""
        wide = self.scores.unsqueeze(-1).expand(-1, -1, class_count)
        return torch.where(self.labels.unsqueeze(-1) == torch.arange(class_count, device=wide.device), wide, 0.0)


def stays(boxes_xyxy: Tensor, alive: Tensor, iou: float, groups: Tensor | None = None) -> Tensor:
    """Which of boxes (B, N, 4), best first, greedy suppression keeps, (B, N); `groups` (B, N) do not suppress others.

    A box falls where one that stays, is better and of its group overlaps it by more than `iou`. Whether the better one
    stays is asked again and again, all boxes at once, until nothing changes: after n rounds whatever hangs on a chain
    of n boxes is decided, and chains of overlapping boxes are short. Twenty rounds are made; a longer chain is left as
    it then is.

    Source: Zheng et al., Enhancing Geometric Factors (2020), Cluster-NMS, which proves it equal to the greedy one.
    """
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    area = (x2 - x1) * (y2 - y1)
    shared = _common(x1, x2) * _common(y1, y2)
    covers = shared > iou * (area.unsqueeze(2) + area.unsqueeze(1) - shared)
    if groups is not None:
        covers = covers & (groups.unsqueeze(2) == groups.unsqueeze(1))
    count = boxes_xyxy.shape[1]
    better = torch.arange(count, device=area.device).unsqueeze(1) < torch.arange(count, device=area.device)
    falls_to = (covers & better).to(area.dtype)
    kept = alive
    for _ in range(_ROUNDS):
        kept = alive & ((kept.to(area.dtype).unsqueeze(1) @ falls_to).squeeze(1) < 0.5)
    return kept


def _common(start: Tensor, end: Tensor) -> Tensor:
    """How much each two of the spans (B, N) have in common, (B, N, N)."""
    low = torch.maximum(start.unsqueeze(2), start.unsqueeze(1))
    return (torch.minimum(end.unsqueeze(2), end.unsqueeze(1)) - low).clamp(min=0)


def best_pairs(boxes_xyxy: Tensor, scores: Tensor, most: int) -> Pairs:
    """The `most` best (fewer where there are fewer) of boxes (B, N, C, 4) and scores (B, N, C) of N regions."""
    _, regions, classes = scores.shape
    found, rows = scores.flatten(1).topk(min(most, regions * classes), 1)
    return Pairs(gather_rows(boxes_xyxy.flatten(1, 2), rows), found, rows % classes)


def gather_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Of values (B, N, …) the rows (B, K) of each image: (B, K, …)."""
    index = rows.reshape(*rows.shape, *(1,) * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)
