"""The heads of YOLOv1 and YOLOv3: who learns an object, what is decoded, and terms by hand."""

import math

import pytest
import torch

from sightline import models
from sightline.core.errors import ConfigError
from sightline.models.yolo.anchor_head import ANCHORS
from sightline.models.yolo.yolo3_head import Yolo3Head, assign_best_anchors

SIZES = ((8, 8), (4, 4), (2, 2))  # of an image of 64


def features(classes=2):
    torch.manual_seed(0)
    head = Yolo3Head((4, 5, 6), classes)
    raw = head([torch.randn(1, c, h, w) for c, (h, w) in zip((4, 5, 6), SIZES, strict=True)])
    return head, raw._replace(outputs=torch.zeros_like(raw.outputs))


def one_object(box):
    return {
        "boxes": torch.tensor([box]),
        "labels": torch.tensor([1]),
        "batch_index": torch.zeros(1, dtype=torch.int64),
    }


def test_yolo3_gives_an_object_to_the_anchor_of_its_shape():
    """31 x 60 is nearest to 30 x 61, the first of the middle level; no other anchor overlaps half of it."""
    anchors = torch.tensor(ANCHORS, dtype=torch.float32)
    found, ignored = assign_best_anchors(torch.tensor([[20.0, 2, 51, 62]]), anchors, SIZES)
    first_of_middle, row, column = 8 * 8 * 3, 32 // 16, 35 // 16
    assert found.anchor.tolist() == [first_of_middle + (row * 4 + column) * 3]
    assert ignored.anchor.tolist() == []
    # What is nearly as good, of any level, is told nothing.
    found, ignored = assign_best_anchors(torch.tensor([[2.0, 0, 62, 60]]), anchors, SIZES)
    shapes = anchors.flatten(0, 1)
    both = torch.minimum(torch.tensor([60.0, 60.0]), shapes).prod(1)
    overlap = both / (3600 + shapes.prod(1) - both)
    assert len(ignored.anchor) == int((overlap > 0.5).sum()) - 1


def test_yolo3_terms_by_hand():
    """All outputs 0: centres in the middle of cells, anchors' own sizes, probabilities of a half."""
    head, raw = features()
    terms = head.loss(raw, one_object([20.0, 2.0, 50.0, 63.0]))
    # The anchor 30 x 61 in the cell 32..48 x 32..48; the object's centre is (35, 32.5).
    off = ((0.5 - 3 / 16) ** 2 + (0.5 - 0.5 / 16) ** 2) / 4
    assert terms["box"].item() == pytest.approx(2.5 * off)
    assert terms["cls"].item() == pytest.approx(math.log(2))
    assert terms["noobj"].item() == pytest.approx(3 * 10 * math.log(2), rel=1e-5)
    width, height = 50 - 25, 63 - 9.5  # of the overlap with the box around (40, 40)
    overlap = width * height / (2 * 30 * 61 - width * height)
    assert terms["obj"].item() == pytest.approx((0.5 - overlap) ** 2, rel=1e-4)
    boxes, scores = head.decode(raw)
    assert boxes[0, 0].tolist() == [4 - 5, 4 - 6.5, 4 + 5, 4 + 6.5]
    assert scores[0, 0].tolist() == [0.25, 0.25]  # objectness, then a softmax over two


def test_yolo1_gives_an_object_to_the_better_box_of_its_cell():
    model = models.create("yolo1-resnet50", class_names=["a", "b"], imgsz=64)
    raw = model(torch.zeros(2, 3, 64, 64))
    assert raw.boxes.shape == (2, 4, 2, 5)
    boxes = torch.zeros_like(raw.boxes)
    boxes[..., 1, 2:4] = math.log(1 / 3)  # the second box of each cell is a quarter as wide and high as the image
    raw = raw._replace(boxes=boxes, classes=torch.zeros_like(raw.classes))
    terms = model.loss(raw, one_object([40.0, 8.0, 56.0, 24.0]))  # its own size, in the middle of the second cell
    assert terms["box"].item() == pytest.approx(0, abs=1e-6)
    assert terms["obj"].item() == pytest.approx((0.5 - 1) ** 2 / 2)
    assert terms["noobj"].item() == pytest.approx(0.5 * (2 * 8 - 1) * 0.25 / 2)
    assert terms["cls"].item() == pytest.approx((0.25 + 0.25) / 2)
    decoded, scores = model.decode(raw)
    assert decoded[0, 3].tolist() == pytest.approx([40.0, 8.0, 56.0, 24.0])
    assert scores[0, 3].tolist() == [0.25, 0.25]


def test_of_two_objects_in_a_cell_yolo1_learns_the_larger():
    model = models.create("yolo1-resnet50", class_names=["a", "b"], imgsz=64)
    raw = model(torch.zeros(1, 3, 64, 64))
    two = {
        "boxes": torch.tensor([[10.0, 10, 20, 20], [4, 4, 28, 28]]),
        "labels": torch.tensor([0, 1]),
        "batch_index": torch.zeros(2, dtype=torch.int64),
    }
    alone = {key: value[1:] for key, value in two.items()}
    for a, b in zip(model.loss(raw, two).values(), model.loss(raw, alone).values(), strict=True):
        assert a.item() == b.item()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anchors": [[[10, 10]]] * 2}, "anchors must be 3 levels of equally many"),
        ({"anchors": [[[10, 10]], [[20, 20]], [[30, 30], [40, 40]]]}, r"got \[1, 1, 2\]"),
        ({"anchors": [[[10, 0]]] * 3}, "sides must be above 0"),
        ({"anchors": "wide"}, "argument 'anchors' of model 'yolo5n'"),
        ({"balance": [1, -1, 1]}, "balance must be three weights"),
        ({"balance": "report"}, "argument 'balance' of model 'yolo5n'"),
        ({"anchor_ratio": 1}, "anchor_ratio must be above 1"),
    ],
)
def test_anchors_that_are_none_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        models.create("yolo5n", class_names=["a"], **arguments)
