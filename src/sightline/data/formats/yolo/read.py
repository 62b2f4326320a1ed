"""YOLO labels: one text file per image, one row per object, coordinates relative to the image.

Recognised: an Ultralytics data YAML (`path`, `train`, `val`, `test`, `names`, each path relative to the YAML file) or a
folder that holds one; `images/` beside `labels/`, with or without split folders; `train|valid|test` folders with both
inside; a folder with images, text files of the same stem and a `*.names` or `classes.txt`.

A row of 5 numbers is a box (`class cx cy w h`), a longer one a polygon (`class x0 y0 x1 y1 …`); both may be mixed.
Polygons of four corners that are turned rectangles throughout (oriented boxes) are said to be so. With `kpt_shape` in
the data YAML a row is a box and its keypoints. An image without a label file is an image without objects, and is
reported. Coordinates are not clipped.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl

from sightline.core.config import read_yaml
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import (
    build_dataset,
    build_image_table,
    class_table,
    labels_of_images,
)
from sightline.data.formats.yolo.layout import (
    NAME_FILES,
    Layout,
    data_yaml,
    folder_layout,
    has_label_pairs,
    is_data_yaml,
    label_there,
    split_folders,
    yaml_layout,
)
from sightline.data.formats.yolo.rows import RowReader
from sightline.data.layout import absolute, list_files, relative, split_of, subfolder

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = (
    "an Ultralytics data YAML (train, val, names), `images/` beside `labels/*.txt`, "
    "or images with .txt files of the same stem"
)
_YAML = {".yaml", ".yml"}


def detect(path: Path) -> float | None:
    """How surely the path is YOLO, 0..1, or None."""
    if path.is_file():
        return 0.9 if path.suffix.lower() in _YAML and is_data_yaml(read_yaml(path)) else None
    if data_yaml(path) is not None:
        return 0.9
    labels = subfolder(path, ("labels",))
    if labels is not None and subfolder(path, ("images",)) is not None:
        return 0.8 if list_files(labels, (".txt",), recursive=True) else None
    if any(
        subfolder(p, ("labels",)) and subfolder(p, ("images",))
        for p in path.iterdir()
        if p.is_dir() and split_of(p.name)
    ):
        return 0.8
    return 0.6 if has_label_pairs(path) or split_folders(path) else None


def read(path: Path) -> Dataset:
    """The data set of a data YAML or folder. DataError or ConfigError when it is not YOLO."""
    path = absolute(path)
    layout = _layout(path)
    images, findings = build_image_table(layout.images, layout.root)
    rows = RowReader(layout.root, layout.keypoints)
    findings = layout.findings + findings + _read_files(layout, images, rows)
    rows.recognise_keypoints()
    class_ids, classes, notes = _classes(layout, rows.largest_class())
    objects = rows.objects(images, class_ids)
    findings += notes + rows.findings
    dataset = build_dataset(path, "yolo", images, objects, classes, findings, root=layout.root)
    return replace(dataset, name=layout.name)


def _layout(path: Path) -> Layout:
    if path.is_file():
        if path.suffix.lower() not in _YAML:
            raise ConfigError("a YOLO data set must be a folder or a data YAML, got another file", where=str(path))
        return yaml_layout(path)
    file = data_yaml(path)
    layout = yaml_layout(file, path) if file is not None else folder_layout(path)
    if layout is None:
        raise DataError(f"must be YOLO ({LOOKED_FOR}), got none of these", where=str(path))
    return layout


def _read_files(layout: Layout, images: pl.DataFrame, rows: RowReader) -> list[Finding]:
    findings: list[Finding] = []
    expected = {name: layout.labels[layout.root / name] for name in images["path"]}
    there = {name: label for name, given in expected.items() if (label := label_there(given)) is not None}
    findings += _shared_labels(there, layout)
    for image_id, _, label in labels_of_images(images, there, findings, "label file"):
        rows.read_file(label, image_id)
    if len(images) and len(findings) == len(images):
        folders = ", ".join(sorted(str(f) for f in layout.label_folders)[:3])
        raise DataError(f"at least one image must have a label file, got none for {len(images)} images in {folders}")
    known = set(layout.labels.values()) | layout.not_labels | set(there.values())
    known |= {folder / name for folder in layout.label_folders for name in NAME_FILES}
    for folder, recursive in sorted(layout.label_folders.items()):
        for file in list_files(folder, (".txt",), recursive=recursive):
            if file not in known:
                known.add(file)
                message = "the label file has no image"
                findings.append(finding("label-orphan", message, path=relative(file, layout.root)))
    return findings


def _shared_labels(there: dict[str, Path], layout: Layout) -> list[Finding]:
    """Pictures that differ in their suffix alone, and so have the labels of one file."""
    first: dict[Path, str] = {}
    shared = [(name, other, label) for name, label in there.items() if (other := first.setdefault(label, name)) != name]
    return [
        finding(
            "image-same-stem",
            f"it has the stem of {other}; both have the labels of {relative(label, layout.root)}",
            path=name,
        )
        for name, other, label in shared
    ]


def _classes(layout: Layout, largest: int) -> tuple[dict[int, int], pl.DataFrame, list[Finding]]:
    names, notes = layout.names, []
    if names is None:
        names = {i: f"class_{i}" for i in range(largest + 1)}
        notes.append(finding("class-names-missing", f"no class names are given; ids 0..{largest} are numbered"))
    ids = sorted(names)
    keypoint_names = [layout.keypoint_names.get(i) for i in ids]
    mirrors = [layout.mirror] * len(ids)
    table = class_table([names[i] for i in ids], source_id=ids, keypoint_names=keypoint_names, mirror=mirrors)
    return {source: i for i, source in enumerate(ids)}, table, notes
