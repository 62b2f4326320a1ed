"""A division on disk, beside the data: one table of all images, and a description for the splits or for each fold."""

import shlex
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from sightline.audit.splits.plan import SplitPlan
from sightline.core.config import read_yaml
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.files import write_text_atomic
from sightline.data import Description, absolute, path_from
from sightline.data.splits import SplitRecord, read_table, split_label_digests, write_table

__all__ = ["read_previous", "split_files", "write_split"]

_HEAD = """# Written by `sightline split`: which images are in which split. Give this file wherever data is asked for.
# After adding images: sightline split {} --previous {} --out {}
"""


def split_files(out: Path, folds: int | None, data: str) -> list[Path]:
    """The files a division of `data` writes: `out`, or `<out>-fold0.yaml` and so on; last the table, `<out>.csv`.

    ConfigError if `out` is no YAML, or `data` itself would be replaced.
    """
    if out.suffix.lower() not in {".yaml", ".yml"}:
        raise ConfigError("the output must be a YAML file, got another ending", where=str(out))
    names = [out.stem] if folds is None else [f"{out.stem}-fold{i}" for i in range(folds)]
    files = [*(out.with_name(name + out.suffix) for name in names), out.with_suffix(".csv")]
    if absolute(Path(data)) in map(absolute, files):
        do = "Give the data that it describes, or another output"
        raise ConfigError("the division must not replace the description it builds on", where=data, do=do)
    return files


def write_split(plan: SplitPlan, out: Path, data: str, *, format: str | None = None) -> list[Path]:  # noqa: A002
    """Write the table and the descriptions of a division of the data at path `data`; returns the files, the table last.

    Paths in them are relative to their folder. Each description records how the division was made, what it came to, and
    a digest of each split's labels, which is compared when it is read.
    """
    *files, table = split_files(out, plan.options.folds, data)
    write_table(plan.table, table)
    for i, file in enumerate(files):
        fold = None if plan.options.folds is None else i
        values: dict[str, Any] = {"path": path_from(file, Path(data))}
        if format is not None:
            values["format"] = format
        values["table"] = table.name
        if fold is not None:
            values["fold"] = fold
        values["recorded"] = _record(plan, file, plan.divided(fold)).model_dump(mode="json", exclude_none=True)
        quoted = (shlex.quote(" ".join(name.split())) for name in (values["path"], file.name, out.name))
        text = _HEAD.format(*quoted)
        write_text_atomic(file, text + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))
    return [*files, table]


def read_previous(file: Path) -> tuple[pl.DataFrame, SplitRecord]:
    """The table of an earlier division and its record; ConfigError for a file `sightline split` did not write."""
    description = Description.load(read_yaml(file), where=str(file))
    if description.table is None or description.recorded is None:
        raise ConfigError(
            "must be a file that `sightline split` wrote, got one without table and record", where=str(file)
        )
    record = description.recorded
    if record.metadata is not None:
        record = record.model_copy(update={"metadata": str(absolute(file.parent / record.metadata))})
    return read_table(absolute(file.parent / description.table)), record


def _record(plan: SplitPlan, file: Path, divided: Dataset) -> SplitRecord:
    options, result = plan.options, plan.result
    usable = divided.usable_objects.join(divided.images.select("image_id", "split"), on="image_id")
    objects = dict(usable.group_by("split").len().iter_rows())
    images = dict(divided.images.group_by("split").len().iter_rows())
    return SplitRecord(
        method="iterative stratification" if options.stratify else "hash order",
        seed=options.seed,
        fractions=None if options.folds is not None else options.fractions,
        folds=options.folds,
        stratify=options.stratify,
        group_by=options.group_by,
        metadata=None if options.metadata is None else path_from(file, Path(options.metadata)),
        near_duplicate_bits=result.conventions["near_duplicate_bits"] if options.near_duplicates else None,
        sequences=options.sequences,
        units=result.units,
        imbalance=round(result.imbalance, 6),
        images={name: images[name] for name in divided.splits},
        objects={name: objects.get(name, 0) for name in divided.splits},
        label_digests=split_label_digests(divided),
    )
