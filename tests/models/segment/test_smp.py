"""Networks of segmentation-models-pytorch by any pair of its names, against the package itself."""

import shutil

import pytest
import torch

from sightline import models, testing
from sightline.core.errors import ConfigError, ModelError

smp = pytest.importorskip("segmentation_models_pytorch")
from safetensors.torch import save_file  # noqa: E402

THREE = ("a", "b", "c")
EVERY = dict.fromkeys(smp.MODEL_ARCHITECTURES_MAPPING, "mobilenet_v2") | {
    "dpt": "tu-vit_tiny_patch16_224",
    "segformer": "mit_b0",
    "manet": "tu-convnext_atto",
}


def test_any_pair_of_names_is_a_model_and_counts_as_the_package_does():
    ours = models.build_shapes("smp:linknet/tu-mobilenetv3_small_100", THREE, {"channels": 1})
    theirs = smp.Linknet("tu-mobilenetv3_small_100", encoder_weights=None, in_channels=1, classes=3)
    assert models.count_parameters(ours) == sum(p.numel() for p in theirs.parameters())
    assert (ours.name, ours.preprocess.channels) == ("smp:linknet/tu-mobilenetv3_small_100", "gray")
    assert models.takes_argument(ours.name, "encoder_weights")
    assert models.origin_of(ours.name).source.startswith("Iakubovskii")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smp:unett/resnet18", r"decoder of segmentation-models-pytorch 'unett' \(nearest: unet"),
        ("smp:unet/resnet35", r"encoder of segmentation-models-pytorch 'resnet35' \(nearest: .*resnet34"),
        ("smp:unet", "the encoder of 'smp:unet' must be one of .* got ''. Name smp:<decoder>/<encoder>"),
        ("smp:deeplabv3/vgg11", "'deeplabv3' must be given an encoder it fits, got 'vgg11'"),
    ],
)
def test_names_that_are_none_are_refused_in_one_sentence(name, message):
    with pytest.raises(ModelError, match=message):
        models.create(name, class_names=THREE)


def test_sizes_a_decoder_has_no_maps_for_are_refused():
    with pytest.raises(ConfigError, match="imgsz of 'smp:pan/resnet18' must be at least 128, got 64"):
        models.create("smp:pan/resnet18", class_names=THREE, imgsz=64)


@pytest.mark.slow
def test_weights_of_the_encoder_are_asked_for_once(monkeypatch, tmp_path):
    """The package's own place stands on disk here: a file of the encoder's tensors, and how it was fed."""
    torch.manual_seed(0)
    name = "smp:fpn/mobilenet_v2"
    theirs = smp.FPN("mobilenet_v2", encoder_weights=None)
    save_file(theirs.encoder.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        '{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "input_space": "BGR", "input_range": [0, 1]}'
    )
    monkeypatch.setenv("SIGHTLINE_OFFLINE", "1")
    with pytest.raises(ModelError, match="encoder_weights must be left out where SIGHTLINE_OFFLINE is set"):
        models.create(name, class_names=THREE, imgsz=64, encoder_weights="imagenet")
    monkeypatch.delenv("SIGHTLINE_OFFLINE")
    with pytest.raises(ConfigError, match="unknown weights of the encoder mobilenet_v2 'imagnet'"):
        models.create(name, class_names=THREE, imgsz=64, encoder_weights="imagnet")
    monkeypatch.setattr(smp.encoders, "hf_hub_download", lambda repo_id, filename, revision: str(tmp_path / filename))
    made = models.create(name, class_names=THREE, imgsz=64, encoder_weights="imagenet")
    own = made.network.inner.encoder.state_dict()
    assert all(torch.equal(own[key], value) for key, value in theirs.encoder.state_dict().items())
    assert (made.preprocess.channels, made.preprocess.mean) == ("bgr", (0.5, 0.4, 0.3))
    assert "mobilenet_v2 started from its weights 'imagenet'" in made.started
    models.save_weights(tmp_path / "w.safetensors", made)
    shutil.copy(tmp_path / "w.safetensors", tmp_path / "moved.safetensors")
    monkeypatch.setenv("SIGHTLINE_OFFLINE", "1")
    again = models.load_model(tmp_path / "moved.safetensors")
    assert again.preprocess == made.preprocess


def test_weights_that_cannot_be_fetched_are_said(monkeypatch):
    def cut(*_, **__):
        raise OSError("no route")

    monkeypatch.delenv("SIGHTLINE_OFFLINE", raising=False)
    monkeypatch.setattr(smp.encoders, "hf_hub_download", cut)
    with pytest.raises(ModelError, match="cannot fetch the weights 'imagenet' of the encoder mobilenet_v2"):
        models.create("smp:fpn/mobilenet_v2", class_names=THREE, imgsz=64, encoder_weights="imagenet")


@pytest.mark.slow
@pytest.mark.parametrize("decoder", EVERY)
def test_every_decoder_conforms(decoder):
    encoder = EVERY[decoder] if decoder not in {"unetplusplus", "deeplabv3"} else "resnet18"
    model = models.create(f"smp:{decoder}/{encoder}", class_names=THREE, imgsz=128 if decoder == "pan" else 64)
    testing.check_model(model)
