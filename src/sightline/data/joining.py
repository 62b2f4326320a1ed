"""One data set out of folders that are each the part of a split: `train/`, `valid/`, `test/` of any one format."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from sightline.core.dataset import CLASSES_SCHEMA, IMAGES_SCHEMA, OBJECTS_SCHEMA, Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.layout import relative, split_of

__all__ = ["join_splits", "splits_of_folders"]


def splits_of_folders(folders: list[tuple[Path, str]]) -> dict[str, Path]:
    """The folder of each split, where all are of one format and each is called like another split; else nothing."""
    named = {split: folder for folder, _ in folders if (split := split_of(folder.name)) is not None}
    is_whole = len(named) == len(folders) > 1 and len({name for _, name in folders}) == 1
    return named if is_whole else {}


def join_splits(parts: Mapping[str, Dataset], root: Path) -> Dataset:
    """The parts of each split as one data set below `root`; classes of one name are one class.

    DataError where the parts of masks say that one value is two classes, or are of different tasks.
    """
    first = next(iter(parts.values()))
    task = "instance" if {p.task for p in parts.values()} == {"detect", "instance"} else first.task
    if task != "instance" and any(p.task != task for p in parts.values()):
        raise DataError("the folders of the splits must be of one task", where=str(root), do="Name one of them")
    classes = _classes(parts, root)
    ids = dict(zip(classes["name"], classes["class_id"], strict=True))
    images, objects, findings = [], [], []
    start = 0
    for split, part in parts.items():
        prefix = relative(part.root, root)
        prefix = "" if prefix == "." else f"{prefix}/"
        new_ids = dict(zip(part.images["image_id"], range(start, start + len(part)), strict=True))
        start += len(part)
        images.append(_moved_images(part.images, new_ids, prefix, split))
        labels = pl.format("{}{}", pl.lit(prefix), pl.col("label_path").cast(pl.String))
        class_ids = {old: ids[name] for old, name in enumerate(part.class_names)}
        objects.append(
            part.objects.with_columns(
                pl.col("image_id").replace_strict(new_ids, return_dtype=pl.Int64),
                pl.col("class_id").replace_strict(class_ids, return_dtype=pl.Int32),
                label_path=labels.cast(pl.Categorical()),
            )
        )
        findings += [_moved(f, prefix, new_ids) for f in part.findings]
    table = pl.concat(objects).with_columns(object_id=pl.int_range(pl.len(), dtype=pl.Int64))
    return replace(
        first,
        images=pl.concat(images).cast(IMAGES_SCHEMA),  # type: ignore[arg-type]
        objects=table.select(list(OBJECTS_SCHEMA)),
        classes=classes,
        root=root,
        name=root.name,
        task=task,
        findings=tuple(findings),
        ignore_values=tuple(sorted({v for p in parts.values() for v in p.ignore_values})),
        left_out=tuple(f"{relative(p.root, root)}/{path}" for p in parts.values() for path in p.left_out),
        source_image_ids=False,
    )


def _classes(parts: Mapping[str, Dataset], root: Path) -> pl.DataFrame:
    """The classes of all parts, those of the first one first."""
    rows: dict[str, dict[str, object]] = {}
    value_of: dict[object, str] = {}
    for part in parts.values():
        for row in part.classes.iter_rows(named=True):
            rows.setdefault(row["name"], row)
            if part.task == "semantic" and value_of.setdefault(row["source_id"], row["name"]) != row["name"]:
                message = f"a mask value must be one class in every split, got {value_of[row['source_id']]!r} and "
                raise DataError(f"{message}{row['name']!r} for {row['source_id']}", where=str(root))
    columns = [{**row, "class_id": i} for i, row in enumerate(rows.values())]
    return pl.DataFrame(columns, schema=CLASSES_SCHEMA)


def _moved_images(images: pl.DataFrame, new_ids: Mapping[int, int], prefix: str, split: str) -> pl.DataFrame:
    return images.with_columns(
        pl.col("image_id").replace_strict(new_ids, return_dtype=pl.Int64),
        pl.format("{}{}", pl.lit(prefix), "path").alias("path"),
        pl.format("{}{}", pl.lit(prefix), "mask_path").alias("mask_path"),
        pl.lit(split).alias("split"),
    )


def _moved(found: Finding, prefix: str, new_ids: Mapping[int, int]) -> Finding:
    image_id = None if found.image_id is None else new_ids.get(found.image_id)
    return replace(found, path=None if found.path is None else f"{prefix}{found.path}", image_id=image_id)
