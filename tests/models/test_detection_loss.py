"""Assignment and losses against hand-computed cases, a brute-force assigner and torchvision."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import complete_box_iou_loss

import sightline.models as models
from sightline.core.errors import DataError
from sightline.models.assignment import AssignmentRule, Predicted, assign_targets, candidate_pairs
from sightline.models.box_loss import ciou
from sightline.models.detection_loss import (
    boxes_from_distances,
    distribution_focal_loss,
    expected_distances,
)
from sightline.ops.boxes import ciou_matrix

RULE = AssignmentRule()
EIGHT = torch.full((1, 1), 8.0)  # strides, which this assignment does not look at
BINS = torch.arange(16, dtype=torch.float32)


def targets_of(boxes, labels, batch_index) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "batch_index": torch.tensor(batch_index, dtype=torch.int64),
    }


def random_boxes(generator: torch.Generator, count: int, size: float) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=generator) * size * 0.7
    return torch.cat((corner, corner + 4 + torch.rand(count, 2, generator=generator) * size * 0.3), 1)


def test_ciou_equals_ours_and_torchvisions():
    generator = torch.Generator().manual_seed(0)
    a, b = random_boxes(generator, 200, 100).double(), random_boxes(generator, 200, 100).double()
    assert np.allclose(ciou(a, b).numpy(), np.diag(ciou_matrix(a.numpy(), b.numpy())), atol=1e-6)
    # torchvision 0.29.2
    assert torch.allclose(1 - ciou(a, b), complete_box_iou_loss(a, b), atol=1e-6)


def test_ciou_by_hand():
    """Equal boxes: 1. Shifted by half a width, same shape: IoU 1/3 less (2/hull diagonal)^2."""
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    assert ciou(box, box).item() == pytest.approx(1, abs=1e-6)
    shifted = torch.tensor([[2.0, 0.0, 6.0, 4.0]])
    assert ciou(box, shifted).item() == pytest.approx(1 / 3 - 4 / (36 + 16), abs=1e-6)
    # Same centre, 8x2 in 4x4: IoU 8/24, aspect term v = 4/pi^2 (atan 1 - atan 4)^2, weight v/(v - IoU + 1).
    wide = torch.tensor([[-2.0, 1.0, 6.0, 3.0]])
    v = 4 / math.pi**2 * (math.atan(1) - math.atan(4)) ** 2
    assert ciou(wide, box).item() == pytest.approx(1 / 3 - v * v / (v - 1 / 3 + 1), abs=1e-6)


def test_ciou_of_degenerate_boxes_has_finite_value_and_gradient():
    point = torch.zeros(1, 4, requires_grad=True)
    value = ciou(point, torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(point.grad).all()


def test_distribution_focal_loss_by_hand():
    """Truth 2.75: cross-entropy to bin 2 with weight .25 and to bin 3 with .75."""
    logits = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    log_p = logits.log_softmax(-1)[0]
    loss = distribution_focal_loss(logits.flatten(1), torch.full((1, 4), 2.75), 16)
    expected = -(0.25 * log_p[:, 2] + 0.75 * log_p[:, 3]).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_distribution_focal_loss_is_least_where_the_expectation_is_the_truth():
    logits = torch.zeros(1, 64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    truth = torch.tensor([[0.0, 3.3, 14.5, 99.0]])  # the last lies beyond the bins and is clamped to 14.99
    for _ in range(150):
        optimizer.zero_grad()
        distribution_focal_loss(logits, truth, 16).sum().backward()
        optimizer.step()
    assert expected_distances(logits, BINS)[0].tolist() == pytest.approx([0, 3.3, 14.5, 14.99], abs=0.05)


def test_distances_and_boxes_are_inverse():
    centres, strides = torch.tensor([[50.0, 40.0]]), torch.tensor([[8.0]])
    assert boxes_from_distances(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), centres, strides).tolist() == [[42, 24, 74, 72]]


def test_candidates_are_the_centres_strictly_inside():
    centres = torch.tensor([[4.0, 4.0], [12.0, 4.0], [4.0, 12.0], [12.0, 12.0]])
    boxes = torch.tensor([[0.0, 0.0, 12.0, 9.0], [3.0, 3.0, 13.0, 13.0]])
    assert candidate_pairs(boxes, centres).tolist() == [[True, False, False, False], [True] * 4]


def test_a_box_between_the_centres_keeps_its_nearest():
    centres = torch.tensor([[4.0, 4.0], [12.0, 4.0], [4.0, 12.0], [12.0, 12.0]])
    assert candidate_pairs(torch.tensor([[9.0, 9.0, 11.0, 11.0]]), centres).tolist() == [[False, False, False, True]]
    assert candidate_pairs(torch.zeros(0, 4), centres).shape == (0, 4)


def test_assignment_by_hand():
    """One object over three of four anchors, topk 2: the two best aligned, weights scaled to the best IoU."""
    centres = torch.tensor([[4.0, 4.0], [12.0, 4.0], [20.0, 4.0], [60.0, 60.0]])
    gt = [0.0, 0.0, 24.0, 8.0]
    boxes = torch.tensor([[gt, [0.0, 0.0, 12.0, 8.0], [0.0, 0.0, 23.0, 8.0], gt]])
    scores = torch.tensor([[[0.5], [0.9], [0.5], [0.9]]])
    found = assign_targets(
        Predicted(torch.logit(scores), boxes, centres, EIGHT), targets_of([gt], [0], [0]), AssignmentRule(topk=2)
    )
    assert found.anchor.tolist() == [0, 2]  # anchor 3 lies outside, anchor 1 overlaps too little
    near = ciou(boxes[0, 2], torch.tensor(gt)).item()
    assert found.weight.tolist() == pytest.approx([1.0, near**6], abs=1e-5)  # equal scores cancel


def test_an_anchor_wanted_twice_goes_to_the_object_it_overlaps_most():
    centres = torch.tensor([[10.0, 10.0]])
    boxes = torch.tensor([[[0.0, 0.0, 20.0, 20.0]]])
    targets = targets_of([[0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 20.0, 22.0]], [0, 0], [0, 0])
    found = assign_targets(Predicted(torch.zeros(1, 1, 1), boxes, centres, EIGHT), targets, RULE)
    assert found.target.tolist() == [1]
    twins = targets_of([[0.0, 0.0, 20.0, 20.0]] * 2, [0, 0], [0, 0])
    assert assign_targets(Predicted(torch.zeros(1, 1, 1), boxes, centres, EIGHT), twins, RULE).target.tolist() == [0]


def brute_force(logits, boxes, centres, targets, rule) -> dict[tuple[int, int], tuple[int, float]]:
    """(image, anchor) -> (object, weight), one object and one anchor at a time."""
    proposals: dict[tuple[int, int], list[tuple[float, int, float]]] = {}
    for n, (gt, label, image) in enumerate(
        zip(targets["boxes"], targets["labels"].tolist(), targets["batch_index"].tolist(), strict=True)
    ):
        inside = [a for a, (x, y) in enumerate(centres.tolist()) if gt[0] < x < gt[2] and gt[1] < y < gt[3]] or [
            int(((centres - (gt[:2] + gt[2:]) / 2) ** 2).sum(1).argmin())
        ]
        ranked = []
        for a in inside:
            overlap = max(ciou(boxes[image, a], gt).item(), 0.0)
            ranked.append(
                (torch.sigmoid(logits[image, a, label]).item() ** rule.alpha * overlap**rule.beta, overlap, a)
            )
        for alignment, overlap, a in sorted(ranked, reverse=True)[: rule.topk]:
            proposals.setdefault((image, a), []).append((overlap, -n, alignment))
    won = {cell: max(wanted) for cell, wanted in proposals.items()}
    result = {}
    for cell, (_, minus_n, alignment) in won.items():
        own = [(o, al) for o, m, al in won.values() if m == minus_n]
        best_alignment = max(al for _, al in own)
        weight = alignment / best_alignment * max(o for o, _ in own) if best_alignment > 0 else 0.0
        result[cell] = (-minus_n, weight)
    return result


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 12), topk=st.integers(1, 12))
def test_assignment_equals_brute_force(seed, count, topk):
    generator = torch.Generator().manual_seed(seed)
    grid = (torch.arange(6) + 0.5) * 8
    centres = torch.cartesian_prod(grid, grid)
    boxes = boxes_from_distances(torch.rand(2, 36, 4, generator=generator) * 2 + 0.1, centres, torch.full((36, 1), 8.0))
    logits = torch.randn(2, 36, 3, generator=generator)
    targets = {
        "boxes": random_boxes(generator, count, 48),
        "labels": torch.randint(0, 3, (count,), generator=generator),
        "batch_index": torch.randint(0, 2, (count,), generator=generator),
    }
    rule = AssignmentRule(topk=topk)
    found = assign_targets(Predicted(logits, boxes, centres, EIGHT), targets, rule)
    cells = list(zip(found.image.tolist(), found.anchor.tolist(), strict=True))
    assert len(set(cells)) == len(cells), "an anchor may learn one object only"
    expected = {k: v for k, v in brute_force(logits, boxes, centres, targets, rule).items() if v[1] > 0}
    ours = {c: (t, w) for c, t, w in zip(cells, found.target.tolist(), found.weight.tolist(), strict=True) if w > 0}
    assert {c: t for c, (t, _) in ours.items()} == {c: t for c, (t, _) in expected.items()}
    assert [ours[c][1] for c in expected] == pytest.approx([w for _, w in expected.values()], rel=1e-3, abs=1e-6)


def yolo():
    torch.manual_seed(0)
    return models.create("yolo11n", class_names=["a", "b", "c"], imgsz=64)


SCENE = targets_of([[4, 4, 40, 30], [20, 20, 60, 60], [0, 0, 64, 64]], [0, 2, 1], [0, 0, 1])


def test_terms_equal_a_dense_computation():
    """The sparse cross-entropy equals torch's on a dense target; the gains multiply once."""
    model = yolo().train()
    raw = model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    terms = model.loss(raw, SCENE)
    boxes, _ = model.decode(raw)
    found = assign_targets(Predicted(raw.logits, boxes, raw.centres_xy, raw.strides), SCENE, model.head.rule)
    dense = torch.zeros_like(raw.logits)
    dense[found.image, found.anchor, SCENE["labels"][found.target]] = found.weight
    total = dense.sum().clamp(min=1)
    cls = torch.nn.functional.binary_cross_entropy_with_logits(raw.logits, dense, reduction="sum") / total
    assert terms["cls"].item() == pytest.approx(0.5 * cls.item(), rel=1e-5)
    positive = boxes[found.image, found.anchor]
    box = ((1 - ciou(positive, SCENE["boxes"][found.target])) * found.weight).sum() / total
    assert terms["box"].item() == pytest.approx(7.5 * box.item(), rel=1e-4)
    assert set(terms) == {"box", "cls", "dfl"}


def test_images_without_objects_only_push_scores_down():
    model = yolo().train()
    raw = model(torch.rand(2, 3, 64, 64))
    terms = model.loss(raw, targets_of([], [], []))
    assert terms["box"].item() == 0
    assert terms["dfl"].item() == 0
    (gradient,) = torch.autograd.grad(terms["cls"], raw.logits)
    assert (gradient > 0).all()


def test_loss_in_bfloat16_is_close_to_float32_and_finite():
    model = yolo().train()
    images = torch.rand(2, 3, 64, 64)
    exact = model.loss(model(images), SCENE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = model(images)
        assert raw.logits.dtype == torch.bfloat16
        rough = model.loss(raw, SCENE)
    assert all(term.dtype == torch.float32 for term in rough.values())
    assert [rough[k].item() for k in exact] == pytest.approx([v.item() for v in exact.values()], rel=0.1)
    torch.stack(list(rough.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_extreme_outputs_and_a_degenerate_object_stay_finite():
    model = yolo().train()
    raw = model(torch.rand(1, 3, 64, 64))
    extreme = raw._replace(
        distances=(raw.distances * 1e4).detach().requires_grad_(), logits=(raw.logits * 1e3).detach().requires_grad_()
    )
    terms = model.loss(extreme, targets_of([[10, 10, 10, 30], [0, 0, 64, 64]], [0, 1], [0, 0]))
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.isfinite(extreme.distances.grad).all()
    assert torch.isfinite(extreme.logits.grad).all()


def test_order_of_the_objects_does_not_matter():
    model = yolo().eval()
    raw = model(torch.rand(2, 3, 64, 64))
    shuffled = {key: value[[2, 0, 1]] for key, value in SCENE.items()}
    for a, b in zip(model.loss(raw, SCENE).values(), model.loss(raw, shuffled).values(), strict=True):
        assert a.item() == pytest.approx(b.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 3, 1])}, r"class ids must be 0\.\.2, got 0\.\.3"),
        ({"labels": torch.tensor([0, -1, 1])}, r"class ids must be 0\.\.2, got -1\.\.1"),
        ({"boxes": torch.zeros(12)}, "target 'boxes' must have 2 dimensions"),
        ({"box": torch.zeros(3, 4)}, "targets of task 'detect' must be"),
    ],
)
def test_wrong_targets_are_refused(change, message):
    model = yolo()
    raw = model(torch.rand(2, 3, 64, 64))
    with pytest.raises(DataError, match=message):
        model.loss(raw, {**SCENE, **change})
