"""One tracked sequence, ready to be measured: ids by frame on both sides and their similarity.

Everything that differs between benchmarks happens here: which ground truth counts, and which detections are taken out
because they sit on something that is neither right nor wrong to detect.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from sightline.core.errors import DataError
from sightline.ops.boxes import FloatArray, as_boxes, iou_matrix

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Preprocessing = Literal["none", "mot15", "mot17", "mot20"]

PEDESTRIAN = 1
DISTRACTORS: dict[str, tuple[int, ...]] = {"mot17": (2, 7, 8, 12), "mot20": (2, 6, 7, 8, 12)}
MATCH_IOU = 0.5
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class TrackRows:
    """One side of a sequence, a row for each box: 0-based frame, track id, `xyxy` box in pixels.

    `class_numbers` are the benchmark's own (1 = pedestrian); `ignored` marks ground truth that does not count
    ("zero-marked" in MOTChallenge files). Both are read on the side of the ground truth only.
    """

    frames: IntArray
    ids: IntArray
    boxes_xyxy: FloatArray
    class_numbers: IntArray
    ignored: BoolArray

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, index: npt.NDArray[np.integer] | BoolArray) -> "TrackRows":
        """The rows at `index` (positions or a mask)."""
        return TrackRows(
            self.frames[index], self.ids[index], self.boxes_xyxy[index], self.class_numbers[index], self.ignored[index]
        )


def track_rows(
    frames: npt.ArrayLike,
    ids: npt.ArrayLike,
    boxes_xyxy: npt.ArrayLike,
    class_numbers: npt.ArrayLike | None = None,
    ignored: npt.ArrayLike | None = None,
) -> TrackRows:
    """`TrackRows` from columns of one length; no classes means pedestrians, no flags means that everything counts."""
    frame_array = np.asarray(frames, dtype=np.int64).reshape(-1)
    count = len(frame_array)
    rows = TrackRows(
        frame_array,
        np.asarray(ids, dtype=np.int64).reshape(-1),
        as_boxes(boxes_xyxy),
        np.full(count, PEDESTRIAN) if class_numbers is None else np.asarray(class_numbers, dtype=np.int64).reshape(-1),
        np.zeros(count, dtype=np.bool_) if ignored is None else np.asarray(ignored, dtype=np.bool_).reshape(-1),
    )
    lengths = [len(column) for column in (rows.ids, rows.boxes_xyxy, rows.class_numbers, rows.ignored)]
    if any(length != count for length in lengths):
        raise DataError(f"the columns of a sequence must have one length, got {[count, *lengths]}")
    if count and frame_array.min() < 0:
        raise DataError(f"frame indices must be at least 0, got {frame_array.min()}")
    return rows


@dataclass(frozen=True, eq=False)
class MatchedSequence:
    """What the metrics read: ids contiguous from 0, frame `t` at `truth_ids[truth_starts[t]:truth_starts[t + 1]]`.

    `similarity` lays the IoU matrices (ground truth, detections) of the frames end to end, row by row; `removed_truth`
    and `removed_predicted` count what preprocessing took out.
    """

    name: str
    truth_ids: IntArray
    truth_starts: IntArray
    predicted_ids: IntArray
    predicted_starts: IntArray
    similarity: FloatArray
    similarity_starts: IntArray
    truth_tracks: int
    predicted_tracks: int
    removed_truth: int
    removed_predicted: int

    @property
    def frame_count(self) -> int:
        """Number of frames, empty ones included."""
        return len(self.truth_starts) - 1

    def frame(self, t: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Ground-truth ids (G,), detection ids (K,) and their IoU (G, K) in frame `t`."""
        truth = self.truth_ids[self.truth_starts[t] : self.truth_starts[t + 1]]
        predicted = self.predicted_ids[self.predicted_starts[t] : self.predicted_starts[t + 1]]
        flat = self.similarity[self.similarity_starts[t] : self.similarity_starts[t + 1]]
        return truth, predicted, flat.reshape(len(truth), len(predicted))


def match_sequence(
    name: str,
    truth: TrackRows,
    predicted: TrackRows,
    *,
    preprocessing: Preprocessing = "mot15",
    frame_count: int | None = None,
) -> MatchedSequence:
    """The similarity of both sides frame by frame, after the benchmark's preprocessing.

    `none` counts all ground truth; `mot15` leaves out what is marked ignored; `mot17` and `mot20` also leave out all
    classes but pedestrians, and detections matched (IoU at least 0.5, optimal assignment) to a distractor class.
    DataError for an id that occurs twice in a frame or a frame beyond `frame_count`.
    """
    if preprocessing not in get_args(Preprocessing):
        raise DataError(f"preprocessing must be one of {', '.join(get_args(Preprocessing))}, got '{preprocessing}'")
    last = max((int(side.frames.max()) for side in (truth, predicted) if len(side)), default=-1)
    count = last + 1 if frame_count is None else frame_count
    if last >= count:
        raise DataError(f"sequence '{name}' must end with frame {count - 1} (0-based), got a box in frame {last}")
    truth = _by_frame(truth, name, "ground truth")
    predicted = _by_frame(predicted, name, "predictions")
    truth_starts = np.searchsorted(truth.frames, np.arange(count + 1)).astype(np.int64)
    predicted_starts = np.searchsorted(predicted.frames, np.arange(count + 1)).astype(np.int64)
    keep_truth = _counting(truth, preprocessing)
    keep_predicted = np.ones(len(predicted), dtype=np.bool_)
    distracting = np.isin(truth.class_numbers, DISTRACTORS.get(preprocessing, ()))
    similarities = []
    for t in range(count):
        rows, cols = slice(*truth_starts[t : t + 2]), slice(*predicted_starts[t : t + 2])
        similarity = iou_matrix(truth.boxes_xyxy[rows], predicted.boxes_xyxy[cols])
        keep_predicted[cols] = ~_on_distractor(similarity, distracting[rows])
        similarities.append(similarity[keep_truth[rows]][:, keep_predicted[cols]].reshape(-1))
    return _assemble(name, truth, predicted, keep_truth, keep_predicted, similarities)


def _by_frame(rows: TrackRows, name: str, side: str) -> TrackRows:
    """Rows in the order of frames; within a frame the order of the file stays, since it decides ties."""
    ordered = rows.take(np.argsort(rows.frames, kind="stable"))
    by_id = np.lexsort((ordered.ids, ordered.frames))
    frames, ids = ordered.frames[by_id], ordered.ids[by_id]
    twice = np.flatnonzero((frames[1:] == frames[:-1]) & (ids[1:] == ids[:-1]))
    if len(twice):
        raise DataError(
            f"a track id must occur once in a frame, got id {ids[twice[0]]} twice in the {side} of frame "
            f"{frames[twice[0]]} (0-based) of sequence '{name}'"
        )
    return ordered


def _counting(truth: TrackRows, preprocessing: Preprocessing) -> BoolArray:
    if preprocessing == "none":
        return np.ones(len(truth), dtype=np.bool_)
    if preprocessing == "mot15":
        return ~truth.ignored
    return np.asarray(~truth.ignored & (truth.class_numbers == PEDESTRIAN))


def _on_distractor(similarity: FloatArray, distracting: BoolArray) -> BoolArray:
    """Which detections are best assigned to a distractor, all ground truth competing for them."""
    found = np.zeros(similarity.shape[1], dtype=np.bool_)
    if not distracting.any():
        return found
    score = np.where(similarity < MATCH_IOU - EPS, 0.0, similarity)
    rows, cols = linear_sum_assignment(-score)
    matched = score[rows, cols] > EPS
    found[cols[matched & distracting[rows]]] = True
    return found


def _assemble(
    name: str,
    truth: TrackRows,
    predicted: TrackRows,
    keep_truth: BoolArray,
    keep_predicted: BoolArray,
    similarities: list[FloatArray],
) -> MatchedSequence:
    count = len(similarities)
    kept_truth, kept_predicted = truth.take(keep_truth), predicted.take(keep_predicted)
    truth_names, truth_ids = np.unique(kept_truth.ids, return_inverse=True)
    predicted_names, predicted_ids = np.unique(kept_predicted.ids, return_inverse=True)
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum([len(part) for part in similarities], out=starts[1:])
    return MatchedSequence(
        name=name,
        truth_ids=truth_ids.astype(np.int64),
        truth_starts=np.searchsorted(kept_truth.frames, np.arange(count + 1)).astype(np.int64),
        predicted_ids=predicted_ids.astype(np.int64),
        predicted_starts=np.searchsorted(kept_predicted.frames, np.arange(count + 1)).astype(np.int64),
        similarity=np.concatenate(similarities) if similarities else np.zeros(0),
        similarity_starts=starts,
        truth_tracks=len(truth_names),
        predicted_tracks=len(predicted_names),
        removed_truth=int((~keep_truth).sum()),
        removed_predicted=int((~keep_predicted).sum()),
    )
