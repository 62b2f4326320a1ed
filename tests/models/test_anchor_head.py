"""The anchor head: assignment by its definition, decoding by hand, terms that know what they sum over."""

import itertools
import math

import pytest
import torch

from sightline import models
from sightline.models.contract import own_share
from sightline.models.yolo.anchor_head import ANCHORS, AnchorHead, assign_anchors

SIZES = ((8, 12), (4, 6), (2, 3))  # of an image of 64 x 96
STRIDES = (8, 16, 32)


def place_of_rows():
    """(level, y, x, anchor) of every row, in the order of the head."""
    return [
        (level, y, x, k)
        for level, (height, width) in enumerate(SIZES)
        for y, x, k in itertools.product(range(height), range(width), range(3))
    ]


def plain_assignment(boxes):
    """The rule in words, object by object."""
    pairs = set()
    for target, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for row, (level, y, x, k) in enumerate(place_of_rows()):
            height, width = SIZES[level]
            ratios = [(x2 - x1) / ANCHORS[level][k][0], (y2 - y1) / ANCHORS[level][k][1]]
            if max(max(r, 1 / r) for r in ratios) >= 4:
                continue
            across, down = (x1 + x2) / 2 / STRIDES[level], (y1 + y2) / 2 / STRIDES[level]
            own_x, own_y = min(int(across), width - 1), min(int(down), height - 1)
            beside_x = own_x - 1 if across - own_x < 0.5 else own_x + 1
            beside_y = own_y - 1 if down - own_y < 0.5 else own_y + 1
            if (x, y) in {(own_x, own_y), (beside_x, own_y), (own_x, beside_y)}:
                pairs.add((row, target))
    return pairs


def test_anchors_that_fit_learn_an_object_in_three_cells():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(40, 2, generator=generator) * torch.tensor([80.0, 50.0])
    boxes = torch.cat((corner, corner + 3 + torch.rand(40, 2, generator=generator) * 60), 1)
    boxes = boxes.clamp(min=0).minimum(torch.tensor([96.0, 64.0, 96.0, 64.0]))
    found = assign_anchors(boxes, torch.tensor(ANCHORS, dtype=torch.float32), SIZES)
    assert set(zip(found.anchor.tolist(), found.target.tolist(), strict=True)) == plain_assignment(boxes)
    assert len(set(zip(found.anchor.tolist(), found.target.tolist(), strict=True))) == len(found.anchor)


def head(classes=2):
    torch.manual_seed(0)
    return AnchorHead((4, 5, 6), classes)


def features(batch=1):
    return [torch.randn(batch, c, h, w) for c, (h, w) in zip((4, 5, 6), SIZES, strict=True)]


def test_a_box_lies_around_its_cell_and_is_as_large_as_its_anchor():
    """Logits of 0: the middle of the cell, the anchor's own size; log(3): half a cell off, 2.25 times the size."""
    made = head()
    raw = made(features())
    rows = place_of_rows()
    outputs = torch.zeros_like(raw.outputs)
    outputs[..., 0] = outputs[..., 2] = math.log(3.0)
    outputs[..., 4] = math.log(4.0)
    outputs[..., 5] = math.log(1.5)
    boxes, scores = made.decode(raw._replace(outputs=outputs))
    for row in (0, 100, 290, len(rows) - 1):
        level, y, x, k = rows[row]
        stride, (width, height) = STRIDES[level], ANCHORS[level][k]
        centre_x, centre_y = (x + 1.0) * stride, (y + 0.5) * stride
        wanted = [centre_x - 1.125 * width, centre_y - height / 2, centre_x + 1.125 * width, centre_y + height / 2]
        assert boxes[0, row].tolist() == pytest.approx(wanted, rel=1e-5)
    assert scores[0, 0].tolist() == pytest.approx([0.8 * 0.6, 0.8 * 0.5])


def test_the_outputs_of_a_level_are_in_the_order_of_their_cells():
    made, given = head(), features()
    raw = made(given)
    plain = made.levels[1](given[1])[0].reshape(3, 7, 4, 6)
    first = 3 * 8 * 12
    for k, y, x in itertools.product(range(3), range(4), range(6)):
        assert torch.equal(raw.outputs[0, first + (y * 6 + x) * 3 + k], plain[k, :, y, x])
    assert raw.corners_xy[first + (2 * 6 + 5) * 3].tolist() == [80.0, 32.0]


def test_terms_are_sums_over_the_batch_that_total_may_add_up():
    """Two halves of a batch, added up, give the terms of the whole."""
    made, given = head(), features(batch=2)
    boxes = torch.tensor([[4.0, 4, 30, 40], [40, 10, 90, 60], [10, 10, 25, 30]])
    targets = {"boxes": boxes, "labels": torch.tensor([0, 1, 1]), "batch_index": torch.tensor([0, 0, 1])}
    whole = made.loss(made(given), targets)
    sums = []

    def note(values):
        sums.append(values)
        return values

    for image in (0, 1):
        own = targets["batch_index"] == image
        part = {
            "boxes": boxes[own],
            "labels": targets["labels"][own],
            "batch_index": targets["batch_index"][own] - image,
        }
        made.loss(made([x[image : image + 1] for x in given]), part, note)
    assert torch.allclose(sum(sums), _sums_of(made, given, targets), rtol=1e-5)
    assert all(float(term.detach()) > 0 for term in whole.values())


def _sums_of(made, given, targets):
    kept = []

    def note(values):
        kept.append(values)
        return own_share(values)

    made.loss(made(given), targets, note)
    return kept[0]


def test_a_single_class_is_no_question_and_a_start_finds_little():
    model = models.create("yolo5n", class_names=["only"], imgsz=64).eval()
    with torch.no_grad():
        raw = model(torch.rand(1, 3, 64, 64))
        scores = model.decode(raw)[1]
    assert float(scores.max()) < 0.2
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    terms = model.loss(raw, {**none, "batch_index": torch.zeros(0, dtype=torch.int64)})
    assert float(terms["cls"]) == 0.0
    assert float(terms["box"]) == 0.0
    assert float(terms["obj"]) > 0.0
