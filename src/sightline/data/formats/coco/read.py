"""COCO instances: polygons of one or several parts, run lengths, crowd regions, keypoints.

Recognised: a single JSON file with its images near it; a folder with such files, or with `annotations/*.json`;
Roboflow's export (`train|valid|test/_annotations.coco.json`, images beside the file). Files may be packed (`.json.gz`).
Of a folder's files those of instances are read, and those of keypoints where there are no others.

Ids: image and object ids are the file's own (renumbered where several files use the same); class ids are contiguous
in the order of the file's category ids, which stay in `source_id`. Boxes are `x, y, width, height` from the pixel edge,
so `x2 = x + width` is exclusive already. Keypoints are kept as written, which in COCO's own files is the index of the
pixel they lie in; the pairs of a skeleton count from 1 there and from 0 here.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.coco.annotations import read_annotations
from sightline.data.formats.coco.categories import read_classes, without_empty_twins
from sightline.data.formats.coco.document import Document, entry_lines, has_json_name
from sightline.data.formats.coco.listing import image_folder, json_kind, read_images, top_folder
from sightline.data.formats.shared.image_tables import build_dataset
from sightline.data.layout import absolute, common_root, list_images, relative, split_of, subfolder

__all__ = ["LOOKED_FOR", "ROBOFLOW_FILE", "detect", "entry_lines", "label_files", "read", "roboflow_files"]

LOOKED_FOR = (
    "a COCO JSON of instances or keypoints (images, annotations, categories), a folder or `annotations/` with such "
    "files, or `train|valid|test/_annotations.coco.json`"
)
ROBOFLOW_FILE = "_annotations.coco.json"
_KEYPOINTS = "person_keypoints_"
_OTHER_TASKS = ("captions_", "panoptic_", "stuff_", "image_info_")


def detect(path: Path) -> float | None:
    """How surely the path is COCO, 0..1, or None."""
    files = label_files(path)
    if any(json_kind(file) == "instances" for file, _ in files):
        return 0.95
    return 0.1 if files or (path.is_file() and has_json_name(path)) else None  # the reader says what is wrong


def label_files(path: Path) -> list[tuple[Path, str | None]]:
    """The COCO files a path stands for, each with the split its name or folder speaks of.

    Files that stand where labels belong and cannot be understood are among them, so that reading them says so.
    """
    if path.is_file():
        return [(path, split_of(path.stem))] if json_kind(path) in {"instances", "listing"} else []
    if not path.is_dir():
        return []
    exported = roboflow_files(path)
    if exported:
        return exported
    for folder in (subfolder(path, ("annotations",)) or path, path):
        named = [p for p in sorted(folder.glob("*.json*")) if has_json_name(p)]
        # A packed file whose content lies unpacked beside it would be every label twice.
        places = [p for p in named if p.suffix.lower() == ".json" or p.with_suffix("") not in named]
        kinds = {p: json_kind(p) for p in places if not p.name.startswith(_OTHER_TASKS)}
        files = [p for p, kind in kinds.items() if kind in {"instances", "damaged"}]
        if not files and "panoptic" not in kinds.values():
            files = [p for p, kind in kinds.items() if kind == "listing"]
        files = [p for p in files if not p.name.startswith(_KEYPOINTS)] or files
        if files:
            return [(p, split_of(p.stem)) for p in files]
    return []


def roboflow_files(path: Path) -> list[tuple[Path, str | None]]:
    """The label files of a Roboflow export and their splits; none where the folder is no such export."""
    if not path.is_dir():
        return []
    folders = sorted(p for p in path.iterdir() if p.is_dir())
    return [(p / ROBOFLOW_FILE, split_of(p.name)) for p in folders if os.path.lexists(p / ROBOFLOW_FILE)]


def _unlabelled_splits(path: Path, files: list[tuple[Path, str | None]]) -> list[Finding]:
    """The split folders with pictures that lack the label file which the others have."""
    if not files or not path.is_dir() or files[0][0].name != ROBOFLOW_FILE:
        return []
    findings = []
    for folder in sorted({p for p in path.iterdir() if p.is_dir()} - {file.parent for file, _ in files}):
        pictures = [relative(p, path) for p in list_images(folder)] if split_of(folder.name) else []
        if pictures:
            message = f"{folder.name}/ has {len(pictures)} pictures and no {ROBOFLOW_FILE}; none of them is read"
            place = f"{folder.name}/{ROBOFLOW_FILE}"
            facts = {"images": pictures, "read": False}
            findings.append(finding("split-without-labels", message, path=place, count=len(pictures), facts=facts))
    return findings


def _of_empty_groups(objects: pl.DataFrame, classes: pl.DataFrame) -> Callable[[Finding], Finding | None]:
    """Narrows the finding about grouping categories to those without an object, for others are classes too."""
    names = dict(classes.select("class_id", "name").iter_rows())
    used = {names[i] for i in objects["class_id"].unique().to_list()}

    def narrowed(f: Finding) -> Finding | None:
        if f.code != "class-grouping":
            return f
        empty = [name for name in f.facts["classes"] if name not in used]
        return replace(f, facts={"classes": empty}, count=len(empty)) if empty else None

    return narrowed


def read(path: Path) -> Dataset:
    """The data set of a COCO file or folder. DataError when there is none or it is no COCO."""
    path = absolute(path)
    files = label_files(path)
    if not files:
        files = [(path, None)] if path.is_file() else []
    if not files:
        raise DataError(f"must be COCO ({LOOKED_FOR}), got none of these", where=str(path))
    documents = [Document(file, split) for file, split in files]
    folders = [image_folder(d, top_folder(path)) for d in documents]
    base = path if path.is_dir() else path.parent
    root = common_root([base, *folders])
    for document in documents:
        document.name = relative(document.file, root)
    class_maps, classes, findings = read_classes(documents)
    images, id_maps, image_findings = read_images(documents, folders, root)
    findings += image_findings + _unlabelled_splits(path, files)
    tables = []
    for document, ids, class_ids in zip(documents, id_maps, class_maps, strict=True):
        table, found = read_annotations(document, ids, images, class_ids, classes)
        tables.append(table)
        findings += found
    objects = pl.concat(tables) if tables else pl.DataFrame(schema=OBJECTS_SCHEMA)
    classes, objects = without_empty_twins(classes, objects, findings)
    if objects["object_id"].n_unique() < objects.height:  # several files, each counting from 1
        objects = objects.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("object_id"))
    findings = [f for f in map(_of_empty_groups(objects, classes), findings) if f is not None]
    dataset = build_dataset(path, "coco", images, objects, classes, findings, root=root)
    named = [d.name for d in documents if d.has_text_ids]
    if named:
        message = "ids are text where COCO has integers; images and categories are numbered in their order"
        findings = [*dataset.findings, finding("layout-text-ids", message, path=named[0], count=len(named))]
        return replace(dataset, findings=tuple(findings), source_image_ids=False)
    kept = all(new in (None, old) for ids in id_maps for old, new in ids.items())
    return replace(dataset, source_image_ids=kept)
