"""transformers' detectors in our protocol give the outputs and the losses of their own."""

import importlib.util

import pytest
import torch

from sightline import models, testing
from sightline.core.errors import MissingExtraError
from sightline.core.preprocess import Preprocess
from sightline.models import own_point

NAMES = ("hf:dfine-n", "hf:rtdetrv2-r18")
COUNTS = {"hf:dfine-n": 3_772_325, "hf:rtdetrv2-r18": 20_163_728}
SIZE = (96, 128)


@pytest.fixture
def make():
    pytest.importorskip("transformers")

    def made(name, classes=3):
        torch.manual_seed(0)
        return models.create(name, class_names=[f"c{i}" for i in range(classes)], imgsz=SIZE)

    return made


def truth():
    return {
        "boxes": torch.tensor([[4.0, 4, 60, 50], [20, 30, 90, 90], [5, 5, 5, 30], [60, 10, 120, 40]]),
        "labels": torch.tensor([0, 2, 1, 1]),  # the third has no width
        "batch_index": torch.tensor([0, 0, 1, 1]),
    }


def settled(model):
    """With filled statistics and other heads than zeros, so that queries differ."""
    torch.optim.swa_utils.update_bn([torch.rand(8, 3, *SIZE)], model)
    with torch.no_grad():
        for head in model.inner.decoder.bbox_embed:
            head.layers[-1].weight.normal_(0, 0.05)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass_is_its_own(make, name):
    model = settled(make(name)).eval()
    model.inner.config.num_queries = 12
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        raw = model(images)
        boxes, scores = model.decode(raw)
        model.inner.encoder.encode_proj_layers = model.inner.config.encode_proj_layers
        theirs = model.inner(images)
    assert torch.allclose(scores, theirs.intermediate_logits[:, -1].sigmoid(), atol=1e-5)
    x, y, width, height = (theirs.intermediate_reference_points[:, -1] * torch.tensor([128, 96, 128, 96])).unbind(-1)
    expected = torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), -1)
    assert torch.allclose(boxes, expected, atol=1e-3)
    assert torch.allclose(raw.layers[0].boxes, theirs.enc_topk_bboxes, atol=1e-5)
    assert float(scores.std()) > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_fused_it_gives_the_same_and_has_no_norm_left(make, name):
    model = settled(make(name)).eval()
    fused = models.fuse(model)
    images = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        (boxes, scores), (fused_boxes, fused_scores) = (x.decode(x(images)) for x in (model, fused))
    assert (boxes - fused_boxes).abs().max() < 1e-2  # pixels
    assert (scores - fused_scores).abs().max() < 1e-4
    norms = [part for part in fused.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert len(norms) == 0
    assert models.describe_model(model).fused_parameters == models.count_parameters(fused)


def their_labels():
    targets, labels = truth(), []
    for image in range(2):
        own = (targets["batch_index"] == image) & (targets["boxes"][:, 2] > targets["boxes"][:, 0])
        x1, y1, x2, y2 = (targets["boxes"][own] / torch.tensor([128, 96, 128, 96])).unbind(1)
        boxes = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), 1)
        labels.append({"class_labels": targets["labels"][own], "boxes": boxes})
    return labels


def test_the_loss_of_rtdetr_is_its_own(make):
    from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss

    model = settled(make("hf:rtdetrv2-r18")).train()
    raw = model(torch.rand(2, 3, *SIZE))
    logits, boxes = (torch.stack([getattr(x, key) for x in raw.layers[1:]], 1) for key in ("logits", "boxes"))
    proposals = raw.layers[0]
    last = raw.layers[-1]
    config = model.inner.config
    theirs, _, _ = RTDetrForObjectDetectionLoss(
        last.logits, their_labels(), "cpu", last.boxes, config, logits, boxes, proposals.logits, proposals.boxes
    )
    assert sum(model.loss(raw, truth()).values()).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_the_terms_of_dfine_are_its_own(make):
    """Each layer with its own distributions: transformers' sum pairs layers one off, and leaves the last out."""
    model = settled(make("hf:dfine-n")).train()
    raw = model(torch.rand(2, 3, *SIZE))
    (criterion,) = model._held
    last, labels, expected = raw.layers[-1], their_labels(), {}
    for layer in raw.layers:
        outputs = {"logits": layer.logits, "pred_boxes": layer.boxes.clamp(0, 1)}
        indices = criterion.matcher(outputs, labels)
        losses = ["vfl", "boxes"]
        if layer.corners is not None:
            outputs |= {"pred_corners": layer.corners, "ref_points": layer.references}
            outputs |= {"teacher_corners": last.corners, "teacher_logits": last.logits}
            losses.append("local")
        for loss in losses:
            for key, value in criterion.get_loss(loss, outputs, labels, indices, 3.0).items():
                expected[key] = expected.get(key, 0.0) + value.item() * criterion.weight_dict[key]
    ours = {key: value.item() for key, value in model.loss(raw, truth()).items()}
    names = {"cls": "vfl", "box": "bbox", "overlap": "giou", "edge": "fgl", "distil": "ddf"}
    assert ours == {ours_: pytest.approx(expected[f"loss_{theirs}"], rel=1e-4) for ours_, theirs in names.items()}
    assert min(ours.values()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_shares_of_a_batch_add_up(make, name):
    """Each share's terms, with the sums of all of them, are those of the whole: without an object, without an image."""
    model = settled(make(name)).eval()  # batch statistics would differ
    model.training = model.inner.decoder.training = True  # of all layers, nothing below them
    images, targets = torch.rand(3, 3, *SIZE), truth()
    whole = model.loss(model(images), targets)
    sums = []
    for share, rows, first in [
        (images[:1], [0, 1], 0),
        (images[1:2], [2, 3], 1),
        (images[2:], [], 2),
        (images[:0], [], 0),
    ]:
        own = {key: value[rows] for key, value in targets.items()}
        own["batch_index"] = own["batch_index"] - first
        raw = model(share)
        terms = model.loss(raw, own, lambda values: sums.append(values) or values)
    torch.stack(list(terms.values())).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or bool(p.grad.any()))]
    again = model.loss(raw, own, lambda _: torch.stack(sums).sum(0))
    expected = {key: pytest.approx(value.item(), rel=1e-4, abs=1e-6) for key, value in whole.items()}
    assert {key: value.item() for key, value in again.items()} == expected


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_the_stated_ones(make, name):
    make(name)
    model = models.build_shapes(name, [f"c{i}" for i in range(80)], {})
    assert models.count_parameters(model) == COUNTS[name]
    assert model.preprocess == Preprocess(size_hw=(640, 640))
    assert own_point(model).suppression == "none"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_conforms(make, name):
    testing.check_model(make(name), size_hw=(64, 96))


@pytest.mark.parametrize("name", ["hf:dfine-n", "hf:rfdetr-nano", "hf:mask2former-tiny"])
def test_without_transformers_one_sentence_says_what_to_install(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"'{name}' needs transformers.*sightline\[adapters\]"):
        models.create(name, class_names=["a"])
