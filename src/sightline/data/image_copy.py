"""Copying a data set's images to where a written data set expects them."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from sightline.core.errors import DataError
from sightline.core.files import atomic_path

__all__ = ["copy_files"]


def copy_files(pairs: Iterable[tuple[Path, Path]]) -> int:
    """Copy each source to its target and return how many were copied; a target that is its source is left alone.

    DataError when a source is missing, or two sources have one target; nothing has been copied then.
    """
    wanted = list(pairs)
    sources: dict[Path, Path] = {}
    absent = [source for source, _ in wanted if not source.is_file()]
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
    for source, target in wanted:
        if target.exists() and target.samefile(source):
            continue
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        copied += 1
    return copied
