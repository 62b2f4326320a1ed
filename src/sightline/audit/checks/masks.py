"""What only all masks together tell: which is inverted, which belongs to another image, how the foreground varies."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sightline.audit.result import AuditOptions, ForegroundHistogram, MaskStatistics
from sightline.audit.scan.masks import MaskReport
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import finding

__all__ = ["check_masks", "mask_statistics"]

_FEWEST = 5  # masks from which on one can be held against the others
_INVERTED_SPREADS = 4.0  # robust standard deviations (of log-odds) that an inverted mask lies from the others
_SMALLEST_SPREAD = 0.5  # log-odds; foregrounds that are all alike must not make a slightly larger one inverted
_EXPECTED = 8.0  # standard deviations a mask's outline must be expected to reach before its absence says something
_CHANCE, _CHANCE_SHARE = 4.0, 0.2  # masks of other images stay below 4.0, or below this share of what is expected
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_HISTOGRAM = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95, 1.0)
Floats = npt.NDArray[np.float64]


def check_masks(dataset: Dataset, scan: Scan, _options: AuditOptions) -> list[Finding]:
    """Masks that are inverted against the others (of two classes only), and masks that do not follow their image."""
    return _inverted(dataset, scan.masks) + _misaligned(scan.masks)


def mask_statistics(dataset: Dataset, masks: list[MaskReport]) -> MaskStatistics:
    """Pixels and masks by class, and the distribution of the foreground's share over the masks that have pixels."""
    known = [m.pixels for m in masks if m.pixels is not None and m.pixels.sum() > 0]
    total = sum(known, np.zeros(len(dataset.classes), dtype=np.int64))
    found = MaskStatistics(
        masks=len(masks),
        pixels_by_class=dict(zip(dataset.class_names, total.tolist(), strict=True)),
        masks_by_class={n: sum(int(p[i] > 0) for p in known) for i, n in enumerate(dataset.class_names)},
    )
    if not known:
        return found
    shares = np.array([1.0 - p[0] / p.sum() for p in known])
    quantiles = np.quantile(shares, _QUANTILES)
    return replace(
        found,
        foreground_mean=float(shares.mean()),
        foreground_min=float(shares.min()),
        foreground_max=float(shares.max()),
        foreground_quantiles={f"{q:g}": float(v) for q, v in zip(_QUANTILES, quantiles, strict=True)},
        foreground_histogram=ForegroundHistogram(
            edges=_HISTOGRAM, masks=tuple(np.histogram(shares, bins=_HISTOGRAM)[0].tolist())
        ),
        share_below_5_percent=float((shares < 0.05).mean()),
        share_below_10_percent=float((shares < 0.10).mean()),
    )


def _inverted(dataset: Dataset, masks: list[MaskReport]) -> list[Finding]:
    """Masks whose share of foreground, and whose border, agree with the others' only when turned round."""
    usable = [m for m in masks if m.pixels is not None and m.border is not None and (m.pixels > 0).sum() > 1]
    if len(dataset.classes) != 2 or len(usable) < _FEWEST:
        return []
    shares = np.array([m.pixels[1] / m.pixels.sum() for m in usable if m.pixels is not None])
    borders = np.array([m.border for m in usable], dtype=np.float64)
    both = _turned_round(shares) & _nearer_when_turned(borders)
    middle, border = float(np.median(shares)), float(np.median(borders))
    return [
        finding(
            "mask-inverted",
            f"{shares[i]:.1%} of the mask is {dataset.class_names[1]}, and {borders[i]:.0%} of its border; "
            f"the others' medians are {middle:.1%} and {border:.0%}",
            path=usable[i].path,
            image_id=usable[i].image_id,
        )
        for i in np.flatnonzero(both).tolist()
    ]


def _turned_round(shares: Floats) -> npt.NDArray[np.bool_]:
    """Shares that are outliers as they are, and none as 1 - share; in log-odds, where the two are mirror images."""
    odds = np.log(np.clip(shares, 1e-4, 1 - 1e-4) / np.clip(1 - shares, 1e-4, 1 - 1e-4))
    middle = float(np.median(odds))
    spread = max(float(np.median(np.abs(odds - middle))) * 1.4826, _SMALLEST_SPREAD)
    limit = _INVERTED_SPREADS * spread
    far, fits = np.abs(odds - middle) > limit, np.abs(-odds - middle) <= limit
    return np.asarray(far & fits & ((odds > 0) != (middle > 0)))


def _nearer_when_turned(borders: Floats) -> npt.NDArray[np.bool_]:
    middle = float(np.median(borders))
    return np.asarray(np.abs(1 - borders - middle) < np.abs(borders - middle))


def _misaligned(masks: list[MaskReport]) -> list[Finding]:
    """Masks whose outline follows their image no better than chance, where those of the others clearly do.

    The strength grows with the root of the outline's length, so that short outlines are not held against their masks.
    """
    usable = [m for m in masks if m.outline is not None]
    if len(usable) < _FEWEST:
        return []
    strength = np.array([m.outline.strength for m in usable if m.outline is not None])
    length = np.sqrt([m.outline.length for m in usable if m.outline is not None])
    expected = float(np.median(strength / length)) * length
    suspect = (expected >= _EXPECTED) & (strength < np.maximum(_CHANCE, _CHANCE_SHARE * expected))
    return [
        finding(
            "mask-misaligned",
            f"the mask's outline follows the image's edges no better than anywhere else ({strength[i]:.1f} standard "
            f"deviations above chance, {expected[i]:.1f} expected from the other masks)",
            path=usable[i].path,
            image_id=usable[i].image_id,
        )
        for i in np.flatnonzero(suspect).tolist()
    ]
