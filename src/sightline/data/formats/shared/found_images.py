"""The images table of a folder-shaped data set: sizes from the headers, one row per picture, ids in path order."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from sightline.core.dataset import IMAGES_SCHEMA
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.layout import relative
from sightline.media import ImageError, read_header

__all__ = ["build_image_table"]

_COLUMNS = ("image_id", "path", "width", "height", "split")


def build_image_table(files: Iterable[tuple[Path, str | None]], root: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """The images table (image_id, path, width, height, split) of the files with their splits, and findings.

    An image whose header cannot be read is left out and reported; one that is listed twice is kept once, in the split
    that lists it first, and reported. Ids count from 0 in the order of the paths.
    """
    splits: dict[str, str | None] = {}
    shared: Counter[tuple[str | None, str | None]] = Counter()
    example: dict[tuple[str | None, str | None], str] = {}
    for file, split in files:
        path = relative(file, root)
        if path in splits:
            pair = (splits[path], split)
            shared[pair] += 1
            example.setdefault(pair, path)
        else:
            splits[path] = split
    findings = [_listed_twice(pair, count, example[pair]) for pair, count in shared.items()]
    rows: list[tuple[int, str, int, int, str | None]] = []
    for path in sorted(splits):
        try:
            height, width = read_header(root / path).size_hw
        except DataError as error:
            code = error.code if isinstance(error, ImageError) else "image-unreadable"
            findings.append(finding(code, error.what, path=path))
            continue
        rows.append((len(rows), path, width, height, splits[path]))
    return pl.DataFrame(rows, schema={k: IMAGES_SCHEMA[k] for k in _COLUMNS}, orient="row"), findings


def _listed_twice(pair: tuple[str | None, str | None], count: int, example: str) -> Finding:
    first, second = pair
    if first == second:
        return finding("image-duplicate-entry", f"{count} images are listed twice", path=example, count=count)
    message = f"{count} images are listed in '{first}' and in '{second}' and kept in the first"
    return finding("split-overlap-path", message, path=example, count=count, facts={"splits": [first, second]})
