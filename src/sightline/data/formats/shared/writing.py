"""What writers share: where images go and how they get there, what may be written as text, losses common to formats."""

import shutil
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import atomic_path, write_bytes_atomic
from sightline.core.findings import Finding
from sightline.core.frames import picture_file, split_frame_path
from sightline.core.process import Progress
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import MASKED
from sightline.data.layout import split_of
from sightline.media import read_frame
from sightline.ops import rle

__all__ = [
    "check_class_names",
    "check_has_objects",
    "check_listed_names",
    "check_places",
    "check_splits",
    "check_writable",
    "common_losses",
    "copied_name",
    "copy_files",
    "counted_losses",
    "encoded_png",
    "first_clash",
    "flat_targets",
    "images_with_objects",
    "mask_box_losses",
    "number_text",
    "place_images",
    "places_by_split",
]

FRAME_SUFFIX = ".png"  # exact, and read by everything


def copied_name(path: str) -> str:
    """The relative path of an image once it is copied: its own, and `street/000012.png` for `street.mp4#000012`."""
    frame = split_frame_path(path)
    if frame is None:
        return path
    video, index = frame
    return f"{PurePosixPath(video).with_suffix('').as_posix()}/{index:06d}{FRAME_SUFFIX}"


def places_by_split(images: pl.DataFrame) -> dict[str, str]:
    """Where each image of an images table goes below a folder whose subfolders are splits, by its path.

    The first folder of a place says the split (train, val or test), and no place of an image without one does. A
    leading `images/` is left out. DataError when two images would have one place up to the suffix.
    """
    places: dict[str, str] = {}
    for path, split in images.select("path", "split").iter_rows():
        place = copied_name(path).removeprefix("images/")
        first = place.split("/")[0] if "/" in place else ""
        named = split_of(split or "")
        if split_of(first) != named:
            place = f"{'all' if named is None else split}/{place}"
        places[path] = place
    check_places(places)
    return places


def check_places(places: Mapping[str, str]) -> None:
    """DataError when the labels of two images would have one place; `places` says by path where each image goes."""
    clash = first_clash(places)
    if clash is not None:
        raise DataError(
            f"every image must have a label file of its own, got one for '{clash[0]}' and '{clash[1]}'",
            do="Rename one of them",
        )


def first_clash(places: Mapping[str, str]) -> tuple[str, str] | None:
    """Two images whose places differ in the suffix at most; None where there are none."""
    stems: dict[PurePosixPath, str] = {}
    for path, place in places.items():
        other = stems.setdefault(PurePosixPath(place).with_suffix(""), path)
        if other != path:
            return other, path
    return None


def copy_files(pairs: Iterable[tuple[Path, Path]], progress: Progress | None = None) -> int:
    """Copy each source to its target and return how many were copied; a target that is its source is left alone.

    A source that is a frame of a video is decoded and written as PNG. DataError when a source is missing, or two
    sources have one target; nothing has been copied then.
    """
    wanted = list(pairs)
    sources: dict[Path, Path] = {}
    absent = [source for source, _ in wanted if not picture_file(source).is_file()]
    if absent:
        raise DataError(
            f"images must exist to be copied, got {len(absent)} of {len(wanted)} missing, this the first",
            where=str(absent[0]),
            do="Give the images, or write the labels alone",
        )
    for source, target in wanted:
        other = sources.setdefault(target, source)
        if other != source:
            raise DataError(f"images must have places of their own, got {target} for {other} too", where=str(source))
    copied = 0
    for done, (source, target) in enumerate(wanted, start=1):
        copied += _put(source, target)
        if progress is not None:
            progress(done, len(wanted), "copying images")
    return copied


def _put(source: Path, target: Path) -> bool:
    frame = split_frame_path(source)
    if frame is None:
        if target.exists() and target.samefile(source):
            return False
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        return True
    if target.suffix.lower() != FRAME_SUFFIX:
        raise DataError(f"a frame of a video must be written as {FRAME_SUFFIX}, got {target.name}", where=str(source))
    write_bytes_atomic(target, encoded_png(read_frame(*frame)[..., ::-1]))
    return True


def encoded_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Gray (H, W) or blue, green and red pixels (H, W, 3) as a PNG file; DataError where that fails."""
    written, data = cv2.imencode(".png", pixels)
    if not written:
        raise DataError(f"a picture must be written as PNG, got a failure with {pixels.shape} pixels")
    return bytes(data.tobytes())


_KNOWN_SPLITS = {"train", "val", "test"}


def flat_targets(paths: Sequence[str], folders: Sequence[str]) -> dict[str, str]:
    """Path → `folder/name` in a format that finds labels by the stem of the image's name.

    The name is the file's own; where two images of a folder would share a stem, every name is its whole path with `_`
    for `/`. DataError where that does not tell them apart either.
    """
    copied = [copied_name(p) for p in paths]
    targets: dict[str, str] = {}
    for names in ([PurePosixPath(p).name for p in copied], [p.replace("/", "_") for p in copied]):
        placed = [f"{folder}/{name}" if folder else name for folder, name in zip(folders, names, strict=True)]
        targets = dict(zip(paths, placed, strict=True))
        if first_clash(targets) is None:
            return targets
    check_places(targets)
    return targets


def place_images(
    dataset: Dataset, folder: Path, targets: Mapping[str, str], *, copy: bool, progress: Progress | None = None
) -> None:
    """Copy each image to `folder/target`, or check that it is there already; DataError where one is missing."""
    if copy:
        copy_files(((dataset.image_path(path), folder / target) for path, target in targets.items()), progress)
        return
    absent = [target for target in targets.values() if not (folder / target).is_file()]
    if absent:
        raise DataError(
            f"images must lie below {folder} to be left where they are, got no {absent[0]}",
            do="Let them be copied",
        )


def check_has_objects(dataset: Dataset, format_name: str) -> None:
    """DataError for a data set of semantic masks, which tell no object from the other."""
    if dataset.task == "semantic":
        message = f"{format_name} needs objects, got a data set of semantic masks"
        raise DataError(message, where=str(dataset.root), do="Write it as masks")


def check_splits(dataset: Dataset, format_name: str) -> None:
    """DataError for a split the format has no place for."""
    strange = sorted(set(dataset.splits) - _KNOWN_SPLITS)
    if strange:
        raise DataError(f"{format_name} knows the splits train, val and test, got {strange}", do="Rename the splits")


def check_writable(dataset: Dataset, format_name: str) -> None:
    """DataError for what no format of text files and split folders holds: masks alone, other splits, odd names."""
    check_has_objects(dataset, format_name)
    check_splits(dataset, format_name)
    check_class_names(dataset.class_names)


def check_class_names(names: Iterable[str]) -> None:
    """DataError for a class name that a text file would not give back: blank, with outer blanks or control signs."""
    _check_lines(names, "class names")


def check_listed_names(dataset: Dataset, targets: Iterable[str]) -> None:
    """DataError where the data has splits, and a list of images would not give back the name of one."""
    if dataset.splits:
        _check_lines(targets, "names of images in lists of splits")


def _check_lines(texts: Iterable[str], what: str) -> None:
    for text in texts:
        broken = text != text.strip() or len(text.splitlines()) != 1
        if broken or any(unicodedata.category(sign) in {"Cc", "Cs"} for sign in text):
            raise DataError(
                f"{what} must be one line without blanks at the ends or control signs, got {text!r:.60}",
                do="Rename it",
            )


def number_text(value: float) -> str:
    """The shortest text that reads back as exactly `value`; whole numbers without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def images_with_objects(dataset: Dataset) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The row of each image, with the rows of its objects."""
    groups = dataset.objects.partition_by("image_id", as_dict=True, maintain_order=True)
    for image in dataset.images.iter_rows(named=True):
        part = groups.get((image["image_id"],))
        yield image, [] if part is None else list(part.iter_rows(named=True))


def counted_losses(lost: Counter[str], sentences: Mapping[str, str]) -> list[Finding]:
    """A finding for each code that is lost at all; `sentences` say by code what, with `{}` for the count."""
    return [finding(code, sentences[code].format(count), count=count) for code, count in sorted(lost.items()) if count]


_NEAR_PX = 1.0  # boxes that differ from their mask's by less were rounded, not drawn otherwise


def common_losses(dataset: Dataset, *, keeps: Collection[str] = ()) -> list[Finding]:
    """Findings about keypoints, attributes, times and groups that are left out; columns in `keeps` are not.

    Columns: keypoints, occlusion, truncation, track_id (objects); group, frame, time_s (images).
    """
    objects, images = dataset.objects, dataset.images
    findings = []
    keypoints = _filled(objects, "keypoints", keeps)
    if keypoints:
        message = f"the keypoints of {keypoints} objects are left out"
        findings.append(finding("loss-keypoints", message, count=keypoints))
    counts = {c: _filled(objects, c, keeps) for c in ("occlusion", "truncation", "track_id")}
    counts |= {c: _filled(images, c, keeps) for c in ("frame", "time_s")}
    counted = ", ".join(f"{name} of {count}" for name, count in counts.items() if count)
    if counted:
        findings.append(finding("loss-attributes", f"left out: {counted}", count=sum(counts.values())))
    groups = _filled(images, "group", keeps)
    if groups:
        findings.append(finding("loss-groups", f"the groups of {groups} images are left out", count=groups))
    return findings


def mask_box_losses(dataset: Dataset) -> list[Finding]:
    """Findings about objects whose box is not the box of their mask, for formats that hold the mask alone."""
    columns = ("image_id", "x1", "y1", "x2", "y2", "rle", "polygon")
    masked = dataset.objects.select(columns).filter(MASKED)
    masked = masked.join(dataset.images.select("image_id", "width", "height"), on="image_id")
    near, far, most = 0, 0, 0.0
    for row in masked.iter_rows(named=True):
        box = _mask_box(row["polygon"], row["rle"], (row["height"], row["width"]))
        if box is None:
            continue
        distance = max(abs(a - b) for a, b in zip(box, (row["x1"], row["y1"], row["x2"], row["y2"]), strict=True))
        near += 0 < distance < _NEAR_PX
        far += distance >= _NEAR_PX
        most = max(most, distance)
    findings = []
    if near:
        message = f"the boxes of {near} objects become those of their masks, less than a pixel away"
        findings.append(finding("loss-rounding", message, count=near))
    if far:
        message = f"the boxes of {far} objects become those of their masks, up to {most:.3g} pixels away"
        findings.append(finding("loss-boxes", message, count=far))
    return findings


def _mask_box(
    polygon: list[list[float]] | None, counts: bytes | None, size_hw: tuple[int, int]
) -> tuple[float, ...] | None:
    if polygon is None:
        if counts is None or not rle.area(counts):
            return None
        return tuple(rle.to_box(counts, size_hw).tolist())
    xs, ys = [v for ring in polygon for v in ring[0::2]], [v for ring in polygon for v in ring[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def _filled(table: pl.DataFrame, column: str, keeps: Collection[str]) -> int:
    return 0 if column in keeps else table.height - table[column].null_count()
