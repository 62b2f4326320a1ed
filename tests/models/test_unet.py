"""U-Net: widths and counts from the definition, losses by hand, and that it learns."""

import math

import pytest
import torch

import sightline.models as models
from sightline.core.errors import ConfigError, DataError
from sightline.models.unet import binary_loss, multiclass_loss, soft_dice

BINARY = ["background", "crack"]


def unet_parameters(base: int, classes_out: int) -> int:
    """From the description: double convolutions with batch normalisation, 2x2 transposed convolutions, 1x1 head."""

    def double(i: int, o: int) -> int:
        return 9 * i * o + 2 * o + 9 * o * o + 2 * o

    widths = [base * 2**k for k in range(5)]
    encoder = sum(double(i, o) for i, o in zip([3, *widths], widths, strict=False))
    decoder = sum(4 * 2 * w * w + w + double(2 * w, w) for w in widths)
    return encoder + double(16 * base, 32 * base) + decoder + base * classes_out + classes_out


@pytest.mark.parametrize(
    ("name", "arguments", "base"), [("unet", {}, 32), ("unet-small", {}, 16), ("unet", {"base_width": 8}, 8)]
)
@pytest.mark.parametrize(("classes", "channels_out"), [(2, 1), (4, 4)])
def test_parameter_count_follows_from_the_widths(name, arguments, base, classes, channels_out):
    model = models.create(name, class_names=[str(i) for i in range(classes)], **arguments)
    assert models.count_parameters(model) == unet_parameters(base, channels_out)


def test_widths_are_those_of_the_description():
    model = models.create("unet", class_names=BINARY)
    assert [e.conv2.out_channels for e in model.encoders] == [32, 64, 128, 256, 512]
    assert model.bottleneck.conv2.out_channels == 1024
    assert [u.out_channels for u in model.ups] == [512, 256, 128, 64, 32]


@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_sum_to_one(classes):
    model = models.create("unet", class_names=[str(i) for i in range(classes)], base_width=4).eval()
    with torch.no_grad():
        probabilities = model.decode(model(torch.randn(2, 3, 32, 64)))
    assert probabilities.shape == (2, classes, 32, 64)
    assert torch.allclose(probabilities.sum(1), torch.ones(2, 32, 64), atol=1e-5)


def test_the_one_logit_is_that_of_the_second_class():
    model = models.create("unet", class_names=BINARY, base_width=4)
    probabilities = model.decode(torch.full((1, 1, 32, 32), math.log(3.0)))
    assert probabilities[0, :, 0, 0].tolist() == pytest.approx([0.25, 0.75])


def test_binary_loss_by_hand():
    """p = .75 on two pixels, one of them foreground, a third ignored."""
    logits = torch.tensor([math.log(3.0), math.log(3.0), 50.0]).reshape(1, 1, 1, 3)
    terms = binary_loss(logits, torch.tensor([[[1, 0, 255]]]))
    assert terms["bce"].item() == pytest.approx((-math.log(0.75) - math.log(0.25)) / 2)
    assert terms["dice"].item() == pytest.approx(1 - (2 * 0.75 + 1) / (1.5 + 1 + 1))


def test_multiclass_loss_by_hand():
    """Two pixels of classes 0 and 2 with probabilities (.5, .25, .25), a third ignored."""
    logits = torch.log(torch.tensor([[0.5, 0.5, 0.98], [0.25, 0.25, 0.01], [0.25, 0.25, 0.01]])).reshape(1, 3, 1, 3)
    terms = multiclass_loss(logits, torch.tensor([[[0, 2, 255]]]))
    assert terms["ce"].item() == pytest.approx((-math.log(0.5) - math.log(0.25)) / 2, rel=1e-5)
    dice = [(2 * 0.5 + 1) / (1 + 1 + 1), (0 + 1) / (0.5 + 0 + 1), (2 * 0.25 + 1) / (0.5 + 1 + 1)]
    assert terms["dice"].item() == pytest.approx(1 - sum(dice) / 3, rel=1e-5)


def test_perfect_prediction_has_dice_one():
    truth = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 1]])
    assert soft_dice(truth, truth).tolist() == [1, 1]


@pytest.mark.parametrize("classes", [2, 3])
def test_all_ignored_pixels_give_no_gradient(classes):
    model = models.create("unet", class_names=[str(i) for i in range(classes)], base_width=4)
    raw = model(torch.randn(2, 3, 32, 32))
    terms = model.loss(raw, {"mask": torch.full((2, 32, 32), 255)})
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), raw)
    assert gradient.abs().max() == 0
    assert all(torch.isfinite(term) for term in terms.values())


def test_ignored_pixels_do_not_count():
    model = models.create("unet", class_names=BINARY, base_width=4)
    raw = torch.randn(1, 1, 32, 32)
    mask = torch.randint(0, 2, (1, 32, 32))
    mask[:, :, 16:] = 255
    changed = raw.clone()
    changed[..., 16:] = 7.0
    for a, b in zip(
        model.loss(raw, {"mask": mask}).values(), model.loss(changed, {"mask": mask}).values(), strict=True
    ):
        assert a.item() == pytest.approx(b.item(), rel=1e-6)


def test_wrong_masks_are_refused():
    model = models.create("unet", class_names=BINARY, base_width=4)
    raw = torch.zeros(1, 1, 32, 32)
    for value, got in ((2, r"0\.\.2"), (-1, r"-1\.\.0")):
        mask = torch.zeros(1, 32, 32, dtype=torch.int64)
        mask[0, 0, 0] = value
        mask[0, 1, 0] = 255
        with pytest.raises(DataError, match=rf"class ids must be 0\.\.1, got {got}"):
            model.loss(raw, {"mask": mask})


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="imgsz must be a multiple of 32, got 250"):
        models.create("unet", class_names=BINARY, imgsz=250)
    with pytest.raises(ConfigError, match=r"class_names must hold 2\.\.255 names"):
        models.create("unet", class_names=["crack"])
    with pytest.raises(ConfigError, match="multiples of 32"):
        models.create("unet", class_names=BINARY, base_width=4)(torch.zeros(1, 3, 48, 64))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_small_unet_learns_two_images_by_heart(classes):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64) * 0.1
    mask = torch.zeros(2, 64, 64, dtype=torch.int64)
    mask[0, 20:40, 10:50], mask[1, 5:60, 30:36] = 1, classes - 1
    images[:, 0] += mask.float()
    model = models.create("unet", class_names=[str(i) for i in range(classes)], base_width=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=50)
    for _ in range(50):
        loss = torch.stack(list(model.loss(model(images), {"mask": mask}).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        predicted = model.eval().decode(model(images)).argmax(1)
    for value in range(1, classes):
        both = ((predicted == value) & (mask == value)).sum()
        assert both / ((predicted == value) | (mask == value)).sum() > 0.9
