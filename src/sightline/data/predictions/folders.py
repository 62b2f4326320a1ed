"""Predictions as a folder with a file for each image: YOLO text with confidences, and masks."""

from pathlib import Path

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.keypoints import most_keypoints
from sightline.core.predictions import Predictions
from sightline.data.class_masks import read_class_mask
from sightline.data.image_names import ImageNames
from sightline.data.layout import read_text
from sightline.data.predictions.rows import Found, predictions_of
from sightline.media import IMAGE_SUFFIXES
from sightline.ops import rle
from sightline.ops.boxes import cxcywh_to_xyxy
from sightline.ops.oriented import fit_boxes

__all__ = ["read_folder_predictions"]


def read_folder_predictions(path: str | Path, dataset: Dataset) -> Predictions:
    """A folder of one `.txt` for each image (`class x y width height confidence`, fractions of the image; an outline in
    place of the box; of a data set with keypoints these before the confidence, x, y and a score of each), or of one
    mask for each image of a semantic data set, with the values of its own masks.

    Files are found by the image's stem. DataError, naming file and line, for rows without a confidence, masks of
    another size, and a folder with neither.
    """
    folder = Path(path)
    suffixes = IMAGE_SUFFIXES if dataset.task == "semantic" else {".txt"}
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not files:
        what = "masks (.png)" if dataset.task == "semantic" else ".txt files"
        raise DataError(f"a folder of predictions must hold {what}, one for each image, got none", where=str(folder))
    names = ImageNames(dataset)
    sizes = {p: (h, w) for p, h, w in dataset.images.select("path", "height", "width").iter_rows()}
    rows: list[Found] = []
    images = []
    points = most_keypoints(dataset)
    if dataset.task != "semantic" and not points and dataset.objects["rle"].null_count() == dataset.objects.height:
        _refuse_keypoints(files)
    for file in files:
        name = file.relative_to(folder).with_suffix("").as_posix()
        images.append(name)
        image = names.path_of(name)
        if image is None:
            continue
        if dataset.task == "semantic":
            rows += _of_mask(file, name, dataset, sizes[image])
        else:
            rows += _of_text(file, name, sizes[image], points)
    return predictions_of(dataset, rows, images, str(folder), f"folder {folder.name}")


def _refuse_keypoints(files: list[Path]) -> None:
    """DataError where boxes with keypoints would be read as outlines: every line has as many numbers as those have."""
    counts = {len(line.split()) for file in files for line in read_text(file).splitlines() if line.strip()}
    if len(counts) == 1 and (count := counts.pop()) > 6 and (count - 6) % 3 == 0:
        message = (
            f"every line has {count} numbers, as a box with {(count - 6) // 3} keypoints has; the labels have none"
        )
        raise DataError(message, where=str(files[0]), do="measure them on labels with keypoints, or write boxes alone")


def _of_mask(file: Path, name: str, dataset: Dataset, size_hw: tuple[int, int]) -> list[Found]:
    ids = read_class_mask(file, dataset, size_hw)
    rows = []
    for class_id in np.unique(ids).tolist():
        if class_id >= len(dataset.class_names):
            message = "a predicted mask must give each pixel a class, got pixels to be ignored"
            raise DataError(message, where=str(file))
        code = rle.encode(ids == class_id)
        box = rle.to_box(code, size_hw)
        rows.append(Found(name, dataset.class_names[class_id], 1.0, box, str(file), code))
    return rows


def _of_text(file: Path, name: str, size_hw: tuple[int, int], points: int) -> list[Found]:
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip():
            rows.append(_of_line(line.split(), name, f"{file}:{number}", size_hw, points))
    return rows


def _of_line(parts: list[str], name: str, where: str, size_hw: tuple[int, int], points: int) -> Found:
    try:
        label, *numbers = int(parts[0]), *map(float, parts[1:])
    except ValueError as error:
        raise DataError(f"must be numbers, got: {error}", where=where) from None
    # With the confidence a box has six numbers and an outline of n corners 2 n + 2; without it five and 2 n + 1.
    height, width = size_hw
    if points and len(parts) == 6 + 3 * points:
        box = cxcywh_to_xyxy([numbers[:4]])[0] * (width, height, width, height)
        pose = (np.reshape(numbers[4:-1], (-1, 3)) * (width, height, 1)).ravel().tolist()
        return Found(name, label, numbers[-1], box, where, keypoints=pose)
    if len(parts) < 6 or len(parts) % 2:
        message = f"must be class, box or outline, and confidence, got {len(parts)} numbers"
        raise DataError(message, where=where, do="Write the predictions with their confidences (save_conf).")
    if len(parts) == 6:
        box = cxcywh_to_xyxy([numbers[:4]])[0] * (width, height, width, height)
        return Found(name, label, numbers[4], box, where)
    ring = (np.reshape(numbers[:-1], (-1, 2)) * (width, height)).reshape(-1)
    box = np.array([ring[0::2].min(), ring[1::2].min(), ring[0::2].max(), ring[1::2].max()])
    code = rle.from_polygons([ring.tolist()], size_hw)
    turned = fit_boxes(ring.reshape(1, -1, 2))[0].tolist() if len(ring) == 8 else None
    return Found(name, label, numbers[-1], box, where, code, oriented=turned)
