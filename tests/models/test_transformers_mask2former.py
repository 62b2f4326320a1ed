"""Mask2Former in our protocol gives the outputs of transformers' own, and over all cells its losses."""

import pytest
import torch

from sightline import models, testing
from sightline.core.errors import ConfigError
from sightline.models import own_point
from sightline.models.transformers.mask2former import MaskQueryRaw

SIZE = (64, 96)


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    return models.create("hf:mask2former-tiny", class_names=["a", "b", "c"], imgsz=SIZE, queries=8)


def truth():
    cells = torch.tensor([[1, 2, 9, 10], [4, 3, 20, 12], [0, 0, 0, 0], [12, 2, 20, 9]])  # the third's mask is not known
    count = int((cells[:, 2:] - cells[:, :2]).prod(1).sum())
    return {
        "boxes": cells * 4.0,
        "labels": torch.tensor([0, 2, 1, 1]),
        "batch_index": torch.tensor([0, 0, 1, 1]),
        "cells": cells,
        "masks": torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8),
    }


def dense(targets):
    """Masks (n, 16, 24) and labels of each image."""
    whole, first = torch.zeros(4, 16, 24), 0
    for mask, (x1, y1, x2, y2) in zip(whole, targets["cells"].tolist(), strict=True):
        area = (y2 - y1) * (x2 - x1)
        mask[y1:y2, x1:x2] = targets["masks"][first : first + area].view(y2 - y1, x2 - x1) / 255
        first += area
    rows = [torch.tensor([0, 1]), torch.tensor([3])]
    return [whole[own] for own in rows], [targets["labels"][own] for own in rows]


def test_outputs_are_its_own(model):
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        raw = model.eval()(images)
        boxes, scores, coefficients, maps = model.decode(raw)
        theirs = model.inner(images)
    masks = torch.einsum("bqm,bmhw->bqhw", coefficients, maps)
    assert torch.allclose(masks, theirs.masks_queries_logits, atol=1e-4)
    assert torch.allclose(raw.logits[-1], theirs.class_queries_logits, atol=1e-5)
    for image in range(2):
        for mask, box, score, logits in zip(
            masks[image], boxes[image], scores[image], raw.logits[-1][image], strict=True
        ):
            inside = (mask > 0).nonzero()
            assert len(inside)
            y1, x1, y2, x2 = (*inside.amin(0).tolist(), *(inside.amax(0) + 1).tolist())
            assert box.tolist() == [4 * x1, 4 * y1, 4 * x2, 4 * y2]
            wanted = logits.softmax(-1)[:-1] * mask.sigmoid()[mask > 0].mean()
            assert torch.allclose(score, wanted, atol=1e-5)


def test_a_mask_without_cells_has_no_box_and_no_score(model):
    raw = MaskQueryRaw((torch.zeros(1, 2, 4),), (torch.tensor([[[1.0], [-1.0]]]),), (torch.ones(1, 1, 16, 24),))
    boxes, scores, _, _ = model.decode(raw)
    assert boxes[0].tolist() == [[0, 0, 96, 64], [0, 0, 0, 0]]
    assert scores[0].sum(1).tolist() == [pytest.approx(0.75 * torch.ones(()).sigmoid().item()), 0]


def test_the_terms_are_its_own_over_all_cells(model):
    """transformers' parts given every cell as a point, each layer matched by its own matcher's costs."""
    from transformers.models.mask2former import modeling_mask2former as theirs

    targets = truth()
    raw = model.train()(torch.rand(2, 3, *SIZE))  # with what every layer says; nothing is dropped
    truth_masks, truth_labels = dense(targets)
    criterion = model.inner.criterion
    expected = dict.fromkeys(("cls", "mask", "dice"), 0.0)
    assert len(raw.logits) == 10
    for logits, coefficients, maps in zip(*raw, strict=True):
        masks = torch.einsum("bqm,bmhw->bqhw", coefficients, maps)
        indices, found, wanted = [], [], []
        for image in range(2):
            own, objects = masks[image].flatten(1), truth_masks[image].flatten(1)
            cost = 5 * theirs.pair_wise_sigmoid_cross_entropy_loss(own, objects)
            cost = cost + 5 * theirs.pair_wise_dice_loss(own, objects)
            cost = cost - 2 * logits[image].softmax(-1)[:, truth_labels[image]]
            rows, columns = (torch.as_tensor(x) for x in theirs.linear_sum_assignment(cost.detach()))
            indices.append((rows, columns))
            found.append(own[rows])
            wanted.append(objects[columns])
        found, wanted = torch.cat(found), torch.cat(wanted)
        expected["cls"] += 2 * criterion.loss_labels(logits, truth_labels, indices)["loss_cross_entropy"].item()
        expected["mask"] += 5 * theirs.sigmoid_cross_entropy_loss(found, wanted, 3).item()
        expected["dice"] += 5 * theirs.dice_loss(found, wanted, 3).item()
    ours = {name: value.item() for name, value in model.loss(raw, targets).items()}
    assert ours == {name: pytest.approx(value, rel=1e-4) for name, value in expected.items()}


@pytest.mark.slow
def test_shares_of_a_batch_add_up(model):
    """Each share's terms, with the sums of all of them, are those of the whole: without an object, without an image."""
    model.train()
    images, targets = torch.rand(3, 3, *SIZE), truth()
    whole = model.loss(model(images), targets)
    sums = []
    for share, rows in [(images[:2], slice(None)), (images[2:], slice(0)), (images[:0], slice(0))]:
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


def test_what_it_says_of_itself(model):
    made = models.build_shapes("hf:mask2former-tiny", [f"c{i}" for i in range(80)], {})
    assert models.count_parameters(made) == 47_421_643
    assert made.arguments == {"imgsz": 384, "queries": 100}
    assert own_point(made).suppression == "none"
    with pytest.raises(ConfigError, match=r"queries must be 1\.\.1000, got 0"):
        models.create("hf:mask2former-tiny", class_names=["a"], queries=0)


@pytest.mark.slow
def test_it_conforms(model):
    testing.check_model(model, size_hw=SIZE)
