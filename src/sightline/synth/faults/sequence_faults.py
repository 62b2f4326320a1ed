"""Faults of sequences and tracks in MOTChallenge files: rows of frame, id, left, top, width, height, ...."""

from collections.abc import Callable
from typing import TypeAlias

from sightline.synth.faults.site import Fault, Plant, Planted, Site

__all__ = ["SEQUENCE_FAULTS"]

_GT = "traffic/gt/gt.txt"
Row: TypeAlias = list[str]


def _rows(site: Site) -> list[Row]:
    return [line.split(",") for line in site.lines(_GT)]


def _write(site: Site, rows: list[Row]) -> None:
    site.write_lines(_GT, (",".join(row) for row in rows))


def _longest_track(rows: list[Row]) -> str:
    ids = [row[1] for row in rows]
    return max(sorted(set(ids)), key=ids.count)


def _rows_changed(code: str, change: Callable[[list[Row], str], list[Row]]) -> Plant:
    """`change` gets all rows and the id of the longest track."""

    def plant(site: Site) -> list[Planted]:
        rows = _rows(site)
        _write(site, change(rows, _longest_track(rows)))
        return [Planted(code)]

    return plant


def _reset(site: Site) -> list[Planted]:
    """Ids that number the boxes of each frame, in any order, as a detector's output does."""
    rows = _rows(site)
    order = site.rng.permutation(len(rows)).tolist()
    counts: dict[str, int] = {}
    for index in order:
        row = rows[index]
        counts[row[0]] = counts.get(row[0], 0) + 1
        row[1] = str(counts[row[0]])
    _write(site, rows)
    return [Planted("track-ids-reset")]


def _gap(rows: list[Row], longest: str) -> list[Row]:
    frames = sorted(int(row[0]) for row in rows if row[1] == longest)
    hidden = set(frames[len(frames) // 2 : len(frames) // 2 + 3])
    return [row for row in rows if row[1] != longest or int(row[0]) not in hidden]


def _jump(rows: list[Row], longest: str) -> list[Row]:
    """Two tracks exchange their identities halfway, the commonest fault of interpolated labels."""
    mine = {int(row[0]): row for row in rows if row[1] == longest}
    middle = sorted(mine)[len(mine) // 2]
    before = {row[1] for row in rows if int(row[0]) == middle - 1}
    others = [row for row in rows if int(row[0]) == middle and row[1] in before - {longest}]
    far = max(others, key=lambda row: abs(float(row[2]) - float(mine[middle][2])))
    swapped = {longest: far[1], far[1]: longest}
    for row in rows:
        if int(row[0]) >= middle:
            row[1] = swapped.get(row[1], row[1])
    return rows


def _twice_in_a_frame(site: Site) -> list[Planted]:
    rows = _rows(site)
    first = rows[0]
    moved = [first[0], first[1], str(float(first[2]) / 2), *first[3:]]
    _write(site, [*rows, moved])
    return [Planted("track-duplicate-id", _GT, len(rows) + 1)]


def _outside(site: Site) -> list[Planted]:
    rows = _rows(site)
    _write(site, [*rows, ["9999", *rows[0][1:]]])
    return [Planted("track-frame-range", _GT, len(rows) + 1)]


def _frame_missing(site: Site) -> list[Planted]:
    site.remove("traffic/img1/000005.jpg")
    return [Planted("sequence-frame-missing")]


def _frame_repeated(site: Site) -> list[Planted]:
    site.write("traffic/img1/000007.jpg", site.read("traffic/img1/000006.jpg"))
    return [Planted("sequence-frame-duplicate", "traffic/img1/000007.jpg")]


SEQUENCE_FAULTS: dict[str, Fault] = {
    "track-duplicate-id": Fault("video", _twice_in_a_frame),
    "track-frame-range": Fault("video", _outside),
    "track-ids-reset": Fault("video", _reset, ("track-jump", "track-gap")),
    "track-gap": Fault("video", _rows_changed("track-gap", _gap)),
    "track-jump": Fault("video", _rows_changed("track-jump", _jump)),
    "sequence-frame-missing": Fault("video", _frame_missing, ("image-missing",)),
    "sequence-frame-duplicate": Fault("video", _frame_repeated, ("image-duplicate",)),
}
