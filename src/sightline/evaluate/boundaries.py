"""How well boundaries are met: boundary F, boundary IoU, surface distances and the errors in a band around edges.

Every name says its definition, as the field has several under one. All are of the image's own pixels; distances are to
the nearest border pixel. Of two classes the foreground's boundary is judged, of more that of each.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
import pydantic

from sightline.core.config import Config
from sightline.core.errors import DataError
from sightline.core.frames import IGNORE_INDEX
from sightline.evaluate.intervals import Measure
from sightline.ops.surfaces import border_of, boundary_band, distances_between

__all__ = ["BOUNDARY_COLUMNS", "BoundaryAccumulator", "BoundaryOptions"]

DISTANCES = ("hd95_pooled", "hd95_directed_max", "assd_pooled", "assd_mean_of_means")
BOUNDARY_COLUMNS = ("boundary_f", "boundary_iou", *DISTANCES, "distances_undefined")
"""What a table by class has more where boundaries were judged."""
_PERCENTILE = 95

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class BoundaryOptions(Config):
    """Shares are of the image's diagonal.

    `tolerance`: how far apart borders may lie to agree, for boundary F (Csurka et al. 2013; 0.75 % as DAVIS).
    `dilation`: how wide boundary IoU's boundary is (Cheng et al. 2021; 2 %). `band`: pixels on either side of an edge
    between classes in which errors are counted.
    """

    tolerance: float = pydantic.Field(default=0.0075, gt=0, le=1)
    dilation: float = pydantic.Field(default=0.02, gt=0, le=1)
    band: int = pydantic.Field(default=3, ge=1, le=1000)


@dataclass(eq=False)
class BoundaryAccumulator:
    """Boundary counts and distances image by image; `judged` are the classes. Two accumulators add up.

    Metrics: `boundary_f` and `boundary_iou`, ratios of pooled counts, a mean over classes; the distances in pixels, a
    mean over images of each class and then over classes: `hd95_pooled`, the 95th percentile of the distances of both
    directions together (as medpy); `hd95_directed_max`, the larger of both directions' percentiles; `assd_pooled`, the
    mean of all distances (as medpy 0.5); `assd_mean_of_means`, the mean of both directions' means; `band_error`, the
    share of wrong pixels in the band. A distance of which one side has no border is not defined, and counted.
    """

    class_count: int
    options: BoundaryOptions = field(default_factory=BoundaryOptions)
    counts: list[IntArray] = field(
        default_factory=list
    )  # (K, 6) of each image: border pixels found, near, true, near; band both, either
    distances: list[FloatArray] = field(default_factory=list)  # (K, 4) of each image, by DISTANCES
    bands: list[IntArray] = field(default_factory=list)  # (2,) of each image: wrong pixels and all

    @property
    def judged(self) -> range:
        """The class ids whose boundary is judged."""
        return range(1, 2) if self.class_count == 2 else range(self.class_count)

    def update(self, truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]) -> None:
        """Add an image: class ids (H, W), `IGNORE_INDEX` truth left out."""
        if truth.shape != prediction.shape or truth.ndim != 2:
            message = f"prediction must have the shape of the ground truth {truth.shape}, got {prediction.shape}"
            raise DataError(message)
        counted = truth != IGNORE_INDEX
        whole = truth.astype(np.int32, copy=False)
        band = boundary_band(whole, counted, self.options.band)
        self.bands.append(np.array([int((whole != prediction)[band].sum()), int(band.sum())]))
        rows = [self._of_class((prediction == i) & counted, (whole == i) & counted, counted) for i in self.judged]
        self.counts.append(np.array([row[0] for row in rows], dtype=np.int64))
        self.distances.append(np.array([row[1] for row in rows], dtype=np.float64))

    def merge(self, other: "BoundaryAccumulator") -> None:
        """Add the images of another accumulator of the same classes and options."""
        if (other.class_count, other.options) != (self.class_count, self.options):
            raise ValueError("accumulators must be of the same classes and options")
        self.counts += other.counts
        self.distances += other.distances
        self.bands += other.bands

    def _of_class(self, found: BoolArray, true: BoolArray, counted: BoolArray) -> tuple[list[int], list[float]]:
        diagonal = math.hypot(*found.shape)
        found_border, true_border = border_of(found, counted), border_of(true, counted)
        between = distances_between(found_border, true_border)
        tolerance = self.options.tolerance * diagonal
        near = int((between.to_truth <= tolerance).sum()), int((between.to_prediction <= tolerance).sum())
        width = max(1, round(self.options.dilation * diagonal))
        found_band, true_band = _inner_band(found, counted, width), _inner_band(true, counted, width)
        counts = [int(found_border.sum()), near[0], int(true_border.sum()), near[1]]
        counts += [int((found_band & true_band).sum()), int((found_band | true_band).sum())]
        if not between.is_defined:
            return counts, [math.nan] * len(DISTANCES)
        both = np.concatenate((between.to_truth, between.to_prediction))
        ends = [float(np.percentile(d, _PERCENTILE)) for d in (both, between.to_truth, between.to_prediction)]
        means = [float(d.mean()) for d in (both, between.to_truth, between.to_prediction)]
        return counts, [ends[0], max(ends[1:]), means[0], (means[1] + means[2]) / 2]

    def _stacked(self) -> tuple[IntArray, FloatArray]:
        if not self.counts:
            raise DataError("boundaries must be judged on images, got none")
        return np.stack(self.counts), np.stack(self.distances)

    def metrics(self) -> dict[str, float]:
        """Each metric over all images."""
        return dict(self.measure()(np.ones(len(self.counts), dtype=np.int64)))

    def measure(self) -> Measure:
        """The metrics as a function of the images' weights, in the order they were added."""
        counts, distances = self._stacked()
        bands = np.stack(self.bands)

        def of_weights(weights: IntArray) -> dict[str, float]:
            ratios = _ratios(np.tensordot(weights, counts, 1))
            values = {name: _mean(column) for name, column in ratios.items()}
            for number, name in enumerate(DISTANCES):
                values[name] = _mean(_weighted_means(distances[:, :, number], weights))
            wrong, all_of_band = weights @ bands
            return values | {"band_error": float(wrong / all_of_band) if all_of_band else math.nan}

        return of_weights

    def per_class(self) -> pl.DataFrame:
        """A row for each class: `class_id`, the ratios, the distances, and of how many images those are not defined."""
        counts, distances = self._stacked()
        weights = np.ones(len(counts), dtype=np.int64)
        shown = (counts[:, :, 0] > 0) | (counts[:, :, 2] > 0)
        columns: dict[str, Any] = {"class_id": list(self.judged), **_ratios(counts.sum(axis=0))}
        columns |= {name: _weighted_means(distances[:, :, i], weights) for i, name in enumerate(DISTANCES)}
        columns["distances_undefined"] = (shown & np.isnan(distances[:, :, 0])).sum(axis=0)
        return pl.DataFrame(columns)

    def stated(self) -> dict[str, Any]:
        """What the conventions say."""
        undefined = int(self.per_class()["distances_undefined"].sum())
        return {
            "boundary_f": f"borders within {self.options.tolerance:.2%} of the diagonal agree; pooled counts",
            "boundary_iou": f"boundaries {self.options.dilation:.0%} of the diagonal wide; pooled counts",
            "distances": f"pixels, means over images; {undefined} not defined, for one side has none of the class",
            "band_error": f"wrong pixels within {self.options.band} of an edge between classes",
        }


def _inner_band(mask: BoolArray, counted: BoolArray, width: int) -> BoolArray:
    """The pixels of a mask that a square of `width` to all sides takes beyond it, or beyond the image."""
    inside = cv2.copyMakeBorder((mask | ~counted).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(inside, np.ones((3, 3), np.uint8), iterations=width, borderType=cv2.BORDER_REPLICATE)
    band: BoolArray = mask & (eroded[1:-1, 1:-1] == 0)
    return band


def _ratios(counts: IntArray) -> dict[str, FloatArray]:
    """Boundary F and IoU (K,) of counts (K, 6); NaN of a class without a border on either side."""
    found, found_near, true, true_near, both, either = counts.T.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(found > 0, found_near / found, 0.0)
        recall = np.where(true > 0, true_near / true, 0.0)
        f = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)
        return {
            "boundary_f": np.where(found + true > 0, f, np.nan),
            "boundary_iou": np.where(either > 0, both / either, np.nan),
        }


def _weighted_means(values: FloatArray, weights: IntArray) -> FloatArray:
    """Means (K,) over the images of values (I, K), of those that are numbers."""
    there = np.where(np.isnan(values), 0, weights[:, None])
    total = there.sum(axis=0)
    sums = (np.nan_to_num(values) * there).sum(axis=0)
    means: FloatArray = np.divide(sums, total, out=np.full(values.shape[1], np.nan), where=total > 0)
    return means


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
