"""YOLOv10's pair of heads: one learns from many anchors per object, the other from one, and is what remains.

The second reads the features without changing them, finds each object once and so needs no suppression. Both assign
by the same measure: the best anchor of the one is the best of the other (Wang et al. 2024, consistent matching).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from sightline.core.metadata import OperatingPoint
from sightline.models.assignment import TASK_ALIGNED
from sightline.models.contract import Targets, Total, own_share
from sightline.models.detection_loss import USUAL_TERMS, DetectionRaw, DetectionTerms
from sightline.models.yolo.head import DetectHead

__all__ = ["DualHead", "DualRaw"]


class DualRaw(NamedTuple):
    """Raw outputs of both heads; of a fused network those of the second alone."""

    many: DetectionRaw | None
    one: DetectionRaw


class DualHead(nn.Module):
    """Two `DetectHead`s with light class branches; the losses of both are learnt, the second decodes."""

    class_tensors = ("many.class_branches.", "one.class_branches.")
    operating_point = OperatingPoint(suppression="none")

    def __init__(self, in_channels: Sequence[int], class_count: int, *, kinds: DetectionTerms = USUAL_TERMS) -> None:
        super().__init__()
        self.many: DetectHead | None = DetectHead(in_channels, class_count, kinds=kinds)
        self.one = DetectHead(in_channels, class_count, rule=replace(TASK_ALIGNED, topk=1), kinds=kinds)
        self.assigned = self.many.assigned
        self.many.register_parameter("bins", None)  # the published counts have these 16 values once

    def forward(self, features: list[Tensor]) -> DualRaw:
        """Both heads over the levels, finest first; the gradients of the second end at the features."""
        many = None if self.many is None else self.many(features)
        return DualRaw(many, self.one([x.detach() for x in features]))

    def loss(self, raw: DualRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """The terms of `DetectHead.loss`, and those of the second head as `one_box`, `one_cls` and `one_dfl`."""
        assert self.many is not None, "a fused network does not learn"
        assert raw.many is not None
        terms, _ = self.many.assigned_loss(raw.many, targets, self.one.bins, total)
        return terms | {f"one_{name}": term for name, term in self.one.loss(raw.one, targets, total).items()}

    def decode(self, raw: DualRaw) -> tuple[Tensor, Tensor]:
        """As `DetectHead.decode`, by the second head."""
        return self.one.decode(raw.one)

    @property
    def spare(self) -> nn.Module | None:
        """The head that only training needs."""
        return self.many

    def simplify(self) -> None:
        """Drop it."""
        self.many = None
