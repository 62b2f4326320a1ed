"""What file names say about splits: augmented copies of one picture, and tiles cut from one, in several of them."""

import math
import re
from collections import defaultdict
from pathlib import PurePosixPath

from sightline.audit.result import AuditOptions
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import finding

__all__ = ["check_names"]

_COPY = re.compile(r"(?P<of>.+)\.rf\.[0-9A-Za-z]+")  # an export service's versions of one upload
_TILE_WORD = re.compile(r"(?P<of>.+?)[_-]+(?:tile|patch|crop|chip)[_-]*\d+(?:[_-]+\d+)?", re.IGNORECASE)
_ROW_COLUMN = re.compile(r"(?P<of>.+?)[_-]+(?:x|r|row)[_-]?\d+[_-]+(?:y|c|col)[_-]?\d+", re.IGNORECASE)
_OFFSETS = re.compile(r"(?P<of>.+?)_+(?:\d+_+)?(?P<x>\d+)_+(?P<y>\d+)")  # as DOTA's tools write them
_STRIDE = 32  # pixels: the offsets of tiles are multiples of one stride of at least so many, dates and counters are not
_FEWEST = 3  # places in the grid


def check_names(dataset: Dataset, _scan: Scan, _options: AuditOptions) -> list[Finding]:
    """`split-overlap-group` for copies and for tiles of one picture that are in more than one split."""
    if len(dataset.splits) < 2:
        return []
    rows = dataset.images.select("path", "split").drop_nulls("split").rows()
    copies, tiles = _by_picture(rows, (_COPY,)), _by_picture(rows, (_TILE_WORD, _ROW_COLUMN))
    grids = {of: members for of, members in _by_picture(rows, (_OFFSETS,)).items() if _is_grid(members)}
    return [
        *_divided(copies, "augmented copies of one picture, by the names behind .rf."),
        *_divided(tiles | grids, "tiles of one picture, by their names"),
    ]


def _by_picture(rows: list[tuple[str, str]], patterns: tuple[re.Pattern[str], ...]) -> dict[str, list[tuple[str, str]]]:
    """Path and split of the images that are parts or copies of one picture, by its name."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, split in rows:
        stem = PurePosixPath(path).stem
        match = next((m for p in patterns if (m := p.fullmatch(stem))), None)
        if match is not None:
            groups[match["of"]].append((path, split))
    return groups


def _is_grid(members: list[tuple[str, str]]) -> bool:
    """Whether the numbers that end the names are offsets of tiles: 0 among them, all multiples of one stride."""
    found = [m for path, _ in members if (m := _OFFSETS.fullmatch(PurePosixPath(path).stem))]
    places = {(int(m["x"]), int(m["y"])) for m in found}
    steps = {v for place in places for v in place if v}
    return len(places) >= _FEWEST and (0, 0) in places and bool(steps) and math.gcd(*steps) >= _STRIDE


def _divided(groups: dict[str, list[tuple[str, str]]], what: str) -> list[Finding]:
    """One finding for all the pictures whose members are in several splits."""
    spread = {of: members for of, members in groups.items() if len({split for _, split in members}) > 1}
    if not spread:
        return []
    of, members = min(spread.items())
    one, other = members[0], next(m for m in members if m[1] != members[0][1])
    count = sum(len(m) for m in spread.values())
    message = (
        f"{count} images are {what}, of {len(spread)} pictures that are divided between splits, such as {one[0]} in "
        f"'{one[1]}' and {other[0]} in '{other[1]}'"
    )
    facts = {"pictures": len(spread), "example": of}
    return [finding("split-overlap-group", message, path=one[0], count=count, other=other[0], facts=facts)]
