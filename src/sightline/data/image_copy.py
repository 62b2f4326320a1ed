"""Copying a data set's images to where a written data set expects them."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from sightline.core.errors import DataError
from sightline.core.files import atomic_path

__all__ = ["copy_files"]


def copy_files(pairs: Iterable[tuple[Path, Path]]) -> int:
    """Copy each source to its target and return how many were copied; a target that is its source is left alone.

    DataError when a source is missing or cannot be read.
    """
    copied = 0
    for source, target in pairs:
        if target.exists() and target.samefile(source):
            continue
        try:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        except FileNotFoundError:
            raise DataError("cannot copy the image, it does not exist", where=str(source)) from None
        copied += 1
    return copied
