"""What is asked of an audit and what it found: thresholds, counts, distributions, findings; `audit.json`."""

import json
from collections import Counter
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import polars as pl
import pydantic
from pydantic import Field

from sightline.core.config import Config
from sightline.core.errors import ConfigError, at, unknown_name, value_sentence
from sightline.core.files import check_regular
from sightline.core.findings import SEVERITIES, Finding, Severity, worst_severity
from sightline.core.results import Result
from sightline.core.seal import SEAL_KEY, check_seal
from sightline.core.text import parse_json
from sightline.data import CODES

__all__ = [
    "QUANTILES",
    "AuditOptions",
    "AuditResult",
    "Baseline",
    "Baselines",
    "ClassPixels",
    "ClassStatistics",
    "CocoSizes",
    "ForegroundHistogram",
    "ImageSize",
    "MaskStatistics",
    "ObjectsPerImage",
    "PictureCounts",
    "PixelStatistics",
    "Quantiles",
    "SplitCounts",
    "Statistics",
    "TrackStatistics",
    "read_audit",
]


class AuditOptions(Config, use_attribute_docstrings=True):
    """The thresholds of the checks that have any."""

    imgsz: int = Field(default=640, ge=1)
    """Longest side in pixels at which a network is meant to see the images; judges which objects become too small."""
    small_px: float = Field(default=8.0, gt=0)
    """An object whose shorter side is below this at `imgsz` is hardly learnable."""
    near_duplicate_bits: int = Field(default=6, ge=0, le=15)
    """Two images are near-duplicates when their 64-bit hashes differ in at most this many bits."""
    alike_cosine: float = Field(default=0.98, gt=0, le=1)
    """Two images look alike to a network when the cosine of their vectors is at least this."""
    extreme_luma: float = Field(default=16.0, ge=0, le=255)
    """An image is dark when mean + 3 standard deviations of its luma (0..255) are below this; bright likewise."""
    flat_contrast: float = Field(default=2.5, ge=0)
    """An image is flat when the standard deviation of its luma (0..255) is below this."""
    blur_factor: float = Field(default=10.0, ge=1)
    """An image is blurred when its sharpness is this many times below the data set's median, and far out of line."""
    blocky_quality: int = Field(default=15, ge=0, le=100)
    """A JPEG is blocky at this quality and below."""
    blockiness: float = Field(default=2.0, ge=1)
    """Where every pixel was decoded: steps across 8 × 8 borders this many times the others are visible blocks."""
    odd_size_factor: float = Field(default=25.0, ge=1)
    """An image's size is odd when its area is this many times the median or less than that part of it."""
    odd_aspect_factor: float = Field(default=3.0, ge=1)
    """An image's size is odd when its sides' ratio is this many times that of the others."""
    odd_colour: float = Field(default=60.0, ge=0)
    """An image's colours are odd when its mean is this far from the data set's in red-green and yellow-blue."""
    outlier_share: float = Field(default=0.05, ge=0, le=1)
    """What more images than this share have is a part of the data set, not out of line with it."""


QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
Quantiles: TypeAlias = (
    Annotated[tuple[float, ...], pydantic.Field(min_length=len(QUANTILES), max_length=len(QUANTILES))] | None
)
"""Values at `QUANTILES`, in that order; None where there was nothing to measure."""


class _Part:
    """A part of a result; what does not apply to a data set is None by default, and left out of the JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The fields, without those that do not apply."""
        named = {f.name: (f.default, getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, (default, value) in named.items() if value is not None or default is MISSING}


@dataclass(frozen=True)
class PictureCounts:
    """The pictures in the data set's folders: `found` = `read` + `listed`, the latter being named in the findings."""

    found: int
    read: int
    listed: int


@dataclass(frozen=True)
class SplitCounts:
    """What a split holds."""

    images: int
    objects: int


@dataclass(frozen=True)
class ImageSize:
    """A size in pixels, and how many images have it."""

    width: int
    height: int
    images: int


@dataclass(frozen=True)
class CocoSizes:
    """Objects by area, as COCO counts them: small below 32 x 32 pixels, large from 96 x 96 on."""

    small: int
    medium: int
    large: int


@dataclass(frozen=True)
class ClassStatistics:
    """A class's objects that are neither crowd nor ignored.

    `share` is of all objects. Quantiles: `area` (share of the image), `side` (the shorter one, share of the image's
    longer side), `side_at_imgsz_px`, `aspect` (width / height). `heat` counts centres in 8 x 8 cells, from the top.
    """

    objects: int
    images: int
    share: float | None
    area: Quantiles
    side: Quantiles
    side_at_imgsz_px: Quantiles
    aspect: Quantiles
    coco_sizes: CocoSizes
    heat: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class ObjectsPerImage:
    """How many objects an image has; `histogram` counts images by ranges such as "0", "5-9" and "500+"."""

    quantiles: Quantiles
    mean: float | None
    histogram: dict[str, int]


@dataclass(frozen=True)
class TrackStatistics:
    """Lengths in frames, gaps, and speeds in box diagonals per frame (per second too, where times are known)."""

    tracks: int
    boxes_per_track: Quantiles
    frames_per_track: Quantiles
    tracks_with_gaps: int
    diagonals_per_frame: Quantiles
    diagonals_per_second: Quantiles


@dataclass(frozen=True)
class ClassPixels:
    """A class's share of all counted pixels, the masks it occurs in, and its share where it occurs."""

    pixels: int
    share: float
    masks: int
    share_where_present: Quantiles


@dataclass(frozen=True)
class PixelStatistics:
    """Pixels by class; `imbalance` is the largest count over the smallest that is not 0."""

    masks: int
    classes: dict[str, ClassPixels]
    imbalance: float | None


@dataclass(frozen=True)
class Statistics(_Part):
    """The distributions. `images` has quantiles of width, height, megapixels, aspect, megabytes and, where pictures
    were decoded, of brightness, contrast, sharpness, blockiness, entropy and colourfulness. `imbalance` is the largest
    class's count of objects over the smallest that is not 0. Semantic data has `pixels` in place of what is of objects.
    """

    quantiles: tuple[float, ...] = QUANTILES
    images: dict[str, Quantiles] = field(default_factory=dict)
    objects_per_image: ObjectsPerImage | None = None
    classes: dict[str, ClassStatistics] | None = None
    imbalance: float | None = None
    tracks: TrackStatistics | None = None
    pixels: PixelStatistics | None = None


@dataclass(frozen=True)
class ForegroundHistogram:
    """Masks counted between the rising `edges`, the last of which is included."""

    edges: tuple[float, ...]
    masks: tuple[int, ...]


@dataclass(frozen=True)
class MaskStatistics(_Part):
    """Pixels and masks by class, and how the foreground's share (every class but the first) spreads over the masks."""

    masks: int
    pixels_by_class: dict[str, int]
    masks_by_class: dict[str, int]
    foreground_mean: float | None = None
    foreground_min: float | None = None
    foreground_max: float | None = None
    foreground_quantiles: dict[str, float] | None = None
    foreground_histogram: ForegroundHistogram | None = None
    share_below_5_percent: float | None = None
    share_below_10_percent: float | None = None


@dataclass(frozen=True)
class Baseline(_Part):
    """What one trivial predictor reaches: the metrics of its task, and the class it predicts where that is one."""

    class_name: Annotated[str | None, pydantic.Field(validation_alias="class")] = None
    share_of_objects: float | None = None
    AP50: float | None = None
    recall: float | None = None
    AP50_by_class: dict[str, float] | None = None
    share_met: float | None = None
    pixel_accuracy: float | None = None
    mean_iou: float | None = None
    mean_dice: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields that apply; `class_name` under the name `class`."""
        return {"class" if name == "class_name" else name: value for name, value in super().to_dict().items()}


@dataclass(frozen=True)
class Baselines(_Part):
    """Trivial predictors, see `sightline.audit.baselines`; nothing but None for data without labels."""

    fitted_on: str | None = None
    measured_on: str | None = None
    images: int | None = None
    masks: int | None = None
    most_common_class: Baseline | None = None
    mean_box: Baseline | None = None
    whole_image: Baseline | None = None
    mean_mask: Baseline | None = None
    previous_box: Baseline | None = None
    first_box: Baseline | None = None
    note: str | None = None


@dataclass(frozen=True)
class AuditResult(Result):
    """Counts and findings of one data set. Findings are ordered by falling severity, then code, path and line."""

    name: str
    format: str
    task: str
    images: int
    objects: int
    objects_by_class: dict[str, int]
    splits: dict[str, SplitCounts]  # "" for images in none
    sizes: tuple[ImageSize, ...]  # the commonest first, at most 20
    findings: tuple[Finding, ...]
    pictures: PictureCounts | None = None
    masks: MaskStatistics | None = None  # of semantic data
    statistics: Statistics = field(default_factory=Statistics)
    baselines: Baselines = field(default_factory=Baselines)
    split_digests: dict[str, str] = field(default_factory=dict)  # per split, over image bytes and labels
    conventions: dict[str, Any] = field(default_factory=dict)

    @property
    def counts_by_code(self) -> dict[str, int]:
        """How many things each code stands for, in the order of the findings."""
        counts: Counter[str] = Counter()
        for f in self.findings:
            counts[f.code] += f.count
        return dict(counts)

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings."""
        return worst_severity(self.findings)

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of that severity and above."""
        return tuple(f for f in self.findings if SEVERITIES.index(f.severity) >= SEVERITIES.index(severity))

    def to_dict(self) -> dict[str, Any]:
        """All fields, with `counts_by_code` and `worst` beside the findings."""
        return super().to_dict() | {"counts_by_code": self.counts_by_code, "worst": self.worst}

    def to_frame(self) -> pl.DataFrame:
        """One row per code: severity, count, the first place, what to do."""
        first: dict[str, Finding] = {}
        for f in self.findings:
            first.setdefault(f.code, f)
        counts = self.counts_by_code
        rows = [(f.severity, code, counts[code], _place(f), f.do) for code, f in first.items()]
        return pl.DataFrame(rows, schema=["severity", "code", "count", "first", "do"], orient="row")


def _place(f: Finding) -> str:
    return "" if f.path is None else f.path if f.line is None else f"{f.path}:{f.line}"


def read_audit(path: str | Path) -> AuditResult:
    """The audit in a file that `sightline audit` wrote (`audit.json`, or the output of --json).

    ConfigError, naming the file and the key, where it is none, lacks something, or has a finding of an unknown code.
    """
    file = Path(path)
    try:
        check_regular(file)
        data = file.read_bytes()
        check_seal(data, file, ConfigError, "Audit again, or take its key 'seal' out if you changed it on purpose")
        value = parse_json(data, bounded=True)
    except OSError as error:
        raise ConfigError(f"cannot read the file ({error.strerror})", where=str(file)) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"must be JSON, got: {error.msg}", where=at(file, error.lineno)) from None
    except ValueError:
        raise ConfigError("must be JSON text, got something else", where=str(file)) from None
    if not isinstance(value, dict) or not isinstance(value.get("findings"), list):
        raise ConfigError("must be the result of `sightline audit --json`, got something else", where=str(file))
    value.pop(SEAL_KEY, None)
    try:
        result: AuditResult = pydantic.TypeAdapter(AuditResult).validate_python(value)
    except pydantic.ValidationError as error:
        raise ConfigError(value_sentence(error.errors(include_url=False)[0]), where=str(file)) from None
    for f in result.findings:
        if f.code not in CODES:
            raise ConfigError(unknown_name("finding", f.code, CODES), where=str(file))
    return result
