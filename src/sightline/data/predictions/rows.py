"""Rows of predictions as any file gives them, made into `Predictions` of a data set."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import LEFT_OUT, OF_UNUSED_TWINS, Predictions, predictions_from_rows
from sightline.data.image_names import ImageNames

__all__ = ["Found", "predictions_of"]


@dataclass(slots=True)
class Found:
    """One prediction: its image by name or number, its class by name or number, box `xyxy` in pixels or a mask."""

    image: str | int
    label: str | int
    score: float
    box_xyxy: npt.NDArray[np.float64]
    where: str
    rle: bytes | None = None
    track_id: int | None = None
    size_wh: tuple[float, float] | None = None  # as the file has it, where it has no corners
    area: float | None = None  # where the file decides it
    keypoints: list[float] | None = None  # x, y, score of each, pixels
    oriented: list[float] | None = None  # cx, cy, w, h, angle, see `sightline.ops.oriented`


class _Classes:
    """The class ids of a data set by what files may call them; `from_1` where the file counts classes from 1."""

    def __init__(self, dataset: Dataset, labels: list[int]) -> None:
        count = len(dataset.class_names)
        pairs = dataset.classes.select("source_id", "class_id").iter_rows()
        self._by_source = {s: c for s, c in pairs if s is not None} or {i: i for i in range(count)}
        self._by_name = {name: i for i, name in enumerate(dataset.class_names)}
        # Trainers write classes of sets without ids of their own from 1 on; ids that a source gave are never moved.
        made_here = not dataset.source_image_ids and self._by_source == {i: i for i in range(count)}
        self.from_1 = made_here and bool(labels) and min(labels) >= 1 and max(labels) == count
        if self.from_1:
            self._by_source = {i + 1: i for i in range(count)}
        twins = [f.facts["ids"] for f in dataset.findings if f.code == "class-duplicate-name"]
        self.unused = {i for ids in twins for i in ids} - set(self._by_source)  # categories of COCO without an object

    def id_of(self, found: Found) -> int:
        table: dict[Any, int] = self._by_name if isinstance(found.label, str) else self._by_source
        if found.label not in table:
            what = "the class" if table is self._by_name else "category_id"
            raise DataError(f"{what} must be one of {list(table)[:20]}, got {found.label!r}", where=found.where)
        return table[found.label]


def predictions_of(dataset: Dataset, rows: list[Found], images: list[str], where: str, kind: str) -> Predictions:
    """`rows` as predictions of the data set. `images` are names the file knows beside those of the rows.

    Rows of images that the data set does not have are left out and counted in `meta`; DataError where that is all of
    them.
    """
    names = ImageNames(dataset)
    named = dict.fromkeys([*images, *(r.image for r in rows if isinstance(r.image, str))])
    table: dict[str | int, str | None] = {name: names.path_of(name) for name in named}
    numbered = names.paths_of_numbers((r.image for r in rows if isinstance(r.image, int)), where)
    for number in numbered:
        table[number] = numbered[number]
    if named and not any(table[name] is not None for name in named):
        shown = ", ".join(repr(n) for n in list(named)[:3])
        raise DataError(
            f"predictions must name images of data set '{dataset.name}' (such as '{next(iter(names.id_of))}'), "
            f"got none of them ({shown})",
            where=where,
        )
    classes = _Classes(dataset, [r.label for r in rows if isinstance(r.label, int)])
    here = [(path, row) for row in rows if (path := table[row.image]) is not None]
    kept = [(path, row) for path, row in here if row.label not in classes.unused]
    records = [_record(names.id_of[path], classes.id_of(row), row) for path, row in kept]
    task = dataset.task
    if kept and all(row.keypoints is not None for _, row in kept):
        task = "pose"
    elif kept and all(row.oriented is not None and row.rle is None for _, row in kept):
        task = "obb"
    meta: dict[str, Any] = {"task": task, "class_names": dataset.class_names, "backend": kind}
    if classes.from_1:
        meta["class_ids"] = "counted from 1 in the file"
    left_out = sum(path is None for path in table.values())
    if left_out:
        meta[LEFT_OUT] = left_out
    if len(kept) < len(here):
        meta[OF_UNUSED_TWINS] = len(here) - len(kept)
    seen = {names.id_of[path] for path in table.values() if path is not None}
    return predictions_from_rows(records, meta, where=where).of(dataset.select(seen))


def _record(image_id: int, class_id: int, row: Found) -> dict[str, Any]:
    x1, y1, x2, y2 = row.box_xyxy.tolist()
    width, height = row.size_wh or (x2 - x1, y2 - y1)
    return {
        "image_id": image_id,
        "class_id": class_id,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "score": row.score,
        "track_id": row.track_id,
        "rle": row.rle,
        "keypoints": row.keypoints,
        "oriented": row.oriented,
        "given_width": width if x2 - x1 != width else None,
        "given_height": height if y2 - y1 != height else None,
        "area": row.area,
    }
