"""COCO instances: polygons of one or several parts, run lengths, crowd regions.

Recognised: a single JSON file with its images near it; a folder with such files, or with `annotations/*.json`;
Roboflow's export (`train|valid|test/_annotations.coco.json`, images beside the file).

Ids: image and object ids are the file's own (renumbered where several files use the same); class ids are contiguous
in the order of the file's category ids, which stay in `source_id`. Boxes are `x, y, width, height` from the pixel edge,
so `x2 = x + width` is exclusive already.
"""

import mmap
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.dataset import IMAGES_SCHEMA, OBJECTS_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.columns import integers
from sightline.data.formats.coco_annotations import read_annotations
from sightline.data.formats.coco_document import Document, Problem
from sightline.data.image_header import MAX_SIDE, read_header
from sightline.data.layout import absolute, common_root, inside, relative, split_of

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = (
    "a COCO instances JSON (images, annotations, categories), a folder or `annotations/` with such files, "
    "or `train|valid|test/_annotations.coco.json`"
)
_ROBOFLOW = "_annotations.coco.json"
_OTHER_TASKS = ("captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_")
_SAMPLE = 50  # images that decide which folder the file names are relative to


def detect(path: Path) -> float | None:
    """How surely the path is COCO, 0..1, or None."""
    if label_files(path):
        return 0.95
    return 0.1 if path.is_file() and path.suffix.lower() == ".json" else None  # the reader says what is wrong with it


def label_files(path: Path) -> list[tuple[Path, str | None]]:
    """The COCO files a path stands for, each with the split its name or folder speaks of."""
    if path.is_file():
        return [(path, split_of(path.stem))] if _is_instances(path) else []
    if not path.is_dir():
        return []
    exported = [p / _ROBOFLOW for p in sorted(path.iterdir()) if (p / _ROBOFLOW).is_file()]
    if exported:
        return [(p, split_of(p.parent.name)) for p in exported]
    for folder in (path / "annotations", path):
        files = [p for p in sorted(folder.glob("*.json")) if not p.name.startswith(_OTHER_TASKS) and _is_instances(p)]
        if files:
            return [(p, split_of(p.stem)) for p in files]
    return []


def _is_instances(path: Path) -> bool:
    if path.suffix.lower() != ".json" or path.stat().st_size == 0:
        return False
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b'"images"') >= 0 and text.find(b'"categories"') >= 0 and text.find(b'"segments_info"') < 0


def read(path: Path) -> Dataset:
    """The data set of a COCO file or folder. DataError when there is none or it is no COCO."""
    path = absolute(path)
    files = label_files(path)
    if not files:
        files = [(path, None)] if path.is_file() else []
    if not files:
        raise DataError(f"must be COCO ({LOOKED_FOR}), got none of these", where=str(path))
    documents = [Document(file, split) for file, split in files]
    folders = [_image_folder(d) for d in documents]
    base = path if path.is_dir() else path.parent
    root = common_root([base, *folders])
    for document in documents:
        document.name = relative(document.file, root)
    class_maps, classes, findings = _classes(documents)
    names = classes["name"].to_list()
    images, id_maps, image_findings = _Images(root).read(documents, folders)
    findings += image_findings
    tables = []
    for document, ids, class_ids in zip(documents, id_maps, class_maps, strict=True):
        table, found = read_annotations(document, ids, images, class_ids, names)
        tables.append(table)
        findings += found
    objects = pl.concat(tables) if tables else pl.DataFrame(schema=OBJECTS_SCHEMA)
    if objects["object_id"].is_duplicated().any():  # several files, each counting from 1
        objects = objects.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("object_id"))
    masks = objects["polygon"].is_not_null().any() or objects["rle"].is_not_null().any()
    return dataset_from_rows(
        images,
        objects,
        classes,
        root=root,
        name=base.name if path.is_dir() else path.stem,
        task="instance" if masks else "detect",
        format="coco",
        findings=findings,
    )


def _image_folder(document: Document) -> Path:
    """The folder the file names are relative to: of the usual places the one that holds most of a sample."""
    items = document.content["images"]
    names = [i["file_name"] for i in items if isinstance(i, dict) and isinstance(i.get("file_name"), str)]
    names = [n for n in names[:: max(len(names) // _SAMPLE, 1)] if "\0" not in n]
    stem = document.file.stem.removeprefix("instances_")
    places = ["", "images", "data", "JPEGImages", stem, f"images/{stem}"]
    if document.split:
        places += [document.split, f"images/{document.split}"]
    bases = (document.file.parent, document.file.parent.parent)
    folders = [base / place for base in bases for place in places]
    hits = [sum((folder / n).is_file() for n in names) for folder in folders]
    return folders[hits.index(max(hits))]


def _classes(documents: list[Document]) -> tuple[list[dict[int, int]], pl.DataFrame, list[Finding]]:
    """Per file the map from category id to class id, the classes table, and the findings."""
    findings: list[Finding] = []
    by_name: dict[str, int] = {}  # name → category id
    pairs_of = []
    for document in documents:
        entries, index, problems = document.entries("categories")
        ids, bad = integers([e.get("id") for e in entries])
        pairs: dict[int, str] = {}
        for i, number, wrong, entry in zip(index.tolist(), ids.tolist(), bad.tolist(), entries, strict=True):
            name = entry.get("name")
            if wrong or not isinstance(name, str) or not name or pairs.get(number, name) != name:
                message = (
                    f"categories[{i}] must have an id of its own and a name, got {entry.get('id')!r:.20}, {name!r:.40}"
                )
                problems.append(Problem("label-malformed", i, message))
                continue
            if name in pairs.values() and number not in pairs:
                problems.append(Problem("class-duplicate-name", i, f"categories[{i}]: '{name}' is the name of two ids"))
            pairs[number] = name
            if by_name.setdefault(name, number) != number and name not in list(pairs.values())[:-1]:
                message = f"categories[{i}]: '{name}' has id {number} here and {by_name[name]} in another file"
                problems.append(Problem("class-conflict", i, message))
        findings += document.findings("categories", problems)
        pairs_of.append(pairs)
    order = sorted(by_name, key=lambda name: by_name[name])
    slots = {name: i for i, name in enumerate(order)}
    classes = pl.DataFrame(
        {"class_id": range(len(order)), "name": order, "source_id": [by_name[n] for n in order]},
        schema={"class_id": pl.Int32, "name": pl.String, "source_id": pl.Int64},
    )
    return [{i: slots[name] for i, name in pairs.items()} for pairs in pairs_of], classes, findings


class _Images:
    """The images of all files: one row per picture, with what is wrong about the entries that do not become one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self.rows: list[dict[str, Any]] = []
        self.by_path: dict[str, dict[str, Any]] = {}
        self.missing: list[dict[str, Any]] = []

    def read(
        self, documents: list[Document], folders: list[Path]
    ) -> tuple[pl.DataFrame, list[dict[int, int]], list[Finding]]:
        """The images table, per file the map from its image ids to the table's, and the findings."""
        maps = [self._read_file(d, folder) for d, folder in zip(documents, folders, strict=True)]
        self._settle_missing()
        used = [row for row in self.rows if not row["dropped"]]
        if len({row["source"] for row in used}) < len(used):
            for number, row in enumerate(sorted(used, key=lambda r: str(r["path"]))):
                row["image_id"] = number
        id_maps = [{i: row["image_id"] for i, row in part.items() if not row["dropped"]} for part in maps]
        keys = ("image_id", "path", "width", "height", "split")
        table = pl.DataFrame(
            [[row[k] for k in keys] for row in used], schema={k: IMAGES_SCHEMA[k] for k in keys}, orient="row"
        )
        return table, id_maps, self.findings

    def _read_file(self, document: Document, folder: Path) -> dict[int, dict[str, Any]]:
        entries, index, problems = document.entries("images")
        ids, bad_id = integers([e.get("id") for e in entries])
        widths, _ = integers([e.get("width") for e in entries])
        heights, _ = integers([e.get("height") for e in entries])
        prefix = relative(folder, self.root)
        by_id: dict[int, dict[str, Any]] = {}
        columns = (index.tolist(), ids.tolist(), bad_id.tolist(), widths.tolist(), heights.tolist(), entries)
        for i, number, bad, width, height, entry in zip(*columns, strict=True):
            name = entry.get("file_name")
            if bad or not isinstance(name, str) or number in by_id:
                code = "label-duplicate-id" if number in by_id and not bad else "label-malformed"
                message = (
                    f"images[{i}] must have an id of its own and a file_name, got {entry.get('id')!r:.20}, {name!r:.60}"
                )
                problems.append(Problem(code, i, message))
                continue
            path = inside(self.root, f"{prefix}/{inside(folder, name, document.name)}", document.name)
            row = {"image_id": number, "source": number, "path": path, "width": width, "height": height}
            problem = self._add(row | {"split": document.split, "dropped": False}, i)
            by_id[number] = self.by_path[path]
            if problem is not None:
                problems.append(problem)
                if problem.code == "split-overlap-path":
                    by_id.pop(number)
        self.findings += document.findings("images", problems)
        return by_id

    def _add(self, row: dict[str, Any], index: int) -> Problem | None:
        first = self.by_path.setdefault(row["path"], row)
        if first is not row:
            if first["split"] == row["split"]:
                return Problem(
                    "image-duplicate-entry", index, f"'{row['path']}' is listed again; its objects are merged"
                )
            return Problem(
                "split-overlap-path",
                index,
                f"'{row['path']}' is listed in '{first['split']}' and in '{row['split']}' and kept in the first",
            )
        self.rows.append(row)
        file = self.root / row["path"]
        if not file.is_file():
            self.missing.append(row)
        elif not _has_size(row):
            try:
                row["height"], row["width"] = read_header(file).size_hw
            except DataError as error:
                row["dropped"] = True
                return Problem("image-unreadable", index, str(error))
        return None

    def _settle_missing(self) -> None:
        """Labels without any picture are kept (they can be evaluated against); single missing pictures are not."""
        alone = len(self.missing) == len(self.rows)
        for row in self.missing:
            row["dropped"] = not alone or not _has_size(row)
        if self.missing and alone:
            message = f"none of the {len(self.missing)} images was found; the labels can be evaluated, not trained on"
            self.findings.append(finding("image-missing", message, count=len(self.missing)))
            return
        self.findings += [
            finding("image-missing", "the image does not exist", path=row["path"]) for row in self.missing
        ]


def _has_size(row: dict[str, Any]) -> bool:
    return all(0 < int(row[side]) <= MAX_SIDE for side in ("width", "height"))
