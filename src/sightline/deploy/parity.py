"""The parity gate: an exported file must behave like its model on real images, in raw outputs and in final answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import supervision as sv
from pydantic import Field

from sightline.core.config import Config
from sightline.core.errors import DataError, ParityError
from sightline.core.frames import SemanticMap
from sightline.core.metadata import OperatingPoint
from sightline.core.preprocess import Geometry
from sightline.deploy.candidates import pair_candidates
from sightline.infer import Image, NetworkPredictor, Outputs, Prediction, StagedPredictor
from sightline.ops.assignment import assign
from sightline.ops.boxes import iou_matrix
from sightline.ops.oriented import box_corners

__all__ = ["ParityReport", "ParityTolerance", "check_detections", "check_parity"]

_BORDERLINE_FREE = 2  # one pair that changed places, whatever the share
_MOST_APART = 0.5  # of the candidates of a network that chooses them, whatever the share
_MASK_FREE = 2  # pixels: of a mask of ten, one is ten percent
_LOGIT_ROUNDING = 1e-4  # of sums of 32 products in float32
_IOU_ROUNDING = 1e-3  # final boxes are those of the image, suppression looked at those of the network


class ParityTolerance(Config):
    """Greatest differences between two backends that still count as the same model."""

    box_px: float = Field(default=0.05, ge=0, description="any coordinate of a box or keypoint, raw and final, pixels")
    corner_px: float = Field(
        default=0.5,
        ge=0,
        description="any corner of a final oriented box, pixels: an angle off by 1e-3 moves it so far",
    )
    score: float = Field(default=1e-3, ge=0, description="any score or probability")
    borderline_share: float = Field(
        default=0.01, ge=0, le=1, description="detections on one side only that rounding explains, of all"
    )
    label_agreement: float = Field(default=0.9999, ge=0, le=1, description="least share of equal pixels of a label map")
    relative: float = Field(
        default=1e-3, ge=0, description="any coefficient or prototype, as a share of the greatest magnitude among them"
    )
    mask_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="pixels of an object's mask that differ and do not hang on the rounding of the raw outputs, of its "
        "pixels; two are always free",
    )


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What was compared and the greatest differences found; box differences in pixels.

    `max_rel_error` is the absolute one over the greatest magnitude of that output (a box at 0 has no scale of its own).
    `borderline` detections exist on one side only because a threshold (least score, rank, suppression, or the choice of
    candidates inside the network) lay between two scores that differ by rounding.
    """

    images: int
    max_abs_error: dict[str, float]
    max_rel_error: dict[str, float]
    detections: int
    borderline: int
    max_box_px: float
    max_score_difference: float
    label_agreement: float | None
    least_mask_iou: float | None = None
    max_keypoint_px: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def check_parity(
    reference: StagedPredictor,
    candidate: StagedPredictor,
    images: Sequence[Image],
    tolerance: ParityTolerance | None = None,
    *,
    batch: int = 1,
    chosen: bool = False,
) -> ParityReport:
    """Compare two predictors on images, in batches of `batch`; the greatest differences found.

    Compared are the raw outputs on identical network input, then the final detections (same count, equal classes, boxes
    and scores within tolerance, paired one to one, and the masks of pairs) or label maps. `chosen` says that the
    network chooses its candidates: those that both sides chose are compared, in whatever order. Raises ParityError at
    the first image that exceeds the tolerance and where no image has a detection to compare, DataError when there is no
    image.
    """
    if not images:
        raise DataError(
            "a parity check must have at least one image, got none", do="give images the model is meant for"
        )
    limits = tolerance if tolerance is not None else ParityTolerance()
    if candidate.meta.get("preprocess") != reference.meta.get("preprocess"):
        raise ParityError("preprocessing must be the model's, got another in the exported file")
    if candidate.class_names != reference.class_names:
        raise ParityError(f"classes must be {reference.class_names}, got {candidate.class_names}")
    tally = _Tally(
        chosen,
        limits,
        OperatingPoint.load({k: v for k, v in reference.meta.items() if k in OperatingPoint.model_fields}),
    )
    for start in range(0, len(images), batch):
        prepared = reference.prepare(images[start : start + batch])
        outputs = reference.run(prepared.pixels), candidate.run(prepared.pixels)
        answers = [p.finish(o, prepared.geometries) for p, o in zip((reference, candidate), outputs, strict=True)]
        tally.raw(*outputs, start)
        tally.rounding = _Rounding(reference, *outputs, prepared.geometries)
        for offset, (expected, got) in enumerate(zip(*answers, strict=True)):
            tally.final(expected, got, start + offset, offset)
    tally.check_borderline()
    if reference.task != "semantic" and not tally.detections:
        raise ParityError(
            f"detections must be compared, got none from the model on {len(images)} images at a least score of "
            f"{tally.point.conf:g}",
            do="Give images the model finds something in",
        )
    return tally.report(len(images))


def check_detections(
    reference: NetworkPredictor, candidate: NetworkPredictor, images: Sequence[Image], limits: ParityTolerance
) -> None:
    """ParityError unless both give the same final boxes, whatever their raw outputs are."""
    tally = _Tally(False, limits, reference.thresholds)  # final boxes alone are looked at
    for number, image in enumerate(images):
        tally.final(reference([image])[0], candidate([image])[0], number, 0)
    tally.check_borderline()


@dataclass(frozen=True, slots=True)
class _Side:
    """The detections of one image from one backend."""

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, detections: sv.Detections) -> "_Side":
        boxes, scores = detections.xyxy.astype(np.float64), np.asarray(detections.confidence, np.float64)
        return cls(boxes, scores, np.asarray(detections.class_id, np.int64))


class _Rounding:
    """What of the masks of a batch the measured differences of the raw outputs decide.

    Pixels that lie so close to one half: a hardly trained network has whole masks of them. The reference's masks are
    made with every logit raised, then lowered, by the most that the two sides' logits can differ; what lies between is
    undecided. And which of two boxes that overlap stays, with its mask, where their scores are equal up to rounding.
    """

    def __init__(
        self, reference: StagedPredictor, expected: Outputs, got: Outputs, geometries: Sequence[Geometry]
    ) -> None:
        self._reference, self._expected, self._got, self._geometries = reference, expected, got, geometries
        self._sides: tuple[list[Any], list[Any]] | None = None

    def pixels(self, offset: int, row: int) -> npt.NDArray[np.bool_]:
        """Of the `row`-th detection of the `offset`-th image of the batch, (H, W)."""
        if self._sides is None:
            self._sides = self._shifted(1.0), self._shifted(-1.0)
        raised, lowered = (side[offset].mask[row] for side in self._sides)
        undecided: npt.NDArray[np.bool_] = raised & ~lowered
        return undecided

    def is_tied(self, offset: int, found: Any) -> bool:
        """Whether several boxes of the image have the score that this detection has, of its class."""
        expected, got = self._expected["scores"], self._got["scores"]
        rounding = 2.0 * float(np.abs(got.astype(np.float64) - expected).max(initial=0.0)) + 1e-9
        of_class = expected[offset, :, int(found.class_id[0])]
        return int((np.abs(of_class - found.confidence[0]) <= rounding).sum()) > 1

    def _shifted(self, sign: float) -> list[Any]:
        if "box_masks" in self._expected:
            most = np.abs(self._got["box_masks"].astype(np.float64) - self._expected["box_masks"]).max(initial=0.0)
            shifted = (self._expected["box_masks"] + sign * (most + _LOGIT_ROUNDING)).astype(np.float32)
            return list(self._reference.finish({**self._expected, "box_masks": shifted}, self._geometries))
        own, maps = (self._expected[n].astype(np.float64) for n in ("coefficients", "prototypes"))
        own_error, maps_error = (
            np.abs(self._got[n] - a).max() for n, a in (("coefficients", own), ("prototypes", maps))
        )
        most = own_error * np.abs(self._got["prototypes"]).sum(1).max() + maps_error * np.abs(own).sum(2).max()
        # One prototype more, 1 everywhere: its coefficient is added to every logit.
        shift = np.full((*own.shape[:2], 1), sign * (most + _LOGIT_ROUNDING))
        outputs = {
            **self._expected,
            "coefficients": np.concatenate([own, shift], 2).astype(np.float32),
            "prototypes": np.concatenate([maps, np.ones_like(maps[:, :1])], 1).astype(np.float32),
        }
        return list(self._reference.finish(outputs, self._geometries))


_IN_PIXELS = ("boxes_xyxy", "keypoints_xy", "oriented_xywh")


def _by_unit(outputs: Outputs) -> Outputs:
    """Raw outputs with what is in pixels divided from scores, and from angles, whose limit is that of scores."""
    divided = {name: array for name, array in outputs.items() if name not in ("keypoints", "oriented")}
    if "keypoints" in outputs:
        points = outputs["keypoints"]
        divided |= {"keypoints_xy": points[..., :2], "keypoint_scores": points[..., 2:]}
    if "oriented" in outputs:
        divided |= {"oriented_xywh": outputs["oriented"][..., :4], "angles": outputs["oriented"][..., 4:]}
    return divided


def _corner_gaps(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """How far apart the corners (N, 4, 2) and (M, 4, 2) of each two boxes are, whichever is named first: (N, M)."""
    gaps = np.abs(first[:, None, :, None] - second[None, :, None]).max(-1)  # (N, M, 4, 4)
    return np.asarray(np.maximum(gaps.min(2).max(-1), gaps.min(3).max(-1)), np.float64)


class _Tally:
    rounding: _Rounding
    has_chosen_others = False  # in the batch at hand, among the candidates

    def __init__(self, chosen: bool, limits: ParityTolerance, point: OperatingPoint) -> None:
        self.chosen, self.limits, self.point = chosen, limits, point
        self.max_abs: dict[str, float] = {}
        self.max_rel: dict[str, float] = {}
        self.detections = self.borderline = 0
        self.max_box_px = self.max_score = 0.0
        self.agreement: float | None = None
        self.mask_iou: float | None = None
        self.max_point_px: float | None = None

    def raw(self, expected: Outputs, got: Outputs, first_image: int) -> None:
        expected, got = _by_unit(expected), _by_unit(got)
        alone = 0
        if self.chosen:
            expected, got, alone = pair_candidates(expected, got, self.limits.box_px, self.limits.score)
        self.has_chosen_others = alone > 0
        together = len(expected["scores"]) if alone else 0
        share = min(_MOST_APART, self.limits.borderline_share)
        if alone > max(share * (alone + together), _BORDERLINE_FREE):
            what = f"at most {share:.1%} of the candidates may hang on rounding, got {alone} of {alone + together}"
            self._fail(what, first_image)
        for name, reference in expected.items():
            array = got[name]
            if array.shape != reference.shape:
                self._fail(f"output '{name}' must have shape {reference.shape}, got {array.shape}", first_image)
            if not np.isfinite(array).all() and np.isfinite(reference).all():
                self._fail(f"output '{name}' must be finite, got NaN or infinity", first_image)
            difference = np.abs(array.astype(np.float64) - reference)
            worst = float(difference.max(initial=0.0))
            scale = float(np.abs(reference).max(initial=0.0))
            self.max_abs[name] = max(self.max_abs.get(name, 0.0), worst)
            self.max_rel[name] = max(self.max_rel.get(name, 0.0), worst / scale if scale else 0.0)
            limit = self.limits.box_px if name in _IN_PIXELS else self.limits.score
            if name in ("coefficients", "prototypes"):
                limit = self.limits.relative * scale
            if not worst <= limit:
                self._fail(f"output '{name}' must be within {limit:g}, got a difference of {worst:.4g}", first_image)

    def final(self, expected: Prediction, got: Prediction, image: int, offset: int) -> None:
        if isinstance(expected, SemanticMap) and isinstance(got, SemanticMap):
            share = float((expected.class_ids == got.class_ids).mean())
            self.agreement = share if self.agreement is None else min(self.agreement, share)
            if share < self.limits.label_agreement:
                self._fail(f"label maps must agree on {self.limits.label_agreement:.2%}, got {share:.4%}", image)
        elif isinstance(expected, sv.Detections) and isinstance(got, sv.Detections):
            self._detections(expected, got, image, offset)

    def _detections(self, expected: sv.Detections, got: sv.Detections, image: int, offset: int) -> None:
        sides = _Side.of(expected), _Side.of(got)
        distance = np.abs(sides[0].boxes[:, None] - sides[1].boxes).max(axis=2, initial=0.0)
        apart = np.zeros_like(distance)
        if "oriented" in expected.data:  # those beyond the picture have one and the same upright box: corners tell
            apart = _corner_gaps(*(box_corners(found.data["oriented"]) for found in (expected, got)))
        score_gap = np.abs(sides[0].scores[:, None] - sides[1].scores)
        # Boxes of one class can lie on each other; among them the scores tell which belongs to which.
        same_class = sides[0].classes[:, None] == sides[1].classes
        within = same_class & (distance <= self.limits.box_px) & (score_gap <= self.limits.score)
        within &= apart <= self.limits.corner_px
        rows, columns = assign(np.where(within, distance + score_gap, np.inf), self.limits.box_px + self.limits.score)
        self.detections += len(rows)
        if len(rows):
            self.max_box_px = max(self.max_box_px, float(np.maximum(distance, apart)[rows, columns].max()))
            self.max_score = max(self.max_score, float(score_gap[rows, columns].max()))
        if len(rows) and "keypoints" in expected.data:
            self._keypoints(expected.data["keypoints"][rows], got.data["keypoints"][columns], image)
        if expected.mask is not None and got.mask is not None:
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                self._masks(expected, (expected.mask[row], got.mask[column]), row, (image, offset))
        for own, other, paired in ((sides[0], sides[1], rows), (sides[1], sides[0], columns)):
            alone = np.setdiff1d(np.arange(len(own.scores)), paired)
            excused = self._decided_by_rounding(own, other, alone) | self.has_chosen_others
            self.borderline += int(excused.sum())
            if not excused.all():
                worst = int(alone[~excused][0])
                where = "exported file" if own is sides[0] else "model"
                self._fail(
                    f"detections must be the same, got {len(sides[0].scores)} from the model and "
                    f"{len(sides[1].scores)} from the exported file, and none in the {where} for class "
                    f"{own.classes[worst]} with score {own.scores[worst]:.3f}",
                    image,
                )

    def _keypoints(self, expected: npt.NDArray[Any], got: npt.NDArray[Any], image: int) -> None:
        """Those of pairs of detections (P, K, 3)."""
        if expected.shape != got.shape:
            self._fail(f"keypoints must have shape {expected.shape[1:]}, got {got.shape[1:]}", image)
        places, scores = np.split(np.abs(expected - got).reshape(-1, 3), [2], axis=1)
        self.max_point_px = max(self.max_point_px or 0.0, float(places.max()))
        if places.max() > self.limits.box_px or scores.max() > self.limits.score:
            self._fail(
                f"keypoints must be within {self.limits.box_px:g} px and scores within {self.limits.score:g}, got "
                f"{places.max():.4g} and {scores.max():.4g}",
                image,
            )

    def _masks(self, expected: sv.Detections, pair: Sequence[Any], row: int, at: tuple[int, int]) -> None:
        """Masks of a pair: at their edges a pixel may lie on one side or the other by rounding."""
        image, offset = at
        different = pair[0] != pair[1]
        together = int((pair[0] | pair[1]).sum())
        allowed = max(_MASK_FREE, self.limits.mask_share * together)
        if different.sum() > allowed:
            unexplained = int((different & ~self.rounding.pixels(offset, row)).sum())
            if unexplained > allowed:
                if self.rounding.is_tied(offset, expected[row]):
                    self.borderline += 1
                    return
                limit = f"{self.limits.mask_share:.1%} of its {together} pixels"
                self._fail(f"a mask may differ in {limit}, got {unexplained}", image)
        overlap = 1.0 - int(different.sum()) / together if together else 1.0
        self.mask_iou = overlap if self.mask_iou is None else min(self.mask_iou, overlap)

    def _decided_by_rounding(self, own: "_Side", other: "_Side", alone: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which detections without a partner owe it to a threshold that the measured difference of scores can cross.

        Three decisions are thresholds: the least score, the rank at `max_det`, and suppression, where of two boxes that
        overlap the one with the better score stays.
        """
        rounding = 2.0 * self.max_abs.get("scores", 0.0) + 1e-9
        scores = own.scores[alone]
        excused: npt.NDArray[np.bool_] = scores <= self.point.conf + rounding
        if len(other.scores) >= self.point.max_det:
            excused |= scores <= other.scores.min() + rounding
        rivals = own.classes[alone][:, None] == other.classes
        if self.point.suppression == "agnostic":
            rivals[:] = True
        rivals &= other.scores >= scores[:, None] - rounding
        rivals &= iou_matrix(own.boxes[alone], other.boxes) >= self.point.iou - _IOU_ROUNDING
        excused |= rivals.any(axis=1)
        return excused

    def check_borderline(self) -> None:
        allowed = self.limits.borderline_share * (self.detections + self.borderline)
        if self.borderline > max(allowed, _BORDERLINE_FREE):
            raise ParityError(
                f"at most {self.limits.borderline_share:.1%} of the detections may hang on rounding, got "
                f"{self.borderline} beside {self.detections} that agree",
                do="give the model an operating point with a higher conf, or allow a larger borderline_share",
            )

    def _fail(self, what: str, image: int) -> None:
        raise ParityError(what, where=f"parity image {image}", do="the exported file was not kept")

    def report(self, images: int) -> ParityReport:
        return ParityReport(
            images=images,
            max_abs_error=self.max_abs,
            max_rel_error=self.max_rel,
            detections=self.detections,
            borderline=self.borderline,
            max_box_px=self.max_box_px,
            max_score_difference=self.max_score,
            label_agreement=self.agreement,
            least_mask_iou=self.mask_iou,
            max_keypoint_px=self.max_point_px,
        )
