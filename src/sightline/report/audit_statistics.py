"""The numbers of an audit as charts and tables: what the data holds, and what trivial predictors reach on it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from markupsafe import Markup

from sightline.audit import AuditResult, Baseline, ClassStatistics, Quantiles
from sightline.core.dataset import Dataset
from sightline.report.blocks import Block, Cell, Charts, Note, Section, Table
from sightline.report.charts import span_chart, stacked_bars, stepped_chart
from sightline.report.data_card import object_charts, split_table
from sightline.report.numbers import Number, Style

__all__ = ["baseline_section", "statistics_section"]

MAX_CLASSES = 30
MAX_ROWS = 200
T = TypeVar("T")
_MEASURES = {
    "width": "width, pixels",
    "height": "height, pixels",
    "megapixels": "megapixels",
    "aspect": "aspect (width / height)",
    "megabytes": "file size, MB",
    "brightness": "brightness (0 to 255)",
    "contrast": "contrast (standard deviation)",
    "sharpness": "sharpness (variance of the Laplacian)",
    "blockiness": "blockiness",
    "entropy": "entropy, bits",
    "colourfulness": "colourfulness",
}
_TRACK_MEASURES = {
    "boxes_per_track": "boxes per track",
    "frames_per_track": "frames from a track's first to its last",
    "diagonals_per_frame": "movement in a frame, box diagonals",
    "diagonals_per_second": "movement in a second, box diagonals",
}
_BASELINES = {
    "most_common_class": "the most common class",
    "mean_box": "one box per class at its mean place and size",
    "whole_image": "the whole image as a box of each class",
    "mean_mask": "at each place the class that is commonest there",
    "previous_box": "the box of the frame before",
    "first_box": "the track's first box",
}
_METRICS = {
    "share_of_objects": "share of objects",
    "AP50": "mAP50",
    "recall": "recall",
    "share_met": "boxes met (IoU ≥ 0.5)",
    "pixel_accuracy": "pixel accuracy",
    "mean_iou": "mean IoU",
    "mean_dice": "mean Dice",
}
_LOG_FROM = 20.0
_SPREAD_KEY = "Line: 5 % to 95 %; bar: the middle half; tick: the median."
_QUANTILE_NAMES = ("least", "5 %", "25 %", "median", "75 %", "95 %", "largest")


def statistics_section(dataset: Dataset, result: AuditResult) -> Section:
    """What the data holds: splits, classes, sizes, places, pictures, tracks."""
    blocks: list[Block] = [split_table(dataset)]
    blocks += _mask_charts(result) if result.task == "semantic" else _object_charts(dataset, result)
    blocks += [*_class_table(result), *_spread_tables(result)]
    return Section("statistics", "Statistics", "What the data holds.", blocks)


def baseline_section(result: AuditResult) -> Section:
    """What predictors reach that never look at the image."""
    intro = "What predictors reach that never look at the image: a model has to be clearly better."
    found = result.baselines
    rows: list[tuple[str, Baseline]] = [(key, b) for key in _BASELINES if (b := getattr(found, key)) is not None]
    if not rows:
        return Section("baselines", "Trivial baselines", intro, missing="There are no labels to measure one on.")
    metrics = [key for key in _METRICS if any(getattr(baseline, key) is not None for _, baseline in rows)]
    table = [
        [
            _BASELINES[key] + (f": {baseline.class_name}" if baseline.class_name is not None else ""),
            *(_number(getattr(baseline, metric), f"baselines.{key}.{metric}", "score") for metric in metrics),
        ]
        for key, baseline in rows
    ]
    caption = f"Fitted on {found.fitted_on}, measured on {found.measured_on}"
    blocks: list[Block] = [Table(["predictor", *(_METRICS[m] for m in metrics)], table, caption)]
    if found.note:
        blocks.append(Note(found.note, "warning"))
    return Section("baselines", "Trivial baselines", intro, blocks)


def _number(value: float | None, place: str, style: Style) -> Cell:
    return None if value is None else Number(value, f"audit.json {place}", style)


def _object_charts(dataset: Dataset, result: AuditResult) -> list[Block]:
    blocks: list[Block] = []
    for block in object_charts(dataset):
        if isinstance(block, Charts):
            sizes = _size_charts(result)
            caption = (
                f"{block.caption} {_SPREAD_KEY} Small is below 32² pixels, large above 96²." if sizes else block.caption
            )
            blocks.append(replace(block, charts=[*block.charts, *sizes], caption=caption))
        else:
            blocks.append(block)
    return blocks


def _size_charts(result: AuditResult) -> list[Markup]:
    """Sizes by class, as the network would see them and by COCO's ranges; the commonest classes only."""
    classes = _commonest(result.statistics.classes or {}, lambda values: values.objects)
    charts: list[Markup] = []
    spreads = [_spread(name, values.side_at_imgsz_px) for name, values in classes if values.side_at_imgsz_px]
    if spreads:
        imgsz = result.conventions.get("imgsz")
        title = "Shorter side of the objects"
        what = f"pixels at an input size of {imgsz}"
        charts.append(_spans("audit-sides", title, spreads, what))
    sizes = ("small", "medium", "large")
    rows = [
        {"label": name, "series": size, "value": getattr(values.coco_sizes, size)}
        for name, values in classes
        for size in sizes
    ]
    if rows:
        order = [name for name, _ in classes]
        charts.append(stacked_bars("audit-sizes", "Objects by COCO's sizes", rows, order=order, parts=list(sizes)))
    return charts


def _mask_charts(result: AuditResult) -> list[Block]:
    pixels = result.statistics.pixels
    classes = _commonest(pixels.classes if pixels is not None else {}, lambda values: values.pixels)
    charts: list[Markup] = []
    if classes:
        bars = [{"label": name, "series": "pixels", "value": values.pixels} for name, values in classes]
        order = [name for name, _ in classes]
        charts.append(stacked_bars("audit-pixels", "Pixels by class", bars, order=order, parts=["pixels"]))
    spreads = [
        _spread(name, [100 * v for v in values.share_where_present])
        for name, values in classes
        if values.share_where_present
    ]
    if spreads:
        charts.append(_spans("audit-shares", "Share of the mask, where the class occurs", spreads, "% of the pixels"))
    histogram = result.masks.foreground_histogram if result.masks is not None else None
    if histogram is not None and len(result.objects_by_class) == 2:
        starts = [f"{100 * e:g}" for e in histogram.edges]
        steps = [{"x": start, "value": n} for start, n in zip(starts, histogram.masks, strict=False)]
        name = list(result.objects_by_class)[1]
        what = "% of the mask, from … on"
        charts.append(stepped_chart("audit-foreground", f"Share of {name}", steps, x_title=what, y_title="masks"))
    return [Charts(charts, _SPREAD_KEY)] if charts else []


def _commonest(classes: Mapping[str, T], count: Callable[[T], int]) -> list[tuple[str, T]]:
    used = [(name, values) for name, values in classes.items() if count(values)]
    return sorted(used, key=lambda item: -count(item[1]))[:MAX_CLASSES]


def _spread(label: str, quantiles: Sequence[float]) -> dict[str, Any]:
    _, low, q1, median, q3, high, _ = quantiles
    return {"label": label, "low": low, "q1": q1, "median": median, "q3": q3, "high": high}


def _spans(name: str, title: str, rows: Sequence[Mapping[str, Any]], x_title: str) -> Markup:
    """Logarithmic where the values lie orders of magnitude apart."""
    least, most = min(row["low"] for row in rows), max(row["high"] for row in rows)
    return span_chart(name, title, rows, x_title=x_title, log=least > 0 and most / least > _LOG_FROM)


def _class_table(result: AuditResult) -> Iterator[Block]:
    pixels, classes = result.statistics.pixels, result.statistics.classes
    if pixels is not None and pixels.classes:
        rows = [
            [name, *_amounts(f"statistics.pixels.classes.{name}", pixels=c.pixels, masks=c.masks, share=c.share)]
            for name, c in list(pixels.classes.items())[:MAX_ROWS]
        ]
        yield Table(["class", "pixels", "masks", "share"], rows, "Classes")
    elif classes:
        imgsz = result.conventions.get("imgsz")
        head = [f"median side at {imgsz}, px", "median share of the image", "median aspect"]
        rows = [_object_row(name, values) for name, values in list(classes.items())[:MAX_ROWS]]
        yield Table(["class", "objects", "images", "share", *head], rows, "Classes")


def _object_row(name: str, values: ClassStatistics) -> list[Cell]:
    place = f"statistics.classes.{name}"
    row = [name, *_amounts(place, objects=values.objects, images=values.images, share=values.share)]
    return row + [_middle(getattr(values, key), f"{place}.{key}") for key in ("side_at_imgsz_px", "area", "aspect")]


def _amounts(place: str, **values: float | None) -> list[Cell]:
    return [_number(v, f"{place}.{key}", "score" if key == "share" else "count") for key, v in values.items()]


def _middle(quantiles: Quantiles, place: str) -> Cell:
    return _number(quantiles[len(quantiles) // 2], f"{place}.{len(quantiles) // 2}", "plain") if quantiles else None


def _spread_tables(result: AuditResult) -> Iterator[Block]:
    tracks = result.statistics.tracks
    parts: tuple[tuple[str, Mapping[str, Quantiles], dict[str, str], str], ...] = (
        ("images", result.statistics.images, _MEASURES, "Pictures: how they spread"),
        ("tracks", vars(tracks) if tracks is not None else {}, _TRACK_MEASURES, "Tracks: how they spread"),
    )
    for part, values, measures, caption in parts:
        rows = [
            [name, *(_number(v, f"statistics.{part}.{key}.{i}", "plain") for i, v in enumerate(spread))]
            for key, name in measures.items()
            if (spread := values.get(key))
        ]
        if rows:
            yield Table(["", *_QUANTILE_NAMES], rows, caption)
