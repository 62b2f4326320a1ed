"""The accuracy section: metrics with their conventions, by class, curves, confusion at one operating point."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sightline.report.blocks import Block, Cell, Charts, Matrix, Note, Pairs, Section, Table, Tile, pairs_of
from sightline.report.charts import curve_chart, heat_map, many_curves_chart
from sightline.report.numbers import HEADLINES, MEANINGS, TITLES, Number, Source, Style
from sightline.report.records import RunRecord

__all__ = ["accuracy_section", "accuracy_tiles"]

FILE = "evaluation.json"
_OF_BOXES = "box_"  # what begins so stands beside numbers of masks
_OF_IMAGES = "_image_mean"  # what ends so is a mean over images
_MAX_MATRIX = 13
_MAX_CONFUSIONS = 15
_COUNTS = frozenset(
    {"objects", "crowd", "detections", "tp", "fp", "fn", "truth_pixels", "predicted_pixels", "class_id"}
)


def accuracy_section(record: RunRecord) -> Section:
    """Everything `evaluation.json` says; no number is computed anew."""
    evaluation = record.evaluation
    if evaluation is None:
        return Section("accuracy", "Accuracy", missing="Accuracy was not measured in this run.")
    source = Source(FILE, evaluation)
    blocks: list[Block] = [_metric_table(source)]
    if record.others:
        blocks.append(_all_splits({FILE: evaluation, **record.others}))
    point = evaluation.get("operating_point")
    if point:
        blocks.append(_operating_point(source))
    if evaluation.get("per_class"):
        blocks.append(_per_class(source))
    if evaluation.get("object_errors"):
        blocks.append(_object_errors(source))
    if "model" in ((evaluation.get("conventions") or {}).get("baseline") or {}):
        blocks.append(_baseline(source))
    charts = _curves(evaluation) if evaluation.get("curves") else []
    if charts:
        blocks.append(Charts(charts, _curves_caption(evaluation)))
    if evaluation.get("confusion"):
        blocks += _confusion(source)
    conventions = evaluation.get("conventions") or {}
    for line in [*conventions.get("limits", []), *evaluation.get("warnings", [])]:
        blocks.insert(0, Note(str(line), "warning"))
    blocks.append(Pairs(pairs_of(conventions, f"{FILE} conventions"), "Conventions of these numbers", folded=True))
    split = conventions.get("split")
    intro = f"Measured on split '{split}', {conventions.get('images')} images." if split else ""
    return Section("accuracy", "Accuracy", intro, blocks)


def accuracy_tiles(record: RunRecord, room: int) -> list[Tile]:
    """The numbers of the evaluation that lead the page, at most `room`; precision and recall come together or as F1."""
    if record.evaluation is None:
        return []
    source = Source(FILE, record.evaluation)
    metrics = record.evaluation.get("metrics") or {}
    wanted = next((keys for keys in HEADLINES if keys[0] in metrics), HEADLINES[-1])
    tiles = [_tile(source, key, "metrics") for key in wanted if metrics.get(key) is not None]
    for key in ("precision", "recall") if len(tiles) + 2 <= room else ("f1",):
        number = source.optional("operating_point", key)
        if number is not None and number.value is not None:
            tiles.append(_tile(source, key, "operating_point"))
    return tiles[:room]


def _tile(source: Source, key: str, place: str) -> Tile:
    return Tile(
        _title(source.values, key),
        source.number(place, key),
        _meaning(source, key),
        _interval(source, key),
        _rival(source, key),
    )


def _interval(source: Source, key: str) -> tuple[Number, Number] | str:
    """The ends of the interval, or in capitals that there is none and why."""
    low, high = source.optional("intervals", key, 0), source.optional("intervals", key, 1)
    if low is not None and high is not None:
        return low, high
    said = str((source.values.get("conventions") or {}).get("intervals") or "")
    return (
        f"interval {said}".replace("not measured", "NOT MEASURED")
        if said.startswith("not")
        else "interval NOT MEASURED"
    )


def _rival(source: Source, key: str) -> tuple[Number, str] | None:
    """What the best predictor that never looks reaches by the same metric."""
    facts = (source.values.get("conventions") or {}).get("baseline") or {}
    if facts.get("metric") not in (key, TITLES.get(key, key)):
        return None
    return source.number("conventions", "baseline", "value"), str(facts["what"])


def _metric_table(source: Source) -> Table:
    intervals = source.values.get("intervals") or {}
    head = ["metric", "value", *(["from", "to"] if intervals else []), "meaning"]
    rows: list[Sequence[Cell]] = []
    for key in source.values["metrics"]:
        ends = [source.optional("intervals", key, i) or Number(None, f"{FILE} intervals") for i in (0, 1)]
        rows.append(
            [
                _title(source.values, key),
                source.number("metrics", key),
                *(ends if intervals else []),
                _meaning(source, key),
            ]
        )
    caption = "from, to: " + str(source.values["conventions"].get("intervals", "")) if intervals else ""
    return Table(head, rows, caption)


def _all_splits(evaluations: Mapping[str, dict[str, Any]]) -> Table:
    """The headline numbers of every split that has been measured, each from its own file."""
    first = next(iter(evaluations.values()))
    wanted = [key for keys in HEADLINES for key in keys if key in first["metrics"]]
    rows: list[Sequence[Cell]] = []
    for file, values in evaluations.items():
        source = Source(file, values)
        numbers = [source.optional("metrics", key) or "–" for key in wanted]
        images = source.optional("conventions", "images", style="count") or "–"
        rows.append([str(values.get("conventions", {}).get("split", "–")), images, *numbers])
    return Table(["split", "images", *(_title(first, key) for key in wanted)], rows, "Splits")


def _title(evaluation: Mapping[str, Any], key: str) -> str:
    """The metric's name on the page, which says whether masks, keypoints or boxes are meant where there are several."""
    title = TITLES.get(key.removeprefix(_OF_BOXES), key)
    if key.endswith(_OF_IMAGES):
        own = key.removesuffix(_OF_IMAGES)
        return f"{TITLES.get(own, own)}, mean over images"
    if key.startswith(_OF_BOXES):
        return f"Box {title}"
    kind = {"segm": "Mask", "keypoints": "Pose", "obb": "Oriented"}.get(evaluation.get("iou_type", ""))
    return f"{kind} {title}" if kind and key[:2] in ("AP", "AR") else title


def _overlap(evaluation: Mapping[str, Any]) -> str:
    return "OKS" if evaluation.get("iou_type") == "keypoints" else "IoU"


def _meaning(source: Source, key: str) -> str:
    overlap = "IoU" if key.startswith(_OF_BOXES) else _overlap(source.values)
    key = key.removeprefix(_OF_BOXES)
    if key.endswith(_OF_IMAGES):
        return "Of each image alone, mean over the images where it is defined: another number than the pooled one."
    if key in MEANINGS:
        return MEANINGS[key].replace("IoU", overlap)
    limit = key.removeprefix("AR")
    return f"Recall averaged over IoU thresholds, with at most {limit} detections per image." if limit.isdigit() else ""


def _operating_point(source: Source) -> Pairs:
    point = source.values["operating_point"]
    rows: list[tuple[str, Cell]] = [
        ("confidence threshold", source.number("operating_point", "conf")),
        ("chosen as", str(point.get("origin", "–"))),
    ]
    rows += [
        (_head(key), source.number("operating_point", key)) for key in ("precision", "recall", "f1") if key in point
    ]
    counted = ("true_positives", "false_positives", "false_negatives", "on_crowd")
    rows += [
        (key.replace("_", " "), source.number("operating_point", key, style="count")) for key in counted if key in point
    ]
    return Pairs(rows, "Operating point: one threshold for the counts below and the confusion matrix")


def _baseline(source: Source) -> Pairs:
    """What a predictor that never looks at the pictures reaches by the same metric."""
    place = ("conventions", "baseline")
    facts = source.values["conventions"]["baseline"]
    rows: list[tuple[str, Cell]] = [
        ("this model", source.number(*place, "model")),
        (str(facts["what"]), source.number(*place, "value")),
    ]
    return Pairs(rows, f"{facts['metric']} beside a predictor that never looks at the pictures")


def _per_class(source: Source) -> Table:
    first = source.values["per_class"][0]
    columns = [key for key in first if key not in ("class_id", "class")]
    rows: list[Sequence[Cell]] = []
    for i, row in enumerate(source.values["per_class"]):
        cells: list[Cell] = [
            row[key] if isinstance(row[key], str) else source.number("per_class", i, key, style=_style(key))
            for key in columns
        ]
        rows.append([str(row["class"]), *cells])
    return Table(["class", *(_head(c) for c in columns)], rows, "By class")


def _object_errors(source: Source) -> Table:
    columns = [key for key in source.values["object_errors"][0] if key != "class"]
    rows: list[Sequence[Cell]] = []
    for i, row in enumerate(source.values["object_errors"]):
        cells = [source.number("object_errors", i, key, style="count") for key in columns]
        rows.append([str(row["class"]), *cells])
    caption = "Errors of objects. " + str(source.values["conventions"].get("object_errors", ""))
    return Table(["class", *(_head(c) for c in columns)], rows, caption)


def _head(key: str) -> str:
    return {"iou": "IoU", "tp": "TP", "fp": "FP", "fn": "FN", "f1": "F1"}.get(key, key.replace("_", " "))


def _style(key: str) -> Style:
    return "count" if key in _COUNTS else "score"


def _curves(evaluation: Mapping[str, Any]) -> list[Markup]:
    curves = evaluation["curves"]
    if "threshold" in curves:
        return _foreground_curves(curves, evaluation)
    by_class = {
        str(name): points
        for name, precision in zip(curves["class_names"], curves["precision"], strict=True)
        if (points := _pairs(curves["recall"], precision))
    }
    charts = []
    overlap = _overlap(evaluation)
    if by_class:
        mean = _pairs(curves["recall"], curves["mean_precision"])
        charts.append(
            many_curves_chart(
                "accuracy-pr",
                f"Precision and recall at {overlap} 0.5",
                by_class,
                mean,
                x_title="recall",
                y_title="precision",
            )
        )
    pooled = {
        label: points
        for label, key in (("precision", "pooled_precision"), ("recall", "pooled_recall"), ("F1", "pooled_f1"))
        if (points := _pairs(curves["conf"], curves[key]))
    }
    if pooled:
        conf = (evaluation.get("operating_point") or {}).get("conf")
        marker = (float(conf), f"operating point {conf:.3f}") if conf is not None else None
        charts.append(
            curve_chart(
                "accuracy-confidence",
                "What the threshold does",
                pooled,
                x_title="confidence threshold",
                y_title=f"all classes pooled, {overlap} 0.5",
                unit_y=True,
                marker=marker,
            )
        )
    return charts


def _foreground_curves(curves: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[Markup]:
    """Of label maps of two classes: precision over recall, and the ratios over the threshold."""
    charts = []
    if ends := _pairs(curves["recall"], curves["precision"]):
        x_title, y_title = "recall", "precision"
        title = "Precision and recall of the foreground's pixels"
        charts.append(
            curve_chart("accuracy-pr", title, {"pixels": ends}, x_title=x_title, y_title=y_title, unit_y=True)
        )
    names = {"Dice": "dice", "IoU": "iou", "precision": "precision", "recall": "recall", "specificity": "specificity"}
    series = {label: points for label, key in names.items() if (points := _pairs(curves["threshold"], curves[key]))}
    conf = (evaluation.get("operating_point") or {}).get("conf")
    charts.append(
        curve_chart(
            "accuracy-threshold",
            "What the threshold does",
            series,
            x_title="least probability of the foreground",
            y_title="pixels of all images pooled",
            unit_y=True,
            marker=None if conf is None else (float(conf), f"operating point {conf:.3f}"),
        )
    )
    return charts


def _curves_caption(evaluation: Mapping[str, Any]) -> str:
    if "threshold" in evaluation["curves"]:
        return "Counts are exact at every threshold drawn: multiples of 1/128."
    names = evaluation["curves"]["class_names"]
    if len(names) > 1:
        return "Precision is interpolated as COCO averages it; the line in ink is the mean over classes."
    return "Precision is interpolated as COCO averages it."


def _pairs(xs: Sequence[float | None], ys: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]


def _confusion(source: Source) -> list[Block]:
    matrix: list[list[int]] = source.values["confusion"]
    names = [str(row["class"]) for row in source.values["per_class"]]
    if len(matrix) == len(names) + 1:
        names.append("background")
        caption = "Confusion at the operating point"
        note = (
            "Rows are objects: found, taken for another class, or missed (last column). The last row is false alarms."
        )
    else:
        caption = "Confusion of pixels, all images pooled"
        note = "Shades are shares of the row."
    if len(names) <= _MAX_MATRIX:
        cells = [
            [source.number("confusion", r, c, style="count") for c in range(len(row))] for r, row in enumerate(matrix)
        ]
        shares = [[value / (sum(row) or 1) for value in row] for row in matrix]
        return [Matrix(names, cells, shares, caption, note)]
    pairs = sorted(
        ((value, r, c) for r, row in enumerate(matrix) for c, value in enumerate(row) if r != c and value), reverse=True
    )
    rows: list[Sequence[Cell]] = [
        (names[r], names[c], source.number("confusion", r, c, style="count")) for _, r, c in pairs[:_MAX_CONFUSIONS]
    ]
    return [
        Charts([heat_map("accuracy-confusion", "Confusion, shares of each row", matrix)], note),
        Table(["ground truth", "predicted as", "count"], rows, "The most frequent confusions"),
    ]
