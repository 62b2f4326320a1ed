"""Which detection continues which track in one frame, and for each that found no partner: why not.

A `FrameAssociation` keeps the arrays a decision was made from (the IoU of every track with every detection) and turns
them into rows only when asked, so the log costs nothing while nobody reads it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import supervision as sv

from sightline.core.kernels import njit
from sightline.ops.assignment import assign

__all__ = ["ASSOCIATION_SCHEMA", "NO_TRACK", "FrameAssociation", "Stage", "match", "with_unconfirmed"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
NO_TRACK = -1
"""The `tracker_id` of a detection whose track is not confirmed (yet)."""
Stage = Literal["high", "low", "tentative"]
STAGES: tuple[Stage, ...] = ("high", "low", "tentative")

ASSOCIATION_SCHEMA: dict[str, Any] = {
    "frame": pl.Int64,  # how many updates came before this one
    "time_s": pl.Float64,
    "detection": pl.Int64,  # row in the detections given; null for a track nothing was found for
    "track_key": pl.Int64,  # birth number, tentative tracks included; null for a detection that was not used
    "track_id": pl.Int64,  # null until the track is confirmed
    "outcome": pl.String,  # matched | born | unused (a detection) · lost | removed | expired (a track)
    "stage": pl.String,  # high | low | tentative, of a match
    "iou": pl.Float64,  # of the matched pair; else the best there was
    "rival": pl.Int64,  # of an unmatched detection the track key, of an unmatched track the detection, overlapping most
    "reason": pl.String,  # of what was not matched: no-overlap | below-min-iou | taken | low-score
}


def match(iou: FloatArray, rows: IntArray, columns: IntArray, min_iou: float) -> tuple[IntArray, IntArray]:
    """Track rows and detection columns of the best one-to-one pairing among those given; no pair is below `min_iou`.

    It maximises the sum of `IoU - min_iou` (Hungarian assignment), so a weak pair never displaces a strong one merely
    to make the number of pairs larger. Boxes that do not overlap are never paired, whatever `min_iou`.
    """
    if len(rows) == 0 or len(columns) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    partner, row_degree, column_degree = _candidates(iou, rows, columns, min_iou)
    # Most objects stand apart: a pair with no other candidate on either side belongs to every optimum.
    alone = np.flatnonzero((row_degree == 1) & (column_degree[partner] == 1))
    row_degree[alone] = 0
    column_degree[partner[alone]] = 0
    crowd_rows, crowd_columns = rows[row_degree > 0], columns[column_degree > 0]
    if len(crowd_rows) == 0:
        return rows[alone], columns[partner[alone]]
    overlaps = iou[crowd_rows[:, None], crowd_columns]
    cost = np.where((overlaps >= min_iou) & (overlaps > 0.0), 1.0 - overlaps, np.inf)
    chosen_rows, chosen_columns = assign(cost, 1.0 - min_iou)
    picked_rows = np.concatenate((rows[alone], crowd_rows[chosen_rows]))
    return picked_rows, np.concatenate((columns[partner[alone]], crowd_columns[chosen_columns]))


@njit(cache=True)
def _candidates(
    iou: FloatArray, rows: IntArray, columns: IntArray, min_iou: float
) -> tuple[IntArray, IntArray, IntArray]:
    """Of each row its last candidate column, and how many candidates each row and each column has."""
    partner = np.zeros(len(rows), np.int64)
    row_degree = np.zeros(len(rows), np.int64)
    column_degree = np.zeros(len(columns), np.int64)
    for i in range(len(rows)):
        for j in range(len(columns)):
            overlap = iou[rows[i], columns[j]]
            if overlap > 0.0 and overlap >= min_iou:
                partner[i] = j
                row_degree[i] += 1
                column_degree[j] += 1
    return partner, row_degree, column_degree


@dataclass(frozen=True, eq=False)
class FrameAssociation:
    """The decisions of one update over T tracks (those alive before it) and D detections (in the order given).

    detection_track, detection_stage: (D,) row of the matched track and index of the stage, -1 for none.
    detection_key, detection_id: (D,) track key and id after the update, -1 for none (a tentative track has no id).
    detection_low: (D,) true where the score only allowed to continue a track, or not even that.
    track_key, track_id, track_removed: (T,) as before the update, id -1 for none.
    expired_key, expired_id: tracks dropped for their age before anything was matched.
    iou: (T, D), 0 where the classes forbid the pair.
    """

    frame: int
    time_s: float
    min_iou: float
    iou: FloatArray
    detection_track: IntArray
    detection_stage: IntArray
    detection_key: IntArray
    detection_id: IntArray
    detection_low: npt.NDArray[np.bool_]
    track_key: IntArray
    track_id: IntArray
    track_removed: npt.NDArray[np.bool_]
    expired_key: IntArray
    expired_id: IntArray

    def to_rows(self) -> list[dict[str, Any]]:
        """One row per detection in the order given, then one per track without a detection (`ASSOCIATION_SCHEMA`)."""
        detections = [self._detection_row(i) for i in range(len(self.detection_key))]
        unmatched = np.setdiff1d(np.arange(len(self.track_key)), self.detection_track)
        tracks = [self._track_row(int(row)) for row in unmatched]
        expired = [
            self._row(detection=-1, key=int(key), track_id=int(track_id)) | {"outcome": "expired"}
            for key, track_id in zip(self.expired_key, self.expired_id, strict=True)
        ]
        return detections + tracks + expired

    def to_frame(self) -> pl.DataFrame:
        """The rows as a table."""
        return pl.DataFrame(self.to_rows(), schema=ASSOCIATION_SCHEMA, orient="row")

    def _detection_row(self, index: int) -> dict[str, Any]:
        track, stage = int(self.detection_track[index]), int(self.detection_stage[index])
        row = self._row(detection=index, key=int(self.detection_key[index]), track_id=int(self.detection_id[index]))
        if track >= 0:
            return row | {"outcome": "matched", "stage": STAGES[stage], "iou": float(self.iou[track, index])}
        best = _best(self.iou[:, index])
        rival = None if best is None else int(self.track_key[best])
        best_iou = 0.0 if best is None else float(self.iou[best, index])
        born = row["track_key"] is not None
        reason = "low-score" if self.detection_low[index] and not born else self._reason(best_iou)
        return row | {"outcome": "born" if born else "unused", "iou": best_iou, "rival": rival, "reason": reason}

    def _track_row(self, track: int) -> dict[str, Any]:
        row = self._row(detection=-1, key=int(self.track_key[track]), track_id=int(self.track_id[track]))
        best = _best(self.iou[track])
        best_iou = 0.0 if best is None else float(self.iou[track, best])
        outcome = "removed" if self.track_removed[track] else "lost"
        return row | {"outcome": outcome, "iou": best_iou, "rival": best, "reason": self._reason(best_iou)}

    def _row(self, *, detection: int, key: int, track_id: int) -> dict[str, Any]:
        return {
            "frame": self.frame,
            "time_s": self.time_s,
            "detection": detection if detection >= 0 else None,
            "track_key": key if key >= 0 else None,
            "track_id": track_id if track_id >= 0 else None,
            "outcome": "",
            "stage": None,
            "iou": None,
            "rival": None,
            "reason": None,
        }

    def _reason(self, best_iou: float) -> str:
        if best_iou <= 0.0:
            return "no-overlap"
        return "below-min-iou" if best_iou < self.min_iou else "taken"


def _best(overlaps: FloatArray) -> int | None:
    if overlaps.size == 0 or overlaps.max() <= 0.0:
        return None
    return int(overlaps.argmax())


def with_unconfirmed(
    given: sv.Detections, tracked: sv.Detections, association: FrameAssociation | None
) -> sv.Detections:
    """What a tracker was given and gave back, with the detections between: of no confirmed track, with `NO_TRACK`.

    Those whose score was too low to begin a track are left out: a tracker asks for many of them only to bridge gaps.
    Where a tracker does not say why (`association` is None) only the tracked ones are known.
    """
    if association is None:
        return tracked
    kept = np.flatnonzero((association.detection_id >= 0) | ~association.detection_low)
    result: sv.Detections = given.select(kept)
    result.tracker_id = np.where(association.detection_id[kept] >= 0, association.detection_id[kept], NO_TRACK)
    return result
