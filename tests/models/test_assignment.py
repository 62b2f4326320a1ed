"""Assigners beside the task-aligned one: by their definition, pair by pair; one to one against all permutations."""

import itertools
import math

import pytest
import torch
from torchvision.ops import box_iou, generalized_box_iou

from sightline import models
from sightline.core.errors import ConfigError
from sightline.models.assignment import AssignedMeter, AssignmentRule, Predicted, assign_targets
from sightline.models.contract import own_share
from sightline.models.detection_loss import boxes_from_distances
from sightline.models.yolo.head import cell_centres

SIZES = [(16, 16), (8, 8), (4, 4)]  # of an image of 128


def scene(seed, objects=6):
    """Random predictions around every cell, and objects of all sizes in two images."""
    generator = torch.Generator().manual_seed(seed)
    centres, strides = cell_centres(SIZES, torch.device("cpu"))
    distances = torch.rand(2, len(centres), 4, generator=generator) * 3 + 0.2
    boxes = boxes_from_distances(distances, centres, strides)
    logits = torch.randn(2, len(centres), 3, generator=generator)
    corner = torch.rand(objects, 2, generator=generator) * 60
    side = 6 + torch.rand(objects, 2, generator=generator) ** 2 * 60
    targets = {
        "boxes": torch.cat((corner, corner + side), 1),
        "labels": torch.randint(0, 3, (objects,), generator=generator),
        "batch_index": torch.randint(0, 2, (objects,), generator=generator),
    }
    return Predicted(logits, boxes, centres, strides), targets


def pairs(found):
    cells = zip(found.image.tolist(), found.anchor.tolist(), strict=True)
    return dict(zip(cells, found.target.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_centre_sampling_by_its_definition(seed):
    predicted, targets = scene(seed)
    found = assign_targets(predicted, targets, AssignmentRule("centre"))
    wanted: dict[tuple[int, int], int] = {}
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in targets["boxes"].tolist()]
    ranges = {8.0: (-1, 64), 16.0: (64, 128), 32.0: (128, math.inf)}
    for n, ((x1, y1, x2, y2), image) in enumerate(
        zip(targets["boxes"].tolist(), targets["batch_index"].tolist(), strict=True)
    ):
        for a, ((x, y), (stride,)) in enumerate(
            zip(predicted.centres_xy.tolist(), predicted.strides.tolist(), strict=True)
        ):
            inside = x1 < x < x2 and y1 < y < y2
            near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) <= 1.5 * stride
            low, high = ranges[stride]
            if inside and near and low < max(x - x1, x2 - x, y - y1, y2 - y) <= high:
                before = wanted.get((image, a))
                wanted[image, a] = n if before is None or areas[n] < areas[before] else before
    assert {cell: n for cell, n in pairs(found).items() if cell in wanted} == wanted
    # What is left is the nearest cell of an object that has none by the rule.
    extra = [n for cell, n in pairs(found).items() if cell not in wanted]
    assert len(extra) == len(set(extra))
    assert (found.score == 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_simota_by_its_definition(seed):
    predicted, targets = scene(seed)
    found = assign_targets(predicted, targets, AssignmentRule("simota"))
    proposals: dict[tuple[int, int], tuple[float, int]] = {}
    for n, (box, label, image) in enumerate(
        zip(targets["boxes"], targets["labels"].tolist(), targets["batch_index"].tolist(), strict=True)
    ):
        middle = (box[:2] + box[2:]) / 2
        costs, overlaps = {}, []
        for a, (centre, stride) in enumerate(zip(predicted.centres_xy, predicted.strides, strict=True)):
            inside = bool((centre > box[:2]).all() and (centre < box[2:]).all())
            central = bool(((centre - middle).abs() < 2.5 * stride).all())
            if not (inside or central):
                continue
            overlap = float(box_iou(predicted.boxes_xyxy[image, a][None], box[None]))  # torchvision 0.29.2
            onehot = torch.nn.functional.one_hot(torch.tensor(label), 3).float()
            cls = torch.nn.functional.binary_cross_entropy_with_logits(
                predicted.logits[image, a], onehot, reduction="sum"
            )
            costs[a] = float(cls) - 3 * math.log(max(overlap, 1e-8)) + (0 if inside and central else 1e5)
            overlaps.append(overlap)
        count = max(1, int(sum(sorted(overlaps)[-10:])))
        for a in sorted(costs, key=costs.__getitem__)[:count]:
            proposals[image, a] = min(proposals.get((image, a), (math.inf, -1)), (costs[a], n))
    assert pairs(found) == {cell: n for cell, (_, n) in proposals.items()}
    overlap = box_iou(predicted.boxes_xyxy[found.image, found.anchor], targets["boxes"][found.target]).diagonal()
    assert torch.allclose(found.score, overlap, atol=1e-6)


def test_one_to_one_is_the_cheapest_of_all_choices():
    predicted, targets = scene(0, objects=3)
    targets["boxes"] = torch.tensor([[10.0, 10, 26, 26], [12, 12, 28, 30], [60, 60, 70, 76]])
    targets["batch_index"] = torch.zeros(3, dtype=torch.int64)
    found = assign_targets(predicted, targets, AssignmentRule("hungarian"))
    assert sorted(found.target.tolist()) == [0, 1, 2]
    x, y = predicted.centres_xy.unbind(1)
    shares = (predicted.boxes_xyxy[0][None] - targets["boxes"][:, None]).abs().sum(-1) / 128
    overlap = generalized_box_iou(targets["boxes"], predicted.boxes_xyxy[0])
    cost = 5 * shares - 2 * overlap - predicted.logits[0].sigmoid().T[targets["labels"]]
    inside = [
        ((x > x1) & (x < x2) & (y > y1) & (y < y2)).nonzero().squeeze(1).tolist()
        for x1, y1, x2, y2 in targets["boxes"].tolist()
    ]
    choices = (choice for choice in itertools.product(*inside) if len(set(choice)) == 3)
    best = min(choices, key=lambda choice: sum(float(cost[n, a]) for n, a in enumerate(choice)))
    assert dict(zip(found.target.tolist(), found.anchor.tolist(), strict=True)) == dict(enumerate(best))


@pytest.mark.parametrize("kind", ["centre", "simota", "hungarian"])
def test_no_object_is_left_out_and_none_is_no_trouble(kind):
    predicted, targets = scene(1, objects=4)
    targets["boxes"] = torch.tensor([[7.0, 7, 9, 9], [0, 0, 128, 128], [100, 3, 128, 5], [40, 40, 41, 99]])
    found = assign_targets(predicted, targets, AssignmentRule(kind))
    assert set(found.target.tolist()) == {0, 1, 2, 3}
    empty = {key: value[:0] for key, value in targets.items()}
    assert len(assign_targets(predicted, empty, AssignmentRule(kind)).anchor) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"assigner": "centre", "box_loss": "giou", "cls_loss": "focal"},
        {"assigner": "simota", "box_loss": "iou", "cls_loss": "varifocal"},
        {"assigner": "hungarian", "box_loss": "smooth-l1", "label_smoothing": 0.1},
        {"box_loss": "diou"},
    ],
)
def test_a_model_learns_by_what_it_is_asked_for_and_its_file_says_so(arguments, tmp_path):
    torch.manual_seed(0)
    model = models.create("yolo11n", class_names=["a", "b", "c"], imgsz=64, **arguments)
    targets = {
        "boxes": torch.tensor([[4.0, 4, 40, 30], [20, 20, 60, 60]]),
        "labels": torch.tensor([0, 2]),
        "batch_index": torch.tensor([0, 1]),
    }
    raw = model(torch.rand(2, 3, 64, 64))
    usual = models.create("yolo11n", class_names=["a", "b", "c"], imgsz=64)
    terms, others = model.loss(raw, targets), usual.loss(raw, targets)
    assert terms["box"] != others["box"]
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    models.save_weights(tmp_path / "w.safetensors", model)
    again = models.load_model(tmp_path / "w.safetensors")
    assert again.arguments == model.arguments
    assert {key: again.arguments[key] for key in arguments} == arguments


def test_what_cannot_be_asked_for_is_refused():
    with pytest.raises(ConfigError, match="label_smoothing belongs to cls_loss 'bce', not to 'focal'"):
        models.create("yolo8n", class_names=["a"], cls_loss="focal", label_smoothing=0.1)
    with pytest.raises(ConfigError, match="argument 'assigner' of model 'yolo8n'"):
        models.create("yolo8n", class_names=["a"], assigner="best")
    with pytest.raises(ConfigError, match="unknown argument of model 'yolo10n' 'assigner'"):
        models.create("yolo10n", class_names=["a"], assigner="simota")


def test_the_meter_counts_anchors_and_objects_of_training():
    model = models.create("yolo5n", class_names=["a"], imgsz=64, anchors=[[[30, 30]]] * 3)
    targets = {
        "boxes": torch.tensor([[10.0, 10, 40, 40], [1, 1, 3, 3]]),  # the second is ten times smaller than any anchor
        "labels": torch.zeros(2, dtype=torch.int64),
        "batch_index": torch.zeros(2, dtype=torch.int64),
    }
    images = torch.rand(2, 3, 64, 64)
    model.loss(model(images), targets)
    state = model.assigned.state_dict()
    meter = AssignedMeter()
    meter.load_state_dict(state)
    taken = model.assigned.take(own_share)
    assert taken == {"positive_share": pytest.approx(9 / (2 * (64 + 16 + 4))), "learnt_share": 0.5}
    assert meter.take(own_share) == taken
    model.eval().loss(model(images), targets)
    assert math.isnan(model.assigned.take(own_share)["learnt_share"])
