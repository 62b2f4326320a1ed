"""What is measured while training goes on, for the rules that watch it: gradients and the network's outputs."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GradientMeter", "OutputMeter"]

_CELLS = 16  # outputs of segmentation are compared between images on a grid of this many cells a side
_COMPARED_IMAGES = 64
CONFIDENT = 0.25


class GradientMeter:
    """Norms of the gradients of each step, and which weights have had none; `clip` also scales them down."""

    def __init__(self) -> None:
        self._totals: list[float] = []
        self._largest: Tensor | None = None

    def clip(self, model: nn.Module, limit: float) -> list[str]:
        """Take note of the gradients, scale them down to the norm `limit`; gives the weights whose are not finite."""
        named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
        moved = [p for _, p in named]
        norms = torch.stack(torch._foreach_norm([p.grad for p in moved if p.grad is not None]))
        total = torch.linalg.vector_norm(norms)
        torch.nn.utils.clip_grads_with_norm_(moved, limit, total)
        self._totals.append(float(total))
        trained = [p for p in model.parameters() if p.requires_grad]
        seen = norms.new_zeros(len(trained))  # what is cut off from the loss has no gradient at all: it counts as 0
        seen[[i for i, p in enumerate(trained) if p.grad is not None]] = norms
        self._largest = seen if self._largest is None else torch.maximum(self._largest, seen)
        if math.isfinite(self._totals[-1]):
            return []
        return [name for (name, _), norm in zip(named, norms.tolist(), strict=True) if not math.isfinite(norm)]

    def state_dict(self) -> dict[str, Any]:
        """What has been noted since the last `take`."""
        return {"totals": list(self._totals), "largest": self._largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._totals, self._largest = list(state["totals"]), state["largest"]

    def take(self) -> dict[str, float]:
        """Median and maximum of the norms since the last call, and the share of weight tensors that never had any."""
        totals = torch.tensor(self._totals or [0.0], dtype=torch.float64)
        dead = 0.0 if self._largest is None else float((self._largest == 0).double().mean())
        self._totals, self._largest = [], None
        return {
            "gradient_median": float(totals.median()),
            "gradient_max": float(totals.max()),
            "gradient_dead": dead,
        }


class OutputMeter:
    """Range of the decoded probabilities, how far they differ between images, and how much is found at all."""

    def __init__(self, task: str) -> None:
        self.task = task
        self._low, self._high = float("inf"), float("-inf")
        self._found = 0.0
        self._images = 0
        self._summaries: list[Tensor] = []

    def update(self, decoded: Any) -> None:
        """Take in the decoded outputs of one batch."""
        scores = decoded if self.task == "semantic" else decoded[1]
        if self.task == "semantic":
            judged = scores[:, 1:] if scores.shape[1] == 2 else scores
            self._found += float((scores.argmax(1) != 0).double().mean(dim=(1, 2)).sum())
            summary = functional.adaptive_avg_pool2d(judged.float(), _CELLS).flatten(1)
        else:
            judged = scores
            best = scores.amax(-1)
            self._found += float((best > CONFIDENT).sum())
            summary = best.float()
        if len(judged):
            low, high = torch.aminmax(judged)
            self._low, self._high = min(self._low, float(low)), max(self._high, float(high))
        self._images += scores.shape[0]
        if sum(len(s) for s in self._summaries) < _COMPARED_IMAGES:
            self._summaries.append(summary.cpu())

    def add(self, other: "OutputMeter") -> None:
        """Take in what another one has seen, of other images."""
        self._low, self._high = min(self._low, other._low), max(self._high, other._high)
        self._found, self._images = self._found + other._found, self._images + other._images
        self._summaries += other._summaries

    def take(self) -> dict[str, float]:
        """`output_min`, `output_max`; `output_spread`: mean standard deviation between images; `found`: mean share of
        foreground pixels (semantic) or cells above a score of 0.25 (detection) per image.
        """
        compared = torch.cat(self._summaries) if self._summaries else torch.zeros(0, 1)
        spread = float(compared.std(dim=0).mean()) if len(compared) > 1 else float("nan")
        return {
            "output_min": self._low,
            "output_max": self._high,
            "output_spread": spread,
            "found": self._found / max(1, self._images),
        }
