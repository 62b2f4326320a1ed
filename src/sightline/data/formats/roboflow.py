"""Roboflow's COCO export: a folder per split with its images and `_annotations.coco.json` beside them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.process import Progress
from sightline.data.formats.coco import read as coco
from sightline.data.formats.coco.document import entry_lines
from sightline.data.formats.coco.write import images_by_split, split_losses, write_labels
from sightline.data.formats.shared.writing import common_losses, copied_name, copy_files
from sightline.data.layout import split_of

__all__ = ["LOOKED_FOR", "detect", "entry_lines", "read", "write"]

LOOKED_FOR = f"`train|valid|test/{coco.ROBOFLOW_FILE}` with the images beside the file"
_FOLDERS = {"val": "valid"}  # other splits are folders of their own name
_NO_SPLIT = "unassigned"


def detect(path: Path) -> float | None:
    """How surely the path is such an export, 0..1, or None."""
    return 0.96 if coco.roboflow_files(path) else None


def read(path: Path) -> Dataset:
    """The data set of such an export. DataError when there is none."""
    if not coco.roboflow_files(path):
        raise DataError(f"must be a Roboflow export ({LOOKED_FOR}), got none", where=str(path))
    return replace(coco.read(path), format="roboflow")


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set of boxes or instances below `folder`, one folder per split; returns the losses, counted.

    Images without a split go to `unassigned`, which is read back as none. Labels are written as COCO's are.
    """
    if dataset.task == "semantic":
        raise DataError("Roboflow's COCO needs objects, got a data set of semantic masks", do="Keep it as mask folders")
    names: dict[str, str] = {}
    parts = list(images_by_split(dataset.images))
    for split, images in parts:
        names |= _names(images["path"].to_list(), split)
    splits = dict(dataset.images.select("path", "split").iter_rows())
    if copy_images:
        copy_files(((dataset.image_path(p), folder / _folder(splits[p]) / name) for p, name in names.items()), progress)
    for split, images in parts:
        write_labels(dataset, images, names, folder / _folder(split) / coco.ROBOFLOW_FILE)
    losses = common_losses(dataset, keeps=["keypoints"])
    return losses + split_losses(dataset, lambda split: split_of(_folder(split)))


def _folder(split: str | None) -> str:
    return _NO_SPLIT if split is None else _FOLDERS.get(split, split)


def _names(paths: list[str], split: str | None) -> dict[str, str]:
    """The place of each image in its split's folder: its path without the folders that say the split again."""
    short = {path: _without_split(copied_name(path), split) for path in paths}
    taken = Counter(short.values())
    return {path: name if taken[name] == 1 else copied_name(path) for path, name in short.items()}


def _without_split(path: str, split: str | None) -> str:
    parts = list(PurePosixPath(path).parts)
    while len(parts) > 1 and (parts[0] in {"images", _folder(split)} or (split and split_of(parts[0]) == split)):
        parts.pop(0)
    return "/".join(parts)
