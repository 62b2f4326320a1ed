"""COCO panoptic: a JSON that lists the segments of each image, and a PNG per image that holds their pixels.

A pixel's colour is the id of its segment, `red + 256 green + 65536 blue`; 0 belongs to none. Each segment becomes an
object with its mask as run lengths; stuff is a class with `thing` false. Recognised: the JSON file, or a folder with
such files or with `annotations/*.json`; the PNG files lie in a folder of the JSON's name or near it.

Boxes and areas are those the file states, of the segment's pixels where it states none. Segment ids are kept where no
two segments have the same; COCO's own are colours, used again in every image, and there objects count from 1.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.coco.categories import read_classes, without_empty_twins
from sightline.data.formats.coco.document import Document, Problem, entry_lines, has_json_name
from sightline.data.formats.coco.listing import fullest_folder, image_folder, json_kind, read_images, top_folder
from sightline.data.formats.shared.image_tables import build_dataset, float_rows, floats, integers
from sightline.data.formats.shared.shapes import split_ids
from sightline.data.layout import absolute, common_root, folders_up_to, inside, relative, split_of
from sightline.media import read_image
from sightline.ops import rle

__all__ = [
    "ID_WEIGHTS",
    "LOOKED_FOR",
    "SegmentMap",
    "SegmentReader",
    "detect",
    "entry_lines",
    "map_folder",
    "read",
    "read_segment_map",
]

LOOKED_FOR = "a COCO panoptic JSON (`segments_info`) with its folder of PNG files, or a folder with such files"
_OTHER_TASKS = ("captions_", "instances_", "person_keypoints_", "stuff_", "image_info_")


def detect(path: Path) -> float | None:
    """How surely the path is COCO panoptic, 0..1, or None."""
    return 0.95 if any(json_kind(file) == "panoptic" for file, _ in _label_files(path)) else None


def read(path: Path) -> Dataset:
    """The data set of a panoptic JSON or a folder of them. DataError when there is none."""
    path = absolute(path)
    documents = [Document(file, split) for file, split in _label_files(path)]
    if not documents:
        raise DataError(f"must be COCO panoptic ({LOOKED_FOR}), got none of these", where=str(path))
    top = top_folder(path)
    image_folders, map_folders = [image_folder(d, top) for d in documents], [_map_folder(d, top) for d in documents]
    base = path if path.is_dir() else path.parent
    root = common_root([base, *image_folders, *map_folders])
    for document in documents:
        document.name = relative(document.file, root)
    class_maps, classes, findings = read_classes(documents)
    images, id_maps, image_findings = read_images(documents, image_folders, root)
    findings += image_findings
    tables = []
    mapped: set[int] = set()
    for document, folder, ids, class_ids in zip(documents, map_folders, id_maps, class_maps, strict=True):
        reader = SegmentReader(document, folder, root, images, ids, class_ids)
        table, found = reader.read()
        tables.append(table)
        findings += found
        mapped |= reader.mapped
    for path_of, image_id in images.select("path", "image_id").iter_rows():
        if image_id not in mapped:
            message = "no panoptic map is listed for the image"
            findings.append(finding("label-missing-file", message, path=path_of, image_id=image_id))
    classes, objects = without_empty_twins(classes, pl.concat(tables), findings)
    if objects["object_id"].n_unique() < objects.height:
        objects = objects.with_columns(object_id=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
    dataset = build_dataset(path, "coco-panoptic", images, objects, classes, findings, root=root, task="instance")
    kept = all(new in (None, old) for ids in id_maps for old, new in ids.items())
    return replace(dataset, source_image_ids=kept and not any(d.has_text_ids for d in documents))


def _label_files(path: Path) -> list[tuple[Path, str | None]]:
    """The panoptic JSON files a path stands for, and damaged ones beside them, with the splits of their names."""
    folders = (path / "annotations", path) if path.is_dir() else ()
    candidates = (
        [[path]]
        if path.is_file()
        else [sorted(p for p in folder.glob("*.json*") if has_json_name(p)) for folder in folders]
    )
    for files in candidates:
        kinds = {p: json_kind(p) for p in files}
        if "panoptic" in kinds.values():
            wanted = {"panoptic", "damaged"}
            return [
                (p, split_of(p.stem))
                for p, kind in kinds.items()
                if kind in wanted and not p.name.startswith(_OTHER_TASKS)
            ]
    return []


def _map_folder(document: Document, top: Path) -> Path:
    entries, _, _ = document.entries("annotations")
    return map_folder(document.file, [e["file_name"] for e in entries if isinstance(e.get("file_name"), str)], top)


def map_folder(file: Path, names: list[str], top: Path) -> Path:
    """The folder of the PNG files that a JSON names: of the usual places up to `top` that with most of them."""
    stem = file.name.partition(".json")[0]
    places = [stem, stem.removeprefix("panoptic_"), "panoptic", "masks", ""]
    return fullest_folder([base / place for base in folders_up_to(file, top) for place in places], names)


ID_WEIGHTS = (1, 1 << 8, 1 << 16)
"""What a step of red, green and blue adds to a segment's id."""

_WORKERS = 2
_NO_SEGMENT = 0
_COLUMNS = ("object_id", "image_id", "class_id", "x1", "y1", "x2", "y2", "area", "crowd", "ignore", "rle")

Ints: TypeAlias = npt.NDArray[np.int64]
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An annotation that can be used."""

    index: int
    image_id: int
    segments: list[Any]
    file: Path


@dataclass(frozen=True, slots=True)
class SegmentMap:
    """The masks of a PNG by segment id, or what is wrong with the file."""

    masks: dict[int, bytes]
    code: str | None = None
    message: str = ""


class SegmentReader:
    """Reads the annotations of one file; `mapped` is then the images that have one.

    `folder` holds the PNG files; `image_ids` (None: left out) and `class_ids` map the file's ids to the data set's,
    whose table `images` is and whose `root` paths are relative to.
    """

    def __init__(
        self,
        document: Document,
        folder: Path,
        root: Path,
        images: pl.DataFrame,
        image_ids: Mapping[int, int | None],
        class_ids: Mapping[int, int],
    ) -> None:
        self.mapped: set[int] = set()
        self._document, self._folder, self._root = document, folder, root
        self._image_ids, self._class_ids = image_ids, class_ids
        self._sizes = {i: (h, w) for i, h, w in images.select("image_id", "height", "width").iter_rows()}
        self._problems: list[Problem] = []
        self._findings: list[Finding] = []

    def read(self) -> tuple[pl.DataFrame, list[Finding]]:
        """The objects of the file, `object_id` being the segment's own, and the findings."""
        entries = self._entries()
        rows: list[Row] = []
        index: list[int] = []
        with ThreadPoolExecutor(_WORKERS) as pool:
            maps = pool.map(lambda entry: read_segment_map(entry.file, self._sizes[entry.image_id]), entries)
            for entry, found in zip(entries, maps, strict=True):
                rows += self._segments(entry, found)
                index += [entry.index] * (len(rows) - len(index))
        table = pl.DataFrame(
            {c: [row.get(c) for row in rows] for c in _COLUMNS}, schema={c: OBJECTS_SCHEMA[c] for c in _COLUMNS}
        )
        source: dict[str, pl.Expr | pl.Series] = {
            "label_path": pl.lit(self._document.name).cast(pl.Categorical),
            "entry": pl.Series(index, dtype=pl.Int32),
        }
        found_in_file = self._document.findings("annotations", self._problems)
        return table.with_columns(**source), found_in_file + self._findings

    def _entries(self) -> list[_Entry]:
        entries, index, self._problems = self._document.entries("annotations")
        of_image, bad = integers([e.get("image_id") for e in entries])
        usable = []
        for i, listed, wrong, entry in zip(index.tolist(), of_image.tolist(), bad.tolist(), entries, strict=True):
            image_id = None if wrong else self._image_ids.get(listed)
            name, segments = entry.get("file_name"), entry.get("segments_info")
            if image_id is None and not wrong and listed in self._image_ids:
                count = len(segments) if isinstance(segments, list) else 1
                message = f"segments of image {listed}, which is left out itself"
                self._problems.append(Problem("label-left-out", i, message, count=count))
            elif image_id is None:
                got = entry.get("image_id")
                self._problem("label-unknown-image", i, f"annotations[{i}] belongs to image {got!r:.40}, not listed")
            elif not isinstance(name, str) or not isinstance(segments, list):
                message = f"annotations[{i}] must have a file_name and a list segments_info, got {name!r:.60}"
                self._problem("label-malformed", i, message, image_id)
            elif image_id in self.mapped:
                self._problem("label-duplicate-id", i, f"annotations[{i}] is the second one of its image", image_id)
            else:
                self.mapped.add(image_id)
                file = self._folder / inside(self._folder, name, self._document.name)
                usable.append(_Entry(i, image_id, segments, file))
        return usable

    def _segments(self, entry: _Entry, found: SegmentMap) -> Iterator[Row]:
        """The objects of an annotation."""
        segments = [s for s in entry.segments if isinstance(s, dict)]
        ids, bad_ids = integers([s.get("id") for s in segments])
        of_class, bad_class = integers([s.get("category_id") for s in segments])
        self._look_at(entry, found, set(ids.tolist()))
        if len(segments) < len(entry.segments):
            message = f"segments of annotations[{entry.index}] must be objects"
            self._problem("label-malformed", entry.index, message, entry.image_id)
        boxes = float_rows([s.get("bbox") for s in segments], 4)[0].tolist()
        areas = floats([s.get("area") for s in segments])[0].tolist()
        seen: set[int] = set()
        columns = (ids.tolist(), bad_ids.tolist(), of_class.tolist(), bad_class.tolist(), boxes, areas, segments)
        for number, wrong, category, unknown, stated, area, segment in zip(*columns, strict=True):
            class_id = None if unknown else self._class_ids.get(category)
            mask = None if wrong else found.masks.get(number)
            box = self._box_of(mask, entry.image_id) if np.isnan(stated[0]) and mask is not None else stated
            problem = _problem_of(segment, wrong or number in seen, class_id, box)
            if problem is None and mask is None and found.code is None:
                self._problem("mask-missing-segment", entry.index, f"{_label(segment)} has no pixel", entry.image_id)
            if problem is not None:
                code, what = problem
                facts = {"class_number": category} if code == "label-unknown-class" and not unknown else {}
                self._problem(code, entry.index, f"{_label(segment)} {what}", entry.image_id, facts)
                continue
            seen.add(number)
            yield _row(number, entry.image_id, class_id, box, area, mask, bool(segment.get("iscrowd")))

    def _box_of(self, mask: bytes, image_id: int) -> list[float]:
        x1, y1, x2, y2 = rle.to_box(mask, self._sizes[image_id]).tolist()
        return [x1, y1, x2 - x1, y2 - y1]

    def _look_at(self, entry: _Entry, found: SegmentMap, listed: set[int]) -> None:
        """What is wrong with the PNG as a whole, and the ids in it that no segment has."""
        path = relative(entry.file, self._root)
        strange = [number for number in found.masks if number not in listed]
        if found.code is not None:
            self._findings.append(finding(found.code, found.message, path=path, image_id=entry.image_id))
        elif strange:
            pixels = sum(rle.area(found.masks[number]) for number in strange)
            ids = ", ".join(map(str, strange[:5]))
            message = f"{pixels} pixels have the ids of {len(strange)} segments that are not listed: {ids}"
            found_here = finding(
                "mask-unlisted-segment", message, path=path, image_id=entry.image_id, count=len(strange)
            )
            self._findings.append(found_here)

    def _problem(
        self, code: str, index: int, message: str, image_id: int | None = None, facts: Mapping[str, Any] | None = None
    ) -> None:
        self._problems.append(Problem(code, index, message, image_id, facts=facts or {}))


def read_segment_map(file: Path, size_hw: tuple[int, int]) -> SegmentMap:
    """The masks of a PNG whose image has this size; what is wrong with it where there are none."""
    if not file.is_file():
        return SegmentMap(
            {}, "label-missing-file", "the panoptic map does not exist; the boxes of its segments are kept"
        )
    try:
        colours = read_image(file)
    except DataError as error:
        return SegmentMap({}, "mask-unreadable", error.what)
    if colours.ndim != 3:
        return SegmentMap({}, "mask-unreadable", "a panoptic map must be RGB, got one channel")
    if colours.shape[:2] != size_hw:
        got, size = (f"{width} × {height}" for height, width in (colours.shape[:2], size_hw))
        return SegmentMap({}, "mask-size-mismatch", f"a panoptic map must be {size} pixels as its image is, got {got}")
    red, green, blue = (colours[..., i].astype(np.int32) * weight for i, weight in enumerate(ID_WEIGHTS))
    masks = split_ids(red + green + blue)
    masks.pop(_NO_SEGMENT, None)
    return SegmentMap(masks)


def _problem_of(segment: Row, repeated: bool, class_id: int | None, box: list[float]) -> tuple[str, str] | None:
    """Code and message of what keeps a segment from being an object."""
    if repeated:
        return "label-duplicate-id", "must have an integer id of its own"
    if class_id is None:
        return "label-unknown-class", f"has category {segment.get('category_id')!r:.40}, not declared"
    if np.isnan(box[0]):
        return "label-malformed", f"must have a bbox of four finite numbers, got {segment.get('bbox')!r:.60}"
    return None


def _label(segment: Row) -> str:
    return f"segment {segment.get('id')!r:.20}"


def _row(
    number: int, image_id: int, class_id: int | None, box: list[float], area: float, mask: bytes | None, crowd: bool
) -> Row:
    x, y, width, height = box
    if np.isnan(area) or area < 0:
        area = float(rle.area(mask)) if mask is not None else max(width, 0.0) * max(height, 0.0)
    row = {"object_id": number, "image_id": image_id, "class_id": class_id, "area": area, "crowd": crowd}
    return row | {"x1": x, "y1": y, "x2": x + width, "y2": y + height, "ignore": False, "rle": mask}
