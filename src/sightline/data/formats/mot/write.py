"""Writing MOTChallenge: for each group a sequence folder with `img1/`, `gt/gt.txt`, `gt/labels.txt`, `seqinfo.ini`."""

from pathlib import Path, PurePosixPath

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.core.process import Progress
from sightline.data.codes import finding
from sightline.data.formats.instance_files.read import folder_of_class
from sightline.data.formats.mot.sequence import IMAGE_FOLDER, seqinfo_text, write_mot_txt
from sightline.data.formats.shared.image_tables import MASKED
from sightline.data.formats.shared.writing import (
    check_writable,
    common_losses,
    copied_name,
    copy_files,
)
from sightline.data.layout import split_of

__all__ = ["write"]

_KEPT = ("occlusion", "track_id", "group", "frame", "time_s")
_TIME_SLACK_S = 1e-6


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a tracked data set as MOTChallenge below `folder`; returns what it cannot hold, counted.

    A group becomes the sequence `<group>`, inside a folder of its split where it has one; frames are numbered from 1.
    Crowd regions become rows that are not considered, as ignored objects are. Without `copy_images` the frames are
    expected in `<group>/img1/`, numbered from 1 with six digits. DataError for objects without track ids or images
    that belong to no sequence.
    """
    check_writable(dataset, "MOTChallenge")
    images = _numbered(dataset)
    places = _places(images)
    if copy_images:
        rows = images.select("path", "group", "number").rows()
        copy_files(
            ((dataset.image_path(path), folder / places[group] / _picture(path, n)) for path, group, n in rows),
            progress,
        )
    for group, part in images.group_by("group", maintain_order=True):
        _write_sequence(dataset, part, folder / places[str(group[0])])
    return [*_losses(dataset, images), *common_losses(dataset, keeps=_KEPT)]


def _numbered(dataset: Dataset) -> pl.DataFrame:
    """The images in the order of their frames, with the `number` (from 0) each is written under."""
    images, objects = dataset.images, dataset.objects
    if objects["track_id"].null_count():
        raise DataError(
            f"every object must have a track id, got {objects['track_id'].null_count()} of {objects.height} without",
            where=str(dataset.root),
            do="Choose a format of boxes",
        )
    loose = images.filter(pl.col("group").is_null() | pl.col("frame").is_null())
    if images.is_empty() or not loose.is_empty():
        got = f"got '{loose['path'][0]}' without" if not loose.is_empty() else "got no image"
        raise DataError(f"every image must have a group and a frame to be written as MOTChallenge, {got}")
    ordered = images.sort("group", "frame", maintain_order=True)
    for column, what in (("frame", "a frame number of its own"), ("width", "one width"), ("height", "one height")):
        counts = ordered.group_by("group", maintain_order=True).agg(n=pl.col(column).n_unique(), all=pl.len())
        wrong = counts.filter(pl.col("n") != (pl.col("all") if column == "frame" else 1))
        if not wrong.is_empty():
            raise DataError(f"the images of a sequence must have {what}, got others in '{wrong['group'][0]}'")
    return ordered.with_columns(number=pl.int_range(pl.len(), dtype=pl.Int64).over("group"))


def _places(images: pl.DataFrame) -> dict[str, str]:
    """The folder of each sequence: its name, below that of its split where one split has all of it."""
    taken: dict[str, str] = {}
    for group, part in images.group_by("group", maintain_order=True):
        splits = part["split"].unique().to_list()
        split = splits[0] if len(splits) == 1 else None
        name = str(group[0])
        if split is not None and "/" in name and split_of(name.split("/", maxsplit=1)[0]) == split:
            name = name.split("/", 1)[1]
        place = folder_of_class(name.replace("/", "_"))
        place = place if split is None else f"{split}/{place}"
        if place in taken.values():
            raise DataError(f"sequences must have names of their own as folders, got '{place}' twice")
        taken[str(group[0])] = place
    return taken


def _picture(path: str, number: int) -> str:
    return f"{IMAGE_FOLDER}/{number + 1:06d}{PurePosixPath(copied_name(path)).suffix}"


def _write_sequence(dataset: Dataset, images: pl.DataFrame, target: Path) -> None:
    objects = dataset.objects.join(images.select("image_id", "number"), on="image_id", maintain_order="left")
    rows = objects.select(
        "track_id",
        "x1",
        "y1",
        "x2",
        "y2",
        frame="number",
        score=1.0 - (pl.col("ignore") | pl.col("crowd")).cast(pl.Float64),
        class_number=pl.col("class_id").cast(pl.Int64) + 1,
        visibility=(1.0 - pl.col("occlusion")).fill_null(-1.0),
    )
    write_mot_txt(target / "gt" / "gt.txt", rows)
    write_text_atomic(target / "gt" / "labels.txt", "".join(f"{n}\n" for n in dataset.class_names))
    last = images.row(-1, named=True)
    suffix = PurePosixPath(copied_name(last["path"])).suffix
    text = seqinfo_text(target.name, _rate(images), images.height, (last["width"], last["height"]), suffix)
    write_text_atomic(target / "seqinfo.ini", text)


def _rate(images: pl.DataFrame) -> float | None:
    """Frames per second of one sequence, None where its times do not tell."""
    last = images.row(-1, named=True)
    return last["number"] / last["time_s"] if last["time_s"] and last["time_s"] > 0 else None


def _losses(dataset: Dataset, images: pl.DataFrame) -> list[Finding]:
    parts = [part for _, part in images.group_by("group", maintain_order=True)]
    counts = [
        ("loss-masks", "the masks of {} objects are left out", dataset.objects.filter(MASKED).height),
        ("loss-attributes", "{} crowd regions become ignored objects", int(dataset.objects["crowd"].sum())),
        (
            "loss-splits",
            "{} images are of sequences that several splits share",
            sum(part.height for part in parts if part["split"].n_unique() > 1),
        ),
        (
            "loss-attributes",
            "{} frames are numbered anew, without gaps",
            images.filter(pl.col("number") != pl.col("frame")).height,
        ),
        ("loss-attributes", "{} frames have times that a constant rate does not give", sum(map(_untimed, parts))),
    ]
    return [finding(code, text.format(count), count=count) for code, text, count in counts if count]


def _untimed(images: pl.DataFrame) -> int:
    """How many frames of one sequence have another time than its rate gives them."""
    rate = _rate(images)
    if rate is None:
        return images.height - images["time_s"].null_count()
    off = (images["number"] / rate - images["time_s"]).abs() > _TIME_SLACK_S
    return int(off.fill_null(True).sum())
