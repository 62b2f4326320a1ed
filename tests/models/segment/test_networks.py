"""The segmentation networks: counts as published, the contract, fusing, and the state space's two scans."""

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3_resnet50

from sightline import models, testing
from sightline.models.segment import state_space
from sightline.models.segment.builders import SEGMENTERS
from sightline.models.segment.state_space import SelectiveStateSpace, linear_scan

BINARY = ("background", "crack")
THREE = ("a", "b", "c")
LIGHT = ("dff-unet", "litefusionnet", "ulite", "enet")
HEAVY = tuple(name for name in SEGMENTERS if name not in {*LIGHT, "unet", "unet-small"})


def test_counts_are_the_published_ones():
    """To the unit where a count of ours or of published code is known; the papers round to three digits."""
    counts = {name: models.count_parameters(models.build_shapes(name, BINARY, {})) for name in SEGMENTERS}
    assert (counts["dff-unet"], counts["litefusionnet"], counts["ulite"]) == (189_949, 493_555, 878_417)
    assert abs(counts["dff-unet"] / 0.190e6 - 1) < 0.005
    assert abs(counts["litefusionnet"] / 0.493e6 - 1) < 0.005
    many = tuple(f"c{i}" for i in range(21))
    theirs = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21)
    assert models.count_parameters(models.build_shapes("deeplabv3", many, {})) == models.count_parameters(theirs)
    # VGG-16's convolutions, and its two layers of 4096, have 14,710,464 and 119,537,664 weights without biases
    fcn = models.build_shapes("fcn32s", many, {})
    weights = sum(
        p.numel() for n, p in fcn.named_parameters() if p.ndim == 4 and n.split(".")[1] in ("stages", "connected")
    )
    assert weights == 14_710_464 + 119_537_664
    assert counts["segnet"] == pytest.approx(29.5e6, rel=0.01)


def papers_macs(name: str, side: int, *, without: tuple[str, ...] = ()) -> float:
    """Multiply-accumulates as the papers count: convolutions, and four for each value that is batch-normalised."""
    model = models.build_shapes(name, BINARY, {})
    assert isinstance(model, nn.Module)
    total = 0.0

    def count(module, inputs, out):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += out.numel() * module.weight[0].numel()
        elif isinstance(module, nn.BatchNorm2d):
            total += 4 * out.numel()

    for path, module in model.named_modules():
        if not any(part in path for part in without):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.empty(1, 3, side, side, device="meta"))
    return total


def test_costs_are_the_published_ones_under_the_papers_convention():
    assert papers_macs("dff-unet", 256) == pytest.approx(0.109e9, rel=0.03)
    assert papers_macs("litefusionnet", 320, without=("along_",)) == pytest.approx(0.397e9, rel=0.03)
    assert papers_macs("ulite", 320) == pytest.approx(1.183e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "class_names", "arguments"),
    [
        ("dff-unet", BINARY, {}),
        *(pytest.param(name, BINARY, {}, marks=pytest.mark.slow) for name in LIGHT[1:]),
        pytest.param("litefusionnet", THREE, {"channels": 1}, marks=pytest.mark.slow),
        *(pytest.param(name, THREE, {}, marks=pytest.mark.slow) for name in HEAVY if not name.startswith("fcn")),
        *(
            pytest.param(name, THREE, {"fc_width": 64}, marks=pytest.mark.slow)
            for name in HEAVY
            if name.startswith("fcn")
        ),
    ],
)
def test_networks_conform(name, class_names, arguments):
    model = models.create(name, class_names=class_names, imgsz=64, **arguments)
    testing.check_model(model, size_hw=(64, 96))
    again = models.create(name, class_names=class_names, **model.arguments)
    assert (again.preprocess, models.count_parameters(again)) == (model.preprocess, models.count_parameters(model))
    assert all(any(key.startswith(part) for key in model.state_dict()) for part in model.class_tensors)


@pytest.mark.parametrize(
    "name", [*LIGHT, *(pytest.param(n, marks=pytest.mark.slow) for n in ("segnet", "resnet50-unet", "deeplabv3plus"))]
)
def test_fused_networks_give_the_same(name):
    torch.manual_seed(0)
    model = models.create(name, class_names=THREE, imgsz=64)
    channels = model.preprocess.channel_count
    with torch.no_grad():
        model.train()(torch.randn(4, channels, 64, 64))  # statistics that are not those of the start
        images = torch.randn(2, channels, 64, 64)
        whole, fused = model.eval()(images), models.fuse(model)(images)
    assert torch.allclose(whole, fused, atol=1e-4 * float(whole.abs().max()), rtol=1e-5)


def test_weights_of_other_classes_start_all_but_the_class_parts(tmp_path):
    torch.manual_seed(0)
    before = models.create("dff-unet", class_names=BINARY, imgsz=64)
    models.save_weights(tmp_path / "w.safetensors", before)
    after = models.create("dff-unet", class_names=THREE, imgsz=64, weights=tmp_path / "w.safetensors")
    same = {
        k for k, v in after.state_dict().items() if k in before.state_dict() and torch.equal(v, before.state_dict()[k])
    }
    assert set(after.state_dict()) - same <= {"network.head.weight", "network.head.bias"}


@pytest.mark.parametrize("length", [1, 7, 64])
def test_both_scans_are_the_recurrence(length):
    torch.manual_seed(0)
    decay, drive = torch.rand(length, 2, 3, dtype=torch.float64), torch.randn(length, 2, 3, dtype=torch.float64)
    state, expected = torch.zeros(2, 3, dtype=torch.float64), []
    for a, b in zip(decay, drive, strict=True):
        state = a * state + b
        expected.append(state)
    assert torch.allclose(linear_scan(decay, drive), torch.stack(expected), atol=1e-12)
    assert torch.allclose(state_space._doubled_scan(decay, drive), torch.stack(expected), atol=1e-12)
    arguments = (decay.requires_grad_(), drive.requires_grad_())
    assert torch.autograd.gradcheck(linear_scan, arguments)


def test_a_state_space_sees_nothing_of_what_comes_later():
    torch.manual_seed(0)
    block = SelectiveStateSpace(8)
    x = torch.randn(2, 20, 8)
    changed = x.clone()
    changed[:, 12:] = 0
    assert torch.allclose(block(x)[:, :12], block(changed)[:, :12], atol=1e-6)
    assert not torch.allclose(block(x)[:, 12:], block(changed)[:, 12:], atol=1e-3)
