"""torchvision's detectors in our protocol give the losses and the boxes of their own."""

import importlib.util

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from sightline import models, testing
from sightline.core.errors import MissingExtraError
from sightline.core.preprocess import Preprocess

NAMES = (
    "tv:fcos-resnet18",
    "tv:retinanet-resnet18",
    "tv:ssdlite320",
    pytest.param("tv:ssd300", marks=pytest.mark.slow),
)
SIZE = (96, 128)


def size_of(name):
    return (300, 300) if name == "tv:ssd300" else SIZE


def make(name):
    torch.manual_seed(0)
    return models.create(name, class_names=["a", "b", "c"], imgsz=size_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_best_boxes_are_those_of_its_own_pipeline(name):
    """Theirs resizes, normalises, thresholds and suppresses; what is left first is our best candidate of all."""
    model, size = make(name), size_of(name)
    picture = torch.rand(1, 3, *size)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    torch.optim.swa_utils.update_bn([(torch.rand(8, 3, *size) - mean) / std], model)
    model.eval()
    inner = model.inner
    if name == "tv:ssd300":  # without norms its first scores are 1.0, all of them
        with torch.no_grad():
            for layer in inner.head.classification_head.parameters():
                layer.mul_(1e-3)
    inner.transform.min_size, inner.transform.max_size = (size[0],), size[1]
    inner.transform.fixed_size = None
    inner.transform.image_mean, inner.transform.image_std = model.preprocess.mean, model.preprocess.std
    inner.transform.size_divisible = 1
    inner.score_thresh = 0.0
    with torch.no_grad():
        theirs = inner(list(picture))[0]
        boxes, scores = model.decode(model((picture - mean) / std))
    best = int(scores[0].max(1).values.argmax())
    assert theirs["scores"][0].item() == pytest.approx(scores[0, best].max().item(), abs=1e-5)
    assert int(theirs["labels"][0]) - (name.startswith("tv:ssd")) == int(scores[0, best].argmax())
    limits = torch.tensor([size[1], size[0], size[1], size[0]]).float()
    assert torch.allclose(theirs["boxes"][0], boxes[0, best].clamp(min=0).minimum(limits), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_an_image_is_its_own(name):
    model = make(name)
    targets = {
        "boxes": torch.tensor([[4.0, 4, 60, 50], [20, 30, 90, 90], [5, 5, 5, 30]]),  # the last has no width
        "labels": torch.tensor([0, 2, 1]),
        "batch_index": torch.tensor([0, 0, 1]),
    }
    images = torch.rand(2, 3, *size_of(name))
    raw = model(images)
    ours = model.loss(raw, targets)
    shift = name.startswith("tv:ssd")
    sums = {}
    for image in range(2):
        own = (targets["batch_index"] == image) & (targets["boxes"][:, 2] > targets["boxes"][:, 0])
        truth = [{"boxes": targets["boxes"][own], "labels": targets["labels"][own] + shift}]
        model.inner.transform.forward = lambda pictures, labels: (
            ImageList(torch.stack(pictures), [size_of(name)]),
            labels,
        )
        outputs = {key: value[image : image + 1] for key, value in raw.outputs.items()}
        model.inner.backbone.forward, model.inner.head.forward = lambda _: {"0": images}, lambda _, o=outputs: o
        model.inner.anchor_generator.forward = lambda *_: [raw.anchors_xyxy]
        if name == "tv:fcos-resnet18":
            found = model.inner.compute_loss(truth, outputs, [raw.anchors_xyxy], list(raw.level_sizes))
        else:
            found = model.inner([images[image]], truth)
        for key, value in found.items():
            sums[key] = sums.get(key, 0.0) + value.item() / 2
    named = {"cls": "classification", "box": "bbox_regression", "centre": "bbox_ctrness"}
    assert {name: value.item() for name, value in ours.items()} == {
        name: pytest.approx(sums[named[name]], rel=1e-4) for name in ours
    }


@pytest.mark.parametrize("name", ["tv:retinanet-resnet18", "tv:ssdlite320"])
def test_anchors_are_exact_in_half_precision(name):
    model, images = make(name).eval(), torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        exact = model(images).anchors_xyxy
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model(images).anchors_xyxy, exact)


@pytest.mark.slow
def test_ssd300_conforms():
    testing.check_model(make("tv:ssd300"))


def test_it_is_normalised_as_its_networks_take_it():
    assert make("tv:fcos-resnet18").preprocess == Preprocess(
        size_hw=SIZE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert make("tv:ssdlite320").preprocess.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", ["tv:ssdlite320", "tv:maskrcnn-resnet18"])
def test_without_torchvision_one_sentence_says_what_to_install(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"'{name}' needs torchvision.*sightline\[adapters\]"):
        make(name)
