"""The formats we know, and the two doors: `read_dataset` and `write_dataset`."""

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import polars as pl

from sightline.core.config import read_yaml
from sightline.core.dataset import OBJECTS_SCHEMA, TASKS, Dataset, Task
from sightline.core.errors import ConfigError, DataError, unknown_name
from sightline.core.findings import Finding
from sightline.core.frames import mask_files, picture_file
from sightline.core.plugins import open_registry
from sightline.core.process import Progress
from sightline.data import formats
from sightline.data.archives import UNREAD_ARCHIVES, archive_suffix, unpacked
from sightline.data.codes import finding
from sightline.data.description import DESCRIPTION_NAME, Description, apply_description
from sightline.data.formats.instance_files import read as instance_files
from sightline.data.formats.masks import read as masks
from sightline.data.formats.mot import read as mot
from sightline.data.formats.shared.image_tables import MASKED
from sightline.data.formats.yolo import layout as yolo_layout
from sightline.data.inventory import account_for_pictures
from sightline.data.joining import join_splits, splits_of_folders
from sightline.data.layout import JUNK_FOLDERS, absolute, list_files
from sightline.data.unknown import describe_unknown

__all__ = [
    "FORMATS",
    "Format",
    "dataset_files",
    "detect_format",
    "entry_lines",
    "read_dataset",
    "write_dataset",
    "written_formats",
]


_DATA_FILES = ("data.yaml", "data.yml", "dataset.yaml", "config.yaml")
_SHOWN = 8  # data sets named in the message that there are several
_LOOKED_AT = 100  # folders of a folder that are looked into for them


class Writer(Protocol):
    """Writes a data set below a folder and returns what the format cannot hold."""

    def __call__(
        self, dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
    ) -> list[Finding]: ...


class Format(NamedTuple):
    """A format: what it looks like on disk, how surely a path is one (0..1 or None), its reader, its writer if any.

    `lines` gives the 1-based lines of entries of a label file, where an entry is not a line itself.
    """

    looked_for: str
    detect: Callable[[Path], float | None]
    read: Callable[[Path], Dataset]
    write: Writer | None
    lines: Callable[[Path, Iterable[int]], Mapping[int, int]] | None = None


def _load(name: str) -> Format:
    place = f"{formats.__name__}.{name.replace('-', '_')}"
    module = import_module(place)
    is_folder = hasattr(module, "__path__")
    reader, writer = (import_module(f"{place}.{part}") if is_folder else module for part in ("read", "write"))
    lines = getattr(reader, "entry_lines", None)
    return Format(reader.LOOKED_FOR, reader.detect, reader.read, getattr(writer, "write", None), lines)


FORMATS: Mapping[str, Format] = MappingProxyType(
    open_registry("format", {name: _load(name) for name in formats.FORMAT_NAMES}, lambda entry: Format(**entry))
)
"""Every format by name; a plug-in's comes by `register_format`."""


def written_formats() -> list[str]:
    """The names of the formats that `write_dataset` takes."""
    return [name for name, known in FORMATS.items() if known.write is not None]


def read_dataset(path: str | Path, *, format: str | None = None, task: Task | None = None) -> Dataset:  # noqa: A002
    """The data set at a path: a folder, a COCO file, a data YAML or a `sightline.yaml`, or any of these in a zip or tar
    file (unpacked once, into the user's cache); the format is found out.

    `task` overrides the task the labels suggest, as "detect" for instances of which only the boxes matter. Raises
    DataError when the path matches no format (naming what was looked for) or its labels cannot be read as a whole, and
    ConfigError for an unknown key, format or task. What can be read in part is read, and `findings` names the rest.

    >>> read_dataset("nowhere")
    Traceback (most recent call last):
    ...
    sightline.core.errors.DataError: nowhere: a data set must exist, got no such file or folder.
    """
    place = Path(path)
    if not place.exists():
        raise DataError("a data set must exist, got no such file or folder", where=str(path))
    if place.is_file() and archive_suffix(place):
        place = unpacked(place)
    _refuse_archive(place)
    if format is not None and format not in FORMATS:
        raise ConfigError(unknown_name("format", format, FORMATS))
    file = _description_file(place) if format is None else None
    if file is not None:
        return _with_task(_read_described(file, named=not place.is_dir()), task)
    place = absolute(place)
    if format is None:
        parts = {} if detect_format(place) is not None else splits_of_folders(_formats_below(place))
        if parts:
            joined = join_splits({split: read_dataset(folder) for split, folder in parts.items()}, place)
            return _with_task(account_for_pictures(joined, place, detect_format), task)
        inner, format = _find(place)  # noqa: A001
        return _with_task(account_for_pictures(FORMATS[format].read(inner), place, detect_format), task)
    return _with_task(account_for_pictures(FORMATS[format].read(place), place, detect_format), task)


def _refuse_archive(path: Path) -> None:
    """DataError with the command that unpacks it, into a folder of its own, for a data set that is still packed."""
    suffix = next((s for s in UNREAD_ARCHIVES if path.name.lower().endswith(s)), None)
    if suffix is not None and path.is_file():
        target = path.with_name(path.name[: -len(suffix)] or "data")
        command = UNREAD_ARCHIVES[suffix].format(archive=shlex.quote(str(path)), target=shlex.quote(str(target)))
        raise DataError("a data set must be unpacked to be read, got an archive", where=str(path), do=f"Run: {command}")


def write_dataset(
    dataset: Dataset,
    path: str | Path,
    format: str,  # noqa: A002
    *,
    copy_images: bool = True,
    progress: Progress | None = None,
) -> list[Finding]:
    """Write a data set below the folder `path` in one of `FORMATS`; returns what that format cannot hold, counted.

    Of a data set of task "detect" the boxes are written, and no masks. With `copy_images=False` only labels are
    written: for COCO their file names stay relative to the data set's root, formats that find labels by the image's
    place ask for the images to be there. DataError for a data set the format cannot hold at all, such as semantic
    masks in a format of boxes. `progress` is called with how many of how many images are in place.
    """
    write = FORMATS[format].write if format in FORMATS else None
    if write is None:
        raise ConfigError(unknown_name("format to write", format, written_formats()))
    dataset = _without_groups(dataset)
    dataset, losses = _boxes_alone(dataset) if dataset.task == "detect" else (dataset, [])
    return [*losses, *write(dataset, absolute(Path(path)), copy_images=copy_images, progress=progress)]


def dataset_files(dataset: Dataset, path: str | Path | None = None) -> Iterator[Path]:
    """The files a data set was read from at `path`: pictures, masks, label files, descriptions; some may be absent."""
    objects = dataset.objects["label_path"].drop_nulls().cast(pl.String).unique()
    noted = (f.path for f in dataset.findings if f.path is not None)
    for name in (*dataset.images["path"], *objects, *noted):
        yield picture_file(dataset.root / name)
    for name in dataset.images["mask_path"].drop_nulls():
        yield from mask_files(dataset.root / name)
    for place in {dataset.root, *([] if path is None else [Path(path)])}:
        yield from (place / name for name in (DESCRIPTION_NAME, *_DATA_FILES)) if place.is_dir() else (place,)


def detect_format(path: str | Path) -> str | None:
    """The name of the format a path most surely is, or None."""
    place = Path(path)
    scores = {name: f.detect(place) for name, f in FORMATS.items()}
    found = {name: score for name, score in scores.items() if score is not None}
    return max(found, key=lambda name: found[name]) if found else None


def entry_lines(dataset: Dataset, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The 1-based lines of label file and entry (`label_path` and `entry` of objects), each file looked into once.

    Left out are those that cannot be found, as the file is gone or is another one now.
    """
    entries: dict[str, set[int]] = defaultdict(set)
    for path, entry in places:
        entries[path].add(entry)
    lines_of = FORMATS[dataset.format].lines if dataset.format in FORMATS else None
    lines: dict[tuple[str, int], int] = {}
    for path, wanted in entries.items():
        try:
            found = {e: e for e in wanted} if lines_of is None else lines_of(dataset.root / path, wanted)
        except OSError:
            continue
        lines |= {(path, entry): line for entry, line in found.items()}
    return lines


def _find(path: Path) -> tuple[Path, str]:
    """The path, or the only folder it holds (two levels down), and its format."""
    place = path
    for _ in range(3):
        name = detect_format(place)
        if name is not None:
            return place, name
        below = _folders(place)
        if len(below) != 1:
            break
        place = below[0]
    several = _formats_below(place)
    if len(several) > 1:
        shown = ", ".join(f"{p.relative_to(path).as_posix()} ({name})" for p, name in several[:_SHOWN])
        more = f" and {len(several) - _SHOWN} more" if len(several) > _SHOWN else ""
        raise DataError(f"must be one data set, got several: {shown}{more}", where=str(path), do="Name one of them")
    unknown = describe_unknown(path)
    inner = [f"Name {p.relative_to(path).as_posix()}, which is {name}" for p, name in several]
    raise DataError(
        "no known format was recognised",
        lines=(
            f"seen: {unknown.seen}",
            f"nearest: {unknown.nearest}: {unknown.do[0].lower()}{unknown.do[1:]}",
            f"known: {', '.join(FORMATS)}",
            "the layout of each: docs/data.md",
        ),
        where=str(path),
        do=inner[0] if inner else f"Name the format with --format, or describe the folders in a {DESCRIPTION_NAME}",
    )


def _formats_below(path: Path) -> list[tuple[Path, str]]:
    return [(p, name) for p in _data_below(path) if (name := detect_format(p)) is not None]


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in JUNK_FOLDERS)


def _data_below(path: Path) -> list[Path]:
    """The folders one or two levels down that look like data sets, the upper ones first."""
    upper = _folders(path)
    known = [p for p in upper if detect_format(p) is not None]
    lower = [q for p in upper if p not in known for q in _folders(p)[:_LOOKED_AT]]
    return sorted([*known, *lower])


def _description_file(path: Path) -> Path | None:
    """The description a path is or holds; None for anything else, a YOLO data YAML included.

    A folder's own is `sightline.yaml`, else a YAML that names image and mask folders of a split.
    """
    file = path / DESCRIPTION_NAME if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        return next((p for p in list_files(path, (".yaml", ".yml")) if _names_mask_folders(p)), None)
    if not file.is_file() or file.suffix.lower() not in {".yaml", ".yml"}:
        return None
    return file if file.name == DESCRIPTION_NAME or not yolo_layout.is_data_yaml(read_yaml(file)) else None


def _names_mask_folders(file: Path) -> bool:
    try:
        values = read_yaml(file)
    except ConfigError:
        return False
    parts = [values.get(split) for split in ("train", "val", "test")]
    return any(isinstance(part, dict) and {"images", "masks"} == set(part) for part in parts)


def _read_described(file: Path, above: tuple[Path, ...] = (), *, named: bool) -> Dataset:
    """The data set of a description, which may lead out of its folder where it is `named` and not found there."""
    values: dict[str, Any] = read_yaml(file)
    description = Description.load(values, where=str(file))
    if not named:
        description.check_inside(file)
    base = absolute(file.parent / description.path)
    if not base.exists():
        raise DataError(f"'path' must exist relative to the file, got '{description.path}'", where=str(file))
    name = description.format
    if name is not None and name not in FORMATS:
        raise ConfigError(unknown_name("format", name, FORMATS), where=str(file))
    inner = _description_below(file, base, description, above)
    if inner is not None:
        dataset = _read_described(inner, (*above, absolute(file)), named=not base.is_dir())
        return _with_task(apply_description(dataset, description, file), description.task)
    if description.is_masks:
        dataset = masks.read(base, description.mask_options(base))
    elif description.is_instances:
        dataset = instance_files.read(base, description.mask_options(base))
    elif description.video is not None:
        dataset = mot.read(base, description.videos(base))
    else:
        if name is None:
            base, name = _find(base)
        dataset = FORMATS[name].read(base)
    dataset = account_for_pictures(dataset, base, detect_format)
    return _with_task(apply_description(dataset, description, file), description.task)


def _description_below(file: Path, base: Path, description: Description, above: tuple[Path, ...]) -> Path | None:
    """The description that this one builds on, where `path` names one or a folder that has one."""
    inner = _description_file(base)
    if inner is None or (base.is_dir() and (description.says_how_to_read or absolute(inner) == absolute(file))):
        return None
    if absolute(inner) in (*above, absolute(file)):
        chain = " → ".join(p.name for p in (*above, file, inner))
        raise ConfigError(f"descriptions must not name each other in a circle, got {chain}", where=str(file))
    if description.says_how_to_read:
        do = f"Say it in {inner.name}, which names the folders"
        raise ConfigError("'path' names a description, which must say itself how to read", where=str(file), do=do)
    return inner


def _without_groups(dataset: Dataset) -> Dataset:
    """The data set without the classes that only name a group of others."""
    groups = {name for f in dataset.findings if f.code == "class-grouping" for name in f.facts["classes"]}
    used = dataset.objects["class_id"].unique()
    empty = pl.col("name").is_in(sorted(groups)) & ~pl.col("class_id").is_in(used.implode())
    kept = dataset.classes.filter(~empty)
    if len(kept) == len(dataset.classes):
        return dataset
    slots = {old: new for new, old in enumerate(kept["class_id"].to_list())}
    numbered = pl.col("class_id").replace_strict(slots, return_dtype=pl.Int32)
    objects = dataset.objects.with_columns(numbered) if len(dataset.objects) else dataset.objects
    return replace(dataset, classes=kept.with_columns(numbered), objects=objects)


def _boxes_alone(dataset: Dataset) -> tuple[Dataset, list[Finding]]:
    masked = dataset.objects.filter(MASKED).height
    if not masked:
        return dataset, []
    objects = dataset.objects.with_columns(pl.lit(None).cast(OBJECTS_SCHEMA[c]).alias(c) for c in ("rle", "polygon"))
    message = f"the masks of {masked} objects are left out, their boxes are kept"
    return replace(dataset, objects=objects), [finding("loss-masks", message, count=masked)]


def _with_task(dataset: Dataset, task: Task | None) -> Dataset:
    if task is None or task == dataset.task:
        return dataset
    if task not in TASKS:
        raise ConfigError(unknown_name("task", task, TASKS))
    columns = {"instance": ["rle", "polygon"], "obb": ["polygon"], "pose": ["keypoints"], "track": ["track_id"]}.get(
        task, []
    )
    has = any(dataset.objects[c].null_count() < dataset.objects.height for c in columns)
    if "semantic" in {task, dataset.task} or (columns and not has):
        raise DataError(f"task must fit the labels ({dataset.task}), got '{task}'", where=str(dataset.root))
    return replace(dataset, task=task)
