"""Panoptic predictions as COCO has them: a JSON with the segments of each image, and a PNG of their ids for each."""

from pathlib import Path
from typing import Any

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions
from sightline.data.formats.coco_panoptic.read import map_folder, read_segment_map
from sightline.data.image_names import ImageNames
from sightline.data.layout import inside
from sightline.data.predictions.rows import Found, predictions_of
from sightline.ops import rle

__all__ = ["check_panoptic_labels", "is_panoptic", "panoptic_predictions"]

_FORMAT = "coco-panoptic"


def is_panoptic(content: Any) -> bool:
    """Whether a JSON is of this kind: an object whose annotations list segments."""
    entries = content.get("annotations") if isinstance(content, dict) else None
    return isinstance(entries, list) and any(isinstance(e, dict) and "segments_info" in e for e in entries)


def check_panoptic_labels(dataset: Dataset) -> None:
    """DataError for labels that do not say of every pixel what it is of, or that it counts for nothing."""
    if dataset.format != _FORMAT:
        raise DataError(
            f"panoptic segments must be measured on panoptic labels ({_FORMAT}), got {dataset.format}",
            where=str(dataset.root),
            do=f"convert them with sightline convert --to {_FORMAT}, or measure boxes and masks",
        )


def panoptic_predictions(content: dict[str, Any], file: Path, dataset: Dataset) -> Predictions:
    """The predictions of a panoptic JSON for this data set; the PNG files lie in a folder of its name or near it.

    An image is found by its `file_name` in the list `images` where the file has one, else by `image_id`, as in COCO
    results. DataError, naming the entry, for a PNG that is missing, of another size, or shows other segments than are
    listed, and where its name is that of another image of the data set.
    """
    check_panoptic_labels(dataset)
    entries = content["annotations"]
    names = _names_of_images(content)
    own = ImageNames(dataset)
    sizes = {path: (h, w) for path, h, w in dataset.images.select("path", "height", "width").iter_rows()}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("segments_info"), list):
            raise DataError("must be an object with segments_info", where=f"{file}: annotations[{number}]")
        if not isinstance(entry.get("file_name"), str):
            raise DataError("must name its PNG as file_name, got none", where=f"{file}: annotations[{number}]")
    folder = map_folder(file, [entry["file_name"] for entry in entries], file.parent)
    rows: list[Found] = []
    images: list[str] = []
    for number, entry in enumerate(entries):
        where = f"{file}: annotations[{number}]"
        named = names.get(entry.get("image_id"), entry.get("image_id"))
        path = own.path_of(named) if isinstance(named, str) else _path_of_number(named, own, where)
        if path in images:
            raise DataError(f"each image must be predicted once, got '{path}' again", where=where)
        images.append(path if path is not None else str(named))
        if path is None:
            continue
        if own.path_of(Path(entry["file_name"]).stem) not in (None, path):
            message = f"the PNG must be that of the image '{path}', got '{entry['file_name']}', the name of another one"
            raise DataError(message, where=where, do="list the images with their file_name in the predictions' JSON")
        png = folder / inside(folder, entry["file_name"], str(file))
        rows += _segments(entry["segments_info"], path, png, sizes[path], where)
    found = predictions_of(dataset, rows, images, str(file), f"COCO panoptic {file.name}")
    found.meta["task"] = "panoptic"
    return found


def _names_of_images(content: dict[str, Any]) -> dict[Any, str]:
    listed = content.get("images")
    known = [image for image in listed if isinstance(image, dict)] if isinstance(listed, list) else []
    return {
        image["id"]: image["file_name"]
        for image in known
        if isinstance(image.get("id"), (int, str)) and isinstance(image.get("file_name"), str)
    }


def _path_of_number(number: Any, own: ImageNames, where: str) -> str:
    if not isinstance(number, int) or isinstance(number, bool):
        raise DataError(f"image_id must be a number or a name, got {number!r:.40}", where=where)
    return own.paths_of_numbers([number], where)[number]


def _segments(listed: list[Any], path: str, png: Path, size_hw: tuple[int, int], where: str) -> list[Found]:
    """The segments of one image, in the order of the file."""
    if not png.is_file():
        raise DataError(
            f"'{png.name}' must lie in a folder of the JSON's name or near it, got no such file", where=where
        )
    shown = read_segment_map(png, size_hw)
    if shown.code is not None:
        raise DataError(f"'{png.name}' must be the map of its segments, got: {shown.message}", where=where)
    masks = dict(shown.masks)
    rows = []
    for segment in listed:
        number, category = (
            (segment.get(k) for k in ("id", "category_id")) if isinstance(segment, dict) else (None, None)
        )
        if not isinstance(number, int) or not isinstance(category, int):
            raise DataError("a segment must have a whole id and category_id, got others", where=where)
        mask = masks.pop(number, None)
        if mask is None:
            raise DataError(f"'{png.name}' must show every segment once, got none of id {number}", where=where)
        score = segment.get("score", 1.0)
        if isinstance(score, bool) or not isinstance(score, (int, float)):
            raise DataError(f"the score of a segment must be a number, got {score!r:.40}", where=where)
        rows.append(Found(path, category, float(score), rle.to_box(mask, size_hw), where, mask))
    if masks:
        raise DataError(f"'{png.name}' must show segments that are listed, got id {next(iter(masks))}", where=where)
    return rows
