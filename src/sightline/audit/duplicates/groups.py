"""Images that belong together: undeclared frames of one scene, groups divided between splits, lookalikes of a network.

Consecutive frames show in two things at once: names that differ in a running number, and neighbours by that number that
are far more alike than images further apart. Names alone prove nothing (`IMG_0001` to `IMG_9999`), and alikeness alone
is what pictures of one kind have.
"""

import re
from collections import Counter, defaultdict
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sightline.audit.duplicates.hamming import Components, in_order_of_appearance
from sightline.audit.scan.image_hash import THUMBNAIL, thumbnail_details
from sightline.audit.scan.one_pass import Scan, thumbnails_of
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data import finding, split_of

__all__ = [
    "Sequence",
    "check_groups",
    "check_likeness",
    "consecutive_groups",
    "find_sequences",
    "name_sequences",
    "near_duplicates_by_embedding",
]

_FEWEST = 4  # names with one running number; fewer give no neighbours to compare with
_RUN = 3  # frames that make a sequence
_SHIFT = 3  # thumbnail pixels a camera may move between frames, a tenth of the picture
_PAIRS = 1000  # pairs drawn for a comparison, at most
_LIKELIER = 0.8  # how often neighbours must be more alike than images of the same names far apart
_FURTHER = 0.3  # and by how much, in the median (Fisher's z of the correlation)
_LIKELIER_ELSEWHERE, _FURTHER_ELSEWHERE = (
    0.95,
    0.8,
)  # the same against images of other names, for a camera standing still
_LINK = (0.3, 0.5)  # bounds of the correlation from which on two neighbours are frames of one scene
_MOSTLY = 0.7  # share of linked neighbours from which on a regularly numbered series is one recording
_DIGITS = 18  # of a number that are read; longer ones are hashes
_SEED = 0
_EXPORTED = re.compile(r"(_(jpe?g|png))?\.rf\.[0-9a-z]+$", re.IGNORECASE)  # appended to names by Roboflow's export
_NUMBERED = re.compile(r"^(.*?)(\d+)(\D*)$")

Details: TypeAlias = NDArray[np.int8]
Rows: TypeAlias = NDArray[np.int64]


class _Series(NamedTuple):
    """Images whose names differ in one running number: their rows and numbers, in its order."""

    rows: Rows
    numbers: NDArray[np.int64]


class Sequence(NamedTuple):
    """Consecutive frames: all rows of one recording, and the stretches in which each frame is like the next."""

    rows: Rows
    scenes: list[Rows]


def check_groups(dataset: Dataset, scan: Scan, sequences: list[Sequence]) -> list[Finding]:
    """Declared groups in several splits; undeclared sequences of consecutive frames, and those that splits divide."""
    found = _divided_groups(dataset.images)
    declared = scan.images["group"].is_not_null().to_numpy()
    paths, splits = scan.images["path"].to_list(), scan.images["split"].to_list()
    for sequence in sequences:
        rows = sequence.rows[~declared[sequence.rows]].tolist()
        if not rows:
            continue
        message = f"{len(rows)} images from {paths[rows[0]]} to {paths[rows[-1]]} are consecutive frames of one scene"
        place = {"path": paths[rows[0]], "count": len(rows), "other": paths[rows[-1]]}
        found.append(finding("group-undeclared", message, **place))
        for scene in sequence.scenes:
            held = Counter(splits[row] for row in scene.tolist() if splits[row] is not None)
            if len(held) > 1 and not declared[scene].any():
                shares = " and ".join(f"{count} in '{split}'" for split, count in held.items())
                message = (
                    f"consecutive frames of one scene, from {paths[scene[0]]} to {paths[scene[-1]]}, "
                    f"are divided between splits: {shares}"
                )
                place = {"path": paths[scene[0]], "count": len(scene), "other": paths[scene[-1]]}
                found.append(finding("split-overlap-group", message, **place))
    return found


def consecutive_groups(images: pl.DataFrame) -> pl.Series:
    """For each row of `Scan.images` the name of the sequence of consecutive frames it belongs to, or null.

    A sequence has at least three frames. It is found from the files' names and thumbnails alone, whatever `split` and
    `group` say; images in folders of different splits (`train`, `val`) can belong to one sequence.
    """
    return pl.Series("group", name_sequences(images, find_sequences(images)), dtype=pl.String)


def name_sequences(images: pl.DataFrame, sequences: list[Sequence]) -> list[str | None]:
    """For each row of `Scan.images` the name of its sequence, after the first and last file, or None."""
    names: list[str | None] = [None] * images.height
    paths = images["path"].to_list()
    for sequence in sequences:
        first, last = (paths[i].rpartition(".")[0] or paths[i] for i in sequence.rows[[0, -1]].tolist())
        for row in sequence.rows.tolist():
            names[row] = f"{first} to {last.rpartition('/')[2]}"
    return names


def find_sequences(images: pl.DataFrame, details: Details | None = None) -> list[Sequence]:
    """The sequences of consecutive frames among the rows of `Scan.images`: see `consecutive_groups`.

    `details` are the thumbnails' `thumbnail_details`, where the caller has them already.
    """
    known = images["thumbnail"].is_not_null().to_numpy()
    series = _numbered_series(images["path"].to_list(), known)
    if not series:
        return []
    details = thumbnail_details(thumbnails_of(images))[0] if details is None else details
    return [sequence for one in series for sequence in _divide(one, details, np.flatnonzero(known))]


def _numbered_series(paths: list[str], known: NDArray[np.bool_]) -> list[_Series]:
    members: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    above: dict[str, str] = {}
    for row, path in enumerate(paths):
        folder, _, file = path.rpartition("/")
        stem = _EXPORTED.sub("", file.rpartition(".")[0] or file)
        matched = _NUMBERED.match(stem)
        if matched is None or not known[row]:
            continue
        if folder not in above:
            # The folders of the splits are no part of a name: a divided video must be seen as one.
            above[folder] = "/".join(part for part in folder.split("/") if split_of(part) is None)
        prefix, number, suffix = matched.groups()
        members[above[folder], prefix, suffix].append((int(number[-_DIGITS:]), row))
    long = [np.array(sorted(numbered)) for numbered in members.values() if len(numbered) >= _FEWEST]
    return [_Series(rows=pairs[:, 1], numbers=pairs[:, 0]) for pairs in long]


def _units(details: Details) -> NDArray[np.float32]:
    """Details (N, 1024) as pictures (N, 32, 32) of length 1: their product is a correlation."""
    values = details.astype(np.float32)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1)
    return values.reshape(-1, THUMBNAIL, THUMBNAIL)


def _likeness(details: Details, one: Rows, other: Rows) -> NDArray[np.float64]:
    """The greatest correlation of each pair over shifts of up to `_SHIFT` thumbnail pixels."""
    best = np.empty(len(one))
    for start in range(0, len(one), _PAIRS):
        part = slice(start, start + _PAIRS)
        product = np.fft.rfft2(_units(details[one[part]])) * np.conj(np.fft.rfft2(_units(details[other[part]])))
        moved = np.roll(np.fft.irfft2(product, s=(THUMBNAIL, THUMBNAIL)), (_SHIFT, _SHIFT), axis=(1, 2))
        best[part] = moved[:, : 2 * _SHIFT + 1, : 2 * _SHIFT + 1].max(axis=(1, 2))
    return best


def _divide(series: _Series, details: Details, everything: Rows) -> list[Sequence]:
    """The sequences of a series; none where its neighbours are no more alike than any two images."""
    rows = series.rows
    level = _level_of_scenes(rows, details, everything)
    if level is None:
        return []
    linked = _likeness(details, rows[:-1], rows[1:]) >= level
    # One frame that differs (a flash, something passing) does not end a scene.
    over = _likeness(details, rows[:-2], rows[2:]) >= level
    linked[:-1] |= over
    linked[1:] |= over
    steps = np.diff(series.numbers)
    # In a recording the camera may turn fast now and then; the numbers then go on as before.
    joined = linked | (steps <= 1.5 * np.median(steps)) if linked.mean() >= _MOSTLY else linked
    scenes = np.split(np.arange(len(rows)), np.flatnonzero(~linked) + 1)
    found = []
    for part in np.split(np.arange(len(rows)), np.flatnonzero(~joined) + 1):
        if len(part) >= _RUN:
            own = [rows[s] for s in scenes if len(s) > 1 and part[0] <= s[0] <= part[-1]]
            found.append(Sequence(rows[part], own))
    return found


def _level_of_scenes(rows: Rows, details: Details, everything: Rows) -> float | None:
    """The likeness from which on neighbours are frames of one scene, from samples; None when that says nothing."""
    rng, count = np.random.default_rng(_SEED), min(_PAIRS, 4 * len(rows))
    first = rng.permutation(len(rows) - 1)[:count]
    neighbours = _likeness(details, rows[first], rows[first + 1])
    if np.median(neighbours) < np.tanh(_FURTHER):  # even strangers of no likeness at all are then too near
        return None
    one, other = rng.integers(0, len(rows), (2, count))
    apart = np.abs(one - other) > max(1, len(rows) // 4)
    level = _level(neighbours, _likeness(details, rows[one[apart]], rows[other[apart]]), _LIKELIER, _FURTHER)
    outside = np.setdiff1d(everything, rows)
    if level is not None or len(outside) < len(rows) or np.median(neighbours) < np.tanh(_FURTHER_ELSEWHERE):
        return level
    elsewhere = _likeness(details, rng.choice(rows, count), rng.choice(outside, count))
    return _level(neighbours, elsewhere, _LIKELIER_ELSEWHERE, _FURTHER_ELSEWHERE)


def _level(neighbours: NDArray[Any], strangers: NDArray[Any], likelier: float, further: float) -> float | None:
    """The correlation that tells frames of one scene from strangers; None when neighbours are hardly more alike."""
    if not len(strangers):
        return None
    ordered = np.sort(strangers)
    more_alike = np.searchsorted(ordered, neighbours).mean() / len(ordered)
    near, far = (float(np.arctanh(min(np.median(v), 0.999))) for v in (neighbours, strangers))
    if more_alike < likelier or near - far < further:
        return None
    return float(np.clip(np.tanh((near + far) / 2), *_LINK))


def _divided_groups(images: pl.DataFrame) -> list[Finding]:
    spread = (
        images.filter(pl.col("group").is_not_null() & pl.col("split").is_not_null())
        .group_by("group", maintain_order=True)
        .agg(pl.col("split").unique(maintain_order=True), pl.len(), pl.col("path").first())
        .filter(pl.col("split").list.len() > 1)
    )
    return [
        finding(
            "split-overlap-group",
            f"the {count} images of group '{group}' are divided between {_listed(splits)}",
            path=path,
            count=count,
        )
        for group, splits, count, path in spread.iter_rows()
    ]


def _listed(names: list[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


_SHOWN = 3


def check_likeness(dataset: Dataset, vectors: NDArray[np.float32], threshold: float) -> list[Finding]:
    """`split-overlap-alike` and `image-alike`: components of images whose vectors have a cosine of `threshold` or more.

    `vectors` (N, D) are of the rows of `dataset.images`; rows of zeros are of images that cannot be read. One finding
    for each component. DataError when the vectors are not one per image.
    """
    if vectors.ndim != 2 or len(vectors) != len(dataset):
        raise DataError(f"embeddings must be one per image ({len(dataset)}), got an array of shape {vectors.shape}")
    labels = near_duplicates_by_embedding(vectors, threshold).labels
    images = dataset.images.select("image_id", "path", "split").with_columns(component=pl.Series(labels))
    found = []
    for _, part in images.filter(pl.len().over("component") > 1).group_by("component", maintain_order=True):
        counts = dict(part.group_by("split", maintain_order=True).len().drop_nulls("split").iter_rows())
        paths = part["path"].to_list()
        shown = ", ".join(paths[:_SHOWN]) + (", …" if len(paths) > _SHOWN else "")
        across = len(counts) > 1
        where = " and ".join(f"{n} in '{split}'" for split, n in counts.items())
        message = f"{len(paths)} images look alike to the network{f', {where}' if across else ''}: {shown}"
        code = "split-overlap-alike" if across else "image-alike"
        found.append(finding(code, message, path=paths[0], image_id=part["image_id"][0], count=len(paths)))
    return found


_BLOCK = 2048  # rows compared at once: 16 MiB of cosines


def near_duplicates_by_embedding(vectors: npt.NDArray[np.float32], threshold: float) -> Components:
    """Which rows of `vectors` (N, D) are joined by chains of pairs whose cosine is at least `threshold` (-1..1).

    Every pair is compared, block by block: time grows with N² D, memory with N. The partner of a row is the one of
    greatest cosine among those that reach the threshold; `distance` is 0 (-1 without a partner). Rows
    of zeros are like nothing. ValueError for values that are not finite.

    >>> near_duplicates_by_embedding(np.eye(2, dtype=np.float32)[[0, 1, 0]], 0.9).labels.tolist()
    [0, 1, 0]
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be finite and (N, D), got {vectors.shape}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    count = len(units)
    roots = np.arange(count)
    partner, best = np.full(count, -1, dtype=np.int64), np.full(count, -np.inf, dtype=np.float32)
    alive = lengths[:, 0] > 0
    for start in range(0, count, _BLOCK):
        for begin in range(start, count, _BLOCK):
            rows, columns = slice(start, start + _BLOCK), slice(begin, begin + _BLOCK)
            cosines = units[rows] @ units[columns].T
            cosines[~alive[rows]] = -np.inf
            cosines[:, ~alive[columns]] = -np.inf
            if start == begin:
                np.fill_diagonal(cosines, -np.inf)
            _keep_best(cosines, start, begin, threshold, partner, best)
            _keep_best(cosines.T, begin, start, threshold, partner, best)
            one, other = np.nonzero(cosines >= threshold)
            roots = _joined(roots, one + start, other + begin)
    return Components(in_order_of_appearance(roots), partner, np.where(partner >= 0, 0, -1))


def _keep_best(
    cosines: npt.NDArray[np.float32],
    first_row: int,
    first_column: int,
    threshold: float,
    partner: npt.NDArray[np.int64],
    best: npt.NDArray[np.float32],
) -> None:
    greatest = cosines.argmax(axis=1)
    value = cosines[np.arange(len(cosines)), greatest]
    rows = slice(first_row, first_row + len(cosines))
    better = (value >= threshold) & (value > best[rows])
    partner[rows] = np.where(better, greatest + first_column, partner[rows])
    best[rows] = np.where(better, value, best[rows])


def _joined(
    roots: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The components once these pairs are joined as well."""
    if not len(rows):
        return roots
    one, other = roots[rows], roots[columns]
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(len(roots), len(roots)))
    return np.asarray(connected_components(graph, directed=False)[1][roots], dtype=np.int64)
