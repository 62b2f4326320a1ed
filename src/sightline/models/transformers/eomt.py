"""EoMT (`hf:eomt-…`): transformers' network, a plain ViT whose last blocks see the queries as further tokens.

Kerssies et al. (2025); Apache-2.0, code alone; built from a configuration, not downloaded. The authors begin training
with attention that is masked by what a query has found, and lessen that to none: here it is none from the start. The
places of patches are learnt for the network's own size; at another one they are interpolated.
"""

from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.contract import check_imgsz
from sightline.models.transformers.detectors import import_transformers
from sightline.models.transformers.mask2former import MaskQueries, MaskQueryRaw, check_queries

__all__ = ["EOMT_MODELS", "Kind", "eomt_raw", "make_eomt"]

Kind: TypeAlias = Literal["small", "base", "large"]
_VITS: dict[Kind, tuple[int, int, int, int]] = {"small": (384, 12, 6, 3), "base": (768, 12, 12, 3)}
_VITS["large"] = (1024, 24, 16, 4)
"""Width, blocks, heads, and the last blocks that see the queries."""
_PATCH = 16
_MULTIPLE = 32


def make_eomt(
    name: str, kind: Kind, class_count: int, queries: int, imgsz: int | tuple[int, int], channels: int = 3
) -> Any:
    """The authors' configuration, without its weights."""
    package, _ = import_transformers(name, "models.eomt")
    height, width = check_imgsz(imgsz, _MULTIPLE)
    hidden, blocks, heads, late = _VITS[kind]
    config = package.EomtConfig(
        hidden_size=hidden,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_blocks=late,
        num_queries=queries,
        num_labels=class_count,
        num_channels=channels,
        image_size=_PATCH,  # the places are ours, of any shape
        patch_size=_PATCH,
    )
    made = package.EomtForUniversalSegmentation(config).train()
    made.embeddings.position_embeddings = nn.Embedding(height // _PATCH * (width // _PATCH), hidden)
    nn.init.normal_(made.embeddings.position_embeddings.weight, std=config.initializer_range)
    made.grid_size = (height // _PATCH, width // _PATCH)
    made.criterion = None  # the losses are ours
    del made.attn_mask_probs
    return made


def eomt_raw(inner: Any, images: Tensor, all_layers: bool) -> MaskQueryRaw:
    """What EoMT says of images before each block that sees the queries, and at its end."""
    embeddings, grid = inner.embeddings, (images.shape[2] // _PATCH, images.shape[3] // _PATCH)
    batch = images.shape[0]
    places = embeddings.position_embeddings.weight
    if grid != inner.grid_size:
        maps = places.T.reshape(1, -1, *inner.grid_size)
        places = functional.interpolate(maps, size=grid, mode="bicubic", align_corners=False)[0].flatten(1).T
    patches = embeddings.patch_embeddings(images) + places
    begin = [x.expand(batch, -1, -1) for x in (embeddings.cls_token, embeddings.register_tokens)]
    tokens = torch.cat((*begin, patches), 1)
    raws, first = [], len(inner.layers) - inner.config.num_blocks
    for number, layer in enumerate(inner.layers):
        if number == first:
            tokens = torch.cat((inner.query.weight.expand(batch, -1, -1), tokens), 1)
        if number >= first and all_layers:
            raws.append(_said(inner, tokens, grid))
        tokens = layer(tokens, None)
    raws.append(_said(inner, tokens, grid))
    return MaskQueryRaw(*zip(*raws, strict=True))


def _said(inner: Any, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, coefficients and maps of what the tokens are by now."""
    tokens = inner.layernorm(tokens)
    queries = tokens[:, : inner.config.num_queries]
    patches = tokens[:, inner.config.num_queries + inner.embeddings.num_prefix_tokens :]
    maps = inner.upscale_block(patches.transpose(1, 2).reshape(tokens.shape[0], -1, *grid))
    return inner.class_predictor(queries), inner.mask_head(queries), maps


def build_eomt(
    kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 640, queries: int = 200
) -> Any:
    """EoMT for objects; MissingExtraError without transformers."""
    check_queries(queries)
    name = f"hf:eomt-{kind}"
    inner = make_eomt(name, kind, len(class_names), queries, imgsz)
    return MaskQueries(name, class_names, inner, eomt_raw, imgsz=imgsz, queries=queries)


EOMT_MODELS = {f"hf:eomt-{kind}": partial(build_eomt, kind) for kind in get_args(Kind)}
"""Builders by name."""
