"""CVAT XML 1.1, as exported "for images" and "for video".

Recognised: an XML file with the root `<annotations>`, or a folder that holds such files (`annotations.xml`), the images
beside it or in `images/` (or `images/<subset>/`). `subset` is the split.

Boxes are given from pixel edge to pixel edge; a rotated one is an outline of its four corners, an ellipse one of 64
points. Masks are run lengths of a crop. Outlines and masks of one label and `group_id` are parts of one object. Points,
lines, cuboids, skeletons and tags are counted. `occluded` becomes `occlusion` 0 or 1, if the flag is set anywhere at
all; attributes named occlusion, truncation (or truncated), ignore (or difficult), is_crowd and track_id are understood,
others counted. Classes are those of the labels in `<meta>`, else the ones in use, sorted.

Tracks of a video need its frames as pictures: `images/frame_000000.PNG` and so on, or as many pictures as the task has
frames. They become one group; a shape that is `outside` is not there.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from sightline.core.dataset import Dataset, Task
from sightline.core.errors import DataError, at
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.cvat.shapes import (
    AREAS,
    UNSAID,
    CvatShape,
    Meta,
    Owner,
    read_cvat,
    read_flags,
    read_part,
    says_occluded,
)
from sightline.data.formats.shared.image_tables import ImageCollector, build_dataset
from sightline.data.formats.shared.shapes import ObjectCollector, Part, Place, ShapeError
from sightline.data.formats.shared.xml import line_in
from sightline.data.layout import (
    absolute,
    inside,
    list_files,
    list_images,
    read_head,
    relative,
    split_of,
)
from sightline.media import IMAGE_SUFFIXES

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "a CVAT `annotations.xml` (root `<annotations>`), alone or in a folder with its images"
_ROOT = re.compile(rb"<annotations[\s>]")
_FRAME = re.compile(r"frame_(\d{1,9})")
_NO_GROUP = {"", "0"}
_PICTURES = (".PNG", ".png", ".jpg", ".JPG", ".jpeg")  # of frames that are named without a suffix
_HEAD = 4096  # bytes in which the root must begin
_NO_SUBSET = {"", "default"}


def detect(path: Path) -> float | None:
    """How surely the path is CVAT XML, 0..1, or None."""
    return 0.9 if _files(path) else None


def read(path: Path) -> Dataset:
    """The data set of a CVAT file or folder. DataError when there is none, or tracks have no frames."""
    path = absolute(path)
    files = _files(path)
    if not files:
        raise DataError(f"must be {LOOKED_FOR}, got none of these", where=str(path))
    root = path if path.is_dir() else path.parent
    reader = _Reader(root)
    for file in files:
        reader.read_file(file, alone=len(files) == 1)
    images, ids = reader.images.table()
    objects, classes = reader.objects.tables(ids, reader.labels, _same)
    said = pl.col("occlusion") != UNSAID
    # A flag that nobody has ever set says nothing about the objects without it.
    unset = pl.lit(0.0 if reader.flag_used else None, dtype=pl.Float64)
    objects = objects.with_columns(pl.when(said | pl.col("occlusion").is_null()).then("occlusion").otherwise(unset))
    findings = [*reader.images.findings, *reader.objects.findings, *reader.unused()]
    task: Task | None = "track" if reader.has_tracks else None
    return build_dataset(path, "cvat", images, objects, classes, findings, root=root, task=task)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in list_files(path, (".xml",)) if _is_cvat(file)]
    return [path] if path.is_file() and path.suffix.lower() == ".xml" and _is_cvat(path) else []


def _is_cvat(file: Path) -> bool:
    if not file.is_file():  # a pipe is never opened
        return False
    return _ROOT.search(read_head(file, _HEAD)) is not None


def _same(places: Sequence[Place]) -> list[tuple[str, int | None]]:
    return [(path, line) for path, line in places]


class _NoFramesError(DataError):
    """Tracks whose pictures are not there."""


@dataclass
class _Reader:
    """Collects the images and objects of all files."""

    root: Path
    labels: list[str] = field(default_factory=list)
    flag_used: bool = False
    has_tracks: bool = False
    images: ImageCollector = field(init=False)
    objects: ObjectCollector = field(default_factory=ObjectCollector)
    _unused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.images = ImageCollector(self.root)

    def read_file(self, file: Path, *, alone: bool) -> None:
        """Take in one file. DataError when its tracks have no frames, or it has tracks and is not alone."""
        name = relative(file, self.root)
        walk = _Walk(self, name, file.parent)
        try:
            read_cvat(file, name, walk.meta, walk.on_owner, walk.on_shape)
        except _NoFramesError:
            raise
        except DataError as error:
            message = f"{error.what}; what stands before it is read"
            self.report("label-malformed", message, name, line_in(error, name))
        walk.finish()
        if walk.frames and not alone:
            do = "Read each file by itself"
            raise DataError("a file with tracks must be the only one of its folder", where=str(file), do=do)
        self.has_tracks |= bool(walk.frames)
        self.labels += [label for label in walk.meta.labels if label not in self.labels]

    def add_object(self, image: str, size_hw: tuple[int, int], shapes: list[CvatShape], name: str) -> None:
        """Take in the object that the shapes draw; those that cannot be read are reported."""
        parts: list[Part] = []
        for shape in shapes:
            try:
                parts.append(read_part(shape, size_hw))
            except ShapeError as error:
                message = f"a {shape.kind}: {error.message}"
                self.report(error.code, message, name, shape.line, facts={"image": image})
                # The box of a mask that cannot be read stands for it, unless other parts say more.
                parts += [error.kept] if error.kept is not None and len(shapes) == 1 else []
        if not parts:
            return
        label = shapes[0].attributes.get("label", "")
        self.flag_used |= any(says_occluded(shape) for shape in shapes)
        self.objects.add(image, label, parts, read_flags(shapes, self._unused), size_hw, (name, shapes[0].line))

    def report(self, code: str, message: str, path: str, line: int | None = None, **more: Any) -> None:
        """Note a finding; `more` are other fields of it."""
        self.objects.findings.append(finding(code, message, path=path, line=line, entry=line, **more))

    def unused(self) -> list[Finding]:
        """The attributes that mean nothing here, counted."""
        return [
            finding("layout-unknown-key", f"the attribute '{name}' of {count} shapes is not used", count=count)
            for name, count in sorted(self._unused.items())
        ]


class _Walk:
    """The state while one file is read: the image or track the shapes belong to."""

    def __init__(self, reader: _Reader, name: str, folder: Path) -> None:
        self.meta = Meta()
        self.frames: dict[int, tuple[str, tuple[int, int] | None]] = {}
        self._reader, self._name, self._folder = reader, name, folder
        self._image: tuple[str, tuple[int, int]] | None = None
        self._groups: dict[object, list[CvatShape]] = {}
        self._strange: set[str] = set()
        self._shapeless: dict[str, tuple[int, int]] = {}  # kind → count, first line

    def on_owner(self, owner: Owner) -> None:
        """An `<image>` or a `<track>` begins."""
        self._flush()
        self._image = None
        if owner.kind == "track":
            if not self.frames:
                self._list_frames()
            return
        attributes = owner.attributes
        subset = attributes.get("subset", "")
        place = (self._name, owner.line)
        try:
            path = self._find(attributes.get("name", ""), subset, at(*place))
        except DataError as error:
            self._reader.report("image-missing", f"{error.what}; its shapes are left out", *place)
            return
        width, height = (int(v) if (v := attributes.get(k, ""))[:9].isdecimal() else None for k in ("width", "height"))
        split = self._split(subset, owner.line)
        size_hw = self._reader.images.add(path, stated_wh=(width, height), split=split, place=place)
        self._image = None if size_hw is None else (path, size_hw)

    def on_shape(self, owner: Owner, shape: CvatShape) -> None:
        """A shape of the current image or track."""
        if shape.kind not in AREAS:
            count, line = self._shapeless.get(shape.kind, (0, shape.line))
            self._shapeless[shape.kind] = (count + 1, line)
            return
        shape.attributes.setdefault("label", owner.attributes.get("label", ""))
        if not shape.attributes["label"].strip():
            self._reader.report("label-malformed", f"a {shape.kind} must have a label", self._name, shape.line)
        elif owner.kind == "track":
            self._add_tracked(owner, shape)
        elif self._image is not None:
            group = shape.attributes.get("group_id", "")
            joined = group not in _NO_GROUP and shape.kind != "box"
            key = (group, shape.attributes["label"]) if joined else len(self._groups)
            self._groups.setdefault(key, []).append(shape)

    def finish(self) -> None:
        """The file has ended, or what follows cannot be read."""
        self._flush()
        for kind, (count, line) in sorted(self._shapeless.items()):
            message = f"{count} shapes of kind {kind} are left out"
            self._reader.report("label-unsupported-shape", message, self._name, line, count=count)

    def _flush(self) -> None:
        if self._image is not None:
            path, size_hw = self._image
            for shapes in self._groups.values():
                self._reader.add_object(path, size_hw, shapes, self._name)
        self._groups = {}

    def _find(self, text: str, subset: str, where: str) -> str:
        """The path of an image: at one of the usual places if it is there, else as named."""
        root = self._reader.root
        folder = relative(self._folder, root)
        suffixes = ("",) if PurePosixPath(text).suffix.lower() in IMAGE_SUFFIXES else ("", *_PICTURES)
        places = ("", "images", f"images/{subset}", subset, "data") if subset else ("", "images", "data")
        named = inside(root, f"{folder}/{inside(root, text, where)}", where)
        for place in places:
            base = inside(root, f"{folder}/{place}/{text}", where)
            found = next((base + suffix for suffix in suffixes if (root / (base + suffix)).is_file()), None)
            if found is not None:
                return found
        return named

    def _split(self, subset: str, line: int | None) -> str | None:
        """The split a subset is; None, and a finding, for one whose name no file or folder can have."""
        named = split_of(subset)
        if named is not None or subset.lower() in _NO_SUBSET:
            return named
        if subset.isprintable() and not set(subset) & set("/\\") and subset.strip(". "):
            return subset
        if subset not in self._strange:
            self._strange.add(subset)
            message = f"the subset {subset!r:.60} is no name that a split can have; its images are in none"
            self._reader.report("layout-unknown-key", message, self._name, line)
        return None

    def _list_frames(self) -> None:
        """The pictures of the task's frames, as one group of images."""
        root, values = self._reader.root, self.meta.values
        pictures = list_images(self._folder / "images", recursive=True) or list_images(self._folder)
        numbered = [(m, p) for p in pictures if (m := _FRAME.fullmatch(p.stem))]
        files = {int(match[1]): picture for match, picture in numbered}
        if not files and values.get("size", "") == str(len(pictures)):
            files = dict(enumerate(pictures))
        if not files or self.meta.tasks > 1:
            got = f"{self.meta.tasks} tasks" if self.meta.tasks > 1 else f"{len(pictures)} other pictures"
            raise _NoFramesError(
                f"tracks need the frames of one task as pictures (images/frame_000000.PNG, …), got {got}",
                where=str(root / self._name),
                do="Export the task with its images",
            )
        group = values.get("source") or self._folder.name
        split = self._split(values.get("subset", ""), None)
        for frame, file in sorted(files.items()):
            path = relative(file, root)
            self.frames[frame] = (path, self._reader.images.add(path, split=split, group=group, frame=frame))

    def _add_tracked(self, owner: Owner, shape: CvatShape) -> None:
        if shape.attributes.get("outside", "0") == "1":
            return
        number, track = shape.attributes.get("frame", ""), owner.attributes.get("id", "")
        if not (number[:9].isdecimal() and track[:15].isdecimal()):
            message = f"a tracked {shape.kind} must have a frame and a track id, got '{number:.20}' and '{track:.20}'"
            self._reader.report("label-malformed", message, self._name, shape.line)
            return
        path, size_hw = self.frames.get(int(number[:9]), ("", None))
        if not path:
            message = f"frame {number} has no picture"
            self._reader.report("track-frame-range", message, self._name, shape.line)
        elif size_hw is not None:
            shape.extra["track_id"] = track
            self._reader.add_object(path, size_hw, [shape], self._name)
