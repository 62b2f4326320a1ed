"""The training section: losses by named term, validation metrics, learning rate, speed."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sightline.media import read_image
from sightline.report.blocks import Block, Charts, Note, Pairs, Picture, Pictures, Section, Tone, jpeg_uri
from sightline.report.charts import curve_chart
from sightline.report.numbers import Source
from sightline.report.records import RunRecord
from sightline.report.rendering import SERIES

__all__ = ["training_section"]

_TONES: dict[str, Tone] = {"info": "plain", "warning": "warning", "error": "bad"}
_WATCHED = (
    (
        "foreground",
        "Foreground beside accuracy",
        "share",
        False,
        {"foreground_iou": "foreground IoU", "accuracy": "accuracy"},
    ),
    (
        "gradients",
        "Gradients before clipping",
        "norm of a step",
        True,
        {"gradient_median": "median", "gradient_max": "largest"},
    ),
    ("outputs", "Range of the outputs", "probability", False, {"output_min": "lowest", "output_max": "highest"}),
)
"""Charts of what the watching rules look at: name, title, unit, whether it may span decades (else it lies in 0..1), and
the label of each `watch/` value."""
_CLASS_METRICS = {"iou": "IoU"}
_LOG_SPAN = 100
Points = list[tuple[float, float]]


def training_section(record: RunRecord) -> Section:
    """Curves of `metrics.jsonl` and what the run says about its course."""
    blocks: list[Block] = []
    facts = _facts(record)
    if facts:
        blocks.append(Pairs(facts))
    blocks += [_watched(found) for found in record.run.get("watched") or ()]
    if record.epochs:
        blocks.append(Charts(_charts(record)))
    if record.strips:
        blocks.append(_strips(record))
    return Section(
        anchor="training",
        title="Training",
        intro="How the model got there, epoch by epoch." if record.epochs else "",
        blocks=blocks,
        missing="" if record.epochs else "Training was not measured in this run: there is no metrics.jsonl.",
    )


def _watched(found: dict[str, Any]) -> Note:
    sentence = f"Epoch {found['epoch']}: {found['message']} [{found['code']}]."
    if found.get("resolved_epoch") is not None:
        return Note(f"{sentence} Resolved at epoch {found['resolved_epoch']}.", _TONES["info"])
    return Note(f"{sentence} {found['do']}.", _TONES[found["severity"]])


def _strips(record: RunRecord) -> Pictures:
    pictures = []
    for path in record.strips:
        pixels = read_image(path)
        alt = f"an image with its ground truth and the predictions of later and later epochs, from {path.name}"
        pictures.append(Picture(jpeg_uri(pixels), pixels.shape[1], pixels.shape[0], path.name, alt))
    caption = "The same images after more and more epochs, from left to right."
    return Pictures("Predictions during training", pictures, caption, strips=True)


def _facts(record: RunRecord) -> list[tuple[str, Any]]:
    source = Source("run.json", record.run)
    rows: list[tuple[str, Any]] = []
    for label, keys, style in (
        ("best epoch", ("best", "epoch"), "count"),
        ("its value while training", ("best", "value"), "score"),
        ("epochs done", ("epochs_done",), "count"),
        ("duration", ("duration_s",), "seconds"),
        ("training images per second", ("images_per_s",), "plain"),
    ):
        number = source.optional(*keys, style=style)  # type: ignore[arg-type]
        if number is not None and number.value is not None:
            rows.append((label, number))
    metric = (record.run.get("best") or {}).get("metric")
    if metric:
        rows.insert(0, ("chosen by", str(metric)))
    precision = record.run.get("precision")
    if isinstance(precision, dict):
        text = f"{precision.get('precision')} on {precision.get('device')}: {precision.get('reason')}"
        measured = precision.get("measured_in")  # absent in runs that measured in the precision of training
        rows.append(("arithmetic", f"{text}; measured in {measured}" if measured else text))
    for note in record.run.get("notes") or ():
        rows.append(("note", str(note)))
    return rows


def _charts(record: RunRecord) -> list[Markup]:
    epochs = record.epochs
    epoch = (record.run.get("best") or {}).get("epoch")
    best = (float(epoch), f"best: {epoch}") if epoch else None
    charts = []
    for prefix, name, title in (
        ("train/", "training-losses", "Training loss by term"),
        ("valloss/", "validation-losses", "Validation loss by term"),
    ):
        if losses := _series(epochs, prefix):
            charts.append(_over_epochs(name, title, losses, "loss", decades=True))
    charts += _metric_charts("validation-metrics", "Validation metrics", _series(epochs, "val/"), best)
    by_metric: dict[str, dict[str, Points]] = {}
    for key, points in _series(epochs, "class/").items():
        class_name, metric = key.rsplit("/", 1)
        by_metric.setdefault(_CLASS_METRICS.get(metric, metric), {})[class_name] = points
    for metric, by_class in by_metric.items():
        charts += _metric_charts(f"class-metrics-{metric}", f"Validation {metric} by class", by_class, best, metric)
    for name, title, y_title, decades, keys in _WATCHED:
        watched = {label: points for key, label in keys.items() if (points := _points(epochs, f"watch/{key}"))}
        if watched:
            charts.append(_over_epochs(f"watched-{name}", title, watched, y_title, unit_y=not decades, decades=decades))
    for key, title, y_title in (
        ("lr", "Learning rate", "rate"),
        ("images_per_s", "Speed", "training images per second"),
    ):
        if points := _points(epochs, key):
            charts.append(_over_epochs(f"training-{key}", title, {key: points}, y_title))
    return charts


def _metric_charts(
    name: str, title: str, series: dict[str, Points], best: tuple[float, str] | None, y_title: str = "value"
) -> list[Markup]:
    """Metrics, best epoch marked, in as many charts as the colours ask for; on 0..1 where that is their range."""
    charts = []
    for part, chunk in enumerate(_chunks(series)):
        in_unit = all(0 <= y <= 1 for points in chunk.values() for _, y in points)
        unit = y_title if y_title != "value" or len(chunk) > 1 else next(iter(chunk))
        heading = title if part == 0 else f"{title}, continued"
        charts.append(_over_epochs(f"{name}-{part}", heading, chunk, unit, unit_y=in_unit, marker=best))
    return charts


def _over_epochs(
    name: str,
    title: str,
    series: dict[str, Points],
    y_title: str,
    *,
    unit_y: bool = False,
    decades: bool = False,
    marker: tuple[float, str] | None = None,
) -> Markup:
    """Lines from 0 on. `decades` allows a logarithmic axis, where the lowest values would otherwise look like 0."""
    values = [y for points in series.values() for _, y in points]
    log_y = decades and min(values) > 0 and max(values) >= _LOG_SPAN * min(values)
    return curve_chart(
        name,
        title,
        series,
        x_title="epoch",
        y_title=f"{y_title}, logarithmic" if log_y else y_title,
        unit_y=unit_y,
        zero_y=True,
        log_y=log_y,
        marker=marker,
        x_whole=True,
    )


def _series(epochs: Sequence[dict[str, Any]], prefix: str) -> dict[str, Points]:
    keys = dict.fromkeys(key for row in epochs for key in row if key.startswith(prefix))
    found = {key.removeprefix(prefix): _points(epochs, key) for key in keys}
    return {name: points for name, points in found.items() if points}


def _points(epochs: Sequence[dict[str, Any]], key: str) -> Points:
    """Epoch and value; an epoch whose value is null (not a number) has no point."""
    rows = [(row.get("epoch"), row.get(key)) for row in epochs]
    return [(float(x), float(y)) for x, y in rows if x is not None and isinstance(y, (int, float))]


def _chunks(series: dict[str, Points]) -> list[dict[str, Points]]:
    """No more lines in one chart than there are colours."""
    names = list(series)
    return [{n: series[n] for n in names[i : i + len(SERIES)]} for i in range(0, len(names), len(SERIES))]
