"""Mask2Former (`hf:mask2former-…`): transformers' network, our preprocessing, targets, losses and decoding.

Cheng et al. (2022), on Swin-T, Liu et al. (2021); Apache-2.0, code alone; built from a configuration, not downloaded.
Each query is one object or none, so nothing is suppressed. Its masks are what a query takes of 256 maps of the whole
image at a quarter of its size; its box is the one around them. The losses are over all cells of these maps, where the
authors draw 12,544 points of the image at random.
"""

from functools import partial
from typing import Any, NamedTuple

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

__all__ = ["MASK2FORMER_MODELS", "Mask2Former", "MaskQueryRaw"]

MULTIPLE = 32
_NOTHING_WEIGHT = 0.1  # of a query without an object, in the mean of the classes' term
_WEIGHTS = {"cls": 2.0, "mask": 5.0, "dice": 5.0}
_WHOLE = 255.0  # of a cell, in targets


class MaskQueryRaw(NamedTuple):
    """Raw output of all layers; the last decides."""

    logits: tuple[Tensor, ...]  # (B, Q, C + 1) the last class is no object
    coefficients: tuple[Tensor, ...]  # (B, Q, M)
    prototypes: Tensor  # (B, M, H / 4, W / 4)


class Objects(NamedTuple):
    """The n objects of an image whose mask is known."""

    labels: Tensor  # (n,)
    masks: Tensor  # (n, H / 4 · W / 4) the share of each cell that the object covers


class Mask2Former(nn.Module):
    """Mask2Former. Input (B, 3, H, W) RGB, normalised, H and W multiples of 32; it finds at most `queries` objects."""

    chooses_candidates = True  # a cell that rounding turns moves a box by a cell

    def __init__(self, name: str, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int], queries: int) -> None:
        super().__init__()
        if not 1 <= queries <= 1000:
            raise ConfigError(f"queries must be 1..1000, got {queries}")
        self.name = name
        self.task: Task = "instance"
        self.class_names = class_names
        size_hw = check_imgsz(imgsz, MULTIPLE)
        self.preprocess = Preprocess(size_hw=size_hw, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        self.arguments: dict[str, Any] = {"imgsz": imgsz, "queries": queries}
        self.operating_point = OperatingPoint(suppression="none")
        self.inner: Any = _make(name, len(class_names), queries)
        self.class_tensors: tuple[str, ...] = ("inner.class_predictor.",)

    def forward(self, images: Tensor) -> MaskQueryRaw:
        """What each layer says of the queries, and the maps that their masks are made of."""
        check_input(images, MULTIPLE)
        # A process's share of a batch may hold no image, of which attention's reshaping knows no shape: it gets a blank
        # one, which nothing is made of.
        empty = self.training and images.shape[0] == 0
        pixels = self.inner.model.pixel_level_module(images.new_zeros((1, *images.shape[1:])) if empty else images)
        decoder = self.inner.model.transformer_module
        maps = pixels.decoder_last_hidden_state
        found = decoder(multi_scale_features=pixels.decoder_hidden_states, mask_features=maps)
        layers = [x.transpose(0, 1) for x in found.intermediate_hidden_states]
        logits = tuple(self.inner.class_predictor(x) for x in layers)
        coefficients = tuple(decoder.decoder.mask_predictor.mask_embedder(x) for x in layers)
        if empty:
            logits, coefficients = (tuple(x[:0] for x in values) for values in (logits, coefficients))
            maps = maps[:0]
        return MaskQueryRaw(logits, coefficients, maps)

    def loss(self, raw: MaskQueryRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `cls` (a mean over queries, of which those without an object weigh a tenth), `mask` (cross-entropy) and
        `dice` (means over objects), added up over the layers; each layer matches queries to objects by itself.

        Objects whose mask is not known (no cells) are left out.
        """
        check_targets(self.task, targets, len(self.class_names))
        maps = raw.prototypes
        with torch.autocast(maps.device.type, enabled=False):
            cells = maps.float().flatten(2)
            targets = {name: value.to(maps.device) for name, value in targets.items()}
            truth = [_objects(targets, image, (maps.shape[2], maps.shape[3])) for image in range(maps.shape[0])]
            sums = []
            for logits, coefficients in zip(raw.logits, raw.coefficients, strict=True):
                own = torch.zeros(4, device=maps.device) + (logits.float().sum() + coefficients.float().sum()) * 0.0
                for image, objects in enumerate(truth):
                    own = own + _image_sums(logits[image].float(), coefficients[image].float() @ cells[image], objects)
                sums.append(own)
            # An empty share of a batch has terms too, of which none counts.
            count = cells.new_tensor(float(sum(len(objects.labels) for objects in truth))) + cells.sum() * 0.0
            summed = total(torch.cat((torch.stack(sums).flatten(), count.unsqueeze(0))))
        layers, objects_count = summed[:-1].reshape(-1, 4), summed[-1].clamp(min=1)
        terms = {
            "cls": (layers[:, 0] / layers[:, 1].clamp(min=_NOTHING_WEIGHT)).sum(),
            "mask": layers[:, 2].sum() / objects_count,
            "dice": layers[:, 3].sum() / objects_count,
        }
        return {name: value * _WEIGHTS[name] for name, value in terms.items()}

    def decode(self, raw: MaskQueryRaw) -> tuple[Tensor, ...]:
        """boxes_xyxy (B, Q, 4) around the masks, scores (B, Q, C), coefficients (B, Q, M) and prototypes, all float32.

        A score is the class's probability times the mean probability of the mask's cells, as the authors' is; it is 0
        where the mask has no cell.
        """
        coefficients, maps = raw.coefficients[-1].float(), raw.prototypes.float()
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
    return Objects(targets["labels"][rows], masks.flatten(1))


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
    found, truth = masks[rows], objects.masks[own]
    wrong = functional.binary_cross_entropy_with_logits(found, truth, reduction="none").mean(1).sum()
    likely = found.sigmoid()
    dice = 1 - (2 * (likely * truth).sum(1) + 1) / (likely.sum(1) + truth.sum(1) + 1)
    return torch.stack((classes, weights.sum(), wrong, dice.sum()))


@torch.no_grad()
def _matched(logits: Tensor, masks: Tensor, objects: Objects) -> tuple[Tensor, Tensor]:
    """Which queries learn which objects: those that together cost least."""
    truth = objects.masks
    # The cross-entropy of a logit x with y is softplus(x) - x · y.
    wrong = (functional.softplus(masks).mean(1, keepdim=True) - masks @ truth.T / masks.shape[1]) * _WEIGHTS["mask"]
    likely = masks.sigmoid()
    shared = 2 * likely @ truth.T + 1
    dice = (1 - shared / (likely.sum(1, keepdim=True) + truth.sum(1) + 1)) * _WEIGHTS["dice"]
    cost = wrong + dice - logits.softmax(-1)[:, objects.labels] * _WEIGHTS["cls"]
    rows, own = linear_sum_assignment(torch.nan_to_num(cost, nan=1e9, posinf=1e9, neginf=1e9).cpu().numpy())
    return torch.as_tensor(rows, device=masks.device), torch.as_tensor(own, device=masks.device)


def _make(name: str, class_count: int, queries: int) -> Any:
    """The authors' configuration on Swin-T, without its weights; no path is dropped in training."""
    package, _ = import_transformers(name, "models.mask2former")
    backbone = package.SwinConfig(
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = package.Mask2FormerConfig(backbone_config=backbone, num_queries=queries, num_labels=class_count)
    made = package.Mask2FormerForUniversalSegmentation(config).train()
    made.set_attn_implementation("eager")  # the fused one cannot be written as ONNX with a free batch
    made.model.pixel_level_module.encoder.swin.layernorm = (
        nn.Identity()
    )  # of the trunk's own last output: nobody reads it
    return made


def build_mask2former(
    name: str, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 384, queries: int = 100
) -> Any:
    """A network of transformers; MissingExtraError without it."""
    return Mask2Former(name, class_names, imgsz=imgsz, queries=queries)


MASK2FORMER_MODELS = {"hf:mask2former-tiny": partial(build_mask2former, "hf:mask2former-tiny")}
"""Builders by name."""
