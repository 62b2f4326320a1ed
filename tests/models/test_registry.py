"""The registry's door, and the conformance suite: ours pass, broken ones are named."""

import pytest
import torch
from torch import nn

from sightline import models, testing
from sightline.core.errors import ConfigError, ModelError

from .families import smallest_of_each

NAMES = ["background", "crack"]


def test_models_are_listed():
    sized = [f"yolo{version}{size}" for version in (5, 8, 11, 12) for size in "nsmlx"]
    others = ["unet", "unet-small", "dff-unet", "litefusionnet", "ulite", "enet", "segnet", "resnet50-unet"]
    others += ["fcn32s", "fcn16s", "fcn8s", "deeplabv3", "deeplabv3plus"]
    others += ["lite0-unet", "lite0-yolo", "litefodnet", "vdxnet", "yolo1-resnet50", "yolo3"]
    others += ["rcnn", "fast-rcnn", "tv:fcos-resnet18", "tv:retinanet-resnet18", "tv:ssd300", "tv:ssdlite320"]
    others += [f"tv:fasterrcnn-{trunk}" for trunk in ("mobilenet320", "resnet18", "resnet50")]
    others += [f"tv:{kind}-{trunk}" for kind in ("maskrcnn", "keypointrcnn") for trunk in ("resnet18", "resnet50")]
    others += ["smp:deeplabv3plus/resnet50", "smp:fpn/mobilenet_v2", "smp:segformer/mit_b0", "smp:unet/resnet34"]
    others += ["hf:dfine-n", "hf:rtdetrv2-r18", *(f"hf:segformer-b{n}" for n in range(6))]
    for trunk, sizes in {"mask2former": ("tiny", "small", "base", "large"), "eomt": ("small", "base", "large")}.items():
        others += [f"hf:{trunk}-{size}{kind}" for size in sizes for kind in ("", "-semantic")]
    others += [f"hf:rfdetr-{size}" for size in ("nano", "small", "medium", "large")]
    sized += [*(f"yolo9{size}" for size in "tsmc"), *(f"yolo10{size}" for size in "nsmblx")]
    sized += [
        f"yolo{version}{size}-{kind}" for version in (8, 11) for size in "nsmlx" for kind in ("seg", "pose", "obb")
    ]
    assert models.list_models() == sorted([*others, *sized])


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("yolo11", {}, ModelError, "unknown model 'yolo11' \\(nearest: yolo11"),
        ("unet_smal", {}, ModelError, "nearest: unet-small"),
        ("unet", {"img_size": 64}, ConfigError, "unknown argument of model 'unet' 'img_size' \\(nearest: imgsz"),
        ("yolo11n", {"base_width": 8}, ConfigError, "unknown argument of model 'yolo11n' 'base_width'"),
        ("unet", {"base_width": "wide"}, ConfigError, "argument 'base_width' of model 'unet'.*got 'wide'"),
        ("unet", {"base_width": 0}, ConfigError, "base_width must be 1..512, got 0"),
        ("unet", {"imgsz": -32}, ConfigError, "imgsz must be a multiple of 32, got -32. Use 32"),
    ],
)
def test_wrong_requests_are_refused(name, arguments, error, message):
    with pytest.raises(error, match=message):
        models.create(name, class_names=NAMES, **arguments)


@pytest.mark.parametrize("names", [[], "crack", ["a", "a"], ["a", ""], ["a", 1]])
def test_class_names_must_be_different_names(names):
    with pytest.raises(ConfigError, match="class_names must"):
        models.create("unet", class_names=names)


def test_arguments_may_come_as_text_and_rebuild_the_model():
    model = models.create("unet", class_names=NAMES, imgsz="64", base_width="4")
    again = models.create(model.name, class_names=model.class_names, **model.arguments)
    assert again.preprocess == model.preprocess
    assert again.preprocess.size_hw == (64, 64)
    assert models.count_parameters(again) == models.count_parameters(model)


@pytest.mark.parametrize(
    ("name", "class_names", "arguments"),
    [
        ("unet", NAMES, {"base_width": 4}),
        ("unet", ["a", "b", "c"], {"base_width": 4}),
        ("unet-small", NAMES, {}),
        ("lite0-unet", NAMES, {}),
        ("yolo11n", ["a"], {}),
        ("yolo11n", ["a", "b", "c"], {}),
        *(
            pytest.param(n, ["a", "b"], {}, marks=pytest.mark.slow)
            for n in smallest_of_each(("", "-seg", "-pose", "-obb"))
        ),
    ],
)
def test_our_models_conform(name, class_names, arguments):
    model = models.create(name, class_names=class_names, imgsz=64, **arguments)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    testing.check_model(model, size_hw=(64, 96))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def conforming():
    return models.create("unet", class_names=NAMES, imgsz=32, base_width=2)


def with_method(name, function):
    model = conforming()
    model.__class__ = type("Broken", (type(model),), {name: function})
    return model


def with_attribute(name, value):
    model = conforming()
    setattr(model, name, value)
    return model


class Moody(nn.Module):
    """Control flow that depends on values cannot be exported."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) if int(x.abs().sum()) % 7 < 8 else x


def data_dependent():
    model = conforming()
    model.network.bottleneck = Moody(model.network.bottleneck)
    return model


def nan_loss(self, raw, targets, total):
    return {"bce": raw.sum() * float("nan")}


def batch_mixing(self, raw):
    probabilities = (raw - raw.mean(0, keepdim=True)).mul(1e4).sigmoid()
    return torch.cat((1 - probabilities, probabilities), 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: with_attribute("task", "classify"), "task must be one of"),
        (lambda: with_attribute("class_names", ["a"]), "class_names must be a tuple"),
        (lambda: with_attribute("preprocess", None), "preprocess must be a Preprocess"),
        (lambda: with_method("decode", lambda self, raw: raw.float()), "decode must give \\[\\(3, 2"),
        (lambda: with_method("decode", lambda self, raw: raw.double()), "float32"),
        (lambda: with_method("decode", lambda self, raw: torch.cat((raw, raw), 1).float()), "sum to 1"),
        (lambda: with_method("decode", batch_mixing), "must not depend on the others"),
        (lambda: with_method("loss", nan_loss), "'bce' must be a finite"),
        (lambda: with_method("loss", lambda self, raw, targets, total: {}), "named terms"),
        (lambda: with_method("loss", lambda self, raw, targets, total: {"x": raw.detach().sum()}), "carry a gradient"),
        (lambda: with_method("loss", lambda self, raw, targets, total: {"x": raw.sum()}), "through 'total'"),
        (lambda: with_method("loss", lambda self, raw, targets: {"x": raw.sum()}), "raw, targets and total"),
        (lambda: with_attribute("extra", nn.Linear(2, 2)), "'extra.weight' must get a gradient"),
        (data_dependent, "must be exportable"),
    ],
)
def test_broken_models_are_named(make, message):
    with pytest.raises(ModelError, match=message):
        testing.check_model(make())


def test_a_plug_in_is_created_by_name(monkeypatch):
    def tiny(class_names, *, imgsz: int = 32):
        return models.create("unet", class_names=class_names, imgsz=imgsz, base_width=2)

    monkeypatch.setitem(models.MODELS, "tiny", tiny)
    model = models.create("tiny", class_names=NAMES, imgsz=64)
    assert model.preprocess.size_hw == (64, 64)
    assert "tiny" in models.list_models()
