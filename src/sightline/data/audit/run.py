"""The audit: everything about a data set that can be found out without a model, each finding with its place.

One pass over the files (`scan`) feeds the checks; what the reader met in the labels is taken over. A finding's code,
meaning, severity and advice stand in `sightline.data.codes`.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.findings import SEVERITIES, Finding
from sightline.data.audit.files import MaskReport
from sightline.data.audit.options import AuditOptions
from sightline.data.audit.result import AuditResult
from sightline.data.audit.scan import Progress, Scan, scan_files
from sightline.data.box_checks import NEAR_DUPLICATE_IOU, OUTSIDE_PX, TINY_PX, check_boxes
from sightline.data.codes import finding
from sightline.data.registry import FORMATS

__all__ = ["audit_dataset"]

_SHOWN_SIZES = 20


def audit_dataset(
    dataset: Dataset,
    options: AuditOptions | None = None,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> AuditResult:
    """Audit a data set: the reader's findings plus one multi-threaded pass over its image and mask files."""
    options = options or AuditOptions()
    scan = scan_files(dataset, workers=workers, progress=progress)
    findings = [*dataset.findings, *scan.findings]
    for check in _CHECKS:
        findings += check(dataset, scan, options)
    return AuditResult(
        name=dataset.name,
        format=dataset.format,
        task=dataset.task,
        images=len(dataset),
        objects=dataset.objects.height,
        objects_by_class=dataset.counts_by_class(),
        splits=_splits(dataset),
        sizes=_sizes(dataset),
        findings=tuple(sorted(findings, key=_order)),
        masks=_mask_statistics(dataset, scan.masks) if dataset.task == "semantic" else None,
        conventions={
            "root": dataset.root.as_posix(),
            "label_digest": dataset.label_digest(),
            "outside_px": OUTSIDE_PX,
            "tiny_px": TINY_PX,
            "near_duplicate_iou": NEAR_DUPLICATE_IOU,
            "files_decoded": scan.images.height,
            **options.model_dump(),
        },
    )


def _order(f: Finding) -> tuple[int, str, str, int]:
    return (-SEVERITIES.index(f.severity), f.code, f.path or "", f.line or 0)


def _same_bytes(_dataset: Dataset, scan: Scan, _options: AuditOptions) -> list[Finding]:
    groups: dict[bytes, list[str]] = defaultdict(list)
    for path, digest in scan.images.filter(pl.col("bytes") > 0).drop_nulls("sha256").select("path", "sha256").rows():
        groups[digest].append(path)
    split_of = dict(scan.images.select("path", "split").iter_rows())
    found = []
    for first, *others in groups.values():
        for path in others:
            one, other = split_of[first], split_of[path]
            if one != other and one is not None and other is not None:
                message = f"the same bytes as {first}, which is in '{one}', while this is in '{other}'"
                found.append(finding("split-overlap-bytes", message, path=path))
            else:
                found.append(finding("image-duplicate", f"the same bytes as {first}", path=path))
    return found


def _unused_classes(dataset: Dataset, scan: Scan, _options: AuditOptions) -> list[Finding]:
    counts = list(dataset.counts_by_class().values())
    if dataset.task == "semantic":
        counts = _pixels(dataset, scan.masks).tolist()
    unused = [n for n, c in zip(dataset.class_names, counts, strict=True) if c == 0]
    if not unused:
        return []
    what = "pixel" if dataset.task == "semantic" else "object"
    more = ", …" if len(unused) > 10 else ""
    message = f"{len(unused)} of {len(counts)} classes have no {what}: {', '.join(unused[:10])}{more}"
    return [finding("class-unused", message, count=len(unused))]


def _boxes_of_table(dataset: Dataset, _scan: Scan, _options: AuditOptions) -> list[Finding]:
    """Box checks for a data set that no reader has looked at."""
    if dataset.format in FORMATS:
        return []
    paths = dataset.objects.join(dataset.images, on="image_id", maintain_order="left")["path"]

    def places(rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[tuple[str, int | None]]:
        return [(paths[i], None) for i in rows.tolist()]

    return check_boxes(dataset.objects, dataset.images, dataset.class_names, places)[1]


def _splits(dataset: Dataset) -> dict[str, dict[str, int]]:
    objects = dataset.objects.join(dataset.images.select("image_id", "split"), on="image_id")
    counts = dict(objects.group_by("split").len().iter_rows())
    images = dataset.images.group_by("split", maintain_order=True).len()
    return {split or "": {"images": n, "objects": int(counts.get(split, 0))} for split, n in images.iter_rows()}


def _sizes(dataset: Dataset) -> list[dict[str, int]]:
    table = dataset.images.group_by("width", "height").agg(images=pl.len())
    return table.sort(["images", "width", "height"], descending=[True, False, False]).head(_SHOWN_SIZES).to_dicts()


def _pixels(dataset: Dataset, masks: list[MaskReport]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return sum((m.pixels for m in masks if m.pixels is not None), np.zeros(len(dataset.classes), dtype=np.int64))


def _mask_statistics(dataset: Dataset, masks: list[MaskReport]) -> dict[str, Any]:
    """Pixels by class, and the share of foreground (every class but the first) over the masks."""
    known = [m.pixels for m in masks if m.pixels is not None and m.pixels.sum() > 0]
    shares = np.array([1.0 - p[0] / p.sum() for p in known])
    pixels = dict(zip(dataset.class_names, _pixels(dataset, masks).tolist(), strict=True))
    if not len(shares):
        return {"masks": len(masks), "pixels_by_class": pixels}
    return {
        "masks": len(masks),
        "pixels_by_class": pixels,
        "foreground_mean": float(shares.mean()),
        "foreground_min": float(shares.min()),
        "foreground_max": float(shares.max()),
        "share_below_5_percent": float((shares < 0.05).mean()),
        "share_below_10_percent": float((shares < 0.10).mean()),
    }


_Check = Callable[[Dataset, Scan, AuditOptions], list[Finding]]
_CHECKS: tuple[_Check, ...] = (
    _same_bytes,
    _unused_classes,
    _boxes_of_table,
)
