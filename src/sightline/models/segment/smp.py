"""Networks of segmentation-models-pytorch, `smp:<decoder>/<encoder>`: its decoders on its own and timm's encoders.

The package (MIT, Iakubovskii 2019) is an extra, and slow to import: it is imported where a network is made. Its names
are open-ended, so that they are looked up when one is asked for; `SMP_MODELS` are examples.
"""

import copy
import importlib
import importlib.util
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sightline.core.errors import ConfigError, MissingExtraError, ModelError, unknown_name
from sightline.core.preprocess import Preprocess
from sightline.models.complexity import ShapesOnly
from sightline.models.pretrained import OFFLINE_VARIABLE, is_offline
from sightline.models.segment.segmenter import ClassWeights, Segmenter

__all__ = ["SMP_MODELS", "build_smp"]

_PREFIX = "smp:"
_TIMM = "tu-"
"""What the package's names of timm's encoders begin with."""
_MULTIPLE = 32
_LEAST = {"pan": 128}
"""Sides that a decoder needs: the attention of PAN halves maps of stride 16 three times."""
_FORM = "smp:<decoder>/<encoder>, as smp:unet/resnet34"


class SmpNetwork(nn.Module):
    """(B, channels, H, W) -> logits (B, outputs, H, W), of the size of the images.

    Layers of an encoder that its decoder does not read stay as they are, so that weights of the package fit; they are
    not trained.
    """

    class_parts = ("inner.segmentation_head.",)

    def __init__(self, decoder: str, encoder: str, channels: int, outputs: int, encoder_weights: str) -> None:
        super().__init__()
        self.inner: Any = _make(decoder, encoder, channels, outputs, encoder_weights)
        self.multiple = max(_MULTIPLE, int(self.inner.encoder.output_stride))
        if _of_shapes():  # its first convolution is put in by other means
            self.inner = self.inner.to("meta")
        shadow = self.inner if _of_shapes() else copy.deepcopy(self.inner).to("meta")
        unread = _unread(shadow, channels, max(_LEAST.get(decoder, 0), 2 * self.multiple))
        for name, parameter in self.inner.named_parameters():
            parameter.requires_grad = name not in unread

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        logits: Tensor = self.inner(images)
        return logits


def build_smp(
    name: str,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 256,
    channels: int = 3,
    encoder_weights: str = "",
    loss: str = "ce+dice",
    class_weights: ClassWeights = (),
) -> Segmenter:
    """The network of a name; `encoder_weights` ("imagenet", …) are fetched by the package from its own place.

    They start the encoder and choose how it is fed; a file of weights does not ask for them again. MissingExtraError
    without the package, ModelError for a decoder or an encoder that it does not know, and for weights that cannot be
    had.
    """
    decoder, _, encoder = name.removeprefix(_PREFIX).partition("/")
    package = _import_smp(name)
    _check_names(package, name, decoder, encoder)
    asked = "" if _of_shapes() else encoder_weights

    def network(inputs: int, outputs: int) -> nn.Module:
        return SmpNetwork(decoder, encoder, inputs, outputs, asked)

    made = Segmenter(name, class_names, network, imgsz=imgsz, channels=channels, loss=loss, class_weights=class_weights)
    least = _LEAST.get(decoder, 0)
    if min(made.preprocess.size_hw) < least:
        raise ConfigError(f"imgsz of '{name}' must be at least {least}, got {imgsz}")
    if asked:
        made.preprocess = _fed(package, encoder, asked, made.preprocess)
        made.started = f"the encoder {encoder} started from its weights '{asked}'; all else is new"  # type: ignore[assignment]
    return made


def _of_shapes() -> bool:
    """Whether what is made has shapes alone."""
    return torch.empty(0).device.type == "meta"


def _import_smp(name: str) -> Any:
    if importlib.util.find_spec("segmentation_models_pytorch") is None:
        message = f"the model '{name}' needs segmentation-models-pytorch, which is not installed"
        raise MissingExtraError(message, do="run pip install 'sightline[adapters]'")
    return importlib.import_module("segmentation_models_pytorch")


def _check_names(package: Any, name: str, decoder: str, encoder: str) -> None:
    """ModelError unless the package knows both."""
    decoders = package.MODEL_ARCHITECTURES_MAPPING
    if decoder not in decoders:
        raise ModelError(unknown_name("decoder of segmentation-models-pytorch", decoder, decoders), do=f"name {_FORM}")
    timm = importlib.import_module("timm")
    known = timm.is_model(encoder.removeprefix(_TIMM)) if encoder.startswith(_TIMM) else False
    own = package.encoders.get_encoder_names()
    if not known and encoder not in own:
        # Some sixty names without a near one would be no sentence.
        names = [*own, *(f"{_TIMM}{each}" for each in timm.list_models())]
        message = unknown_name("encoder of segmentation-models-pytorch", encoder, names)
        if "(known: " in message:
            message = f"the encoder of '{name}' must be one of segmentation-models-pytorch's, got '{encoder}'"
        raise ModelError(message, do=f"name {_FORM}, or one of timm's with {_TIMM} before it")


def _make(decoder: str, encoder: str, channels: int, outputs: int, encoder_weights: str) -> Any:
    """The package's network in training mode; ModelError where the two do not fit, or weights are missing."""
    package = _import_smp(f"{_PREFIX}{decoder}/{encoder}")
    if encoder_weights:
        _check_weights(package, encoder, encoder_weights)
    more = {"dynamic_img_size": True} if decoder == "dpt" and "vit" in encoder else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names it would rather have
        try:
            made = package.create_model(
                decoder,
                encoder,
                encoder_weights=encoder_weights or None,
                in_channels=channels,
                classes=outputs,
                **more,
            )
        except OSError as error:
            message = f"cannot fetch the weights '{encoder_weights}' of the encoder {encoder} ({type(error).__name__})"
            raise ModelError(
                message, do="try again where the network is allowed, or leave encoder_weights out"
            ) from None
        except (ValueError, TypeError, RuntimeError, KeyError, AssertionError) as error:
            message = f"the decoder '{decoder}' must be given an encoder it fits, got '{encoder}': {error}"
            raise ModelError(
                message.splitlines()[0].rstrip("!."), do="take another encoder, or the decoder unet"
            ) from None
    return made.train()


def _check_weights(package: Any, encoder: str, encoder_weights: str) -> None:
    if is_offline():
        message = f"encoder_weights must be left out where {OFFLINE_VARIABLE} is set, got '{encoder_weights}'"
        raise ModelError(message, do=f"unset {OFFLINE_VARIABLE}, and they are fetched")
    known = package.encoders.encoders.get(encoder, {}).get("pretrained_settings")
    if known is not None and encoder_weights not in known:
        raise ConfigError(unknown_name(f"weights of the encoder {encoder}", encoder_weights, known))


def _fed(package: Any, encoder: str, encoder_weights: str, usual: Preprocess) -> Preprocess:
    """How an encoder with weights was fed when it learnt them."""
    facts = package.encoders.get_preprocessing_params(encoder, pretrained=encoder_weights)
    scale = float(facts["input_range"][1])
    mean, std = ([float(value) / scale for value in facts[key]] for key in ("mean", "std"))
    if usual.channels == "gray":
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    channels = "bgr" if facts["input_space"] == "BGR" and usual.channels != "gray" else usual.channels
    return usual.model_copy(update={"channels": channels, "mean": tuple(mean), "std": tuple(std)})


def _unread(network: Any, channels: int, side: int) -> set[str]:
    """The parameters that no output depends on, of a network without memory."""
    with torch.device("meta"), ShapesOnly():
        out = network(torch.empty(2, channels, side, side))
    named = dict(network.named_parameters())
    grads = torch.autograd.grad(out.sum(), list(named.values()), allow_unused=True)
    return {name for name, grad in zip(named, grads, strict=True) if grad is None}


_EXAMPLES = ("unet/resnet34", "fpn/mobilenet_v2", "deeplabv3plus/resnet50", "segformer/mit_b0")
SMP_MODELS = {f"{_PREFIX}{each}": partial(build_smp, f"{_PREFIX}{each}") for each in _EXAMPLES}
"""Builders of some of them by name; `find_builder` makes those of all others."""
