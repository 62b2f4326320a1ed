"""A second opinion on near-duplicates: images that a network, not a hash, finds alike."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.audit.duplicates.cosine import near_duplicates_by_embedding
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data import finding

__all__ = ["check_likeness"]

_SHOWN = 3


def check_likeness(dataset: Dataset, vectors: NDArray[np.float32], threshold: float) -> list[Finding]:
    """`split-overlap-alike` and `image-alike`: components of images whose vectors have a cosine of `threshold` or more.

    `vectors` (N, D) are of the rows of `dataset.images`; rows of zeros are of images that cannot be read. One finding
    for each component. DataError when the vectors are not one per image.
    """
    if vectors.ndim != 2 or len(vectors) != len(dataset):
        raise DataError(f"embeddings must be one per image ({len(dataset)}), got an array of shape {vectors.shape}")
    labels = near_duplicates_by_embedding(vectors, threshold).labels
    images = dataset.images.select("image_id", "path", "split").with_columns(component=pl.Series(labels))
    found = []
    for _, part in images.filter(pl.len().over("component") > 1).group_by("component", maintain_order=True):
        counts = dict(part.group_by("split", maintain_order=True).len().drop_nulls("split").iter_rows())
        paths = part["path"].to_list()
        shown = ", ".join(paths[:_SHOWN]) + (", …" if len(paths) > _SHOWN else "")
        across = len(counts) > 1
        where = " and ".join(f"{n} in '{split}'" for split, n in counts.items())
        message = f"{len(paths)} images look alike to the network{f', {where}' if across else ''}: {shown}"
        code = "split-overlap-alike" if across else "image-alike"
        found.append(finding(code, message, path=paths[0], image_id=part["image_id"][0], count=len(paths)))
    return found
