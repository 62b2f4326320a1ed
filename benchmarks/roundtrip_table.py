"""COCO → each format → COCO on real data: what is kept, how exactly, and which losses were stated on the way.

    python benchmarks/roundtrip_table.py DATA_ROOT

`DATA_ROOT` holds `coco128_lightly` (instances derived from its panoptic masks) and `coco_nuts`. Prints a table of
Markdown for each: images and objects kept, the largest difference of a box's side in pixels, the least and the mean
intersection over union of the masks, and the losses each step states.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.results import markdown_table
from sightline.data import read_dataset, write_dataset, written_formats
from sightline.testing.formats import check_written, mask_iou, match_images, match_objects

PLACES = {"coco128": "coco128_lightly/derived_coco_instances", "coco_nuts": "coco_nuts"}
COLUMNS = {
    "format": pl.String,
    "images": pl.String,
    "objects": pl.String,
    "box difference, px": pl.Float64,
    "mask IoU, least": pl.Float64,
    "mask IoU, mean": pl.Float64,
    "losses": pl.String,
}


def main() -> None:
    """Print the table of each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    root = parser.parse_args().data_root
    for name, place in PLACES.items():
        before = read_dataset(root / place)
        rows = [row_of(before, target) for target in written_formats()]
        print(f"\n## {name}: {len(before)} images, {before.objects.height} objects\n")
        print(markdown_table(pl.DataFrame(rows, schema=COLUMNS, orient="row")))


def row_of(before: Dataset, name: str) -> dict[str, Any]:
    """The row of one format."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            between, losses = written(before, name, Path(folder) / "there")
            after, more = written(between, "coco", Path(folder) / "back")
        except DataError as refusal:
            return {"format": name, "losses": f"refused: {refusal.what}"}
        return {"format": name, **kept(before, after), "losses": told(losses, more)}


def written(dataset: Dataset, name: str, folder: Path) -> tuple[Dataset, list[Finding]]:
    """The data set as it reads back from a format, and what was lost."""
    losses = write_dataset(dataset, folder, name)
    return check_written(dataset, losses, folder, name), losses


def kept(before: Dataset, after: Dataset) -> dict[str, Any]:
    """The numbers of a row."""
    images = match_images(before, after)
    pairs = match_objects(before, after, [(a["image_id"], b["image_id"]) for a, b in images])
    far = [max(abs(a[k] - b[k]) for k in ("x1", "y1", "x2", "y2")) for a, b in pairs]
    overlap = np.array([mask_iou(pair) for pair in pairs])
    overlap = overlap[~np.isnan(overlap)]
    return {
        "images": f"{len(images)} of {len(before)}",
        "objects": f"{len(pairs)} of {before.objects.height}",
        "box difference, px": max(far, default=None),
        "mask IoU, least": float(overlap.min()) if len(overlap) else None,
        "mask IoU, mean": float(overlap.mean()) if len(overlap) else None,
    }


def told(there: Iterable[Finding], back: Iterable[Finding]) -> str:
    """The losses of both ways in words."""
    parts = []
    for losses, way in ((there, ""), (back, " (back)")):
        counts: Counter[str] = Counter()
        for loss in losses:
            counts[loss.code.removeprefix("loss-")] += loss.count
        parts += [f"{code} {count}{way}" for code, count in counts.items()]
    return ", ".join(parts) or "none"


if __name__ == "__main__":
    main()
