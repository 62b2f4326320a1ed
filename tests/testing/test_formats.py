"""Every format that can be written keeps what it is given, or says and counts what it cannot keep."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl
import pytest

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError, SightlineError
from sightline.core.findings import Finding
from sightline.data import FORMATS, WRITTEN_NAMES, write_dataset
from sightline.data import doors as registry
from sightline.data.codes import CODES, finding
from sightline.data.doors import Writer
from sightline.testing import check_format
from written_datasets import DATASETS, boxes, instances, made, painted, saved, single_instances

WRITABLE = sorted(WRITTEN_NAMES)
BOXES = {"boxes", "unsplit_boxes", "partly_split_boxes", "points"}
INSTANCES = {"instances", "single_instances"}
SEMANTIC = {"semantic", "binary", "coloured"}
TRACKS = {"tracks", "video_tracks"}
HELD = {
    "coco": BOXES | INSTANCES | TRACKS,
    "coco-panoptic": INSTANCES,
    "roboflow": BOXES | INSTANCES | TRACKS,
    "yolo": BOXES | INSTANCES | TRACKS,
    "voc": BOXES | INSTANCES | TRACKS,
    "visdrone": BOXES | INSTANCES | TRACKS,
    "labelme": BOXES | INSTANCES | TRACKS,
    "cvat": BOXES | INSTANCES | TRACKS,
    "masks": INSTANCES | SEMANTIC,
    "instance-files": INSTANCES,
    "mot": TRACKS,
}
"""The data sets a format must take; any other may be refused in a sentence."""


@pytest.mark.parametrize("made", DATASETS)
@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_written_reads_back(tmp_path: Path, name: str, made: str) -> None:
    losses, refusal = written(name, DATASETS[made](tmp_path), tmp_path / "out")
    assert refusal == "" or made not in HELD.get(name, ())
    assert "\n" not in refusal
    assert (tmp_path / "out").exists() == (refusal == "")
    assert all(loss.code in CODES and loss.code.startswith("loss-") and loss.count > 0 for loss in losses)


def written(name: str, dataset: Dataset, folder: Path) -> tuple[list[Finding], str]:
    """The stated losses, and the sentence of a refusal."""
    try:
        return check_format(name, dataset, folder), ""
    except DataError as refusal:
        return [], str(refusal)


@pytest.mark.parametrize("name", WRITABLE)
def test_every_format_takes_something(tmp_path: Path, name: str) -> None:
    taken = []
    for title, make in DATASETS.items():
        root = tmp_path / title
        root.mkdir()
        try:
            write_dataset(make(root), root / "out", name)
        except DataError:
            continue
        taken.append(title)
    assert taken


def test_what_holds_everything_loses_nothing(tmp_path: Path) -> None:
    dataset = single_instances(tmp_path)
    assert check_format("coco", dataset, tmp_path / "coco") == []
    assert check_format("instance-files", dataset, tmp_path / "files") == []


def _without_first_object(dataset: Dataset, folder: Path) -> Dataset:
    return _changed(dataset, dataset.objects.slice(1))


def _moved(dataset: Dataset, folder: Path) -> Dataset:
    return _changed(dataset, dataset.objects.with_columns(pl.col("x1") + 0.01))


def _unmarked(dataset: Dataset, folder: Path) -> Dataset:
    return _changed(dataset, dataset.objects.with_columns(ignore=pl.lit(False)))


def _unsplit(dataset: Dataset, folder: Path) -> Dataset:
    images = dataset.images.with_columns(split=pl.lit(None, dtype=pl.String))
    return Dataset(images, dataset.objects, dataset.classes, dataset.root, "x", dataset.task, dataset.format)


def _changed(dataset: Dataset, objects: pl.DataFrame) -> Dataset:
    return Dataset(dataset.images, objects, dataset.classes, dataset.root, "x", dataset.task, dataset.format)


def _write_with(monkeypatch, name: str, write: Writer) -> None:
    formats = MappingProxyType({**FORMATS, name: FORMATS[name]._replace(write=write)})
    monkeypatch.setattr(registry, "FORMATS", formats)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_first_object, "must read back"),
        (_moved, "must keep or state every box, got 6 different where losses state 0"),
        (_unmarked, "objects that count"),
        (_unsplit, "must keep or state every split, got 5 different where losses state 0"),
    ],
)
def test_a_writer_that_keeps_silent_is_caught(tmp_path: Path, monkeypatch, damage, message: str) -> None:
    coco = FORMATS["coco"]

    def write(dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Any = None) -> list[Finding]:
        return coco.write(damage(dataset, folder), folder, copy_images=copy_images, progress=progress)

    _write_with(monkeypatch, "coco", write)
    with pytest.raises(SightlineError, match=message):
        check_format("coco", boxes(tmp_path), tmp_path / "out")


def test_a_stated_loss_is_believed_only_as_far_as_it_is_counted(tmp_path: Path, monkeypatch) -> None:
    coco = FORMATS["coco"]
    stated = 5

    def write(dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Any = None) -> list[Finding]:
        losses = coco.write(_moved(dataset, folder), folder, copy_images=copy_images, progress=progress)
        return [*losses, finding("loss-rounding", "moved", count=stated)]

    _write_with(monkeypatch, "coco", write)
    with pytest.raises(SightlineError, match="got 6 different where losses state 5"):
        check_format("coco", boxes(tmp_path), tmp_path / "out")
    stated = 6
    check_format("coco", boxes(tmp_path / "again"), tmp_path / "out again")


def test_masks_are_compared_pixel_by_pixel(tmp_path: Path, monkeypatch) -> None:
    coco = FORMATS["coco"]

    def write(dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Any = None) -> list[Finding]:
        first = dataset.objects["rle"].drop_nulls()[0]
        objects = dataset.objects.with_columns(rle=pl.when(pl.col("rle").is_not_null()).then(pl.lit(first)))
        return coco.write(_changed(dataset, objects), folder, copy_images=copy_images, progress=progress)

    _write_with(monkeypatch, "coco", write)
    with pytest.raises(SightlineError, match="every mask"):
        check_format("coco", instances(tmp_path), tmp_path / "out")


def test_objects_painted_as_another_class_are_noticed(tmp_path: Path, monkeypatch) -> None:
    honest = FORMATS["masks"]

    def write(dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Any = None) -> list[Finding]:
        turned = dataset.objects.with_columns(class_id=(pl.col("class_id") + 1) % dataset.classes.height)
        return honest.write(_changed(dataset, turned), folder, copy_images=copy_images, progress=progress)

    _write_with(monkeypatch, "masks", write)
    with pytest.raises(SightlineError, match=r"'masks': must paint the objects of .* as their classes, got others"):
        check_format("masks", instances(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "message"),
    [("masks", "must state 20 pixels that several objects cover, got 19"), ("voc", "every pixel of a mask, got 20")],
)
def test_pixels_of_overlaps_must_be_counted(tmp_path: Path, monkeypatch, name: str, message: str) -> None:
    honest = FORMATS[name]
    objects = [{"image_id": 0, "class_id": i, **painted(b)} for i, b in enumerate(((2, 2, 20, 20), (16, 15, 40, 40)))]
    dataset = made(tmp_path, "instance", saved(tmp_path, "a.png"), objects, ["cat", "dog"])
    assert [f.count for f in check_format(name, dataset, tmp_path / "out") if f.code == "loss-overlap"] == [20]

    def write(dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Any = None) -> list[Finding]:
        losses = honest.write(dataset, folder, copy_images=copy_images, progress=progress)
        return [replace(f, count=19) if f.code == "loss-overlap" else f for f in losses]

    _write_with(monkeypatch, name, write)
    with pytest.raises(SightlineError, match=message):
        check_format(name, dataset, tmp_path / "again")


def test_rounding_explains_no_box_that_has_moved_by_pixels(tmp_path: Path, monkeypatch) -> None:
    honest = FORMATS["visdrone"]

    def write(dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Any = None) -> list[Finding]:
        moved = dataset.objects.with_columns(pl.col("x1") - 2)
        losses = honest.write(_changed(dataset, moved), folder, copy_images=copy_images, progress=progress)
        return [*losses, finding("loss-rounding", "moved", count=3)]

    _write_with(monkeypatch, "visdrone", write)
    with pytest.raises(SightlineError, match="must keep or state every box by a pixel or more"):
        check_format("visdrone", boxes(tmp_path), tmp_path / "out")
