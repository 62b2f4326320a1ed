"""YOLOv10's pair of heads: one anchor an object, two losses, one of two left in inference."""

import pytest
import torch

from sightline import models
from sightline.models.assignment import Predicted, assign_targets

SCENE = {
    "boxes": torch.tensor([[4.0, 4, 40, 30], [20, 20, 60, 60], [0, 0, 64, 64]]),
    "labels": torch.tensor([0, 2, 1]),
    "batch_index": torch.tensor([0, 0, 1]),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return models.create("yolo10n", class_names=["a", "b", "c"], imgsz=64)


def test_the_second_head_learns_each_object_at_its_one_best_anchor(model):
    raw = model(torch.rand(2, 3, 64, 64))
    for output, rule in ((raw.many, model.head.many.rule), (raw.one, model.head.one.rule)):
        boxes, _ = model.head.one.decode(output)
        found = assign_targets(Predicted(output.logits, boxes, output.centres_xy, output.strides), SCENE, rule)
        counts = torch.bincount(found.target, minlength=3)
        assert (counts == 1).all() if output is raw.one else (counts > 1).all()


def test_both_are_learnt_and_the_second_leaves_the_features_alone(model):
    terms = model.loss(model(torch.rand(2, 3, 64, 64)), SCENE)
    assert set(terms) == {"box", "cls", "dfl", "one_box", "one_cls", "one_dfl"}
    second = sum(value for name, value in terms.items() if name.startswith("one_"))
    gradients = torch.autograd.grad(second, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    named = [name for name, p in model.named_parameters() if p.requires_grad]
    moved = {name.split(".")[0:2][1] for name, g in zip(named, gradients, strict=True) if g is not None}
    assert moved == {"one"}


def test_what_decodes_is_the_second_head_and_the_first_goes(model):
    fused = models.fuse(model)
    assert fused.head.many is None
    assert model.head.many is not None
    model.eval()
    with torch.no_grad():
        raw = model(torch.rand(1, 3, 64, 64))
        assert torch.equal(model.decode(raw)[1], raw.one.logits.sigmoid())
    model.train()


def test_its_files_say_that_nothing_is_suppressed(model):
    assert models.describe_weights(model).operating_point.suppression == "none"
