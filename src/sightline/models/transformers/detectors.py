"""Detectors of Hugging Face's transformers (`hf:…`): its networks and losses, our preprocessing, targets and decoding.

D-FINE: Peng et al. (2024). RT-DETRv2: Lv et al. (2024). Both Apache-2.0; built from a configuration, not downloaded.
Each query is one object, so nothing is suppressed. Queries of noised truth are left out: `forward` knows no targets.
"""

import importlib.util
import os
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.dataset import Task
from sightline.core.errors import MissingExtraError
from sightline.core.operating_point import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share

__all__ = [
    "TRANSFORMERS_MODELS",
    "Layer",
    "QueryDetector",
    "QueryRaw",
    "boxes_and_scores",
    "import_transformers",
    "in_full",
    "truth_shares",
    "without_image",
]

Kind: TypeAlias = Literal["dfine-n", "rtdetrv2-r18"]
MULTIPLE = 32
_ANCHOR_SIDE = 0.05  # of the finest level, as a share of the image
_ANCHOR_MARGIN = 0.01  # anchors nearer to the image's edge are no proposals
_SOFTENING = 5.0  # temperature of the distillation between layers
_TERMS = {"cls": "loss_vfl", "box": "loss_bbox", "overlap": "loss_giou", "edge": "loss_fgl"}
"""Ours and transformers' names of the terms that are sums over objects."""


class Layer(NamedTuple):
    """What one layer says of Q queries."""

    logits: Tensor  # (B, Q, C)
    boxes: Tensor  # (B, Q, 4) centre and size as shares of the image
    corners: Tensor | None = None  # (B, Q, 4 · bins) D-FINE's distributions of the four sides
    references: Tensor | None = None  # (B, Q, 4) the boxes that these refine


class QueryRaw(NamedTuple):
    """Raw output: of all layers while training, else of the proposals and the last."""

    layers: tuple[Layer, ...]  # the last decides
    size_hw: tuple[int, int]  # of the images, network pixels


class QueryDetector(nn.Module):
    """A detector with queries. Input (B, 3, H, W) RGB in 0..1, H and W multiples of 32.

    It proposes at most 300 queries, fewer where the image has fewer cells.
    """

    chooses_candidates = True

    def __init__(self, kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int]) -> None:
        super().__init__()
        self.name = f"hf:{kind}"
        self.task: Task = "detect"
        self.class_names = class_names
        self.preprocess = Preprocess(size_hw=check_imgsz(imgsz, MULTIPLE))
        self.arguments: dict[str, Any] = {"imgsz": imgsz}
        self.operating_point = OperatingPoint(suppression="none")
        self.kind: Kind = kind
        self.inner: Any
        self.inner, criterion = _make(kind, len(class_names))
        self._held = (criterion,)  # its tensors are constants, no weights
        self.class_tensors: tuple[str, ...] = ("inner.enc_score_head.", "inner.decoder.class_embed.")

    def forward(self, images: Tensor) -> QueryRaw:
        """Raw outputs of all queries: theirs, by another path that does not freeze the size of the batch."""
        check_input(images, MULTIPLE)
        inner = self.inner
        # A process's share of a batch may hold no image, of which attention's reshaping knows no shape: it gets a blank
        # one, which nothing is made of. The norms must see none.
        empty = self.training and images.shape[0] == 0
        maps = inner.backbone.model(images).feature_maps
        maps = [project(x) for project, x in zip(inner.encoder_input_proj, maps, strict=True)]
        for level, attend in zip(inner.config.encode_proj_layers, inner.encoder.aifi, strict=True):
            maps[level] = attend(_with_blank(maps[level]))[:0] if empty else attend(maps[level])
        maps = inner.encoder(maps)
        maps = [project(x) for project, x in zip(inner.decoder_input_proj, maps.last_hidden_state, strict=True)]
        sizes = [(int(x.shape[2]), int(x.shape[3])) for x in maps]
        memory = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1)
        memory = _with_blank(memory) if empty else memory
        anchors, inside = _anchors(sizes, memory)
        proposed = inner.enc_output(inside * memory)
        scores, sides = inner.enc_score_head(proposed), inner.enc_bbox_head(proposed) + anchors
        count = min(int(inner.config.num_queries), sum(height * width for height, width in sizes))
        best = scores.max(-1).values.topk(count, 1).indices[..., None]
        logits, unbounded, queries = (
            x.gather(1, best.expand(-1, -1, x.shape[2])) for x in (scores, sides, proposed.detach())
        )
        shapes = torch.tensor(sizes, device=images.device)
        found = inner.decoder(
            inputs_embeds=queries,
            encoder_hidden_states=memory,
            reference_points=unbounded.detach(),
            spatial_shapes=shapes,
            spatial_shapes_list=sizes,
            level_start_index=torch.cat((shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1])),
        )
        layers = (Layer(logits, unbounded.sigmoid()), *_layers(found))
        if empty:
            layers = tuple(without_image(layer) for layer in layers)
        return QueryRaw(layers, (int(images.shape[2]), int(images.shape[3])))

    def loss(self, raw: QueryRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `cls`, `box`, `overlap` and, of D-FINE, `edge` and `distil`, added up over the layers.

        The first four are means over the objects of the batch; each layer matches them to queries by itself.
        """
        check_targets(self.task, targets, len(self.class_names))
        first = raw.layers[0].logits
        criterion = self._held[0].to(first.device)
        weights = criterion.weight_dict
        with torch.autocast(first.device.type, enabled=False):
            layers = [in_full(layer) for layer in raw.layers]
            truth = truth_shares(targets, first, raw.size_hw)
            names = [name for name, theirs in _TERMS.items() if theirs in weights]
            # An empty share of a batch has terms too, of which none counts.
            nothing = torch.stack([x.sum() * 0.0 for layer in layers for x in layer if x is not None]).sum()
            sums = dict.fromkeys(names, nothing)
            parts: list[Tensor] = []
            for layer in layers if truth else ():
                indices = criterion.matcher(_named(layer), truth)
                for name, value in _sums(criterion, layer, truth, indices).items():
                    sums[name] = sums[name] + value
                if layer.corners is not None and layer is not layers[-1]:
                    parts.append(_distillation(layer, layers[-1], truth, indices))
            taught = sum(layer.corners is not None for layer in layers[:-1])
            distilled = torch.stack(parts) if parts else nothing.expand(taught, 4)
            counts = nothing.new_tensor([float(sum(len(image["boxes"]) for image in truth))])
            whole = total(torch.cat((torch.stack(list(sums.values())), counts, distilled.flatten())))
            objects = whole[len(names)].clamp(min=1)
            terms = {name: whole[i] * weights[_TERMS[name]] / objects for i, name in enumerate(names)}
            if taught:
                terms["distil"] = _balanced(whole[len(names) + 1 :].reshape(taught, 4)) * weights["loss_ddf"]
        return terms

    def decode(self, raw: QueryRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, Q, 4) in network pixels and scores (B, Q, C) in 0..1, both float32, each object once."""
        return boxes_and_scores(raw)


def boxes_and_scores(raw: QueryRaw) -> tuple[Tensor, Tensor]:
    """Of the last layer boxes_xyxy (B, Q, 4) in network pixels and scores (B, Q, C) in 0..1, both float32."""
    last = raw.layers[-1]
    height, width = raw.size_hw
    boxes = last.boxes.float()
    centre, size = boxes[..., :2], boxes[..., 2:]
    half = size.clamp(min=0) / 2
    scale = torch.tensor([width, height, width, height], dtype=torch.float32, device=centre.device)
    return torch.cat((centre - half, centre + half), -1) * scale, last.logits.float().sigmoid()


def without_image(layer: Layer) -> Layer:
    """What a layer says of a batch that holds no image."""
    parts: list[Any] = [None if x is None else x[:0] for x in layer]
    return Layer(*parts)


def in_full(layer: Layer) -> Layer:
    """The same in float32."""
    parts: list[Any] = [None if x is None else x.float() for x in layer]
    return Layer(*parts)


def _with_blank(x: Tensor) -> Tensor:
    return torch.cat((x, x.new_zeros((1, *x.shape[1:]))))


def _layers(found: Any) -> list[Layer]:
    """Those of a decoder's output, D-FINE's boxes before any distribution first."""
    logits, boxes = found.intermediate_logits.unbind(1), found.intermediate_reference_points.unbind(1)
    corners = getattr(found, "intermediate_predicted_corners", None)
    if corners is None:
        return [Layer(*pair) for pair in zip(logits, boxes, strict=True)]
    plain = len(logits) - corners.shape[1]
    references = found.initial_reference_points.unbind(1)
    refined = zip(logits[plain:], boxes[plain:], corners.unbind(1), references, strict=True)
    return [Layer(*pair) for pair in zip(logits[:plain], boxes[:plain], strict=True)] + [Layer(*x) for x in refined]


def _named(layer: Layer) -> dict[str, Tensor]:
    """By transformers' names. A share beyond the image is no size of a box that its losses take."""
    named = {"logits": layer.logits, "pred_boxes": layer.boxes.clamp(0, 1)}
    if layer.corners is not None and layer.references is not None:
        named |= {"pred_corners": layer.corners, "ref_points": layer.references}
    return named


def _anchors(sizes: list[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
    """Of all cells the logits of a box around each (1, A, 4), and 1 where it is a proposal, else 0 (1, A, 1)."""
    rows = []
    for level, (height, width) in enumerate(sizes):
        y, x = torch.meshgrid(
            (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) / height,
            (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) / width,
            indexing="ij",
        )
        side = torch.full_like(x, _ANCHOR_SIDE * 2.0**level)
        rows.append(torch.stack((x, y, side, side), -1).reshape(1, height * width, 4))
    boxes = torch.cat(rows, 1)
    inside = ((boxes > _ANCHOR_MARGIN) & (boxes < 1 - _ANCHOR_MARGIN)).all(-1, keepdim=True)
    far = torch.full((), torch.finfo(like.dtype).max, dtype=like.dtype, device=like.device)
    return torch.where(inside, torch.logit(boxes).to(like.dtype), far), inside.to(like.dtype)


def truth_shares(targets: Targets, like: Tensor, size_hw: tuple[int, int]) -> list[dict[str, Tensor]]:
    """Of each image the classes and the boxes as shares of it, those without a side left out."""
    height, width = size_hw
    targets = {name: value.to(like.device) for name, value in targets.items()}
    boxes = targets["boxes"].float() / like.new_tensor([width, height, width, height], dtype=torch.float32)
    corner, end = boxes[:, :2], boxes[:, 2:]
    shares = torch.cat(((corner + end) / 2, end - corner), 1)
    solid = (end > corner).all(1)
    own = [(targets["batch_index"] == image) & solid for image in range(like.shape[0])]
    return [{"class_labels": targets["labels"][rows], "boxes": shares[rows]} for rows in own]


def _sums(criterion: Any, layer: Layer, truth: list[dict[str, Tensor]], indices: Any) -> dict[str, Tensor]:
    """transformers' terms of one layer, before they are divided by the number of objects."""
    outputs = _named(layer)
    found = dict(criterion.get_loss("vfl", outputs, truth, indices, 1.0))
    found |= criterion.get_loss("boxes", outputs, truth, indices, 1.0)
    if layer.corners is not None:
        # Taught by itself it has no distillation, which is added up by our own.
        outputs |= {"teacher_corners": layer.corners, "teacher_logits": layer.logits}
        found |= criterion.get_loss("local", outputs, truth, indices, 1.0)
    return {name: found[theirs] for name, theirs in _TERMS.items() if theirs in found}


def _distillation(layer: Layer, last: Layer, truth: list[dict[str, Tensor]], indices: Any) -> Tensor:
    """What a layer lacks to the last one's distributions: (4,) sum and number of matched sides, then of the others.

    A matched query weighs its IoU, any other its best score in the last layer, as in D-FINE.
    """
    assert layer.corners is not None
    assert last.corners is not None
    batch, count = layer.logits.shape[:2]
    ours = functional.log_softmax(layer.corners.reshape(batch, count, 4, -1) / _SOFTENING, -1)
    theirs = functional.softmax(last.corners.detach().reshape(ours.shape) / _SOFTENING, -1)
    lack = functional.kl_div(ours, theirs, reduction="none").sum((-1, -2)) * _SOFTENING**2
    weight = last.logits.detach().sigmoid().max(-1).values
    matched = torch.zeros_like(weight, dtype=torch.bool)
    for image, pairs in enumerate(indices):
        rows, objects = (x.to(weight.device) for x in pairs)
        matched[image, rows] = True
        weight[image, rows] = _paired_iou(layer.boxes[image, rows].detach().clamp(0, 1), truth[image]["boxes"][objects])
    lack = lack * weight
    sides = 4.0 * torch.stack((matched.sum(), (~matched).sum()))
    return torch.stack((lack[matched].sum(), sides[0], lack[~matched].sum(), sides[1]))


def _paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes (N, 4), centre and size, row by row."""
    (a, b), (c, d) = ((x[:, :2] - x[:, 2:] / 2, x[:, :2] + x[:, 2:] / 2) for x in (first, second))
    shared = (torch.minimum(b, d) - torch.maximum(a, c)).clamp(min=0).prod(1)
    return shared / ((b - a).prod(1) + (d - c).prod(1) - shared).clamp(min=1e-12)


def _balanced(parts: Tensor) -> Tensor:
    """Means over matched and other sides of layers (L, 4), weighed by the roots of their numbers; their sum."""
    sums, counts = parts[:, ::2], parts[:, 1::2]
    roots = counts.sqrt()
    return ((sums / counts.clamp(min=1) * roots).sum(1) / roots.sum(1).clamp(min=1)).sum()


def import_transformers(name: str, module: str) -> tuple[Any, Any]:
    """The package and one of its modules for a model; MissingExtraError where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        message = f"the model '{name}' needs transformers, which is not installed"
        raise MissingExtraError(message, do="run pip install 'sightline[adapters]'")
    # Its checks of values cannot be exported.
    os.environ.setdefault("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")
    # By name: where it is installed its own types refuse what its configurations take.
    return importlib.import_module("transformers"), importlib.import_module(f"transformers.{module}")


def _make(kind: Kind, class_count: int) -> tuple[Any, Any]:
    """A network of transformers without its weights, and its losses; the package is an extra, and slow to import."""
    package, losses = import_transformers(f"hf:{kind}", "loss.loss_d_fine")
    shared = {"num_labels": class_count, "num_denoising": 0, "freeze_backbone_batch_norms": False}
    config: Any
    if kind == "dfine-n":
        config = package.DFineConfig(**_dfine_n(package.HGNetV2Config), **shared)
        whole, criterion = package.DFineForObjectDetection(config), losses.DFineLoss(config)
    else:
        config = package.RTDetrV2Config(**_rtdetrv2_r18(package.RTDetrResNetConfig), **shared)
        whole, criterion = package.RTDetrV2ForObjectDetection(config), losses.RTDetrLoss(config)
    inner: Any = whole.model  # the heads around it are those of its decoder once more
    inner.encoder.encode_proj_layers = []  # attention is called by us
    return inner.train(), criterion


def _dfine_n(backbone: Any) -> dict[str, Any]:
    """The authors' configuration of D-FINE-N, on HGNetV2-B0."""
    return {
        "backbone_config": backbone(
            hidden_sizes=[64, 256, 512, 1024],
            stem_channels=[3, 16, 16],
            stage_in_channels=[16, 64, 256, 512],
            stage_mid_channels=[16, 32, 64, 128],
            stage_out_channels=[64, 256, 512, 1024],
            stage_num_blocks=[1, 1, 2, 1],
            stage_downsample=[False, True, True, True],
            stage_light_block=[False, False, True, True],
            stage_kernel_size=[3, 3, 5, 5],
            stage_numb_of_layers=[3, 3, 3, 3],
            use_learnable_affine_block=True,
            out_indices=[3, 4],
        ),
        "encoder_hidden_dim": 128,
        "encoder_in_channels": [512, 1024],
        "feat_strides": [16, 32],
        "encode_proj_layers": [1],
        "encoder_ffn_dim": 512,
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
        "d_model": 128,
        "decoder_in_channels": [128, 128],
        "num_feature_levels": 2,
        "decoder_layers": 3,
        "decoder_n_points": [6, 6],
        "decoder_ffn_dim": 512,
    }


def _rtdetrv2_r18(backbone: Any) -> dict[str, Any]:
    """The authors' configuration of RT-DETRv2-S, on ResNet-18."""
    return {
        "backbone_config": backbone(
            depths=[2, 2, 2, 2],
            hidden_sizes=[64, 128, 256, 512],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        "encoder_in_channels": [128, 256, 512],
        "hidden_expansion": 0.5,
        "decoder_layers": 3,
    }


def build_transformers(kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 640) -> Any:
    """A detector of transformers; MissingExtraError without it."""
    return QueryDetector(kind, class_names, imgsz=imgsz)


TRANSFORMERS_MODELS = {f"hf:{kind}": partial(build_transformers, kind) for kind in get_args(Kind)}
"""Builders by name."""
