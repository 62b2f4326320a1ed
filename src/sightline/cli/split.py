"""`sightline split`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import Field

import sightline.audit.splits
import sightline.data
from sightline.cli.console import (
    DataFormat,
    DataPath,
    JsonFlag,
    Workers,
    emit_json,
    note,
    progress_bar,
    show_table,
)
from sightline.core.config import Config
from sightline.core.errors import ConfigError
from sightline.core.files import check_writable

if TYPE_CHECKING:
    from sightline.audit.splits import SplitOptions, SplitResult

__all__ = ["split"]

_SHOWN_CLASSES = 8


class SplitGiven(Config):
    """How to divide; what is left out is as in the previous division, or the default."""

    fractions: str | None = Field(
        default=None, description="Splits and their shares, as train=0.7,val=0.2,test=0.1 (the default)."
    )
    val_fraction: float | None = Field(
        default=None, gt=0, lt=1, description="In place of fractions: this share is val, the rest train."
    )
    k_folds: int | None = Field(default=None, ge=2, description="In place of fractions: so many folds, each once val.")
    group_by: str | None = Field(
        default=None,
        description="What must stay together: a pattern with a group in parentheses, `parent` for the folder, or a "
        "column of the metadata. The data's own groups (sequences, say) always do.",
    )
    metadata: str | None = Field(
        default=None,
        description="CSV file with a column path or stem, and the column to group by: patient, site, date.",
    )
    stratify: str | None = Field(
        default=None, description="What to spread evenly: class,size (the default), class, size or none."
    )
    seed: int | None = Field(default=None, description="Seed of the order in which images are taken; 0 by default.")
    keep_near_duplicates_together: bool | None = Field(
        default=None, description="Treat near-duplicates as one unit (the default)."
    )
    keep_sequences_together: bool | None = Field(
        default=None,
        description="Treat runs of consecutive frames, found in names and pictures, as one unit (the default).",
    )
    previous: str | None = Field(
        default=None,
        description="A file this verb wrote: its images keep their splits, new ones are added; its options hold unless "
        "given.",
    )
    compare_random: bool = Field(
        default=False, description="Say also what a random division of single images would divide."
    )

    def by_name(self) -> dict[str, Any]:
        """What was given, by the names of `SplitOptions`."""
        values = {
            "fractions": _fractions(self.fractions, self.val_fraction, self.k_folds),
            "folds": self.k_folds,
            "stratify": _stratify(self.stratify),
            "near_duplicates": self.keep_near_duplicates_together,
            "sequences": self.keep_sequences_together,
            **self.model_dump(include={"group_by", "metadata", "seed"}),
        }
        return {name: value for name, value in values.items() if value is not None}


def split(
    data: DataPath,
    *,
    out: str = "splits.yaml",
    format: DataFormat = None,  # noqa: A002 - the option's name
    options: Annotated[SplitGiven, Parameter(name="*")] = SplitGiven(),  # noqa: B008 - frozen
    workers: Workers = 2,
    json: JsonFlag = False,
) -> int:
    """Divide a data set by group, stratified, without a near-duplicate on both sides; written beside the data.

    Parameters
    ----------
    out
        YAML file to write; a table of the same name (.csv) goes beside it, and for folds one YAML file each.
    options
        How to divide.
    """
    given, previous = options.by_name(), options.previous
    table = None
    if previous is not None:
        table, record = sightline.audit.splits.read_previous(Path(previous))
        inherited = {
            "folds": record.folds,
            "fractions": record.fractions or sightline.audit.splits.DEFAULT_FRACTIONS,
            "group_by": record.group_by,
            "metadata": record.metadata,
            "stratify": record.stratify,
            "seed": record.seed,
            "near_duplicates": record.near_duplicate_bits is not None,
            "sequences": record.sequences,
        }
        given = inherited | given
    chosen = sightline.audit.splits.SplitOptions.load(given)
    _refuse_overwriting(Path(out), data, chosen, previous)
    dataset = sightline.data.read_dataset(data, format=format)
    with progress_bar() as bar:
        plan = sightline.audit.splits.plan_splits(
            dataset,
            chosen,
            previous=table,
            compare_random=options.compare_random,
            workers=workers,
            progress=bar,
        )
    written = sightline.audit.splits.write_split(plan, Path(out), data, format=format)
    if json:
        emit_json({**plan.result.to_dict(), "files": [str(f) for f in written]})
    else:
        _show(plan.result, written, table is not None)
    return 0


def _fractions(text: str | None, val_fraction: float | None, folds: int | None) -> dict[str, float] | None:
    if sum(value is not None for value in (text, val_fraction, folds)) > 1:
        raise ConfigError("only one of --fractions, --val-fraction and --k-folds must be given, got several")
    if val_fraction is not None:
        return {"train": 1.0 - val_fraction, "val": val_fraction}
    if text is None:
        return None
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        try:
            share = float(value)
        except ValueError:
            raise ConfigError(f"--fractions must be like train=0.7,val=0.2,test=0.1, got '{text}'") from None
        if name in found:
            raise ConfigError(f"--fractions must name each split once, got '{text}'")
        found[name] = share
    return found


def _stratify(text: str | None) -> tuple[str, ...] | None:
    if text is None or text == "none":
        return None if text is None else ()
    return tuple(part.strip() for part in text.split(","))


def _refuse_overwriting(out: Path, data: str, options: "SplitOptions", previous: str | None) -> None:
    """The files of the division given with --previous are replaced, and nothing else."""
    *descriptions, table = sightline.audit.splits.split_files(out, options.folds, data)
    check_writable([*descriptions, table])
    there = [file for file in (*descriptions, table) if file.exists()]
    if there and (
        previous is None or sightline.data.absolute(Path(previous)) not in map(sightline.data.absolute, descriptions)
    ):
        raise ConfigError(
            "the output must be a new file, got one that exists",
            where=str(there[0]),
            do="To keep the splits it has give it with --previous, else name another file",
        )


def _show(result: "SplitResult", written: list[Path], has_previous: bool) -> None:
    parts = result.parts
    classes = [c for c in parts.columns if c.startswith("class ")]
    shown = sorted(classes, key=lambda c: -int(parts[c].sum()))[:_SHOWN_CLASSES]
    columns = [c for c in parts.columns if c not in classes or c in shown]
    show_table(result.name, [c.removeprefix("class ") for c in columns], parts.select(columns).rows())
    if len(classes) > len(shown):
        note(f"{len(classes) - len(shown)} classes with fewer objects are not shown; --json lists all")
    rows = []
    for name, found in result.together.items():
        row = [name, found["count"], found["images"], found["divided"], found["images_divided"]]
        if result.random_division is not None:
            row += [f"{result.random_division[name][k]:.1f}" for k in ("divided", "images_divided")]
        rows.append(row)
    head = ["kept together", "groups", "images", "divided here", "their images"]
    if result.random_division is not None:
        head += ["divided at random (mean)", "their images"]
    show_table("", head, rows)
    measures: list[tuple[str, float | int]] = [
        ("units", result.units),
        ("images in the largest unit", result.largest_unit),
        ("share of images and labels in the wrong split", result.imbalance),
        ("the same for a random division of these units", result.imbalance_random),
    ]
    if has_previous:
        measures += [(f"images {what}", getattr(result, what)) for what in ("kept", "added", "moved", "gone")]
    show_table("", ("measure", "value"), measures)
    if result.conventions["group_by"] is not None and result.ungrouped:
        note(f"{result.ungrouped} images have no group by '{result.conventions['group_by']}'")
    note(f"written: {', '.join(str(f) for f in written)}")
