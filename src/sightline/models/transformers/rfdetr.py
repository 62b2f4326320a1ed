"""RF-DETR (`hf:rfdetr-…`): transformers' network and losses, our preprocessing, targets and decoding.

Robinson et al. (2025), on LW-DETR, Chen et al. (2024), and a windowed DINOv2, Oquab et al. (2023); Apache-2.0; built
from a configuration, not downloaded. Each query is one object, so nothing is suppressed. In training thirteen groups of
queries learn side by side (Group DETR, Chen et al. 2022), of which the first is what is left.
"""

from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.operating_point import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.transformers.detectors import (
    Layer,
    QueryRaw,
    boxes_and_scores,
    import_transformers,
    in_full,
    truth_shares,
    without_image,
)

__all__ = ["RFDETR_MODELS", "RfDetr"]

Kind: TypeAlias = Literal["rfdetr-nano", "rfdetr-small", "rfdetr-medium", "rfdetr-large"]
_PATCH, _WINDOWS = 16, 2
MULTIPLE = _PATCH * _WINDOWS
_QUERIES, _GROUPS = 300, 13
_MOST_LOGIT = 15.0
"""Beyond, a probability is 0 or 1 in float32, of which transformers takes the logarithm."""
_TERMS = {"cls": ("loss_ce", 1.0), "box": ("loss_bbox", 5.0), "overlap": ("loss_giou", 2.0)}
"""Ours and transformers' names of the terms, and their weights."""


class _Facts(NamedTuple):
    """The authors' configuration of a size."""

    decoder_layers: int
    side: int  # network pixels


_FACTS: dict[Kind, _Facts] = {
    "rfdetr-nano": _Facts(2, 384),
    "rfdetr-small": _Facts(3, 512),
    "rfdetr-medium": _Facts(4, 576),
    "rfdetr-large": _Facts(4, 704),
}


class RfDetr(nn.Module):
    """RF-DETR. Input (B, 3, H, W) RGB, normalised, H and W multiples of 32.

    It has 300 queries, fewer where an image of `imgsz` has fewer patches of 16 x 16 pixels.
    """

    chooses_candidates = True

    def __init__(self, kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int]) -> None:
        super().__init__()
        self.name = f"hf:{kind}"
        self.task: Task = "detect"
        self.class_names = class_names
        size_hw = check_imgsz(imgsz, MULTIPLE)
        self.preprocess = Preprocess(size_hw=size_hw, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        self.arguments: dict[str, Any] = {"imgsz": imgsz}
        self.operating_point = OperatingPoint(suppression="none")
        self.inner: Any
        self.inner, criterion = _make(kind, len(class_names), size_hw)
        self._held = (criterion,)  # no weights
        self.class_tensors: tuple[str, ...] = ("inner.class_embed.", "inner.model.enc_out_class_embed.")

    def forward(self, images: Tensor) -> QueryRaw:
        """Raw outputs of the proposals and of all decoder layers, in training of all groups of queries."""
        check_input(images, MULTIPLE)
        # A process's share of a batch may hold no image, of which attention's reshaping knows no shape: it gets a blank
        # one, which nothing is made of.
        empty = self.training and images.shape[0] == 0
        found = self.inner.model(images.new_zeros((1, *images.shape[1:])) if empty else images)
        proposed = self.inner.predict_encoder_class_logits(found.enc_outputs_class)
        references = found.intermediate_reference_points[-1]
        decoded = [self.inner.predict_class_and_boxes(x, references) for x in found.intermediate_hidden_states]
        layers = (Layer(proposed, found.enc_outputs_coord_logits), *(Layer(*pair) for pair in decoded))
        if empty:
            layers = tuple(without_image(layer) for layer in layers)
        return QueryRaw(layers, (int(images.shape[2]), int(images.shape[3])))

    def loss(self, raw: QueryRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `cls`, `box` and `overlap`, added up over the layers, each a mean over the objects of the batch.

        Each layer matches its queries to objects by itself, in each group of queries anew.
        """
        check_targets(self.task, targets, len(self.class_names))
        first = raw.layers[0].logits
        (criterion,) = self._held
        groups = first.shape[1] // self.inner.config.num_queries
        with torch.autocast(first.device.type, enabled=False):
            layers = [in_full(layer) for layer in raw.layers]
            truth = truth_shares(targets, first, raw.size_hw)
            nothing = torch.stack([x.sum() * 0.0 for layer in layers for x in (layer.logits, layer.boxes)]).sum()
            sums = dict.fromkeys(_TERMS, nothing)
            # An empty share of a batch has terms too, of which none counts.
            for layer in layers if truth else ():
                outputs = {"logits": layer.logits.clamp(-_MOST_LOGIT, _MOST_LOGIT), "pred_boxes": layer.boxes}
                indices = criterion.matcher(outputs, truth, groups)
                found = criterion.get_loss("labels", outputs, truth, indices, 1.0)
                found |= criterion.get_loss("boxes", outputs, truth, indices, 1.0)
                sums = {ours: value + found[_TERMS[ours][0]] for ours, value in sums.items()}
            count = nothing.new_tensor(float(groups * sum(len(image["boxes"]) for image in truth)))
            *values, objects = total(torch.stack((*sums.values(), count))).unbind()
        weights = (weight for _, weight in _TERMS.values())
        named = zip(_TERMS, values, weights, strict=True)
        return {name: value * weight / objects.clamp(min=1) for name, value, weight in named}

    def decode(self, raw: QueryRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, Q, 4) in network pixels and scores (B, Q, C) in 0..1, both float32, each object once."""
        return boxes_and_scores(raw)


def _make(kind: Kind, class_count: int, size_hw: tuple[int, int]) -> tuple[Any, Any]:
    """A network of transformers without its weights, and its losses."""
    package, losses = import_transformers(f"hf:{kind}", "loss.loss_lw_detr")
    facts = _FACTS[kind]
    backbone = package.AutoConfig.for_model(
        "rf_detr_dinov2",
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        patch_size=_PATCH,
        image_size=facts.side,
        num_windows=_WINDOWS,
        out_indices=[3, 6, 9, 12],
        use_mask_token=False,  # only its own pretraining reads it
    )
    config = package.RfDetrConfig(
        backbone_config=backbone,
        decoder_layers=facts.decoder_layers,
        decoder_n_points=2,
        dropout=0.0,
        num_labels=class_count,
        num_queries=min(_QUERIES, size_hw[0] // _PATCH * (size_hw[1] // _PATCH)),
        group_detr=_GROUPS,
    )
    matcher = losses.LwDetrHungarianMatcher(config.class_cost, config.bbox_cost, config.giou_cost)
    criterion = losses.LwDetrImageLoss(matcher, class_count, config.focal_alpha, ["labels", "boxes"], _GROUPS)
    return package.RfDetrForObjectDetection(config).train(), criterion


def build_rfdetr(kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 384) -> Any:
    """A detector of transformers; MissingExtraError without it."""
    return RfDetr(kind, class_names, imgsz=imgsz)


RFDETR_MODELS = {f"hf:{kind}": partial(build_rfdetr, kind, imgsz=_FACTS[kind].side) for kind in get_args(Kind)}
"""Builders by name."""
