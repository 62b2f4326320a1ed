"""Writing YOLO: `images/`, `labels/`, one list of images per split, and a data YAML."""

from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.image_copy import copy_files
from sightline.ops import rle

__all__ = ["write"]

Floats: TypeAlias = npt.NDArray[np.float64]
_LOST = ("occlusion", "truncation", "track_id")
_TOLD = {
    "loss-crowd": "{} crowd regions are left out",
    "loss-ignore": "{} ignored objects are left out",
    "loss-parts": "of {} masks of several parts only the largest part is written",
    "loss-outline": "{} run-length masks are written as outlines, which read back with small differences",
    "loss-attributes": "occlusion, truncation or track id of {} objects are left out",
}


def write(dataset: Dataset, folder: Path, *, copy_images: bool = True) -> list[Finding]:
    """Write a data set of boxes or instances as YOLO below `folder`; returns what YOLO cannot hold, counted.

    Coordinates carry eight decimals, so boxes read back to within 1e-8 of the image's size. Instances with a mask
    become polygon rows, others boxes. YOLO finds labels by the image's path, so with `copy_images=False` the images
    must lie in `folder/images/` already.
    """
    if dataset.task == "semantic":
        raise DataError("YOLO labels need objects, got a data set of semantic masks", do="Keep it as mask folders")
    strange = set(dataset.splits) - {"train", "val", "test"}
    if strange:
        raise DataError(f"YOLO knows the splits train, val and test, got {sorted(strange)}", do="Rename the splits")
    targets = {path: _target(path) for path in dataset.images["path"]}
    stems: dict[Path, str] = {}
    for path, target in targets.items():
        other = stems.setdefault(Path(target).with_suffix(""), path)
        if other != path:
            raise DataError(f"YOLO has one label file for a name, got '{other}' and '{path}'", do="Rename one of them")
    if copy_images:
        copy_files((dataset.image_path(path), folder / target) for path, target in targets.items())
    else:
        absent = [t for t in targets.values() if not (folder / t).is_file()]
        if absent:
            raise DataError(
                f"images must lie below {folder / 'images'} to be left where they are, got no {absent[0]}",
                do="Let them be copied",
            )
    lost: Counter[str] = Counter()
    keyed = dataset.objects.join(
        dataset.images.select("image_id", "width", "height"), on="image_id", maintain_order="left"
    )
    groups = {key[0]: part for key, part in keyed.group_by("image_id", maintain_order=True)}
    for image_id, path in dataset.images.select("image_id", "path").iter_rows():
        label = folder / "labels" / Path(targets[path]).relative_to("images").with_suffix(".txt")
        part = groups.get(image_id)
        write_text_atomic(label, "" if part is None else _rows(part, lost))
    _write_yaml(dataset, folder, targets)
    return [finding(code, _TOLD[code].format(count), count=count) for code, count in sorted(lost.items())]


def _target(path: str) -> str:
    return path if path.startswith("images/") else f"images/{path}"


def _write_yaml(dataset: Dataset, folder: Path, targets: dict[str, str]) -> None:
    values: dict[str, Any] = {}
    splits = dataset.splits
    for split in splits:
        names = [targets[p] for p in dataset.images.filter(pl.col("split") == split)["path"]]
        write_text_atomic(folder / f"{split}.txt", "".join(f"./{n}\n" for n in names))
        values[split] = f"{split}.txt"
    unlisted = [targets[p] for p in dataset.images.filter(pl.col("split").is_null())["path"]]
    if not splits:
        values["train"] = "images"
    elif unlisted:
        write_text_atomic(folder / "unlisted.txt", "".join(f"./{n}\n" for n in unlisted))
    values["names"] = dict(enumerate(dataset.class_names))
    write_text_atomic(folder / "data.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _rows(objects: pl.DataFrame, lost: Counter[str]) -> str:
    lines = []
    for row in objects.iter_rows(named=True):
        if row["crowd"] or row["ignore"]:
            lost["loss-crowd" if row["crowd"] else "loss-ignore"] += 1
            continue
        lost["loss-attributes"] += any(row[c] is not None for c in _LOST)
        ring = _ring(row, lost)
        if ring is None:
            x1, y1, x2, y2 = row["x1"], row["y1"], row["x2"], row["y2"]
            values = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
        else:
            values = ring.ravel()
        values = values / np.tile([row["width"], row["height"]], len(values) // 2)
        lines.append(f"{row['class_id']} " + " ".join(f"{v:.8f}" for v in values.tolist()))
    lost += Counter()  # drops the zeros
    return "".join(f"{line}\n" for line in lines)


def _ring(row: dict[str, Any], lost: Counter[str]) -> Floats | None:
    """The largest ring (N, 2) of an object's mask in pixels, or None where there is no mask."""
    if row["polygon"] is not None:
        rings = [np.reshape(np.asarray(r, dtype=np.float64), (-1, 2)) for r in row["polygon"]]
    elif row["rle"] is not None:
        mask = rle.decode(row["rle"], (row["height"], row["width"])).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        # Outlines run through pixel centres; a ring of fewer than three pixels has no area to give.
        rings = [o.reshape(-1, 2).astype(np.float64) + 0.5 for o in outlines if len(o) >= 3]
        lost["loss-outline"] += 1
    else:
        return None
    if not rings:
        return None
    lost["loss-parts"] += len(rings) > 1
    return max(rings, key=_area)


def _area(ring: Floats) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
