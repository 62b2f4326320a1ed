"""Images as vectors: the deepest features of a trained network, for asking which pictures show the same thing."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sightline.core.errors import DataError, ModelError
from sightline.core.preprocess import Preprocess
from sightline.core.process import Progress
from sightline.media import as_rgb8, read_image
from sightline.models import load_model

__all__ = ["embed_images"]


def embed_images(
    weights: str | Path,
    images: Sequence[Path],
    *,
    batch: int = 16,
    workers: int = 2,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """(N, D) unit vectors, one per image: its deepest feature map, averaged over the picture.

    The deepest map is the last activation of the smallest size before the network upsamples, or ends. The average over
    all images is taken out first, so that what every picture shares does not count as likeness. An image that cannot be
    read has a row of zeros. ModelError for weights that are not ours.
    """
    model: Any = load_model(weights)
    model.eval()
    layer, call = _deepest_layer(model, str(weights))
    taken: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    vectors: list[npt.NDArray[np.float32]] = []
    seen: list[bool] = []
    blank = np.zeros((3, *model.preprocess.size_hw), np.float32)
    with ThreadPoolExecutor(workers) as pool, torch.inference_mode():
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            read = list(pool.map(lambda path: _prepared(model.preprocess, path), part))
            model(torch.from_numpy(np.stack([blank if r is None else r for r in read])))
            vectors.append(taken[call].float().mean(dim=(2, 3)).numpy())
            seen += [r is not None for r in read]
            taken.clear()
            if progress is not None:
                progress(start + len(part), len(images), "embedding images")
    handle.remove()
    if not any(seen):
        return np.zeros((len(images), 1), np.float32)
    return _normalised(np.concatenate(vectors), np.array(seen))


def _prepared(preprocess: Preprocess, path: Path) -> npt.NDArray[np.float32] | None:
    try:
        return np.asarray(preprocess.apply(as_rgb8(read_image(path)))[0], np.float32)
    except DataError:
        return None  # the audit's own pass says what is wrong with it


def _normalised(vectors: npt.NDArray[np.float32], seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    centred = np.where(seen[:, None], vectors - vectors[seen].mean(axis=0), 0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _deepest_layer(model: Any, where: str) -> tuple[nn.Module, int]:
    """The layer whose output is the last of the first run of smallest maps, and which of its calls that is."""
    order: list[tuple[nn.Module, int]] = []

    def record(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            order.append((module, output.shape[2] * output.shape[3]))

    handles = [leaf.register_forward_hook(record) for leaf in _leaves(model)]
    height, width = model.preprocess.size_hw
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 3, height, width))
    finally:
        for handle in handles:
            handle.remove()
    if not order:
        raise ModelError("a network must have feature maps to embed images with, got none", where=where)
    smallest = min(area for _, area in order)
    first = next(i for i, (_, area) in enumerate(order) if area == smallest)
    last = first
    while last + 1 < len(order) and order[last + 1][1] == smallest:
        last += 1
    layer = order[last][0]
    return layer, sum(module is layer for module, _ in order[:last])


def _leaves(model: nn.Module) -> Iterator[nn.Module]:
    return (m for m in model.modules() if not any(True for _ in m.children()))
