"""Putting a data set's images where a written data set expects them: files are copied, frames of videos written."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import cv2
import polars as pl

from sightline.core.errors import DataError
from sightline.core.files import atomic_path
from sightline.core.frame_paths import picture_file, split_frame_path
from sightline.data.layout import split_of
from sightline.media import read_frame

__all__ = ["Progress", "check_places", "copied_name", "copy_files", "first_clash", "places_by_split"]

FRAME_SUFFIX = ".png"  # exact, and read by everything

Progress: TypeAlias = Callable[[int, int], None]
"""Given how many of how many images are in place."""


def copied_name(path: str) -> str:
    """The relative path of an image once it is copied: its own, and `street/000012.png` for `street.mp4#000012`."""
    frame = split_frame_path(path)
    if frame is None:
        return path
    video, index = frame
    return f"{PurePosixPath(video).with_suffix('').as_posix()}/{index:06d}{FRAME_SUFFIX}"


def places_by_split(images: pl.DataFrame) -> dict[str, str]:
    """Where each image of an images table goes below a folder whose subfolders are splits, by its path.

    The first folder of a place says the split (train, val or test), and no place of an image without one does. A
    leading `images/` is left out. DataError when two images would have one place up to the suffix.
    """
    places: dict[str, str] = {}
    for path, split in images.select("path", "split").iter_rows():
        place = copied_name(path).removeprefix("images/")
        first = place.split("/")[0] if "/" in place else ""
        named = split_of(split or "")
        if split_of(first) != named:
            place = f"{'all' if named is None else split}/{place}"
        places[path] = place
    check_places(places)
    return places


def check_places(places: Mapping[str, str]) -> None:
    """DataError when the labels of two images would have one place; `places` says by path where each image goes."""
    clash = first_clash(places)
    if clash is not None:
        raise DataError(
            f"every image must have a label file of its own, got one for '{clash[0]}' and '{clash[1]}'",
            do="Rename one of them",
        )


def first_clash(places: Mapping[str, str]) -> tuple[str, str] | None:
    """Two images whose places differ in the suffix at most; None where there are none."""
    stems: dict[PurePosixPath, str] = {}
    for path, place in places.items():
        other = stems.setdefault(PurePosixPath(place).with_suffix(""), path)
        if other != path:
            return other, path
    return None


def copy_files(pairs: Iterable[tuple[Path, Path]], progress: Progress | None = None) -> int:
    """Copy each source to its target and return how many were copied; a target that is its source is left alone.

    A source that is a frame of a video is decoded and written as PNG. DataError when a source is missing, or two
    sources have one target; nothing has been copied then.
    """
    wanted = list(pairs)
    sources: dict[Path, Path] = {}
    absent = [source for source, _ in wanted if not picture_file(source).is_file()]
    if absent:
        raise DataError(
            f"images must exist to be copied, got {len(absent)} of {len(wanted)} missing, this the first",
            where=str(absent[0]),
            do="Give the images, or write the labels alone",
        )
    for source, target in wanted:
        other = sources.setdefault(target, source)
        if other != source:
            raise DataError(f"images must have places of their own, got {target} for {other} too", where=str(source))
    copied = 0
    for done, (source, target) in enumerate(wanted, start=1):
        copied += _put(source, target)
        if progress is not None:
            progress(done, len(wanted))
    return copied


def _put(source: Path, target: Path) -> bool:
    frame = split_frame_path(source)
    if frame is None:
        if target.exists() and target.samefile(source):
            return False
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        return True
    if target.suffix.lower() != FRAME_SUFFIX:
        raise DataError(f"a frame of a video must be written as {FRAME_SUFFIX}, got {target.name}", where=str(source))
    written, data = cv2.imencode(FRAME_SUFFIX, read_frame(*frame)[..., ::-1])
    if not written:
        raise DataError("a frame of a video must be written as PNG, got a failure", where=str(source))
    with atomic_path(target) as temporary:
        temporary.write_bytes(data.tobytes())
    return True
