"""`sightline.yaml`: what a data set's folders alone do not say.

The file stands in the data set's folder or anywhere else; its paths are relative to itself. Those of a file that was
found in a folder must stay inside it; one that is named itself may lead anywhere. A crack data set of which
one image is left out and a fifth held out:

    path: ../data/cracks          # default: the folder of this file
    format: masks                 # default: found out
    images: image                 # masks only: folders, relative to `path`
    masks: derived_masks_png
    classes: {0: background, 255: crack}
    exclude: ["042"]              # stems, relative paths or patterns (*, ?)
    split: {val: 0.2, seed: 0}    # the rest becomes train

`threshold: 128` divides masks of grays, as soft or compressed edges leave them, into background and foreground, which
begins at that value. `instances: true` says that mask values number single objects (as in Penn-Fudan), all of the one
class in `classes`. `video` names the video of a MOTChallenge sequence without pictures, or the video of each by the
sequence's name.

`split` may also name, for each split, a list of images (like `exclude`) or a text file with one a line. `group` is a
pattern whose first group, found in an image's path, names the video, patient or scene that splits never divide; it may
also be `parent`, the folder, or a column of the CSV file `metadata`. `table` is the CSV of `sightline split` with the
split or fold of each image, `fold` the fold that is `val`, `recorded` how the division was made and what it came to.

`path` may name another description, or a folder that has one: exclusions add up, the last split wins.
"""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeAlias

import polars as pl
import pydantic

from sightline.core.config import Config
from sightline.core.dataset import Dataset, Task, check_split_names
from sightline.core.errors import ConfigError, DataError, InputError, at
from sightline.data.codes import finding, images_of_findings
from sightline.data.formats.masks.pairs import MaskOptions
from sightline.data.layout import absolute, read_list
from sightline.data.splits.division import assign_splits, declared_groups
from sightline.data.splits.table import SplitRecord, apply_table, changed_splits
from sightline.media import COLOUR_BASE

__all__ = ["DESCRIPTION_NAME", "Description", "apply_description"]

DESCRIPTION_NAME = "sightline.yaml"
_MASK_KEYS = (
    *("images", "masks", "mask_suffix", "train", "val", "test", "classes", "palette", "ignore_values", "threshold"),
)
_MASK_FORMATS = {"masks", "instance-files"}
_SHARE_SLACK = 1e-9
_OF_OTHER_SPLITS = {"split-overlap-path", "split-unlisted", "split-changed"}
"""Findings about the splits below, which the splits of this description replace."""
_PATTERN = re.compile(r"[*?\[]")

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
    threshold: Annotated[int, pydantic.Field(ge=1, le=65535)] | None = None
    instances: bool = False
    video: str | dict[str, str] | None = None
    exclude: tuple[str, ...] = ()
    split: dict[str, float | str | list[str]] | None = None
    group: str | None = None
    metadata: str | None = None
    table: str | None = None
    fold: Annotated[int, pydantic.Field(ge=0)] | None = None
    recorded: SplitRecord | None = None

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
        if self.format not in {None, *_MASK_FORMATS} and given:
            raise ValueError(f"'{given[0]}' belongs to masks, not to format '{self.format}'")
        if self.instances and self.format not in {None, "instance-files"}:
            raise ValueError(f"'instances' belongs to format 'instance-files', not to '{self.format}'")
        if self.video is not None and self.format not in {None, "mot"}:
            raise ValueError(f"'video' belongs to format 'mot', not to '{self.format}'")
        if self.split is not None and self.table is not None:
            raise ValueError("give 'split' or 'table', not both")
        for key, needed in (("fold", "table"), ("recorded", "table"), ("metadata", "group")):
            if getattr(self, key) is not None and getattr(self, needed) is None:
                raise ValueError(f"'{key}' needs '{needed}' beside it")
        if self.classes is not None and self.palette is not None:
            raise ValueError("give 'classes' (by value) or 'palette' (by colour), not both")
        names = list(self.classes.values()) if isinstance(self.classes, dict) else (self.classes or [])
        if len(set(names)) < len(names):
            raise ValueError("class names must differ")
        if self.threshold is not None and (self.palette is not None or self.instances or len(names) not in {0, 2}):
            raise ValueError(
                "'threshold' divides gray masks into two classes: give two 'classes' or none, no 'palette'"
            )
        return self

    @property
    def is_masks(self) -> bool:
        """Whether the description can only be about mask folders."""
        masked = any(k in self.model_fields_set for k in _MASK_KEYS)
        return self.format == "masks" or (self.format is None and masked and not self.instances)

    @property
    def is_instances(self) -> bool:
        """Whether the description can only be about masks of single objects."""
        return self.format == "instance-files" or self.instances

    @property
    def says_how_to_read(self) -> bool:
        """Whether the description is about files, and not only about which images count and how they are divided."""
        return bool({*_MASK_KEYS, "format", "instances", "video"} & self.model_fields_set)

    def check_inside(self, file: Path) -> None:
        """ConfigError for a path that leads out of the folder of the file, which was found and not named.

        YAML files of others, which keep masks beside a folder of images, may name what lies beside their own folder.
        """
        top = file.parent if file.name == DESCRIPTION_NAME else file.parent.parent
        parts = [part for split in ("train", "val", "test") if (part := getattr(self, split)) is not None]
        inner = [self.images, self.masks, *(p for part in parts for p in (part.images, part.masks))]
        videos = self.video.values() if isinstance(self.video, dict) else [self.video]
        lists = [v for v in (self.split or {}).values() if isinstance(v, str)]
        named = [Path(self.path), *(Path(self.path, p) for p in (*inner, *videos) if p is not None)]
        texts = [Path(p) for p in (self.table, self.metadata, *lists) if p is not None]
        for path in (*named, *texts):
            place, is_text = file.parent / path, path in texts
            if not _is_below(top, place) or (is_text and not _is_below(top, place, links=True)):
                message = f"a description found in a folder must stay inside it, got '{path}'"
                do = "Name the file itself in place of its folder if you trust it"
                raise ConfigError(message, where=str(file), do=do)

    def videos(self, base: Path) -> dict[str, Path]:
        """The video of each sequence that one is named for, "" standing for any, below `base`."""
        named = self.video if isinstance(self.video, dict) else {"": self.video} if self.video is not None else {}
        return {name: absolute(base / path) for name, path in named.items()}

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
            threshold=self.threshold,
            id_maps=self.instances,
        )


def apply_description(dataset: Dataset, description: Description, file: Path) -> Dataset:
    """`dataset` without the excluded images, with groups, splits and name as the description says."""
    images, findings = dataset.images, list(dataset.findings)
    out: set[str] = set()
    if description.exclude:
        # What a reader could not take in is no longer in the table, and is what one most wants to exclude.
        found = [f.path for f in findings if f.path is not None]
        named = _Names([*images["path"].to_list(), *found])
        out = {path for text in description.exclude for path in named.find(text, "exclude", str(file))}
        gone = set(images.filter(pl.col("path").is_in(sorted(out)))["image_id"])
        about = images_of_findings(findings, images)
        findings = [f for f, i in zip(findings, about, strict=True) if f.path not in out and i not in gone]
        images = images.filter(~pl.col("path").is_in(sorted(out)))
        message = f"{len(out)} images are excluded by {file.name}"
        findings.append(finding("layout-excluded", message, path=sorted(out)[0], count=len(out)))
    if description.group is not None:
        metadata = None if description.metadata is None else absolute(file.parent / description.metadata)
        with _unquoted(file, description.metadata or "."):
            groups = declared_groups(images["path"], description.group, metadata, str(file))
        images = images.with_columns(group=groups)
    if description.split is not None or description.table is not None:
        findings = [f for f in findings if f.code not in _OF_OTHER_SPLITS]
    if description.split is not None:
        images = _split(images, description.split, file)
    if description.table is not None:
        with _unquoted(file, description.table):
            images, notes = apply_table(images, absolute(file.parent / description.table), description.fold, out)
        findings += notes
    check_split_names(images["split"].unique(), str(file))
    kept = replace(dataset.select(images["image_id"]), images=images, name=description.name or dataset.name)
    if description.recorded is not None:
        findings += changed_splits(kept, description.recorded, file)
    left_out = tuple(sorted({*dataset.left_out, *out}))
    return replace(kept, findings=tuple(findings), left_out=left_out)


def _is_below(folder: Path, path: Path, *, links: bool = False) -> bool:
    """Whether a path lies in a folder or below, by its name or by where its links lead."""
    if links:
        return path.resolve().is_relative_to(folder.resolve())
    return absolute(path).is_relative_to(absolute(folder))


@contextmanager
def _unquoted(file: Path, path: str) -> Iterator[None]:
    """Errors about a file outside the description's folder say nothing of what is in it."""
    try:
        yield
    except InputError:
        if _is_below(file.parent, file.parent / path, links=True):
            raise
        message = f"'{path}' must be what the description takes it for, got something else or nothing"
        do = "Put the file beside the description to see what is wrong with it"
        raise ConfigError(message, where=str(file), do=do) from None


class _Names:
    """Images by path, file name and stem, found at once; by pattern, one after the other."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.by_name: dict[str, set[str]] = defaultdict(set)
        for path in paths:
            # A path of its own first: the stem of a file without suffix is the same text.
            for name in {path, PurePosixPath(path).name, PurePosixPath(path).stem}:
                self.by_name[name].add(path)

    def find(self, text: str, key: str, where: str) -> set[str]:
        """The paths a stem, file name, relative path or pattern names; ConfigError for one that names none."""
        found = self.by_name.get(text)
        if found is None and _PATTERN.search(text):
            matches = re.compile(fnmatch.translate(text)).match
            found = set().union(*(paths for name, paths in self.by_name.items() if matches(name)))
        if not found:
            raise ConfigError(f"'{key}' must name images of the data set, got '{text}' which is none", where=where)
        return found


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
    known = _Names(paths)
    split_of: dict[str, str] = {}
    for split, value in named.items():
        with _unquoted(file, value if isinstance(value, str) else "."):
            _put_into(split_of, split, value, known, file)
    rest_split = None if "train" in named else "train"
    return images.with_columns(split=pl.Series([split_of.get(p, rest_split) for p in paths], dtype=pl.String))


def _put_into(split_of: dict[str, str], split: str, value: float | str | list[str], known: _Names, file: Path) -> None:
    """Put the images a value names into a split; ConfigError where one is in another already."""
    for text, where in _listed(value, file):
        for path in known.find(text, f"split.{split}", where):
            if split_of.setdefault(path, split) != split:
                got = f"'{path}' in '{split_of[path]}' and '{split}'"
                raise ConfigError(f"'split' must put an image into one split, got {got}", where=where)


def _listed(value: float | str | list[str], file: Path) -> Iterator[tuple[str, str]]:
    """The names of a list, or of a text file with one a line, each with its place."""
    if not isinstance(value, str):
        yield from ((str(v), str(file)) for v in value)  # type: ignore[union-attr]
        return
    source = absolute(file.parent / value)
    yield from ((text, at(source, number)) for number, text in read_list(source))
