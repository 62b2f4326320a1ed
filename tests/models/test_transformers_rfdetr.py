"""RF-DETR in our protocol gives the outputs and the losses of transformers' own."""

import pytest
import torch

from sightline import models, testing
from sightline.core.preprocess import Preprocess
from sightline.models import own_point

SIZE = (64, 96)
# As its authors publish them, in millions, for the 91 classes of COCO's ids.
PUBLISHED = {"hf:rfdetr-nano": 30.5, "hf:rfdetr-small": 32.1, "hf:rfdetr-medium": 33.7, "hf:rfdetr-large": 33.9}
SIDES = {"hf:rfdetr-nano": 384, "hf:rfdetr-small": 512, "hf:rfdetr-medium": 576, "hf:rfdetr-large": 704}


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    made = models.create("hf:rfdetr-nano", class_names=["a", "b", "c"], imgsz=SIZE)
    with torch.no_grad():  # other heads than zeros, so that queries differ
        for head in (made.inner.bbox_embed, *made.inner.model.enc_out_bbox_embed):
            head.layers[-1].weight.normal_(0, 0.05)
        made.inner.model.reference_point_embed.weight.normal_(0, 0.05)
    return made


def truth():
    return {
        "boxes": torch.tensor([[4.0, 4, 60, 50], [20, 30, 90, 60], [5, 5, 5, 30], [60, 10, 90, 40]]),
        "labels": torch.tensor([0, 2, 1, 1]),  # the third has no width
        "batch_index": torch.tensor([0, 0, 1, 1]),
    }


def their_labels():
    targets, labels = truth(), []
    for image in range(2):
        own = (targets["batch_index"] == image) & (targets["boxes"][:, 2] > targets["boxes"][:, 0])
        x1, y1, x2, y2 = (targets["boxes"][own] / torch.tensor([96, 64, 96, 64])).unbind(1)
        boxes = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), 1)
        labels.append({"class_labels": targets["labels"][own], "boxes": boxes})
    return labels


@pytest.mark.parametrize("training", [pytest.param(False, marks=pytest.mark.slow), True])
def test_outputs_and_loss_are_its_own(model, training):
    images = torch.rand(2, 3, *SIZE)
    model.train(training)
    raw = model(images)
    theirs = model.inner(images, labels=their_labels())
    boxes, scores = model.decode(raw)
    x, y, width, height = (theirs.pred_boxes * torch.tensor([96, 64, 96, 64])).unbind(-1)
    expected = torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), -1)
    assert torch.allclose(boxes, expected, atol=1e-3)
    assert torch.allclose(scores, theirs.logits.sigmoid(), atol=1e-5)
    assert scores.shape == (2, 24 * (13 if training else 1), 3)
    assert float(boxes.detach().std(1).min()) > 1
    # Theirs matches in thirteen groups always, which fits the outputs of training alone.
    if training:
        assert sum(model.loss(raw, truth()).values()).item() == pytest.approx(theirs.loss.item(), rel=1e-5)


@pytest.mark.slow
def test_shares_of_a_batch_add_up(model):
    """Each share's terms, with the sums of all of them, are those of the whole: without an object, without an image."""
    model.train()
    images, targets = torch.rand(3, 3, *SIZE), truth()
    whole = model.loss(model(images), targets)
    sums = []
    for share, rows in [(images[:2], [0, 1, 2, 3]), (images[2:], []), (images[:0], [])]:
        own = {key: value[rows] for key, value in targets.items()}
        raw = model(share)
        terms = model.loss(raw, own, lambda values: sums.append(values) or values)
    torch.stack(list(terms.values())).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or bool(p.grad.any()))]
    again = model.loss(raw, own, lambda _: torch.stack(sums).sum(0))
    assert {key: value.item() for key, value in again.items()} == {
        key: pytest.approx(value.item(), rel=1e-4) for key, value in whole.items()
    }
    model.zero_grad()


def test_a_score_of_one_has_a_finite_loss(model):
    raw = model.train()(torch.rand(2, 3, *SIZE))
    raw.layers[-1].logits.data.fill_(200.0)
    assert all(bool(torch.isfinite(value)) for value in model.loss(raw, truth()).values())


@pytest.mark.parametrize(
    "name", ["hf:rfdetr-nano", *(pytest.param(n, marks=pytest.mark.slow) for n in list(PUBLISHED)[1:])]
)
def test_sizes_are_the_published_ones(model, name):
    made = models.build_shapes(name, [f"c{i}" for i in range(91)], {})
    assert models.count_parameters(made) / 1e6 == pytest.approx(PUBLISHED[name], abs=0.05)
    side = SIDES[name]
    assert made.preprocess == Preprocess(size_hw=(side, side), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert own_point(made).suppression == "none"


@pytest.mark.slow
def test_it_conforms(model):
    testing.check_model(model, size_hw=SIZE)
