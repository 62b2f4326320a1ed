"""The audit: everything about a data set that can be found out without a model, each finding with its place.

One pass over the files (`scan`) feeds the checks; what the reader found in the labels is taken over. A finding's code,
meaning, severity and advice stand in `sightline.data.codes`.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.audit.baselines import judge_baselines, measure_baselines
from sightline.audit.checks.masks import check_masks, mask_statistics
from sightline.audit.checks.pictures import check_outliers, check_pairs
from sightline.audit.checks.sequences import check_sequences
from sightline.audit.duplicates.checks import check_duplicates
from sightline.audit.duplicates.groups import check_likeness
from sightline.audit.labels.boxes import NEAR_DUPLICATE_IOU, OUTSIDE_PX, TINY_PX, check_boxes
from sightline.audit.labels.checks import check_classes, check_labels
from sightline.audit.labels.errors import rank_label_errors
from sightline.audit.labels.whole_set import check_whole_set
from sightline.audit.result import AuditOptions, AuditResult, ImageSize, PictureCounts, SplitCounts
from sightline.audit.scan.one_pass import Scan, scan_files
from sightline.audit.splits.checks import check_recorded_splits, check_splits
from sightline.audit.splits.names import check_names
from sightline.audit.statistics import dataset_statistics
from sightline.core.dataset import Dataset
from sightline.core.findings import SEVERITIES, Finding
from sightline.core.predictions import Predictions
from sightline.core.process import Progress
from sightline.data.splits import split_digests

__all__ = ["audit_dataset"]

_SHOWN_SIZES = 20


def audit_dataset(
    dataset: Dataset,
    options: AuditOptions | None = None,
    *,
    workers: int = 2,
    progress: Progress | None = None,
    since: AuditResult | None = None,
    predictions: Predictions | None = None,
    embeddings: NDArray[np.float32] | None = None,
) -> AuditResult:
    """Audit a data set: the reader's findings plus one multi-threaded pass over its image and mask files.

    `since` is an earlier audit: splits that are no longer what it recorded become `split-changed`.
    `predictions` of a model that has not learnt from these images bring the labels it contradicts, `embeddings` (a row
    per image, see `sightline.infer.embed_dataset`) the images it finds alike.
    """
    options = options or AuditOptions()
    scan = scan_files(dataset, workers=workers, progress=progress)
    said = {(f.code, f.path) for f in dataset.findings}  # a reader that opens pictures meets what is wrong with them
    seen = [f for f in scan.findings if (f.code, f.path) not in said]
    findings = [*dataset.findings, *seen, *check_boxes(dataset)]
    for check in _CHECKS:
        findings += check(dataset, scan, options)
    baselines, splits, digests = measure_baselines(dataset), _splits(dataset), split_digests(dataset, scan.images)
    findings += judge_baselines(baselines)
    if embeddings is not None:
        findings += check_likeness(dataset, embeddings, options.alike_cosine)
    if predictions is not None:
        findings += rank_label_errors(dataset, predictions).findings()
    findings += check_recorded_splits(digests, splits, since)
    return AuditResult(
        name=dataset.name,
        format=dataset.format,
        task=dataset.task,
        images=len(dataset),
        objects=dataset.objects.height,
        objects_by_class=dataset.counts_by_class(),
        splits=splits,
        sizes=_sizes(dataset),
        findings=tuple(sorted(findings, key=_order)),
        pictures=_pictures(dataset, scan),
        masks=mask_statistics(dataset, scan.masks) if dataset.task == "semantic" else None,
        statistics=dataset_statistics(dataset, scan, options),
        baselines=baselines,
        split_digests=digests,
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


def _splits(dataset: Dataset) -> dict[str, SplitCounts]:
    objects = dataset.objects.join(dataset.images.select("image_id", "split"), on="image_id")
    counts = dict(objects.group_by("split").len().iter_rows())
    images = dataset.images.group_by("split", maintain_order=True).len()
    return {split or "": SplitCounts(n, int(counts.get(split, 0))) for split, n in images.iter_rows()}


def _pictures(dataset: Dataset, scan: Scan) -> PictureCounts:
    read, listed = scan.images.height, len(dataset.left_out)
    return PictureCounts(read + listed, read, listed)


def _sizes(dataset: Dataset) -> tuple[ImageSize, ...]:
    table = dataset.images.group_by("width", "height").agg(images=pl.len())
    table = table.sort(["images", "width", "height"], descending=[True, False, False]).head(_SHOWN_SIZES)
    return tuple(ImageSize(*row) for row in table.iter_rows())


_Check = Callable[[Dataset, Scan, AuditOptions], list[Finding]]
_CHECKS: tuple[_Check, ...] = (
    check_duplicates,
    check_outliers,
    check_classes,
    check_labels,
    check_whole_set,
    check_splits,
    check_names,
    check_masks,
    check_pairs,
    check_sequences,
)
