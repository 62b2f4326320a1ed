"""Names that mislead code which pairs files by position or by name alone."""

from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from sightline.audit.options import AuditOptions
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import finding, list_images

__all__ = ["check_pairs"]


def check_pairs(dataset: Dataset, _scan: Scan, _options: AuditOptions) -> list[Finding]:
    """Folders of images and masks that sort differently, and stems that occur in several folders."""
    return _order(dataset) + _shared_stems(dataset)


def _order(dataset: Dataset) -> list[Finding]:
    """One finding for each pair of folders whose sorted lists, put side by side, join an image with another's mask."""
    parts: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    pairs = dataset.images.drop_nulls("mask_path").select("path", "mask_path")
    for image, mask in pairs.iter_rows():
        parts[_folder(image), _folder(mask)].append((image, mask))
    found = []
    for (images, masks), files in parts.items():
        first, second = [i for i, _ in files], [m for _, m in files]
        if images != masks:  # all of the folders' files: pairing by position would take them all
            first = _listed(dataset.root, images) or first
            second = _listed(dataset.root, masks) or second
        place = {path: i for i, path in enumerate(sorted(first))}, {path: i for i, path in enumerate(sorted(second))}
        wrong = [(i, m) for i, m in files if place[0].get(i) != place[1].get(m)]
        if wrong:
            image, mask = wrong[0]
            at = place[0].get(image, 0)
            other = sorted(second)[at] if at < len(second) else "no mask at all"
            message = (
                f"sorted by name, {len(wrong)} of {len(files)} images stand at another place than their masks: "
                f"{image} would be paired with {other} instead of {mask}"
            )
            found.append(finding("pair-order-differs", message, path=images, count=len(wrong)))
    return found


def _listed(root: Path, folder: str) -> list[str]:
    return [f"{folder}/{p.name}" if folder != "." else p.name for p in list_images(root / folder)]


def _folder(path: str) -> str:
    return PurePosixPath(path).parent.as_posix()


def _shared_stems(dataset: Dataset) -> list[Finding]:
    """One finding if images in different folders share a stem. Frames of sequences are always named alike."""
    images = dataset.images.filter(pl.col("frame").is_null()).with_columns(
        folder=pl.col("path").str.extract(r"^(.*)/[^/]*$").fill_null("."),
        stem=pl.col("path").str.extract(r"([^/]*?)(?:\.[^./]*)?$"),
    )
    shared = images.filter(pl.col("folder").n_unique().over("stem") > 1)
    if shared.is_empty():
        return []
    stems = shared.group_by("stem").agg(pl.col("split").drop_nulls().n_unique(), pl.col("path").sort().head(2))
    first = stems.sort("stem").row(0, named=True)
    across = int(np.count_nonzero(stems["split"].to_numpy() > 1))
    more = f"; {across} of them are in different splits" if across else ""
    one, other = first["path"]
    message = f"{stems.height} names occur in more than one folder, such as {one} and {other}{more}"
    return [finding("image-stem-in-two-folders", message, path=one, count=stems.height)]
