"""Counts against arithmetic by hand."""

import re

import pytest
import torch

import sightline.models as models


def test_unet_costs_by_hand():
    """Multiply-accumulates of every convolution at its own resolution."""
    base, size = 4, 32
    widths = [base * 2**k for k in range(5)]
    macs, before = 0, 3
    for level, width in enumerate(widths):
        macs += (size >> level) ** 2 * 9 * (before * width + width * width)
        before = width
    macs += 9 * (before * 2 * before + 4 * before * before)  # bottleneck, at 1x1
    for level, width in enumerate(widths):
        pixels = (size >> level) ** 2
        macs += pixels * (2 * width * width + 9 * (2 * width * width + width * width))
    macs += size * size * base
    described = models.describe_model(models.create("unet", class_names=["a", "b"], imgsz=size, base_width=base))
    assert described.macs == macs
    assert described.flops == 2 * macs


def test_description_leaves_the_model_alone_and_tabulates():
    model = models.create("yolo11n", class_names=["a"], imgsz=64)
    described = models.describe_model(model, (96, 64))
    assert (described.height, described.width, described.classes) == (96, 64, 1)
    assert all(p.device.type == "cpu" for p in model.parameters())
    assert described.flops == pytest.approx(models.describe_model(model).flops * 1.5, rel=1e-2)
    assert described.weights_mb == pytest.approx(sum(v.nbytes for v in model.state_dict().values()) / 1e6)
    row = described.to_frame().row(0, named=True)
    assert (row["model"], row["input"], row["parameters"]) == ("yolo11n", "96x64", described.parameters)
    assert described.to_dict()["fused_parameters"] < described.parameters
    assert "torch.utils.flop_counter" in described.to_markdown()
    assert isinstance(model(torch.zeros(1, 3, 64, 64)), tuple)


LARGE = [name for name in models.stated_costs() if re.fullmatch(r"(tv:|hf:|yolo\d+[smblxc]\b).*|yolo3", name)]


def test_the_stated_costs_are_of_all_models():
    assert list(models.stated_costs()) == models.list_models()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in models.stated_costs()]
)
def test_the_stated_costs_are_what_counting_gives(name):
    if name.startswith("hf:"):
        pytest.importorskip("transformers")
    names = tuple(f"class-{i}" for i in range(models.STATED_CLASSES))
    assert models.describe_model(models.build_shapes(name, names, {})) == models.stated_costs()[name]


def test_every_network_says_where_it_comes_from():
    exact = 0
    for name, stated in models.stated_costs().items():
        origin = models.origin_of(name)
        assert origin.source != "a plug-in", name
        if origin.published_parameters is not None:
            assert stated.parameters == origin.published_parameters, name
            exact += 1
    assert exact >= 40
