"""Losses of boxes and of classes against torchvision, and by their definitions."""

import pytest
import torch
from torchvision.ops import box_iou, distance_box_iou_loss, generalized_box_iou_loss, sigmoid_focal_loss

from sightline.models.box_loss import box_loss
from sightline.models.class_loss import Hits, class_loss


def boxes(seed, count=100):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 70
    return torch.cat((corner, corner + 4 + torch.rand(count, 2, generator=generator) * 30), 1).double()


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("iou", lambda a, b: 1 - box_iou(a, b).diagonal()),
        ("giou", generalized_box_iou_loss),
        ("diou", distance_box_iou_loss),
        ("smooth-l1", lambda a, b: torch.nn.functional.smooth_l1_loss(a / 8, b / 8, reduction="none").mean(1)),
    ],
)
def test_box_losses_equal_torchvisions(kind, reference):
    a, b = boxes(0), boxes(1)
    a[:30] = b[:30] + torch.rand(30, 4).double()  # some that overlap
    assert torch.allclose(box_loss(kind, a, b, torch.full((100, 1), 8.0)), reference(a, b), atol=1e-6)


def sparse(score):
    """Logits of 2 images, 5 anchors, 3 classes, and three hits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, generator=generator).double() * 2
    hits = Hits(torch.tensor([0, 0, 1]), torch.tensor([1, 4, 2]), torch.tensor([2, 0, 1]), torch.tensor(score).double())
    dense = torch.zeros_like(logits)
    dense[hits.image, hits.anchor, hits.label] = hits.score
    return logits, hits, dense


def test_focal_loss_of_whole_hits_equals_torchvisions():
    logits, hits, dense = sparse([1.0, 1.0, 1.0])
    reference = sigmoid_focal_loss(logits, dense, alpha=0.25, gamma=2, reduction="sum")
    assert class_loss("focal", logits, hits).item() == pytest.approx(reference.item())


def test_varifocal_loss_by_its_definition():
    logits, hits, dense = sparse([0.9, 0.2, 0.5])
    p = logits.sigmoid()
    weight = torch.where(dense > 0, dense, 0.75 * p**2)
    entropy = -(dense * p.log() + (1 - dense) * (1 - p).log())
    assert class_loss("varifocal", logits, hits).item() == pytest.approx((weight * entropy).sum().item())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_the_dense_target(smoothing):
    logits, hits, dense = sparse([0.9, 0.2, 0.5])
    dense = dense * (1 - smoothing) + dense.sum(-1, keepdim=True) * smoothing / 3
    reference = torch.nn.functional.binary_cross_entropy_with_logits(logits, dense, reduction="sum")
    assert class_loss("bce", logits, hits, smoothing).item() == pytest.approx(reference.item())
