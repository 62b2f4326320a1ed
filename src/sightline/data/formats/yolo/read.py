"""YOLO labels: one text file per image, one row per object, coordinates relative to the image.

Recognised: an Ultralytics data YAML (`path`, `train`, `val`, `test`, `names`, each path relative to the YAML file) or a
folder that holds one; `images/` beside `labels/`, with or without split folders; `train|valid|test` folders with both
inside; a folder with images, text files of the same stem and a `*.names` or `classes.txt`.

A row of 5 numbers is a box (`class cx cy w h`), a longer one a polygon (`class x0 y0 x1 y1 …`); both may be mixed.
Polygons of four corners that are turned rectangles throughout (oriented boxes) are said to be so. With `kpt_shape` in
the data YAML a row is a box and its keypoints. An image without a label file is an image without objects, and is
reported. Coordinates are not clipped.
"""

from pathlib import Path

import polars as pl

from sightline.core.config import read_yaml
from sightline.core.dataset import CLASSES_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import ConfigError, DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import build_image_table
from sightline.data.formats.yolo.labels import RowReader
from sightline.data.formats.yolo.layout import (
    Layout,
    data_yaml,
    folder_layout,
    has_label_pairs,
    is_data_yaml,
    yaml_layout,
)
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
        return 0.8 if any(labels.rglob("*.txt")) else None
    if any((p / "labels").is_dir() and (p / "images").is_dir() for p in path.iterdir() if split_of(p.name)):
        return 0.8
    return 0.6 if has_label_pairs(path) else None


def read(path: Path) -> Dataset:
    """The data set of a data YAML or folder. DataError or ConfigError when it is not YOLO."""
    path = absolute(path)
    layout = _layout(path)
    images, findings = build_image_table(layout.images, layout.root)
    rows = RowReader(layout.root, layout.keypoints)
    findings = layout.findings + findings + _read_files(layout, images, rows)
    class_ids, classes, notes = _classes(layout, rows.largest_class())
    objects = rows.objects(images, class_ids)
    findings += notes + rows.findings
    return dataset_from_rows(
        images,
        objects,
        classes,
        root=layout.root,
        name=layout.name,
        task="instance" if objects["polygon"].is_not_null().any() else "detect",
        format="yolo",
        findings=findings,
    )


def _layout(path: Path) -> Layout:
    if path.is_file():
        if path.suffix.lower() not in _YAML:
            raise ConfigError("a YOLO data set must be a folder or a data YAML, got another file", where=str(path))
        return yaml_layout(path)
    file = data_yaml(path)
    layout = yaml_layout(file) if file is not None else folder_layout(path)
    if layout is None:
        raise DataError(f"must be YOLO ({LOOKED_FOR}), got none of these", where=str(path))
    return layout


def _read_files(layout: Layout, images: pl.DataFrame, rows: RowReader) -> list[Finding]:
    findings = []
    read: set[Path] = set()
    for image_id, name in images.select("image_id", "path").iter_rows():
        label = layout.labels[layout.root / name]
        read.add(label)
        if label.is_file():
            rows.read_file(label, image_id)
        else:
            findings.append(finding("label-missing-file", "the image has no label file", path=name, image_id=image_id))
    if len(images) and len(findings) == len(images):
        folders = ", ".join(sorted(str(f) for f in layout.label_folders)[:3])
        raise DataError(f"at least one image must have a label file, got none for {len(images)} images in {folders}")
    expected = read | set(layout.labels.values()) | layout.not_labels
    for folder, recursive in sorted(layout.label_folders.items()):
        for file in list_files(folder, (".txt",), recursive=recursive):
            if file not in expected:
                expected.add(file)
                message = "the label file has no image"
                findings.append(finding("label-orphan", message, path=relative(file, layout.root)))
    return findings


def _classes(layout: Layout, largest: int) -> tuple[dict[int, int], pl.DataFrame, list[Finding]]:
    names, notes = layout.names, []
    if names is None:
        names = {i: f"class_{i}" for i in range(largest + 1)}
        notes.append(finding("class-names-missing", f"no class names are given; ids 0..{largest} are numbered"))
    ids = sorted(names)
    table = pl.DataFrame(
        {
            "class_id": range(len(ids)),
            "name": [names[i] for i in ids],
            "source_id": ids,
            "keypoint_names": [layout.keypoint_names.get(i) for i in ids],
        },
        schema={k: CLASSES_SCHEMA[k] for k in ("class_id", "name", "source_id", "keypoint_names")},
    )
    return {source: i for i, source in enumerate(ids)}, table, notes
