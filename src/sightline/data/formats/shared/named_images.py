"""The images that label files name one by one: found or missing, of the stated size or another, each one row."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.dataset import IMAGES_SCHEMA
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.media import MAX_PIXELS, MAX_SIDE, read_header

__all__ = ["ImageCollector"]

_COLUMNS = ("image_id", "path", "width", "height", "split", "group", "frame")


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
        table = pl.DataFrame(rows, schema={c: IMAGES_SCHEMA[c] for c in _COLUMNS}, orient="row")
        return table, {path: i for i, (path, _) in enumerate(kept)}


def _sane_size(stated_wh: tuple[Any, Any]) -> tuple[int, int] | None:
    width, height = stated_wh
    whole = all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in (width, height))
    return (height, width) if whole and width * height <= MAX_PIXELS else None
