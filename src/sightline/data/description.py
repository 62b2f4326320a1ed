"""`sightline.yaml`: what a data set's folders alone do not say.

The file stands in the data set's folder or anywhere else; its paths are relative to itself. A crack data set of which
one image is left out and a fifth held out:

    path: ../data/cracks          # default: the folder of this file
    format: masks                 # default: found out
    images: image                 # masks only: folders, relative to `path`
    masks: derived_masks_png
    classes: {0: background, 255: crack}
    exclude: ["042"]              # stems, relative paths or patterns (*, ?)
    split: {val: 0.2, seed: 0}    # the rest becomes train

`split` may also name, for each split, a list of images (like `exclude`) or a text file with one a line. `group` is a
pattern whose first group, found in an image's path, names the video, patient or scene that splits never divide.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import polars as pl
import pydantic

from sightline.core.config import Config
from sightline.core.dataset import Dataset, Task
from sightline.core.errors import ConfigError, DataError
from sightline.data.codes import finding
from sightline.data.decode import COLOUR_BASE
from sightline.data.formats.masks import MaskOptions
from sightline.data.layout import absolute, read_text
from sightline.data.splits import assign_splits

__all__ = ["DESCRIPTION_NAME", "Description", "apply_description"]

DESCRIPTION_NAME = "sightline.yaml"
_MASK_KEYS = ("images", "masks", "mask_suffix", "train", "val", "test", "classes", "palette", "ignore_values")
_SHARE_SLACK = 1e-9

Byte: TypeAlias = Annotated[int, pydantic.Field(ge=0, le=255)]
MaskValue: TypeAlias = Annotated[int, pydantic.Field(ge=0, lt=COLOUR_BASE)]


class MaskFolders(Config):
    """The folders of one split of a mask data set, relative to `path`."""

    images: str
    masks: str


class Description(Config):
    """The keys of a `sightline.yaml`."""

    path: str = "."
    format: str | None = None
    name: str | None = None
    task: Task | None = None
    images: str | None = None
    masks: str | None = None
    mask_suffix: str | None = None
    train: MaskFolders | None = None
    val: MaskFolders | None = None
    test: MaskFolders | None = None
    classes: dict[MaskValue, str] | list[str] | None = None
    palette: dict[str, tuple[Byte, Byte, Byte]] | None = None
    ignore_values: tuple[MaskValue, ...] = ()
    exclude: tuple[str, ...] = ()
    split: dict[str, float | str | list[str]] | None = None
    group: str | None = None

    @pydantic.field_validator("exclude", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        # YAML reads an unquoted 042 as an octal number; guessing the stem back would exclude the wrong image.
        if isinstance(value, list) and any(isinstance(v, (int, float)) for v in value):
            raise ValueError("write names in quotes, YAML reads bare digits as numbers")
        return value

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Description":
        given = [k for k in _MASK_KEYS if k in self.model_fields_set]
        if self.format not in {None, "masks"} and given:
            raise ValueError(f"'{given[0]}' belongs to masks, not to format '{self.format}'")
        if self.classes is not None and self.palette is not None:
            raise ValueError("give 'classes' (by value) or 'palette' (by colour), not both")
        names = list(self.classes.values()) if isinstance(self.classes, dict) else (self.classes or [])
        if len(set(names)) < len(names):
            raise ValueError("class names must differ")
        return self

    @property
    def is_masks(self) -> bool:
        """Whether the description can only be about mask folders."""
        return self.format == "masks" or any(k in self.model_fields_set for k in _MASK_KEYS)

    def mask_options(self, base: Path) -> MaskOptions:
        """What the description says about masks, its folders below `base` (the resolved `path`)."""
        parts = {split: getattr(self, split) for split in ("train", "val", "test")}
        classes = dict(enumerate(self.classes)) if isinstance(self.classes, list) else self.classes
        return MaskOptions(
            images=None if self.images is None else absolute(base / self.images),
            masks=None if self.masks is None else absolute(base / self.masks),
            parts={s: (absolute(base / f.images), absolute(base / f.masks)) for s, f in parts.items() if f is not None},
            mask_suffix=self.mask_suffix,
            classes=classes,
            palette=self.palette,
            ignore_values=self.ignore_values,
        )


def apply_description(dataset: Dataset, description: Description, file: Path) -> Dataset:
    """`dataset` without the excluded images, with groups, splits and name as the description says."""
    images, findings = dataset.images, list(dataset.findings)
    if description.exclude:
        # What a reader could not take in is no longer in the table, and is what one most wants to exclude.
        told = [f.path for f in findings if f.path is not None]
        out = _matches([*images["path"].to_list(), *told], description.exclude, "exclude", file)
        gone = set(images.filter(pl.col("path").is_in(sorted(out)))["image_id"])
        findings = [f for f in findings if f.path not in out and (f.image_id is None or f.image_id not in gone)]
        images = images.filter(~pl.col("path").is_in(sorted(out)))
        message = f"{len(out)} images are excluded by {file.name}"
        findings.append(finding("layout-excluded", message, path=sorted(out)[0], count=len(out)))
    if description.group is not None:
        images = images.with_columns(group=_groups(images["path"], description.group, file))
    if description.split is not None:
        images = _split(images, description.split, file)
    kept = dataset.select(images["image_id"])
    return Dataset(
        images,
        kept.objects,
        dataset.classes,
        dataset.root,
        description.name or dataset.name,
        dataset.task,
        dataset.format,
        tuple(findings),
        dataset.ignore_values,
    )


def _matches(paths: list[str], patterns: Iterable[str], key: str, file: Path) -> set[str]:
    """The paths named by stems, relative paths or patterns; ConfigError for one that names none."""
    found: set[str] = set()
    for pattern in patterns:
        hit = {p for p in paths if any(fnmatch.fnmatchcase(n, pattern) for n in (p, Path(p).name, Path(p).stem))}
        if not hit:
            raise ConfigError(
                f"'{key}' must name images of the data set, got '{pattern}' which is none", where=str(file)
            )
        found |= hit
    return found


def _groups(paths: pl.Series, pattern: str, file: Path) -> pl.Series:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"'group' must be a regular expression, got '{pattern}': {error}", where=str(file)) from None
    if compiled.groups < 1:
        raise ConfigError(f"'group' must have a group in parentheses, got '{pattern}'", where=str(file))
    matches = [compiled.search(p) for p in paths.to_list()]
    return pl.Series([m.group(1) if m else None for m in matches], dtype=pl.String)


def _split(images: pl.DataFrame, rule: Mapping[str, float | str | list[str]], file: Path) -> pl.DataFrame:
    named = {k: v for k, v in rule.items() if k != "seed"}
    shares = {k: float(v) for k, v in named.items() if isinstance(v, (int, float))}
    seed = rule.get("seed", 0)
    if not isinstance(seed, (int, float)) or seed != int(seed):
        raise ConfigError(f"'split.seed' must be an integer, got {seed!r}", where=str(file))
    if shares and len(shares) < len(named):
        raise ConfigError("'split' must give fractions for all splits or lists for all, got both", where=str(file))
    if shares:
        rest = 1.0 - sum(shares.values())
        if "train" not in shares and rest > _SHARE_SLACK:
            shares = {"train": rest, **shares}
        try:
            return assign_splits(images, shares, int(seed))
        except DataError as error:
            raise ConfigError(f"'split': {error.what}", where=str(file)) from None
    paths = images["path"].to_list()
    split_of: dict[str, str] = {}
    for split, value in named.items():
        names = _listed(file.parent / value) if isinstance(value, str) else [str(v) for v in value]  # type: ignore[union-attr]
        for path in _matches(paths, names, f"split.{split}", file):
            if split_of.setdefault(path, split) != split:
                message = f"'split' must put an image into one split, got '{path}' in '{split_of[path]}' and '{split}'"
                raise ConfigError(message, where=str(file))
    rest_split = None if "train" in named else "train"
    return images.with_columns(split=pl.Series([split_of.get(p, rest_split) for p in paths], dtype=pl.String))


def _listed(file: Path) -> list[str]:
    return [line.strip() for line in read_text(absolute(file)).splitlines() if line.strip()]
