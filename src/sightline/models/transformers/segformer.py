"""SegFormer (`hf:segformer-b0` to `-b5`): transformers' network, our preprocessing, losses and decoding.

Xie et al. (2021); transformers' code is Apache-2.0, the authors' weights are for research alone and not used: built
from a configuration. Its logits are those of cells of four pixels, made as large as the image bilinearly, as the
authors do.
"""

from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from torch import Tensor, nn
from torch.nn import functional

from sightline.models.segment.segmenter import ClassWeights, Segmenter
from sightline.models.transformers.detectors import import_transformers

__all__ = ["SEGFORMER_MODELS"]

Kind: TypeAlias = Literal["b0", "b1", "b2", "b3", "b4", "b5"]
_DEPTHS: dict[Kind, tuple[int, int, int, int]] = {
    "b0": (2, 2, 2, 2),
    "b1": (2, 2, 2, 2),
    "b2": (3, 4, 6, 3),
    "b3": (3, 4, 18, 3),
    "b4": (3, 8, 27, 3),
    "b5": (3, 6, 40, 3),
}
"""Blocks of each stage."""


class SegFormer(nn.Module):
    """(B, channels, H, W) -> logits (B, outputs, H, W), H and W multiples of 32."""

    multiple = 32
    class_parts = ("inner.decode_head.classifier.",)

    def __init__(self, kind: Kind, channels: int, outputs: int) -> None:
        super().__init__()
        package, _ = import_transformers(f"hf:segformer-{kind}", "models.segformer")
        config = package.SegformerConfig(
            num_channels=channels,
            depths=list(_DEPTHS[kind]),
            hidden_sizes=[32, 64, 160, 256] if kind == "b0" else [64, 128, 320, 512],
            decoder_hidden_size=256 if kind in ("b0", "b1") else 768,
            num_labels=outputs,
        )
        self.inner: Any = package.SegformerForSemanticSegmentation(config).train()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        logits = self.inner(images).logits
        return functional.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)


def build_segformer(
    kind: Kind,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 512,
    channels: int = 3,
    loss: str = "ce",
    class_weights: ClassWeights = (),
) -> Segmenter:
    """SegFormer of a size, with the authors' loss unless told otherwise; MissingExtraError without transformers."""
    made = partial(SegFormer, kind)
    name = f"hf:segformer-{kind}"
    return Segmenter(name, class_names, made, imgsz=imgsz, channels=channels, loss=loss, class_weights=class_weights)


SEGFORMER_MODELS = {f"hf:segformer-{kind}": partial(build_segformer, kind) for kind in get_args(Kind)}
"""Builders by name."""
