"""Loss of class logits, almost all of which are to be 0: given densely, with a few rows that are to be more.

Focal: Lin et al. (2017). Varifocal: Zhang et al. (2021). Label smoothing: Szegedy et al. (2016).
"""

from typing import Literal, NamedTuple, TypeAlias, get_args

from torch import Tensor
from torch.nn import functional

__all__ = ["CLASS_LOSSES", "ClassLoss", "Hits", "class_loss"]

ClassLoss: TypeAlias = Literal["bce", "focal", "varifocal"]
CLASS_LOSSES: tuple[ClassLoss, ...] = get_args(ClassLoss)
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0
_VARIFOCAL_ALPHA, _VARIFOCAL_GAMMA = 0.75, 2.0


class Hits(NamedTuple):
    """The K anchors that learn an object, in logits (B, A, C)."""

    image: Tensor  # (K,)
    anchor: Tensor  # (K,)
    label: Tensor  # (K,)
    score: Tensor  # (K,) in 0..1, what the class's probability is to be; of all others it is to be 0


def class_loss(kind: ClassLoss, logits: Tensor, hits: Hits, smoothing: float = 0.0) -> Tensor:
    """The sum over all logits (B, A, C) of a loss against the `score` of the hits and 0 elsewhere.

    - "bce": binary cross-entropy. With `smoothing` a hit gives this share of its score to all classes equally.
    - "focal": the same times (1 - p_t)^2 and 0.25 for what is to be there, 0.75 for what is not; p_t is how much of the
      target the probability p meets, p score + (1 - p) (1 - score).
    - "varifocal": of hits the cross-entropy times their score, of all else times 0.75 p^2.
    """
    hit = logits[hits.image, hits.anchor, hits.label]
    if kind == "bce":
        # softplus(x) - target * x, the second term sparse.
        loss = functional.softplus(logits).sum() - (hit * hits.score * (1 - smoothing)).sum()
        if smoothing == 0:
            return loss
        return loss - (logits[hits.image, hits.anchor].mean(-1) * hits.score * smoothing).sum()
    empty = _focal_empty if kind == "focal" else _varifocal_empty
    there = _focal(hit, hits.score) if kind == "focal" else hits.score * _cross_entropy(hit, hits.score)
    return empty(logits).sum() - empty(hit).sum() + there.sum()


def _cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def _focal(logits: Tensor, wanted: Tensor) -> Tensor:
    p = logits.sigmoid()
    met = p * wanted + (1 - p) * (1 - wanted)
    weight = _FOCAL_ALPHA * wanted + (1 - _FOCAL_ALPHA) * (1 - wanted)
    return weight * (1 - met) ** _FOCAL_GAMMA * _cross_entropy(logits, wanted)


def _focal_empty(logits: Tensor) -> Tensor:
    return (1 - _FOCAL_ALPHA) * logits.sigmoid() ** _FOCAL_GAMMA * functional.softplus(logits)


def _varifocal_empty(logits: Tensor) -> Tensor:
    # The paper's weight carries no gradient.
    weight = _VARIFOCAL_ALPHA * logits.detach().sigmoid() ** _VARIFOCAL_GAMMA
    return weight * functional.softplus(logits)
