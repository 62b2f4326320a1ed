"""COCO panoptic: a JSON that lists the segments of each image, and a PNG per image that holds their pixels.

A pixel's colour is the id of its segment, `red + 256 green + 65536 blue`; 0 belongs to none. Each segment becomes an
object with its mask as run lengths; stuff is a class with `thing` false. Recognised: the JSON file, or a folder with
such files or with `annotations/*.json`; the PNG files lie in a folder of the JSON's name or near it.

Boxes and areas are those the file states, of the segment's pixels where it states none. Segment ids are kept where no
two segments have the same; COCO's own are colours, used again in every image, and there objects count from 1.
"""

from pathlib import Path

import polars as pl

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.data.codes import finding
from sightline.data.formats.coco.classes import read_classes
from sightline.data.formats.coco.document import Document
from sightline.data.formats.coco.images import fullest_folder, image_folder, read_images
from sightline.data.formats.coco.kinds import json_kind
from sightline.data.formats.panoptic.segments import SegmentReader
from sightline.data.layout import absolute, common_root, relative, split_of

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "a COCO panoptic JSON (`segments_info`) with its folder of PNG files, or a folder with such files"


def detect(path: Path) -> float | None:
    """How surely the path is COCO panoptic, 0..1, or None."""
    return 0.95 if _label_files(path) else None


def read(path: Path) -> Dataset:
    """The data set of a panoptic JSON or a folder of them. DataError when there is none."""
    path = absolute(path)
    documents = [Document(file, split) for file, split in _label_files(path)]
    if not documents:
        raise DataError(f"must be COCO panoptic ({LOOKED_FOR}), got none of these", where=str(path))
    image_folders, map_folders = [image_folder(d) for d in documents], [_map_folder(d) for d in documents]
    base = path if path.is_dir() else path.parent
    root = common_root([base, *image_folders, *map_folders])
    for document in documents:
        document.name = relative(document.file, root)
    class_maps, classes, findings = read_classes(documents)
    images, id_maps, image_findings = read_images(documents, image_folders, root)
    findings += image_findings
    tables = []
    mapped: set[int] = set()
    for document, folder, ids, class_ids in zip(documents, map_folders, id_maps, class_maps, strict=True):
        reader = SegmentReader(document, folder, root, images, ids, class_ids)
        table, found = reader.read()
        tables.append(table)
        findings += found
        mapped |= reader.mapped
    for path_of, image_id in images.select("path", "image_id").iter_rows():
        if image_id not in mapped:
            message = "no panoptic map is listed for the image"
            findings.append(finding("label-missing-file", message, path=path_of, image_id=image_id))
    objects = pl.concat(tables)
    if objects["object_id"].n_unique() < objects.height:
        objects = objects.with_columns(object_id=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
    return dataset_from_rows(
        images,
        objects,
        classes,
        root=root,
        name=base.name if path.is_dir() else path.stem,
        task="instance",
        format="coco-panoptic",
        findings=findings,
    )


def _label_files(path: Path) -> list[tuple[Path, str | None]]:
    """The panoptic JSON files a path stands for, each with the split its name speaks of."""
    folders = (path / "annotations", path) if path.is_dir() else ()
    candidates = [[path]] if path.is_file() else [sorted(folder.glob("*.json")) for folder in folders]
    for files in candidates:
        panoptic = [(p, split_of(p.stem)) for p in files if json_kind(p) == "panoptic"]
        if panoptic:
            return panoptic
    return []


def _map_folder(document: Document) -> Path:
    """The folder of the PNG files: of the usual places the one that holds most of them."""
    entries, _, _ = document.entries("annotations")
    names = [e["file_name"] for e in entries if isinstance(e.get("file_name"), str)]
    stem = document.file.stem
    places = [stem, stem.removeprefix("panoptic_"), "panoptic", "masks", ""]
    return fullest_folder([base / place for base in document.file.parents[:2] for place in places], names)
