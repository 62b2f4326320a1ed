"""The audit: everything about a data set that can be found out without a model, each finding with its place.

One pass over the files decodes every image strictly and reads every mask; what the reader met in the labels is taken
over. A finding's code, meaning, severity and advice stand in `sightline.data.codes`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.findings import SEVERITIES, Finding, Severity, worst_severity
from sightline.core.results import Result
from sightline.data.audit_files import FileReport, MaskReport, examine_image, examine_mask
from sightline.data.box_checks import NEAR_DUPLICATE_IOU, OUTSIDE_PX, TINY_PX, check_boxes
from sightline.data.codes import finding
from sightline.data.registry import FORMATS

__all__ = ["AuditResult", "Progress", "audit_dataset"]

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""

_Item = TypeVar("_Item")
_SHOWN_SIZES = 20


@dataclass(frozen=True)
class AuditResult(Result):
    """Counts and findings of one data set. Findings are ordered by falling severity, then code, path and line."""

    name: str
    format: str
    task: str
    images: int
    objects: int
    objects_by_class: dict[str, int]
    splits: dict[str, dict[str, int]]  # per split: images, objects; "" for images in none
    sizes: list[dict[str, int]]  # width, height, images; the commonest first, at most 20
    findings: tuple[Finding, ...]
    masks: dict[str, Any] | None = None  # semantic: pixels_by_class, foreground share
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


def audit_dataset(dataset: Dataset, *, workers: int = 2, progress: Progress | None = None) -> AuditResult:
    """Audit a data set: the reader's findings plus one multi-threaded pass over its image and mask files.

    `progress` is called from this thread after every file. Images that do not exist are not looked for again where the
    reader has reported them.
    """
    rows = dataset.images.select("image_id", "path", "height", "width", "mask_path", "split").rows()
    absent = {f.code for f in dataset.findings} & {"image-missing"}
    rows = [r for r in rows if not absent or dataset.image_path(r[1]).is_file()]
    masked = [r for r in rows if r[4] is not None]
    total = len(rows) + len(masked)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        files = pool.map(lambda r: examine_image(dataset.image_path(r[1]), r[1], r[0], (r[2], r[3])), rows)
        reports = list(_counted(files, 0, total, progress))
        read = pool.map(lambda r: examine_mask(dataset.image_path(r[4]), r[4], r[0], (r[2], r[3]), dataset), masked)
        masks = list(_counted(read, len(rows), total, progress))
    findings = [*dataset.findings, *(f for r in reports for f in r.findings), *(f for m in masks for f in m.findings)]
    findings += _same_bytes(reports, {r[1]: r[5] for r in rows})
    findings += _unused_classes(dataset, masks)
    if dataset.format not in FORMATS:  # no reader has looked at its boxes
        findings += _boxes_of_table(dataset)
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
        masks=_mask_statistics(dataset, masks) if dataset.task == "semantic" else None,
        conventions={
            "root": dataset.root.as_posix(),
            "label_digest": dataset.label_digest(),
            "outside_px": OUTSIDE_PX,
            "tiny_px": TINY_PX,
            "near_duplicate_iou": NEAR_DUPLICATE_IOU,
            "files_decoded": len(reports),
        },
    )


def _counted(items: Iterable[_Item], start: int, total: int, progress: Progress | None) -> Iterator[_Item]:
    for done, item in enumerate(items, start=start + 1):
        if progress is not None:
            progress(done, total)
        yield item


def _order(f: Finding) -> tuple[int, str, str, int]:
    return (-SEVERITIES.index(f.severity), f.code, f.path or "", f.line or 0)


def _place(f: Finding) -> str:
    return "" if f.path is None else f.path if f.line is None else f"{f.path}:{f.line}"


def _same_bytes(reports: list[FileReport], split_of: dict[str, str | None]) -> list[Finding]:
    groups: dict[bytes, list[str]] = defaultdict(list)
    for report in reports:
        if report.digest is not None and report.size_bytes:
            groups[report.digest].append(report.path)
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


def _unused_classes(dataset: Dataset, masks: list[MaskReport]) -> list[Finding]:
    counts = list(dataset.counts_by_class().values())
    if dataset.task == "semantic":
        counts = _pixels(dataset, masks).tolist()
    unused = [n for n, c in zip(dataset.class_names, counts, strict=True) if c == 0]
    if not unused:
        return []
    what = "pixel" if dataset.task == "semantic" else "object"
    more = ", …" if len(unused) > 10 else ""
    message = f"{len(unused)} of {len(counts)} classes have no {what}: {', '.join(unused[:10])}{more}"
    return [finding("class-unused", message, count=len(unused))]


def _boxes_of_table(dataset: Dataset) -> list[Finding]:
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
