"""U-Net: widths and counts from the definition, its variants, and that it learns."""

import math

import pytest
import torch

import sightline.models as models
from sightline import testing
from sightline.core.errors import ConfigError, DataError
from sightline.models.segment.unet import UNet

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


def test_both_nets_of_the_articles_stand_in_the_table():
    """The article's "about 7 million" is the net with four poolings; 31.1 million that with five."""
    counts = {levels: models.build_shapes("unet", BINARY, {"levels": levels}) for levels in (4, 5)}
    assert {n: models.count_parameters(m) for n, m in counts.items()} == {4: 7_763_041, 5: 31_100_513}


@pytest.mark.parametrize(("block", "channels"), [("residual", 1), ("inception", 3), ("dense", 3)])
def test_variants_of_the_block_conform(block, channels):
    arguments = {"base_width": 4, "levels": 2, "block": block, "channels": channels}
    model = models.create("unet", class_names=["a", "b", "c"], imgsz=16, **arguments)
    testing.check_model(model)
    again = models.create("unet", class_names=["a", "b", "c"], **model.arguments)
    assert models.count_parameters(again) == models.count_parameters(model)
    assert again.preprocess.channel_count == channels


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest", "bed-of-nails"])
def test_ways_of_upsampling_conform(upsampling):
    model = models.create("unet", class_names=BINARY, imgsz=16, base_width=4, levels=2, upsampling=upsampling)
    testing.check_model(model)


def test_what_a_pixel_of_each_level_sees_is_as_stated():
    """By the gradient of one value in the middle of each encoder's map, weights and images all ones."""
    network = UNet(1, 1, base_width=1, levels=5)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.ones_(module.weight)
    seen = []
    for level in range(4):
        image = torch.ones(1, 1, 256, 256, dtype=torch.float64, requires_grad=True)
        x = image
        for encoder in list(network.double().eval().encoders)[: level + 1]:
            x = encoder(x if encoder is network.encoders[0] else torch.nn.functional.avg_pool2d(x, 2))
        middle = x.shape[-1] // 2
        (gradient,) = torch.autograd.grad(x[0, 0, middle, middle], image)
        seen.append(int((gradient[0, 0].abs().sum(0) > 0).sum()))
    assert seen == [5, 14, 32, 68]


def test_widths_are_those_of_the_description():
    model = models.create("unet", class_names=BINARY)
    assert [e.conv2.out_channels for e in model.network.encoders] == [32, 64, 128, 256, 512]
    assert model.network.bottleneck.conv2.out_channels == 1024
    assert [u.out_channels for u in model.network.ups] == [512, 256, 128, 64, 32]


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


def test_wrong_masks_are_refused():
    model = models.create("unet", class_names=BINARY, base_width=4)
    raw = torch.zeros(1, 1, 32, 32)
    for value, got in ((2, r"0\.\.2"), (-1, r"-1\.\.0")):
        mask = torch.zeros(1, 32, 32, dtype=torch.int64)
        mask[0, 0, 0] = value
        mask[0, 1, 0] = 255
        with pytest.raises(DataError, match=rf"class ids must be 0\.\.1, got {got}"):
            model.loss(raw, {"mask": mask})


def test_balanced_weights_that_nobody_counted_are_refused():
    model = models.create("unet", class_names=BINARY, base_width=4, class_weights="balanced")
    with pytest.raises(ConfigError, match="must be numbers by now"):
        model.loss(torch.zeros(1, 1, 32, 32), {"mask": torch.zeros(1, 32, 32, dtype=torch.int64)})


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="imgsz must be a multiple of 32, got 250"):
        models.create("unet", class_names=BINARY, imgsz=250)
    with pytest.raises(ConfigError, match=r"class_names must hold 2\.\.255 names"):
        models.create("unet", class_names=["crack"])
    for arguments, said in (
        ({"levels": 0}, "levels must be 1..7, got 0"),
        ({"block": "plian"}, "argument 'block'"),
        ({"channels": 2}, "channels must be 3"),
        ({"loss": "ce+dcie"}, "unknown term of loss 'dcie' .nearest: dice"),
        ({"loss": "ce+bce"}, "each term once"),
        ({"class_weights": [1]}, "class_weights must be 2 finite numbers"),
        ({"class_weights": [0, 0]}, "not all 0"),
        ({"class_weights": [1, float("nan")]}, "2 finite numbers"),
        ({"class_weights": [1, 2], "loss": "dice"}, "those of ce and focal, got the loss 'dice'"),
        ({"loss": "boundary"}, "must stand beside another term"),
    ):
        with pytest.raises(ConfigError, match=said):
            models.create("unet", class_names=BINARY, **arguments)
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
