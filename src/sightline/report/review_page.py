"""The package of a review: for each image its mask, overlay, errors and numbers, and a page that begins with the worst.

Every file says which model, data and preprocessing it is of: pictures in a text entry named `sightline`, JSON by keys.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
from PIL.PngImagePlugin import PngInfo

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.files import atomic_folder, check_regular, plain, write_json_atomic, write_sealed_json
from sightline.core.predictions import CLASS_CONFIDENCE, Predictions
from sightline.core.process import Progress
from sightline.core.text import parse_json
from sightline.data import absolute
from sightline.draw import DETECTION_KEY, MAP_KEY, TWO_CLASS_KEY
from sightline.evaluate import DetectionResult, SemanticResult, score_detection_images
from sightline.report.blocks import Cell, Pairs, Reviewed, ReviewedImage, Section, Table, pairs_of
from sightline.report.look_page import check_apart
from sightline.report.numbers import TASK_TITLES, Number
from sightline.report.rendering import render_template
from sightline.report.reviewed import Findings, review_detections, review_map

__all__ = ["ReviewResult", "check_review", "write_review"]

PAGE, LIST, NUMBERS, FOUND = "index.html", "review.json", "evaluation.json", "predictions.parquet"
_SMALL = 360
_KINDS = {
    "wrong": "false",
    "missed": "missed",
    "boundary": "boundary",
}


@dataclass(frozen=True)
class ReviewResult:
    """Where the page is, and for each image, the worst first: its path, score and errors by kind."""

    page: Path
    images: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {"page": self.page.as_posix(), "images": list(self.images)}


def check_review(dataset: Dataset, folder: str | Path) -> None:
    """ConfigError, before any work, where a review cannot be written to a folder: it lies within the data, or holds
    something else than an earlier review.
    """
    target = absolute(Path(folder))
    check_apart(target, dataset)
    if target.is_dir() and any(target.iterdir()) and not _is_review(target):
        raise ConfigError(
            "the folder of a review must be new, empty or an earlier review, got one with other files",
            where=str(target),
            do="Choose another folder with --out",
        )


def write_review(
    dataset: Dataset,
    predictions: Predictions,
    result: DetectionResult | SemanticResult,
    folder: str | Path,
    progress: Progress | None = None,
) -> ReviewResult:
    """Write the package of predictions that were measured (`result`) on a data set; an earlier review is replaced.

    Nothing is changed where it is interrupted. Raises as `check_review`; DataError for an image without predictions.
    """
    check_review(dataset, folder)
    target = absolute(Path(folder))
    made_of = _made_of(predictions, result)
    shown: list[tuple[tuple[Any, ...], dict[str, Any], ReviewedImage]] = []
    with _replacing(target) as place:
        for number, found in enumerate(_findings(dataset, predictions, result)):
            name = f"images/{_folder_name(number, found.path)}"
            size = _write_image(place / name, found, made_of)
            row = {"image": found.path, "score": found.score, **found.errors, "folder": name}
            shown.append((_worst_first(found, number), row, _reviewed(found, name, size, result)))
            if progress is not None:
                progress(number + 1, len(dataset), "reviewing")
        shown.sort(key=lambda item: item[0])
        rows = [row for _, row, _ in shown]
        page = _page(dataset, result, [image for _, _, image in shown], made_of)
        (place / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
        predictions.save(place / FOUND)
        write_sealed_json(place / NUMBERS, result)
        write_sealed_json(place / LIST, {"made_by": "sightline review", **made_of, "images": rows})
    return ReviewResult(Path(folder) / PAGE, tuple(rows))


def _is_review(folder: Path) -> bool:
    try:
        check_regular(folder / LIST)
        listed = parse_json((folder / LIST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(listed, dict) and listed.get("made_by") == "sightline review"


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `target`, and of the earlier review there, in the end."""
    if not (target.is_dir() and any(target.iterdir())):
        with atomic_folder(target) as place:
            yield place
        return
    fresh = target.with_name(f"{target.name}.new")
    with atomic_folder(fresh) as place:
        yield place
    shutil.rmtree(target)
    fresh.rename(target)


def _made_of(predictions: Predictions, result: DetectionResult | SemanticResult) -> dict[str, Any]:
    meta = predictions.meta
    preprocess = meta.get("preprocess")
    text = None if preprocess is None else json.dumps(plain(preprocess), sort_keys=True)
    return {
        "model": result.conventions.get("model_file"),
        "model_digest": meta.get("model_digest"),
        "data": result.conventions["data"],
        "split": result.conventions["split"],
        "data_digest": meta.get("data_digest"),
        "label_digest": result.conventions["label_digest"],
        "preprocess_digest": None if text is None else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
    }


def _findings(
    dataset: Dataset, predictions: Predictions, result: DetectionResult | SemanticResult
) -> Iterator[Findings]:
    images = dataset.images.sort("image_id")
    if isinstance(result, SemanticResult):
        parts = predictions.table.partition_by("image_id", as_dict=True)
        scores = dict(result.per_image.select("image_id", pl.col("image_dice").fill_nan(None)).iter_rows())
        for row in images.iter_rows(named=True):
            if (row["image_id"],) not in parts:
                raise DataError("every image of a review must have a label map, got none", where=row["path"])
            dice, is_sure = scores[row["image_id"]], bool(predictions.meta.get(CLASS_CONFIDENCE))
            yield review_map(dataset, row, parts[row["image_id"],], dice=dice, is_sure=is_sure)
        return
    conf = result.operating_point.conf
    judged = score_detection_images(dataset, predictions, conf=conf, iou_type=result.iou_type)
    for (height, width), image in zip(images.select("height", "width").iter_rows(), judged, strict=True):
        yield review_detections(dataset, (height, width), image)


def _folder_name(number: int, path: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", PurePosixPath(path).stem).strip("-.")[:60]
    return f"{number:05d}-{stem}" if stem else f"{number:05d}"


def _write_image(folder: Path, found: Findings, made_of: Mapping[str, Any]) -> tuple[int, int]:
    """The files of one image; returns width and height of the small picture."""
    folder.mkdir(parents=True)
    said = PngInfo()
    said.add_itxt("sightline", json.dumps(plain({"image": found.path, **made_of})))
    for name, picture in found.pictures.items():
        picture.save(folder / name, pnginfo=said)
    small = found.pictures["errors.png"].copy()
    small.thumbnail((_SMALL, _SMALL))
    small.save(folder / "small.jpg", quality=82, comment=json.dumps(plain(made_of)).encode())
    numbers = {"image": found.path, "score": found.score, **made_of, "errors": found.errors, **found.facts}
    write_json_atomic(folder / "numbers.json", numbers)
    return small.size


def _worst_first(found: Findings, number: int) -> tuple[Any, ...]:
    return found.score is None, found.score or 0.0, -sum(found.errors.values()), number


def _reviewed(
    found: Findings, folder: str, size_wh: tuple[int, int], result: DetectionResult | SemanticResult
) -> ReviewedImage:
    source = f"{folder}/numbers.json"
    score = "Dice" if isinstance(result, SemanticResult) else "F1"
    facts: list[tuple[str, Cell]] = [(score, Number(found.score, f"{source} score"))]
    facts += [(_KINDS[k], Number(v, f"{source} errors.{k}", "count")) for k, v in found.errors.items()]
    kinds = [kind for kind, count in found.errors.items() if count]
    files = [*found.pictures, "numbers.json"]
    return ReviewedImage(found.path, folder, files, *size_wh, facts, kinds, found.class_ids)


def _page(
    dataset: Dataset,
    result: DetectionResult | SemanticResult,
    images: Sequence[ReviewedImage],
    made_of: Mapping[str, Any],
) -> str:
    if isinstance(result, SemanticResult):
        key = TWO_CLASS_KEY if len(dataset.class_names) == 2 else MAP_KEY
        ranked, unit = "the Dice of the image alone", "pixels"
    else:
        key = DETECTION_KEY
        ranked, unit = f"the F1 of the image alone at confidence {result.operating_point.conf:.3f}", "objects"
    caption = f"The worst first, by {ranked}; images with nothing to score last. Errors are {unit}."
    kinds = [(kind, said) for kind, said in _KINDS.items() if any(kind in image.kinds for image in images)]
    present = sorted({class_id for image in images for class_id in image.class_ids})
    classes = [(class_id, dataset.class_names[class_id]) for class_id in present]
    colours = [("#" + bytes(colour).hex(), meaning) for colour, meaning in key]
    rows = [(n, Number(v, f"{NUMBERS} metrics.{n}")) for n, v in result.metrics.items()]
    return render_template(
        "review.html",
        task=TASK_TITLES[dataset.task],
        name=dataset.name,
        about=f"split {made_of['split']}, {len(images)} images",
        tiles=[],
        kinds=kinds,
        classes=classes,
        pictures_from="'self' file:",
        sections=[
            Section("images", "Images", blocks=[Reviewed(images, caption, colours, kinds, classes)]),
            Section(
                "numbers",
                "Numbers",
                "Of all images together, as sightline eval gives them.",
                [Table(("metric", "value"), rows)],
            ),
            Section("made", "Made of", blocks=[Pairs(pairs_of(dict(made_of), LIST))]),
        ],
    )
