"""The pictures behind findings, and all sheets of one look at a data set.

A finding is shown as a box with what is around it, the two images of a pair, or frames of a group.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import PurePosixPath

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError, at
from sightline.core.findings import Finding
from sightline.data import CODES, images_of_findings, inside
from sightline.draw.look.options import LookOptions
from sightline.draw.look.samples import class_sheets, evenly, image_sheets, track_sheets, usual_colours
from sightline.draw.scenes import Box, Scenes, stand_in
from sightline.draw.sheets import Cell, Sheet, class_key
from sightline.draw.truth import TruthStyle
from sightline.draw.view import Picture, show_tones, view_whole
from sightline.media import IMAGE_SUFFIXES, read_image

__all__ = ["Evidence", "finding_sheets", "look_at"]

CONTEXT = 2.4
LEAST_SHARE, LEAST_PX, MOST_PX = 0.15, 48.0, 160.0
"""A place is shown with at least this share of its image's longer side, within bounds in pixels."""
GROUP_IMAGES = 4
_GAP_PX = 4
_BARE = ("image-", "sequence-", "group-", "split-")  # about pixels: labels would only be in the way
_OF_GROUPS = frozenset({"group-undeclared", "split-overlap-group"})
_FLAGS = {"label-crowd": "crowd", "label-ignored": "ignore"}
_LABELLED = frozenset({"split-label-conflict", "image-size-mismatch", "image-exif-orientation"})


class Evidence:
    """Draws the pictures behind the findings of one data set."""

    def __init__(self, scenes: Scenes, findings: Iterable[Finding], imgsz: int) -> None:
        self.scenes, self.imgsz = scenes, imgsz
        self.by_code: dict[str, list[Finding]] = defaultdict(list)
        self._image_of: dict[int, int | None] = {}
        every = list(findings)
        images = scenes.dataset.images
        # A finding that sums up several images is shown at the one it names.
        single = [replace(f, count=1) for f in every]
        for f, image_id in zip(every, images_of_findings(single, images), strict=True):
            self.by_code[f.code].append(f)
            self._image_of[id(f)] = image_id
        self._every = every  # keeps the ids above theirs
        self._by_path = dict(images.select("path", "image_id").iter_rows())

    def cells(self, code: str, limit: int) -> list[Cell]:
        """Up to `limit` pictures of findings of a code, from different images and files first."""
        cells: list[Cell] = []
        for f in _from_many(self._expanded(code, limit)):
            if len(cells) == limit:
                break
            picture = self._picture(f)
            if picture is not None:
                place = at(f.path, f.line) if f.path else self._path(f)
                cells.append(Cell(picture, place, (f.message,) if f.message else ()))
        return cells

    def _expanded(self, code: str, limit: int) -> list[Finding]:
        """The findings of a code; one that only counts the objects with a flag becomes one for each of a few images."""
        found = self.by_code.get(code, [])
        if code not in _FLAGS or not found or found[0].image_id is not None:
            return found
        flagged = self.scenes.dataset.objects.filter(pl.col(_FLAGS[code])).unique("image_id", maintain_order=True)
        singles = []
        for row in flagged.head(limit).iter_rows(named=True):
            box = (row["x1"], row["y1"], row["x2"], row["y2"])
            path = self.scenes.row(row["image_id"])["path"]
            single = replace(found[0], path=path, image_id=row["image_id"], box_xyxy=box, message="")
            self._image_of[id(single)] = row["image_id"]
            singles.append(single)
        self._every += singles
        return singles

    def image_ids(self, code: str) -> list[int]:
        """The images that findings of a code are about."""
        found = (self._image_of[id(f)] for f in self.by_code.get(code, ()))
        return [i for i in found if i is not None]

    def _path(self, f: Finding) -> str:
        image_id = self._image_of[id(f)]
        return "" if image_id is None else str(self.scenes.row(image_id)["path"])

    def _picture(self, f: Finding) -> Picture | None:
        image_id = self._image_id(f)
        cell = (self.imgsz, self.imgsz)
        style = TruthStyle(usual_colours(self.scenes.dataset))
        if f.code in _OF_GROUPS or (image_id is None and f.path is not None):
            members = self._members(f)
            return self._strip(f, members) if not members.is_empty() else self._loose(f.path or "")
        if image_id is None:
            return None
        if f.other is not None:
            return self._pair(image_id, f)
        if f.box_xyxy is not None:
            return self._place(image_id, f.box_xyxy, replace(style, marked_xyxy=f.box_xyxy))
        return self.scenes.whole(image_id, cell, style, labels=_with_labels(f))

    def _image_id(self, f: Finding) -> int | None:
        """The image a finding is about; of one that sums up several, the one it names."""
        found = self._image_of[id(f)]
        return self._by_path.get(f.path or "") if found is None else found

    def _place(self, image_id: int, box_xyxy: Box, style: TruthStyle) -> Picture:
        row = self.scenes.row(image_id)
        least = min(max(LEAST_SHARE * max(row["width"], row["height"]), LEAST_PX), MOST_PX)
        cell = (self.imgsz, self.imgsz)
        return self.scenes.around(image_id, box_xyxy, cell, style, context=CONTEXT, least_px=least)

    def _pair(self, image_id: int, f: Finding) -> Picture:
        """The other image, then the one in question, with its box marked where the finding has one."""
        other = self._by_path.get(f.other or "")
        style = TruthStyle(usual_colours(self.scenes.dataset), names=False)
        row = self.scenes.row(image_id)
        across = row["height"] > row["width"]
        half = (self.imgsz - _GAP_PX) // 2
        cell = (self.imgsz, half) if across else (half, self.imgsz)
        labels = _with_labels(f)
        marked = self.scenes.whole(image_id, cell, replace(style, marked_xyxy=f.box_xyxy), labels=labels)
        if other is None:
            return marked
        return _joined([self.scenes.whole(other, cell, style, labels=labels), marked], across=across)

    def _members(self, f: Finding) -> pl.DataFrame:
        """The images of the group a finding names, or of the image it names, or from that one to the other.

        Of two images in different folders it is not known what lies between: it is those two.
        """
        images = self.scenes.dataset.images
        if f.other is not None:
            between = sorted((str(f.path), f.other))
            if PurePosixPath(between[0]).parent != PurePosixPath(between[1]).parent:
                return images.filter(pl.col("path").is_in(between)).sort("path")
            return images.filter(pl.col("path").is_between(pl.lit(between[0]), pl.lit(between[1]))).sort("path")
        named = images.filter(pl.col("path") == f.path)["group"].drop_nulls().to_list()
        return images.filter(pl.col("group") == (named[0] if named else f.path)).sort("split", "frame", "path")

    def _strip(self, f: Finding, members: pl.DataFrame) -> Picture:
        half = (self.imgsz - _GAP_PX) // 2
        style = TruthStyle(usual_colours(self.scenes.dataset), names=False)
        ids = members["image_id"].gather(evenly(members.height, GROUP_IMAGES)).to_list()
        pictures = [self.scenes.whole(i, (half, half), style, labels=_with_labels(f)) for i in ids]
        rows = [_joined(pictures[i : i + 2], across=True) for i in range(0, len(pictures), 2)]
        return _joined(rows, across=False)

    def _loose(self, path: str) -> Picture | None:
        if PurePosixPath(path).suffix.lower() not in IMAGE_SUFFIXES:
            return None
        cell = (self.imgsz, self.imgsz)
        try:
            file = self.scenes.dataset.root / inside(self.scenes.dataset.root, path, path)
            pixels = show_tones(read_image(file))
        except DataError as error:
            return stand_in(cell, error.what)
        return view_whole((pixels.shape[0], pixels.shape[1]), cell).show(pixels)


def finding_sheets(evidence: Evidence, codes: Sequence[str], options: LookOptions) -> Iterator[Sheet]:
    """A sheet for each code that has findings with pictures."""
    dataset = evidence.scenes.dataset
    for code in codes:
        cells = evidence.cells(code, options.per_finding)
        if not cells:
            continue
        findings = evidence.by_code[code]
        count = sum(f.count for f in findings)
        kind = CODES[code]
        shown = f"{len(cells)} of {len(findings)} places" if len(findings) > len(cells) else f"{len(cells)} places"
        note = f"{kind.severity}: {kind.meaning}. {kind.do}. {shown} shown, {count} counted in all."
        yield Sheet(
            f"finding-{code}",
            "finding",
            code,
            cells,
            note,
            class_key(dataset, evidence.image_ids(code)) if usual_colours(dataset) == "class" else (),
            columns=max(1, 1640 // options.imgsz),
            facts={"code": code, "severity": kind.severity, "count": count},
        )


def _with_labels(f: Finding) -> bool:
    return f.code in _LABELLED or not f.code.startswith(_BARE)


def _from_many(findings: Sequence[Finding]) -> Iterator[Finding]:
    """The findings in turns, one of each file, as listed."""
    by_file: dict[str | int | None, list[Finding]] = defaultdict(list)
    for f in findings:
        by_file[f.image_id if f.image_id is not None else f.path].append(f)
    turns = zip_longest(*by_file.values())
    return (f for f in chain.from_iterable(turns) if f is not None)


def _joined(pictures: Sequence[Picture], *, across: bool) -> Picture:
    """Pictures side by side, or one below the other."""
    along = 1 - int(not across)
    longest = max(p.shape[1 - along] for p in pictures)
    parts: list[Picture] = []
    for picture in pictures:
        gap = [(0, 0), (0, 0), (0, 0)]
        gap[1 - along] = (0, longest - picture.shape[1 - along])
        gap[along] = (0, _GAP_PX if picture is not pictures[-1] else 0)
        parts.append(np.pad(picture, gap, constant_values=250))
    return np.concatenate(parts, axis=along)


def look_at(
    dataset: Dataset,
    options: LookOptions | None = None,
    findings: Sequence[Finding] = (),
    codes: Sequence[str] | None = None,
) -> Iterator[Sheet]:
    """Random images, objects of each class, tracks where there are such, then the findings' places code by code.

    `findings` are those of the data set's audit, `codes` which of them to show (all by default). The same data and
    options give the same pictures.
    """
    options = options or LookOptions()
    scenes = Scenes(dataset)
    yield from image_sheets(scenes, options)
    yield from class_sheets(scenes, options)
    yield from track_sheets(scenes, options)
    evidence = Evidence(scenes, findings, options.imgsz)
    yield from finding_sheets(evidence, list(evidence.by_code) if codes is None else codes, options)
