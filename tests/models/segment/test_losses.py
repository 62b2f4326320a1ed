"""Losses of label maps: by hand, against torch, ignored pixels, shares of a batch, and their gradients."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from sightline.models.segment.losses import SEGMENT_LOSSES, segment_loss, soft_dice

ALL = tuple(SEGMENT_LOSSES)


def case(classes: int, seed: int = 0, size: int = 12, dtype: torch.dtype = torch.float32):
    """Random logits and a mask of regions, a strip of it ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 1 if classes == 2 else classes, size, size, generator=generator, dtype=dtype)
    coarse = torch.randint(0, classes, (3, 1, size // 4, size // 4), generator=generator)
    mask = functional.interpolate(coarse.float(), scale_factor=4)[:, 0].long()
    mask[:, :2] = 255
    return logits, mask


def test_binary_terms_by_hand():
    """p = .75 on two pixels, one of them foreground, a third ignored."""
    logits = torch.tensor([math.log(3.0), math.log(3.0), 50.0]).reshape(1, 1, 1, 3)
    terms = segment_loss(logits, torch.tensor([[[1, 0, 255]]]), ("ce", "dice", "dice_image", "focal", "tversky"))
    assert terms["bce"].item() == pytest.approx((-math.log(0.75) - math.log(0.25)) / 2)
    assert terms["dice"].item() == pytest.approx(1 - (2 * 0.75 + 1) / (1.5 + 1 + 1))
    assert terms["dice_image"].item() == pytest.approx(terms["dice"].item())
    assert terms["focal"].item() == pytest.approx((-(0.25**2) * math.log(0.75) - 0.75**2 * math.log(0.25)) / 2)
    assert terms["tversky"].item() == pytest.approx(1 - 1.75 / (0.75 + 0.3 * 0.75 + 0.7 * 0.25 + 1))


def test_multiclass_terms_by_hand():
    """Two pixels of classes 0 and 2 with probabilities (.5, .25, .25), a third ignored."""
    logits = torch.log(torch.tensor([[0.5, 0.5, 0.98], [0.25, 0.25, 0.01], [0.25, 0.25, 0.01]])).reshape(1, 3, 1, 3)
    terms = segment_loss(logits, torch.tensor([[[0, 2, 255]]]), ("ce", "dice"))
    assert terms["ce"].item() == pytest.approx((-math.log(0.5) - math.log(0.25)) / 2, rel=1e-5)
    dice = [(2 * 0.5 + 1) / (1 + 1 + 1), (0 + 1) / (0.5 + 0 + 1), (2 * 0.25 + 1) / (0.5 + 1 + 1)]
    assert terms["dice"].item() == pytest.approx(1 - sum(dice) / 3, rel=1e-5)


def test_perfect_prediction_has_dice_one():
    truth = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 1]])
    assert soft_dice(truth, truth).tolist() == [1, 1]


@pytest.mark.parametrize("weights", [(), (0.2, 1.0, 3.0)])
def test_cross_entropy_is_torchs(weights):
    logits, mask = case(3)
    expected = functional.cross_entropy(logits, mask, torch.tensor(weights) if weights else None, ignore_index=255)
    assert segment_loss(logits, mask, ("ce",), weights)["ce"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_binary_terms_are_those_of_two_logits():
    logits, mask = case(2)
    both = torch.cat((torch.zeros_like(logits), logits), 1)
    own = segment_loss(logits, mask, ("ce", "focal"), (1.0, 4.0))
    assert own["bce"].item() == pytest.approx(segment_loss(both, mask, ("ce",), (1.0, 4.0))["ce"].item(), rel=1e-5)
    assert own["focal"].item() == pytest.approx(
        segment_loss(both, mask, ("focal",), (1.0, 4.0))["focal"].item(), rel=1e-5
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_lovasz_of_hard_predictions_is_one_minus_iou(classes):
    """On errors of 0 and 1 the extension is the set function itself (the hinge counts an error of 2 twice)."""
    _, mask = case(classes)
    found = mask.clone()
    found[:, 3:7, 2:9] = classes - 1
    found[mask == 255] = 0
    if classes == 2:
        logits = found.unsqueeze(1).float() * 2 - 1
        value = segment_loss(logits, mask, ("lovasz",))["lovasz"].item() / 2
        ids = (1,)
    else:
        logits = functional.one_hot(found, classes).permute(0, 3, 1, 2).float() * 200
        value = segment_loss(logits, mask, ("lovasz",))["lovasz"].item()
        ids = tuple(range(classes))
    images = []
    for one, truth in zip(found.numpy(), mask.numpy(), strict=True):
        counted = truth != 255
        parts = [
            1 - (counted & (one == i) & (truth == i)).sum() / (counted & ((one == i) | (truth == i))).sum()
            for i in ids
            if classes == 2 or (truth == i).any()
        ]
        images.append(np.mean(parts))
    assert value == pytest.approx(np.mean(images), abs=1e-5)


def test_boundary_is_the_mean_of_the_signed_distances():
    mask = torch.zeros(1, 16, 24, dtype=torch.int64)
    mask[0, 4:10, 5:20] = 1
    truth = mask[0].numpy()
    signed = ndimage.distance_transform_edt(1 - truth) - ndimage.distance_transform_edt(truth)
    logits = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(1))
    expected = (logits.sigmoid()[0, 0].numpy() * signed / 24).mean()
    assert segment_loss(logits, mask, ("boundary",))["boundary"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 4])
def test_ignored_pixels_do_not_count(classes):
    logits, mask = case(classes)
    changed = logits.clone()
    changed[:, :, :2] = 7.0
    weights = tuple(float(i + 1) for i in range(classes))
    for name, value in segment_loss(logits, mask, ALL, weights).items():
        assert value.item() == pytest.approx(segment_loss(changed, mask, ALL, weights)[name].item(), rel=1e-6), name


@pytest.mark.parametrize("classes", [2, 3])
def test_all_ignored_pixels_give_no_gradient(classes):
    logits, mask = case(classes)
    logits.requires_grad_()
    terms = segment_loss(logits, torch.full_like(mask, 255), ALL)
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), logits)
    assert gradient.abs().max() == 0
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("term", ALL)
def test_gradients_are_those_of_finite_differences(term, classes):
    """In float64 past the cast to float32, which `segment_loss` makes."""
    from sightline.models.segment.losses import Pixels

    logits, mask = case(classes, seed=3, size=4, dtype=torch.float64)
    mask[:, :2] = torch.randint(0, classes, (3, 2, 4), generator=torch.Generator().manual_seed(2))
    mask[:, 3, 3] = 255
    weights = tuple(float(i + 1) for i in range(classes))
    assert torch.autograd.gradcheck(
        lambda x: SEGMENT_LOSSES[term](Pixels(x, mask, weights)).double(), (logits.requires_grad_(),), atol=1e-4
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_shares_of_a_batch_have_the_terms_of_the_whole(classes):
    """Sums of both shares handed to each: what several processes exchange."""
    logits, mask = case(classes)
    mask[0] = 255
    whole = segment_loss(logits, mask, ALL)
    shares = [(logits[:1], mask[:1]), (logits[1:], mask[1:])]
    for term, expected in zip(ALL, whole.values(), strict=True):
        sums: list[torch.Tensor] = []

        def keep(values, sums=sums):
            sums.append(values)
            return values

        for share in shares:
            segment_loss(*share, (term,), total=keep)
        half = len(sums) // 2
        summed = [a + b for a, b in zip(sums[:half], sums[half:], strict=True)]
        for share in shares:
            given = iter(summed)
            (value,) = segment_loss(*share, (term,), total=lambda _, given=given: next(given)).values()
            assert value.item() == pytest.approx(expected.item(), rel=1e-5), term
