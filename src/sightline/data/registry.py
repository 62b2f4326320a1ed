"""The formats we know, and the two doors: `read_dataset` and `write_dataset`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from sightline.core.config import read_yaml
from sightline.core.dataset import TASKS, Dataset, Task
from sightline.core.errors import ConfigError, DataError, unknown_name
from sightline.core.findings import Finding
from sightline.data.description import DESCRIPTION_NAME, Description, apply_description
from sightline.data.formats import coco, coco_write, masks, mot, voc, yolo, yolo_layout, yolo_write
from sightline.data.layout import absolute

__all__ = ["FORMATS", "Format", "detect_format", "read_dataset", "write_dataset"]


class Writer(Protocol):
    """Writes a data set below a folder and returns what the format cannot hold."""

    def __call__(self, dataset: Dataset, folder: Path, *, copy_images: bool = True) -> list[Finding]: ...


class Format(NamedTuple):
    """A format: what it looks like on disk, how surely a path is one (0..1 or None), its reader, its writer."""

    looked_for: str
    detect: Callable[[Path], float | None]
    read: Callable[[Path], Dataset]
    write: Writer | None


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "coco": Format(coco.LOOKED_FOR, coco.detect, coco.read, coco_write.write),
        "yolo": Format(yolo.LOOKED_FOR, yolo.detect, yolo.read, yolo_write.write),
        "voc": Format(voc.LOOKED_FOR, voc.detect, voc.read, None),
        "mot": Format(mot.LOOKED_FOR, mot.detect, mot.read, None),
        "masks": Format(masks.LOOKED_FOR, masks.detect, masks.read, None),
    }
)


def read_dataset(path: str | Path, *, format: str | None = None, task: Task | None = None) -> Dataset:  # noqa: A002
    """The data set at a path: a folder, a COCO file, a data YAML or a `sightline.yaml`; the format is found out.

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
    if format is not None and format not in FORMATS:
        raise ConfigError(unknown_name("format", format, FORMATS))
    file = _description_file(place) if format is None else None
    if file is not None:
        return _with_task(_read_described(file), task)
    place = absolute(place)
    if format is None:
        place, format = _find(place)  # noqa: A001
    return _with_task(FORMATS[format].read(place), task)


def write_dataset(
    dataset: Dataset,
    path: str | Path,
    format: str,  # noqa: A002
    *,
    copy_images: bool = True,
) -> list[Finding]:
    """Write a data set below the folder `path` as "coco" or "yolo"; returns what that format cannot hold, counted.

    With `copy_images=False` only labels are written: for COCO their file names stay relative to the data set's root,
    for YOLO the images must lie in `path/images/` already.
    """
    writers = {name: f.write for name, f in FORMATS.items() if f.write is not None}
    if format not in writers:
        raise ConfigError(unknown_name("format to write", format, writers))
    return writers[format](dataset, absolute(Path(path)), copy_images=copy_images)


def detect_format(path: str | Path) -> str | None:
    """The name of the format a path most surely is, or None."""
    place = Path(path)
    scores = {name: f.detect(place) for name, f in FORMATS.items()}
    found = {name: score for name, score in scores.items() if score is not None}
    return max(found, key=lambda name: found[name]) if found else None


def _find(path: Path) -> tuple[Path, str]:
    """The path, or the only folder it holds (two levels down), and its format."""
    place = path
    for _ in range(3):
        name = detect_format(place)
        if name is not None:
            return place, name
        below = [p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")] if place.is_dir() else []
        if len(below) != 1:
            break
        place = below[0]
    looked = "; ".join(f"{name}: {f.looked_for}" for name, f in FORMATS.items())
    raise DataError(
        f"no known format was recognised, looked for {looked}",
        where=str(path),
        do=f"Name the format, or describe the folders in a {DESCRIPTION_NAME}",
    )


def _description_file(path: Path) -> Path | None:
    """The description a path is or holds; None for anything else, a YOLO data YAML included."""
    file = path / DESCRIPTION_NAME if path.is_dir() else path
    if not file.is_file() or file.suffix.lower() not in {".yaml", ".yml"}:
        return None
    return file if file.name == DESCRIPTION_NAME or not yolo_layout.is_data_yaml(read_yaml(file)) else None


def _read_described(file: Path) -> Dataset:
    values: dict[str, Any] = read_yaml(file)
    description = Description.load(values, where=str(file))
    base = absolute(file.parent / description.path)
    if not base.exists():
        raise DataError(f"'path' must exist relative to the file, got '{description.path}'", where=str(file))
    name = description.format
    if name is not None and name not in FORMATS:
        raise ConfigError(unknown_name("format", name, FORMATS), where=str(file))
    if description.is_masks:
        dataset = masks.read(base, description.mask_options(base))
    else:
        if name is None:
            base, name = _find(base)
        dataset = FORMATS[name].read(base)
    return _with_task(apply_description(dataset, description, file), description.task)


def _with_task(dataset: Dataset, task: Task | None) -> Dataset:
    if task is None or task == dataset.task:
        return dataset
    if task not in TASKS:
        raise ConfigError(unknown_name("task", task, TASKS))
    columns = {"instance": ["rle", "polygon"], "track": ["track_id"]}.get(task, [])
    has = any(dataset.objects[c].null_count() < dataset.objects.height for c in columns)
    if "semantic" in {task, dataset.task} or (columns and not has):
        raise DataError(f"task must fit the labels ({dataset.task}), got '{task}'", where=str(dataset.root))
    return replace(dataset, task=task)
