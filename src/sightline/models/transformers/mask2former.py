"""Mask queries (`hf:mask2former-…`, `hf:eomt-…`): transformers' networks, our preprocessing, targets, losses, decoding.

Mask2Former: Cheng et al. (2022), on Swin, Liu et al. (2021). EoMT: `eomt.py`. Apache-2.0, code alone; built from a
configuration, not downloaded.
Each query is one object or none, so nothing is suppressed. Its masks are what a query takes of 256 maps of the whole
image at a quarter of its size; its box is the one around them. The losses are over all cells of these maps, where the
authors draw 12,544 points of the image at random.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError
from sightline.core.operating_point import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.models.contract import (
    MASK_STRIDE,
    Targets,
    Total,
    check_imgsz,
    check_input,
    check_targets,
    own_share,
)
from sightline.models.transformers.detectors import import_transformers

__all__ = ["MASK2FORMER_MODELS", "MaskQueries", "MaskQueryRaw", "Objects", "RawOf"]
__all__ += ["check_queries", "make_mask2former", "mask2former_raw"]

Kind: TypeAlias = Literal["tiny", "small", "base", "large"]
_SWINS: dict[Kind, tuple[int, list[int], list[int], int]] = {
    "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], 7),
    "small": (96, [2, 2, 18, 2], [3, 6, 12, 24], 7),
    "base": (128, [2, 2, 18, 2], [4, 8, 16, 32], 12),
    "large": (192, [2, 2, 18, 2], [6, 12, 24, 48], 12),
}
"""Width, blocks of each stage, their heads, side of a window."""

MULTIPLE = 32
_NOTHING_WEIGHT = 0.1  # of a query without an object, in the mean of the classes' term
_WEIGHTS = {"cls": 2.0, "mask": 5.0, "dice": 5.0}
_WHOLE = 255.0  # of a cell, in targets


class MaskQueryRaw(NamedTuple):
    """Raw output of all layers; the last decides."""

    logits: tuple[Tensor, ...]  # (B, Q, C + 1) the last class is no object
    coefficients: tuple[Tensor, ...]  # (B, Q, M)
    prototypes: tuple[Tensor, ...]  # (B, M, H / 4, W / 4)


class Objects(NamedTuple):
    """The n objects of an image whose mask is known, or the regions of its n classes."""

    labels: Tensor  # (n,)
    masks: Tensor  # (n, H / 4 · W / 4) the share of each cell that the object covers
    counted: Tensor  # (H / 4 · W / 4) the share of each cell that counts


RawOf: TypeAlias = Callable[[Any, Tensor, bool], MaskQueryRaw]
"""What a network of transformers says of images; of all layers where the last is true."""


class MaskQueries(nn.Module):
    """Masks of objects. Input (B, 3, H, W) RGB, normalised, H and W multiples of 32; at most `queries` objects."""

    chooses_candidates = True  # a cell that rounding turns moves a box by a cell

    def __init__(
        self, name: str, class_names: tuple[str, ...], inner: Any, raw_of: RawOf, *, imgsz: int | tuple[int, int],
        queries: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.name = name
        self.task: Task = "instance"
        self.class_names = class_names
        size_hw = check_imgsz(imgsz, MULTIPLE)
        self.preprocess = Preprocess(size_hw=size_hw, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        self.arguments: dict[str, Any] = {"imgsz": imgsz, "queries": queries}
        self.operating_point: OperatingPoint | None = OperatingPoint(suppression="none")
        self.inner = inner
        self.raw_of = raw_of
        self.class_tensors: tuple[str, ...] = ("inner.class_predictor.",)

    def forward(self, images: Tensor) -> MaskQueryRaw:
        """What each layer says of the queries, and the maps that their masks are made of."""
        check_input(images, MULTIPLE)
        # A process's share of a batch may hold no image, of which attention's reshaping knows no shape: it gets a blank
        # one, which nothing is made of.
        empty = self.training and images.shape[0] == 0
        raw = self.raw_of(self.inner, images.new_zeros((1, *images.shape[1:])) if empty else images, self.training)
        return MaskQueryRaw(*(tuple(x[:0] for x in values) for values in raw)) if empty else raw

    def truth(self, targets: Targets, image: int, size_hw: tuple[int, int]) -> Objects:
        """What an image shows, on a grid of `size_hw` cells."""
        return _objects(targets, image, size_hw)

    def loss(self, raw: MaskQueryRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `cls` (a mean over queries, of which those without an object weigh a tenth), `mask` (cross-entropy) and
        `dice` (means over objects), added up over the layers; each layer matches queries to objects by itself.

        Objects whose mask is not known (no cells) are left out.
        """
        check_targets(self.task, targets, len(self.class_names))
        last = raw.prototypes[-1]
        with torch.autocast(last.device.type, enabled=False):
            targets = {name: value.to(last.device) for name, value in targets.items()}
            truth = [self.truth(targets, image, (last.shape[2], last.shape[3])) for image in range(last.shape[0])]
            count = last.new_tensor(float(sum(len(objects.labels) for objects in truth)), dtype=torch.float32)
            sums = [_layer_sums(*layer, truth) for layer in zip(*raw, strict=True)]
            summed = total(torch.cat((torch.stack(sums).flatten(), count.unsqueeze(0))))
        layers, objects_count = summed[:-1].reshape(-1, 4), summed[-1].clamp(min=1)
        terms = {
            "cls": (layers[:, 0] / layers[:, 1].clamp(min=_NOTHING_WEIGHT)).sum(),
            "mask": layers[:, 2].sum() / objects_count,
            "dice": layers[:, 3].sum() / objects_count,
        }
        return {name: value * _WEIGHTS[name] for name, value in terms.items()}

    def decode(self, raw: MaskQueryRaw) -> Any:
        """boxes_xyxy (B, Q, 4) around the masks, scores (B, Q, C), coefficients (B, Q, M) and prototypes, all float32.

        A score is the class's probability times the mean probability of the mask's cells, as the authors' is; it is 0
        where the mask has no cell.
        """
        coefficients, maps = raw.coefficients[-1].float(), raw.prototypes[-1].float()
        logits = torch.einsum("bqm,bmhw->bqhw", coefficients, maps)
        inside = logits > 0
        quality = (logits.sigmoid() * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
        scores = raw.logits[-1].float().softmax(-1)[..., :-1] * quality.unsqueeze(-1)
        (x1, x2), (y1, y2) = _extent(inside.any(2)), _extent(inside.any(3))
        boxes = torch.stack((x1, y1, x2, y2), -1) * float(MASK_STRIDE)
        return boxes, scores, coefficients, maps


def _extent(covered: Tensor) -> tuple[Tensor, Tensor]:
    """Of which of n cells are covered (B, Q, n) the first and behind the last, both 0 where none is."""
    count = covered.shape[-1]
    place = torch.arange(count, device=covered.device, dtype=torch.float32)
    first = torch.where(covered, place, float(count)).amin(-1)
    last = torch.where(covered, place + 1, 0.0).amax(-1)
    return torch.minimum(first, last), last


def _objects(targets: Targets, image: int, size_hw: tuple[int, int]) -> Objects:
    cells = targets["cells"]
    sizes = (cells[:, 2:] - cells[:, :2]).clamp(min=0).prod(1)
    first = sizes.cumsum(0) - sizes
    rows = ((targets["batch_index"] == image) & (sizes > 0)).nonzero().flatten()
    masks = torch.zeros((len(rows), *size_hw), device=cells.device)
    for number, row in enumerate(rows.tolist()):
        x1, y1, x2, y2 = cells[row].tolist()
        values = targets["masks"][int(first[row]) : int(first[row]) + int(sizes[row])]
        masks[number, y1:y2, x1:x2] = values.reshape(y2 - y1, x2 - x1).float() / _WHOLE
    return Objects(targets["labels"][rows], masks.flatten(1), masks.new_ones(size_hw).flatten())


def _layer_sums(logits: Tensor, coefficients: Tensor, maps: Tensor, truth: list[Objects]) -> Tensor:
    """What `_image_sums` gives, over the images, of one layer: (B, Q, C + 1), (B, Q, M), (B, M, H / 4, W / 4)."""
    cells = maps.float().flatten(2)
    # An empty share of a batch has terms too, of which none counts.
    own = torch.zeros(4, device=maps.device)
    own = own + (logits.float().sum() + coefficients.float().sum() + cells.sum()) * 0.0
    for image, objects in enumerate(truth):
        if bool(objects.counted.any()):
            own = own + _image_sums(logits[image].float(), coefficients[image].float() @ cells[image], objects)
    return own


def _image_sums(logits: Tensor, masks: Tensor, objects: Objects) -> Tensor:
    """(4,) weighted cross-entropy of the classes and its weights, cross-entropy of the masks, Dice loss.

    `logits` (Q, C + 1), `masks` (Q, P) logits of all cells.
    """
    nothing = logits.shape[1] - 1
    rows, own = _matched(logits, masks, objects)
    wanted = torch.full((len(logits),), nothing, device=logits.device)
    wanted[rows] = objects.labels[own]
    weights = torch.where(wanted == nothing, _NOTHING_WEIGHT, 1.0)
    classes = (functional.cross_entropy(logits, wanted, reduction="none") * weights).sum()
    found, truth, counted = masks[rows], objects.masks[own], objects.counted
    wrong = (
        functional.binary_cross_entropy_with_logits(found, truth, reduction="none") @ counted
    ).sum() / counted.sum()
    likely, truth = found.sigmoid() * counted, truth * counted
    dice = 1 - (2 * (likely * truth).sum(1) + 1) / (likely.sum(1) + truth.sum(1) + 1)
    return torch.stack((classes, weights.sum(), wrong, dice.sum()))


@torch.no_grad()
def _matched(logits: Tensor, masks: Tensor, objects: Objects) -> tuple[Tensor, Tensor]:
    """Which queries learn which objects: those that together cost least."""
    counted = objects.counted
    truth = objects.masks * counted
    # The cross-entropy of a logit x with y is softplus(x) - x · y.
    wrong = ((functional.softplus(masks) @ counted)[:, None] - masks @ truth.T) / counted.sum() * _WEIGHTS["mask"]
    likely = masks.sigmoid() * counted
    shared = 2 * likely @ truth.T + 1
    dice = (1 - shared / (likely.sum(1, keepdim=True) + truth.sum(1) + 1)) * _WEIGHTS["dice"]
    cost = wrong + dice - logits.softmax(-1)[:, objects.labels] * _WEIGHTS["cls"]
    rows, own = linear_sum_assignment(torch.nan_to_num(cost, nan=1e9, posinf=1e9, neginf=1e9).cpu().numpy())
    return torch.as_tensor(rows, device=masks.device), torch.as_tensor(own, device=masks.device)


def mask2former_raw(inner: Any, images: Tensor, all_layers: bool) -> MaskQueryRaw:
    """What Mask2Former says of images; the maps are the same for all layers."""
    pixels = inner.model.pixel_level_module(images)
    decoder = inner.model.transformer_module
    maps = pixels.decoder_last_hidden_state
    found = decoder(multi_scale_features=pixels.decoder_hidden_states, mask_features=maps)
    layers = [x.transpose(0, 1) for x in found.intermediate_hidden_states][0 if all_layers else -1 :]
    logits = tuple(inner.class_predictor(x) for x in layers)
    return MaskQueryRaw(
        logits, tuple(decoder.decoder.mask_predictor.mask_embedder(x) for x in layers), (maps,) * len(layers)
    )


def make_mask2former(name: str, kind: Kind, class_count: int, queries: int, channels: int = 3) -> Any:
    """The authors' configuration, without its weights; no path is dropped in training."""
    package, _ = import_transformers(name, "models.mask2former")
    width, depths, heads, window = _SWINS[kind]
    backbone = package.SwinConfig(
        num_channels=channels,
        embed_dim=width,
        depths=depths,
        num_heads=heads,
        window_size=window,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = package.Mask2FormerConfig(backbone_config=backbone, num_queries=queries, num_labels=class_count)
    made = package.Mask2FormerForUniversalSegmentation(config).train()
    made.set_attn_implementation("eager")  # the fused one cannot be written as ONNX with a free batch
    # Of the trunk's own last output, which nobody reads.
    made.model.pixel_level_module.encoder.swin.layernorm = nn.Identity()
    return made


def check_queries(queries: int) -> None:
    """ConfigError unless there can be so many."""
    if not 1 <= queries <= 1000:
        raise ConfigError(f"queries must be 1..1000, got {queries}")


def build_mask2former(
    kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 384, queries: int = 100
) -> Any:
    """Mask2Former for objects; MissingExtraError without transformers."""
    check_queries(queries)
    name = f"hf:mask2former-{kind}"
    inner = make_mask2former(name, kind, len(class_names), queries)
    return MaskQueries(name, class_names, inner, mask2former_raw, imgsz=imgsz, queries=queries)


MASK2FORMER_MODELS = {f"hf:mask2former-{kind}": partial(build_mask2former, kind) for kind in get_args(Kind)}
"""Builders by name."""
