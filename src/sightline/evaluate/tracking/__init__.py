"""Multi-object tracking metrics: HOTA, CLEAR and Identity, equal to TrackEval's."""

from sightline.evaluate.tracking.evaluation import (
    evaluate_mot_files,
    evaluate_mot_results,
    evaluate_tracking,
    read_track_rows,
)
from sightline.evaluate.tracking.result import TrackingResult, TrackingScores, evaluate_sequences
from sightline.evaluate.tracking.sequences import (
    MatchedSequence,
    Preprocessing,
    TrackRows,
    match_sequence,
    track_rows,
)

__all__ = [
    "MatchedSequence",
    "Preprocessing",
    "TrackRows",
    "TrackingResult",
    "TrackingScores",
    "evaluate_mot_files",
    "evaluate_mot_results",
    "evaluate_sequences",
    "evaluate_tracking",
    "match_sequence",
    "read_track_rows",
    "track_rows",
]
