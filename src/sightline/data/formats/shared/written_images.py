"""Where a written data set keeps its images, and what may be written about them as text."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.data.formats.shared.image_copy import Progress, check_places, copied_name, copy_files, first_clash

__all__ = [
    "check_class_names",
    "check_has_objects",
    "check_listed_names",
    "check_splits",
    "flat_targets",
    "number_text",
    "place_images",
]

_KNOWN_SPLITS = {"train", "val", "test"}


def flat_targets(paths: Sequence[str], folders: Sequence[str]) -> dict[str, str]:
    """Path → `folder/name` in a format that finds labels by the stem of the image's name.

    The name is the file's own; where two images of a folder would share a stem, every name is its whole path with `_`
    for `/`. DataError where that does not tell them apart either.
    """
    copied = [copied_name(p) for p in paths]
    targets: dict[str, str] = {}
    for names in ([PurePosixPath(p).name for p in copied], [p.replace("/", "_") for p in copied]):
        placed = [f"{folder}/{name}" if folder else name for folder, name in zip(folders, names, strict=True)]
        targets = dict(zip(paths, placed, strict=True))
        if first_clash(targets) is None:
            return targets
    check_places(targets)
    return targets


def place_images(
    dataset: Dataset, folder: Path, targets: Mapping[str, str], *, copy: bool, progress: Progress | None = None
) -> None:
    """Copy each image to `folder/target`, or check that it is there already; DataError where one is missing."""
    if copy:
        copy_files(((dataset.image_path(path), folder / target) for path, target in targets.items()), progress)
        return
    absent = [target for target in targets.values() if not (folder / target).is_file()]
    if absent:
        raise DataError(
            f"images must lie below {folder} to be left where they are, got no {absent[0]}",
            do="Let them be copied",
        )


def check_has_objects(dataset: Dataset, format_name: str) -> None:
    """DataError for a data set of semantic masks, which tell no object from the other."""
    if dataset.task == "semantic":
        message = f"{format_name} needs objects, got a data set of semantic masks"
        raise DataError(message, where=str(dataset.root), do="Write it as masks")


def check_splits(dataset: Dataset, format_name: str) -> None:
    """DataError for a split the format has no place for."""
    strange = sorted(set(dataset.splits) - _KNOWN_SPLITS)
    if strange:
        raise DataError(f"{format_name} knows the splits train, val and test, got {strange}", do="Rename the splits")


def check_class_names(names: Iterable[str]) -> None:
    """DataError for a class name that a text file would not give back: blank, with outer blanks or control signs."""
    _check_lines(names, "class names")


def check_listed_names(dataset: Dataset, targets: Iterable[str]) -> None:
    """DataError where the data has splits, and a list of images would not give back the name of one."""
    if dataset.splits:
        _check_lines(targets, "names of images in lists of splits")


def _check_lines(texts: Iterable[str], what: str) -> None:
    for text in texts:
        broken = text != text.strip() or len(text.splitlines()) != 1
        if broken or any(unicodedata.category(sign) in {"Cc", "Cs"} for sign in text):
            raise DataError(
                f"{what} must be one line without blanks at the ends or control signs, got {text!r:.60}",
                do="Rename it",
            )


def number_text(value: float) -> str:
    """The shortest text that reads back as exactly `value`; whole numbers without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
