"""Croissant 1.1: a data set described in JSON-LD, with its images and annotations as tables that programs can load.

The specification is http://mlcommons.org/croissant/1.1 (MLCommons); `mlcroissant` validates and reads the result. The
images stay where they are: a folder beside the file is their container, whose `sha256` is that of its listing in the
form of the program sha256sum, ordered by path.
"""

import glob
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import file_sha256, write_bytes_atomic, write_json_atomic
from sightline.core.frames import picture_file
from sightline.data import path_from
from sightline.report.card_text import CardText

__all__ = ["CONFORMS_TO", "write_croissant"]

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
Json = dict[str, Any]
_OWN_TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject"),
    *("fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator"),
    *("source", "subField", "transform"),
)
_CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "wd": "https://www.wikidata.org/wiki/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{key: f"cr:{key}" for key in _OWN_TERMS},
}
_MAX_PATTERNS = 20
_SPLITS = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}
_FORMATS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
    ".ppm": "image/x-portable-pixmap",
    ".pgm": "image/x-portable-graymap",
    ".mp4": "video/mp4",
}
_IMAGE_FIELDS = {
    "path": ("sc:Text", "Path below the folder of the images; of a video's frame, the video and the frame's number."),
    "width": ("sc:Integer", "Pixels, after EXIF orientation."),
    "height": ("sc:Integer", "Pixels, after EXIF orientation."),
    "split": ("sc:Text", "Name of the split."),
    "group": ("sc:Text", "Video, patient or scene, which splits never divide."),
    "frame": ("sc:Integer", "Number of the frame in its group, from 0."),
    "time_s": ("sc:Float", "Time of the frame in seconds."),
    "mask_path": ("sc:Text", "Path of the semantic mask below the folder of the images."),
    "sha256": ("sc:Text", "SHA-256 of the file."),
}
_OBJECT_FIELDS = {
    "object_id": ("sc:Integer", "Number of the object."),
    "path": ("sc:Text", "Path of the object's image."),
    "class": ("sc:Text", "Name of the object's class."),
    "bbox": ("cr:BoundingBox", "x1 y1 x2 y2 in pixels from the top-left corner of the image, x2 and y2 exclusive."),
    "area": ("sc:Float", "Of the mask where there is one, else of the box, in square pixels."),
    "crowd": ("sc:Boolean", "Whether the box is around a crowd."),
    "ignore": ("sc:Boolean", "Whether the object counts neither for nor against a prediction."),
    "occlusion": ("sc:Float", "Hidden share, 0 to 1."),
    "truncation": ("sc:Float", "Share outside the image, 0 to 1."),
    "track_id": ("sc:Integer", "Number of the track, the same over the frames of a group."),
    "polygon": ("sc:Text", "Outline as JSON: rings of x0, y0, x1, y1, ... in pixels."),
    "rle": ("sc:Text", "Mask as COCO's compressed run lengths, at the size of the image."),
    "keypoints": ("sc:Text", "Keypoints as JSON: x, y, v of each; v is 0 unlabelled, 1 hidden, 2 visible."),
}


def write_croissant(dataset: Dataset, text: CardText, folder: Path, *, workers: int = 2) -> tuple[Path, ...]:
    """Write `croissant.json`, `images.csv` and `objects.csv` into a folder; returns their paths.

    Columns that are empty throughout are left out, and so are statements nobody has made. Raises DataError for a file
    that cannot be read.
    """
    digests = _file_digests(dataset, workers)
    images = _filled(_images(dataset, digests), ("path", "width", "height", "sha256"))
    tables = {"images": images}
    if dataset.task != "semantic":
        tables["objects"] = _filled(
            _objects(dataset), ("object_id", "path", "class", "bbox", "area", "crowd", "ignore")
        )
    target = folder / "croissant.json"
    written: dict[str, bytes] = {name: table.write_csv().encode() for name, table in tables.items()}
    for name, data in written.items():
        write_bytes_atomic(folder / f"{name}.csv", data)
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    container = {
        "@type": "cr:FileObject",
        "@id": "data-folder",
        "name": "data-folder",
        "description": "The folder of the data set; sha256 is that of its images' listing by sha256sum, by path.",
        "contentUrl": path_from(target, dataset.root),
        "encodingFormat": "application/x-directory",
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
    }
    document: Json = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        **_statements(dataset, text),
        "distribution": [container, _file_set(digests), *(_table_file(n, data) for n, data in written.items())],
        "recordSet": _record_sets(dataset, text, tables),
    }
    write_json_atomic(target, document)
    return (target, *(folder / f"{name}.csv" for name in written))


def _statements(dataset: Dataset, text: CardText) -> Json:
    """What people state; nothing stands in for what they do not."""
    creators = [
        {"@type": "sc:Person" if c.kind == "person" else "sc:Organization", "name": c.name}
        | ({"url": c.url} if c.url else {})
        for c in text.creators
    ]
    stated: dict[str, Any] = {
        "name": text.name or dataset.name,
        "description": text.description,
        "conformsTo": CONFORMS_TO,
        "license": text.licence,
        "url": text.url,
        "version": text.version,
        "datePublished": text.date_published,
        "citeAs": text.citation,
        "creator": creators,
        "keywords": list(text.keywords),
        "rai:dataCollection": text.collection,
        "rai:dataAnnotationProtocol": text.annotation,
        "rai:personalSensitiveInformation": text.personal_data,
        "rai:dataUseCases": text.intended_use,
        "rai:dataLimitations": text.limitations,
        "rai:dataBiases": list(text.known_artefacts),
    }
    return {key: value for key, value in stated.items() if value}


def _file_digests(dataset: Dataset, workers: int) -> dict[str, str]:
    """SHA-256 (hex) of each image file by path; a video stands for its frames."""
    names = sorted({picture_file(p).as_posix() for p in dataset.images["path"].to_list()})

    def digest(name: str) -> str:
        file = dataset.image_path(name)
        try:
            return file_sha256(file)
        except OSError as error:
            do = "Exclude the image, or restore it"
            raise DataError(f"cannot read the image ({error.strerror})", where=str(file), do=do) from None

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        return dict(zip(names, pool.map(digest, names), strict=True))


def _images(dataset: Dataset, digests: Mapping[str, str]) -> pl.DataFrame:
    shas = [digests[picture_file(p).as_posix()] for p in dataset.images["path"].to_list()]
    table = dataset.images.with_columns(sha256=pl.Series(shas, dtype=pl.String))
    return table.sort("path").select(list(_IMAGE_FIELDS))


def _objects(dataset: Dataset) -> pl.DataFrame:
    objects = dataset.objects.join(dataset.images.select("image_id", "path"), on="image_id")
    objects = objects.join(dataset.classes.select("class_id", pl.col("name").alias("class")), on="class_id")
    texts = {
        name: pl.Series([None if v is None else json.dumps(v) for v in objects[name].to_list()], dtype=pl.String)
        for name in ("polygon", "keypoints")
    }
    rle = pl.Series([None if v is None else v.decode("ascii") for v in objects["rle"].to_list()], dtype=pl.String)
    objects = objects.with_columns(bbox=pl.concat_str("x1", "y1", "x2", "y2", separator=" "), rle=rle, **texts)
    return objects.sort("path", "object_id").select(list(_OBJECT_FIELDS))


def _filled(table: pl.DataFrame, always: tuple[str, ...]) -> pl.DataFrame:
    return table.select(c for c in table.columns if c in always or table[c].null_count() < table.height)


def _file_set(digests: Mapping[str, str]) -> Json:
    names = [PurePosixPath(p) for p in digests]
    patterns = {f"{'' if p.parent.name == '' else f'{glob.escape(p.parent.as_posix())}/'}*{p.suffix}" for p in names}
    if len(patterns) > _MAX_PATTERNS:  # a folder for each image, say
        patterns = {f"*/{glob.escape(p.parent.name)}/*{p.suffix}" for p in names}
    if len(patterns) > _MAX_PATTERNS:
        patterns = {f"*{p.suffix}" for p in names}
    return {
        "@type": "cr:FileSet",
        "@id": "image-files",
        "name": "image-files",
        "description": "The image files; those that belong to the data set are listed in `images`.",
        "containedIn": {"@id": "data-folder"},
        "encodingFormat": sorted({_FORMATS.get(p.suffix.lower(), "application/octet-stream") for p in names}),
        "includes": sorted(patterns),
    }


def _table_file(name: str, data: bytes) -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": f"{name}.csv",
        "name": f"{name}.csv",
        "contentUrl": f"{name}.csv",
        "encodingFormat": "text/csv",
        "contentSize": f"{len(data)} B",
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _record_sets(dataset: Dataset, text: CardText, tables: Mapping[str, pl.DataFrame]) -> list[Json]:
    sets = [_class_set(dataset, text)]
    if dataset.splits:
        sets.append(_split_set(dataset))
    sets.append(_table_set("images", "The images of the data set.", tables["images"], _IMAGE_FIELDS, "path"))
    if "objects" in tables:
        what = "The annotations: one record for each object."
        sets.append(_table_set("objects", what, tables["objects"], _OBJECT_FIELDS, "object_id"))
    source = {"fileSet": {"@id": "image-files"}}
    fields = [
        _field("pictures", "path", "sc:Text", "As in `images`.", source | {"extract": {"fileProperty": "fullpath"}}),
        _field("pictures", "image", "sc:ImageObject", "Content.", source | {"extract": {"fileProperty": "content"}}),
    ]
    if all(picture_file(p) == Path(p) for p in dataset.images["path"].head(1).to_list()):
        sets.append(_record_set("pictures", "The content of the image files.", fields))
    return sets


def _class_set(dataset: Dataset, text: CardText) -> Json:
    fields = [
        _field("classes", "name", "sc:Text", "Name of the class."),
        _field("classes", "class_id", "sc:Integer", "Number of the class, from 0; the value in masks is source_id."),
        _field("classes", "source_id", "sc:Integer", "Number or pixel value in the source format."),
        _field("classes", "definition", "sc:Text", "What belongs to the class."),
    ]
    rows = []
    for name, class_id, source_id in dataset.classes.select("name", "class_id", "source_id").iter_rows():
        row = {"name": name, "class_id": class_id, "source_id": source_id, "definition": text.classes.get(name)}
        rows.append({f"classes/{key}": value for key, value in row.items()})
    return _record_set("classes", "The classes of the objects.", fields, key="name") | {"data": rows}


def _split_set(dataset: Dataset) -> Json:
    fields = [
        _field("splits", "name", "sc:Text", "Name of the split."),
        _field("splits", "url", ["sc:URL", "wd:Q3985153"], "What the split is for."),
    ]
    rows = [{"splits/name": name, "splits/url": _SPLITS.get(name)} for name in dataset.splits]
    return _record_set("splits", "The splits.", fields, key="name") | {"dataType": "cr:Split", "data": rows}


def _table_set(name: str, what: str, table: pl.DataFrame, known: Mapping[str, tuple[str, str]], key: str) -> Json:
    fields = []
    for column in table.columns:
        kind, meaning = known[column]
        source = {"fileObject": {"@id": f"{name}.csv"}, "extract": {"column": column}}
        described = _field(name, column, kind, meaning, source)
        if column == "split":
            described["references"] = {"field": {"@id": "splits/name"}}
        fields.append(described)
    return _record_set(name, what, fields, key=key)


def _record_set(name: str, what: str, fields: list[Json], key: str | None = None) -> Json:
    record_set: Json = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": what}
    if key is not None:
        record_set["key"] = {"@id": f"{name}/{key}"}
    return record_set | {"field": fields}


def _field(record_set: str, name: str, kind: str | list[str], what: str, source: Json | None = None) -> Json:
    described: Json = {"@type": "cr:Field", "@id": f"{record_set}/{name}", "name": name, "description": what}
    return described | {"dataType": kind} | ({"source": source} if source is not None else {})
