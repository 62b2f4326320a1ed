"""The images table: of files found in folders, and of images that label files name; found or missing, one row each."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.dataset import IMAGES_SCHEMA
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.layout import relative
from sightline.media import MAX_PIXELS, MAX_SIDE, ImageError, read_header

__all__ = ["ImageCollector", "build_image_table"]

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


_NAMED_COLUMNS = ("image_id", "path", "width", "height", "split", "group", "frame")


@dataclass
class _Row:
    """One image as it will stand in the table; `missing` holds what to say when the file is not there."""

    size_hw: tuple[int, int] | None
    split: str | None
    group: str | None
    frame: int | None
    missing: Finding | None = None


class ImageCollector:
    """Collects images in any order; `table` gives them ids in the order of their paths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self._rows: dict[str, _Row] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._rows

    def add(
        self,
        path: str,
        *,
        stated_wh: tuple[Any, Any] = (None, None),
        split: str | None = None,
        group: str | None = None,
        frame: int | None = None,
        place: tuple[str, int | None] = ("", None),
        note: str = "",
    ) -> tuple[int, int] | None:
        """Take in an image once; returns its height and width, the stated ones where it does not exist, or None.

        `place` is where the label file names it, `note` what to add when it is missing.
        """
        known = self._rows.get(path)
        if known is not None:
            message = f"'{path}' is listed again; its objects are merged"
            self.findings.append(finding("image-duplicate-entry", message, path=place[0] or path, line=place[1]))
            return known.size_hw
        stated = _sane_size(stated_wh)
        row = self._rows[path] = _Row(stated, split, group, frame)
        file = self.root / path
        if not file.is_file():
            message = f"the image '{path}' does not exist; its objects are left out{note}"
            row.missing = finding("image-missing", message, path=place[0] or path, line=place[1])
            return row.size_hw
        try:
            row.size_hw = read_header(file).size_hw
        except DataError as error:
            self.findings.append(finding("image-unreadable", error.what, path=path))
            row.size_hw = None
        if stated is not None and row.size_hw is not None and stated != row.size_hw:
            message = (
                f"the label file gives {stated[1]} × {stated[0]} pixels, '{path}' has {row.size_hw[1]} × "
                f"{row.size_hw[0]}"
            )
            facts = {"image": path}
            self.findings.append(
                finding("image-size-mismatch", message, path=place[0] or path, line=place[1], facts=facts)
            )
        return row.size_hw

    def table(self, note: str = "") -> tuple[pl.DataFrame, dict[str, int]]:
        """The images table, and the id of each path that is in it.

        Labels without any picture are kept (they can be evaluated against) and reported once, with `note`; single
        missing pictures are left out and reported one by one.
        """
        missing = [row.missing for row in self._rows.values() if row.missing is not None]
        alone = bool(missing) and len(missing) == len(self._rows)
        if alone:
            message = f"none of the {len(missing)} images was found; the labels can be evaluated, not trained on{note}"
            self.findings.append(finding("image-missing", message, path=missing[0].path, count=len(missing)))
        else:
            self.findings += missing
        kept = [(p, r) for p, r in sorted(self._rows.items()) if r.size_hw is not None and (alone or not r.missing)]
        rows = [
            (i, path, row.size_hw[1], row.size_hw[0], row.split, row.group, row.frame)
            for i, (path, row) in enumerate(kept)
            if row.size_hw is not None
        ]
        table = pl.DataFrame(rows, schema={c: IMAGES_SCHEMA[c] for c in _NAMED_COLUMNS}, orient="row")
        return table, {path: i for i, (path, _) in enumerate(kept)}


def _sane_size(stated_wh: tuple[Any, Any]) -> tuple[int, int] | None:
    width, height = stated_wh
    whole = all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in (width, height))
    return (height, width) if whole and width * height <= MAX_PIXELS else None
