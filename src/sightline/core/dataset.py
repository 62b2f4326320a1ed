"""The data set contract: three tables, their schema, their validation, and a digest of everything they stand for.

A `Dataset` is what every reader returns and every later step takes. Boxes are `xyxy` in image pixels, origin at the
top-left corner of the top-left pixel, `x2` and `y2` exclusive. Class ids are contiguous from 0; the ids of the source
format are kept in `classes.source_id`. Nothing is dropped on the way in: an object that cannot be used as labelled
(a box without area, say) stays in `objects` with `ignore = true` and is named in `findings`.
"""

import hashlib
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import mask_sha256, picture_file
from sightline.core.tables import Rows, fit_table, update_with_table

__all__ = [
    "CLASSES_SCHEMA",
    "IMAGES_SCHEMA",
    "OBJECTS_SCHEMA",
    "SCHEMA_VERSION",
    "SOURCE_COLUMNS",
    "TASKS",
    "Dataset",
    "LabelledImage",
    "Task",
    "check_split_names",
    "dataset_from_rows",
]

SCHEMA_VERSION = 2
Task = Literal["detect", "instance", "obb", "pose", "semantic", "track"]
TASKS: tuple[Task, ...] = get_args(Task)

IMAGES_SCHEMA: dict[str, Any] = {
    "image_id": pl.Int64,
    "path": pl.String,  # POSIX, relative to the data set's root; `video.mp4#000012` is frame 12 of a video
    "width": pl.Int32,  # after EXIF orientation
    "height": pl.Int32,
    "split": pl.String,
    "group": pl.String,  # video, patient, scene: never divided between splits
    "frame": pl.Int64,  # 0-based inside its group
    "time_s": pl.Float64,
    "mask_path": pl.String,  # semantic mask, relative to the root; `masks/*/a.png` is a file for each class
}
OBJECTS_SCHEMA: dict[str, Any] = {
    "object_id": pl.Int64,
    "image_id": pl.Int64,
    "class_id": pl.Int32,
    "x1": pl.Float64,
    "y1": pl.Float64,
    "x2": pl.Float64,
    "y2": pl.Float64,
    "area": pl.Float64,  # of the mask where there is one, else of the box; square pixels
    "crowd": pl.Boolean,
    "ignore": pl.Boolean,
    "occlusion": pl.Float64,  # hidden share, 0..1
    "truncation": pl.Float64,  # share outside the image, 0..1
    "track_id": pl.Int64,
    "rle": pl.Binary,  # COCO compressed run lengths at image size
    "polygon": pl.List(pl.List(pl.Float64)),  # rings of x0, y0, x1, y1, ...
    "keypoints": pl.List(pl.Float64),  # x, y, v of each in the order of the class's names; v: 0 none, 1 hidden, 2 seen
    "label_path": pl.Categorical(),  # label file, relative to the root
    "entry": pl.Int32,  # its place in the file as the format counts: a line, the index in a list
    "reported": pl.Boolean,  # unusable in the format's own terms, ignored and named in `findings` by the reader
    "given_width": pl.Float64,  # as the file has it, where `x2 - x1` differs from it in the last bit
    "given_height": pl.Float64,
}
SOURCE_COLUMNS = ("label_path", "entry", "reported", "given_width", "given_height")
"""How an object stands in the labels: about files and not about the object, and so outside the digests."""
CLASSES_SCHEMA: dict[str, Any] = {
    "class_id": pl.Int32,
    "name": pl.String,
    "source_id": pl.Int64,
    "thing": pl.Boolean,  # countable objects; false for stuff such as road or sky
    "keypoint_names": pl.List(pl.String),
    "skeleton": pl.List(pl.List(pl.Int64)),  # pairs of 0-based keypoint indices that are joined
    "mirror": pl.List(pl.Int64),  # the keypoints' order in a mirror, where their names do not say it
}
_REQUIRED = {
    "images": ("image_id", "path", "width", "height"),
    "objects": ("object_id", "image_id", "class_id", "x1", "y1", "x2", "y2", "area", "crowd", "ignore"),
    "classes": ("class_id", "name", "thing"),
}
_FILE_NAME = re.compile(r"[^/\\\x00-\x1f]+")
_BOX_AREA = (pl.col("x2") - pl.col("x1")) * (pl.col("y2") - pl.col("y1"))
_NO_IDS = pl.col("object_id").is_null().all()
_DEFAULTS: dict[str, list[pl.Expr]] = {
    "images": [],
    "objects": [
        pl.col("crowd").fill_null(False),
        pl.col("ignore").fill_null(False),
        pl.col("area").fill_null(pl.max_horizontal(_BOX_AREA, 0.0)),
        pl.when(_NO_IDS).then(pl.int_range(pl.len(), dtype=pl.Int64)).otherwise(pl.col("object_id")).alias("object_id"),
    ],
    "classes": [pl.col("thing").fill_null(True)],
}


@dataclass(frozen=True)
class LabelledImage:
    """One image of a data set: where it lies, and the rows of its objects (`OBJECTS_SCHEMA`)."""

    image_id: int
    file: Path  # `<video>#<index>` for a frame of a video
    size_hw: tuple[int, int]
    split: str | None
    mask_file: Path | None
    objects: pl.DataFrame
    class_names: tuple[str, ...]

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """(N, 4) `xyxy` in pixels."""
        return self.objects.select("x1", "y1", "x2", "y2").to_numpy()

    @property
    def class_ids(self) -> npt.NDArray[np.int32]:
        """(N,)."""
        return self.objects["class_id"].to_numpy()

    @property
    def names(self) -> list[str]:
        """The class name of each object."""
        return [self.class_names[i] for i in self.class_ids]


@dataclass(frozen=True)
class Dataset:
    """Images, objects and classes as polars tables (`IMAGES_SCHEMA`, `OBJECTS_SCHEMA`, `CLASSES_SCHEMA`).

    `root` is the folder image and mask paths are relative to; `findings` is what the reader met on the way;
    `ignore_values` are the pixel values of semantic masks that never count. `amodal` boxes go around the whole object,
    whether all of it can be seen or not, and may leave the image. `source_image_ids` says that `image_id` is the
    source's own number of an image, which files of results may use too; else it is a number made here. `left_out` are
    the pictures in the data set's folders that are not among its images; the findings say why. With `mask_threshold`,
    pixels of semantic masks are of the second class from that value on and of the first below it.
    """

    images: pl.DataFrame
    objects: pl.DataFrame
    classes: pl.DataFrame
    root: Path
    name: str
    task: Task
    format: str
    findings: tuple[Finding, ...] = ()
    ignore_values: tuple[int, ...] = ()
    amodal: bool = False
    source_image_ids: bool = False
    left_out: tuple[str, ...] = ()
    mask_threshold: int | None = None

    def __len__(self) -> int:
        return self.images.height

    @overload
    def __getitem__(self, index: int) -> LabelledImage: ...
    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...
    def __getitem__(self, index: int | slice) -> "LabelledImage | Dataset":
        """One image with its objects, or the part of a slice; IndexError beyond the last image."""
        if isinstance(index, slice):
            return self.select(self.images["image_id"][index])
        row = self.images.row(range(len(self))[index], named=True)
        return LabelledImage(
            image_id=row["image_id"],
            file=self.image_path(row["path"]),
            size_hw=(row["height"], row["width"]),
            split=row["split"],
            mask_file=None if row["mask_path"] is None else self.image_path(row["mask_path"]),
            objects=self.objects.filter(pl.col("image_id") == row["image_id"]),
            class_names=self.class_names,
        )

    def __iter__(self) -> Iterator[LabelledImage]:
        """The images with their objects, in order."""
        return (self[i] for i in range(len(self)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id."""
        return tuple(self.classes["name"].to_list())

    @property
    def splits(self) -> list[str]:
        """The names of the splits, in order of first appearance."""
        return self.images["split"].drop_nulls().unique(maintain_order=True).to_list()

    @property
    def usable_objects(self) -> pl.DataFrame:
        """The objects a detector learns from: neither crowd nor ignored."""
        return self.objects.filter(~pl.col("crowd") & ~pl.col("ignore"))

    def image_path(self, relative: str) -> Path:
        """The file of an image or mask named in the tables; a frame of a video is `<video>#<index>`."""
        return self.root / relative

    def split(self, name: str) -> "Dataset":
        """The part of one split; DataError when there is none of that name."""
        part = self.images.filter(pl.col("split") == name)
        if part.is_empty():
            self._check_own_images(name)
            known = ", ".join(self.splits) or "none"
            raise DataError(f"split '{name}' is not in data set '{self.name}' (splits: {known})", where=str(self.root))
        return self.select(part["image_id"])

    def _check_own_images(self, name: str) -> None:
        """DataError where a split is gone because each of its images is in another one too."""
        for f in self.findings:
            if f.code == "split-overlap-path" and name in f.facts.get("splits", ()):
                other = next((s for s in f.facts["splits"] if s != name), name)
                raise DataError(
                    f"the splits '{other}' and '{name}' are the same images, got {f.count} that are in both",
                    where=str(self.root),
                    do="Hold out a part of the data, and name each split's own images",
                )

    def select(self, image_ids: pl.Series | Iterable[int]) -> "Dataset":
        """The part with the given images, in the data set's own order."""
        values = image_ids if isinstance(image_ids, pl.Series) else pl.Series(list(image_ids), dtype=pl.Int64)
        keep = values.cast(pl.Int64).unique().implode()
        return replace(
            self,
            images=self.images.filter(pl.col("image_id").is_in(keep)),
            objects=self.objects.filter(pl.col("image_id").is_in(keep)),
        )

    def counts_by_class(self) -> dict[str, int]:
        """How many objects each class has, as labelled (ignored and crowd objects included)."""
        counts = dict(self.objects.group_by("class_id").len().iter_rows())
        return {name: int(counts.get(i, 0)) for i, name in enumerate(self.class_names)}

    def digest(self, workers: int = 2, known: Mapping[str, str] | None = None) -> str:
        """SHA-256 (hex) over the bytes of every image and mask, the labels, the splits and the class map.

        The order of rows, the root folder and the source format do not enter; a changed pixel, box, name or split does.
        `known` are the files' own digests where `file_digests` has been asked already.
        """
        names = sorted({*self.images["path"], *self.images["mask_path"].drop_nulls()})
        total = hashlib.sha256(f"sightline-dataset-{SCHEMA_VERSION}\n".encode())
        digests = self.file_digests(names, workers) if known is None else known
        for name in names:
            total.update(f"{name}\0{digests[name]}\n".encode())
        total.update(self.label_digest().encode())
        return total.hexdigest()

    def file_digests(self, paths: Iterable[str], workers: int = 2) -> dict[str, str]:
        """SHA-256 (hex) of the file of each image or mask path, in the given order; DataError for one unreadable."""
        file_of = {name: picture_file(self.root / name) for name in paths}
        with ThreadPoolExecutor(workers) as pool:
            files = sorted(set(file_of.values()))  # a video stands for all its frames
            digest_of = dict(zip(files, pool.map(_file_digest, files), strict=True))
        return {name: digest_of[file] for name, file in file_of.items()}

    def label_digest(self) -> str:
        """SHA-256 (hex) over the tables alone: labels, splits, groups and class map, without the images' bytes."""
        total = hashlib.sha256(repr(sorted(self.ignore_values)).encode())
        if self.mask_threshold is not None:
            total.update(f"threshold {self.mask_threshold}".encode())
        keys = self.images.select("image_id", image="path")
        objects = self.objects.join(keys, on="image_id", how="left").drop("object_id", "image_id", *SOURCE_COLUMNS)
        unsaid = [] if self.classes["mirror"].count() else ["mirror"]  # the digest is that of before it could be said
        for table in (self.images.drop("image_id"), objects, self.classes.drop(unsaid)):
            update_with_table(total, table)
        return total.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """A short description: name, task, format, counts."""
        return {
            "name": self.name,
            "task": self.task,
            "format": self.format,
            "images": len(self),
            "objects": self.objects.height,
            "classes": list(self.class_names),
            "objects_by_class": self.counts_by_class(),
            "images_by_split": dict(self.images.group_by("split", maintain_order=True).len().iter_rows()),
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in self.to_dict().items()
        )
        return f"<table>{rows}</table>"


def dataset_from_rows(
    images: Rows,
    objects: Rows,
    classes: Rows,
    *,
    root: str | Path,
    name: str,
    task: Task,
    format: str,  # noqa: A002 - the field's own name
    findings: Iterable[Finding] = (),
    ignore_values: Iterable[int] = (),
    amodal: bool = False,
    source_image_ids: bool = False,
) -> Dataset:
    """A validated `Dataset` from tables or rows; nullable columns may be left out, `area` defaults to the box's,
    `crowd` and `ignore` to false, `thing` to true, `object_id` to 0, 1, ....

    Raises DataError when a column is missing or unknown, a value has the wrong type, ids repeat or dangle, class ids
    are not contiguous from 0, coordinates are not finite, a path leaves the root, or a box without area is not ignored.
    """
    dataset = Dataset(
        images=_table("images", images, IMAGES_SCHEMA),
        objects=_table("objects", objects, OBJECTS_SCHEMA),
        classes=_table("classes", classes, CLASSES_SCHEMA).sort("class_id"),
        root=Path(root),
        name=name,
        task=task,
        format=format,
        findings=tuple(findings),
        ignore_values=tuple(ignore_values),
        amodal=amodal,
        source_image_ids=source_image_ids,
    )
    _validate(dataset)
    return dataset


def check_split_names(names: Iterable[str | None], where: str | None = None) -> None:
    """DataError, at `where`, for the name of a split that is none for a file: writers name files and folders so."""
    for name in sorted(n for n in names if n is not None):
        if not _FILE_NAME.fullmatch(name) or name in {".", ".."}:
            message = f"a split must have a name that a file can have, got {name!r:.60}"
            raise DataError(message, where=where, do="Rename the split")


def _table(name: str, rows: Rows, schema: dict[str, Any]) -> pl.DataFrame:
    frame = fit_table(name, rows, schema).with_columns(_DEFAULTS[name])
    for column in _REQUIRED[name]:
        missing = frame[column].null_count()
        if missing:
            raise DataError(f"column '{name}.{column}' must have a value in every row, got {missing} empty")
    return frame


def _validate(dataset: Dataset) -> None:
    images, objects, classes = dataset.images, dataset.objects, dataset.classes
    if dataset.task not in TASKS:
        raise DataError(f"task must be one of {', '.join(TASKS)}, got '{dataset.task}'")
    if classes["class_id"].to_list() != list(range(classes.height)):
        raise DataError(f"class ids must be 0..{classes.height - 1}, got {classes['class_id'].to_list()[:10]}")
    for frame, column in ((images, "image_id"), (images, "path"), (objects, "object_id"), (classes, "name")):
        if frame[column].n_unique() < frame.height:
            repeated = frame[column].filter(frame[column].is_duplicated())
            raise DataError(f"'{column}' must be unique, got {repeated[0]!r} more than once", where=str(dataset.root))
    for paths in (images["path"], images["mask_path"].drop_nulls()):
        escaping = paths.filter(paths.str.contains(r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)|\\"))
        if not escaping.is_empty():
            raise DataError(
                f"paths must be relative to the data set's root and stay inside it, got '{escaping[0]}'",
                where=str(dataset.root),
            )
    check_split_names(images["split"].unique(), str(dataset.root))
    small = images.filter((pl.col("width") < 1) | (pl.col("height") < 1))
    if not small.is_empty():
        raise DataError(f"image sizes must be at least 1 x 1, got {small.row(0, named=True)['path']}")
    _validate_objects(objects, images, classes.height)


def _validate_objects(objects: pl.DataFrame, images: pl.DataFrame, class_count: int) -> None:
    objects = objects.select("object_id", "image_id", "class_id", "x1", "y1", "x2", "y2", "area", "ignore")
    dangling = objects["image_id"].filter(~objects["image_id"].is_in(images["image_id"].implode()))
    if not dangling.is_empty():
        raise DataError(f"objects must belong to a listed image, got image_id {dangling[0]}")
    unknown = objects.filter((pl.col("class_id") < 0) | (pl.col("class_id") >= class_count))
    if not unknown.is_empty():
        raise DataError(f"class_id must be 0..{class_count - 1}, got {unknown['class_id'][0]}")
    numbers = objects.select("x1", "y1", "x2", "y2", "area")
    if not numbers.select(pl.all_horizontal(pl.all().is_finite().all())).item():
        raise DataError("box coordinates and areas must be finite numbers, got NaN or infinity")
    flat = objects.filter(((pl.col("x2") <= pl.col("x1")) | (pl.col("y2") <= pl.col("y1"))) & ~pl.col("ignore"))
    if not flat.is_empty():
        raise DataError(f"a box without area must be marked ignore, got object {flat['object_id'][0]}")


def _file_digest(path: Path) -> str:
    try:
        return mask_sha256(path)
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror})", where=str(path)) from None
