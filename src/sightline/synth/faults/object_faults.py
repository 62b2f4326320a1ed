"""Faults of objects, ids and masks in COCO files, of panoptic segments, and of predictions."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from sightline.synth.faults.bases import EMBEDDINGS_NAME
from sightline.synth.faults.site import Fault, Plant, Planted, Site

__all__ = ["OBJECT_FAULTS", "PREDICTION_FAULTS"]

_TRAIN = "annotations/instances_train.json"
_VAL = "annotations/instances_val.json"
Entry: TypeAlias = dict[str, Any]


def _added(code: str, change: Callable[[Entry], Entry]) -> Plant:
    """A changed copy of the last annotation under a new id."""

    def plant(site: Site) -> list[Planted]:
        document = site.document(_TRAIN)
        entries: list[Entry] = document["annotations"]
        entries.append(change(entries[-1] | {"id": 900_000}))
        places = site.write_document(_TRAIN, document)
        return [Planted(code, _TRAIN, places["annotations", len(entries) - 1])]

    return plant


def _changed(code: str, change: Callable[[Entry], Entry], *, whole: bool = False) -> Plant:
    """The largest annotation changed in place."""

    def plant(site: Site) -> list[Planted]:
        document = site.document(_TRAIN)
        entries: list[Entry] = document["annotations"]
        index = max(range(len(entries)), key=lambda i: float(entries[i]["area"]))
        entries[index] = change(entries[index])
        places = site.write_document(_TRAIN, document)
        return [Planted(code) if whole else Planted(code, _TRAIN, places["annotations", index])]

    return plant


def _crossing(entry: Entry) -> Entry:
    x, y, w, h = entry["bbox"]
    bow_tie = [x, y, x + w, y + h, x + w, y, x, y + h]
    return entry | {"segmentation": [bow_tie]}


def _off_its_mask(entry: Entry) -> Entry:
    x, y, w, h = entry["bbox"]
    aside = -w / 2 if x > w else w / 2
    return entry | {"bbox": [x + aside, y, w, h]}


def _broken_runs(entry: Entry) -> Entry:
    size = entry["segmentation"]["size"]
    return entry | {"segmentation": {"size": size, "counts": [3, 5, 7]}}


def _conflict(site: Site) -> list[Planted]:
    document = site.document(_VAL)
    first, second = document["categories"][0], document["categories"][1]
    first["name"], second["name"] = second["name"], first["name"]
    places = site.write_document(_VAL, document)
    return [Planted("class-conflict", _VAL, places["categories", 0])]


def _same_name(site: Site) -> list[Planted]:
    document = site.document(_TRAIN)
    document["categories"].append({"id": 99, "name": document["categories"][0]["name"]})
    places = site.write_document(_TRAIN, document)
    return [Planted("class-duplicate-name", _TRAIN, places["categories", len(document["categories"]) - 1])]


def _unlisted_segment(site: Site) -> list[Planted]:
    file = sorted(site.root.rglob("*.png"))[0]
    path = file.relative_to(site.root).as_posix()
    pixels = site.picture(path).copy()
    pixels[:9, :9] = (7, 7, 7)
    site.write_picture(path, pixels)
    return [Planted("mask-unlisted-segment", path)]


def _missing_segment(site: Site) -> list[Planted]:
    file = sorted(site.root.rglob("*.png"))[0]
    path = file.relative_to(site.root).as_posix()
    pixels = site.picture(path).copy()
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    smallest = colours[np.argmin(counts)]
    pixels[(pixels == smallest).all(axis=2)] = 0
    site.write_picture(path, pixels)
    return [Planted("mask-missing-segment")]


def _left_out(site: Site) -> list[Planted]:
    """The objects of an image that is gone: said once, at the first of them."""
    document = site.document(_TRAIN)
    places = site.write_document(_TRAIN, document)
    image = document["images"][1]
    site.remove(str(image["file_name"]))
    first = next(i for i, e in enumerate(document["annotations"]) if e["image_id"] == image["id"])
    return [Planted("label-left-out", _TRAIN, places["annotations", first])]


OBJECT_FAULTS: dict[str, Fault] = {
    "label-left-out": Fault("coco", _left_out, ("image-missing",)),
    "label-unknown-image": Fault("coco", _added("label-unknown-image", lambda e: e | {"image_id": 77_777})),
    "label-duplicate-id": Fault(
        "coco",
        _added("label-duplicate-id", lambda e: e | {"id": 3, "bbox": [9, 9, 20, 20], "segmentation": []}),
        ("label-mixed-shapes",),
    ),
    "label-bad-segmentation": Fault("coco", _changed("label-bad-segmentation", _broken_runs)),
    "label-crowd": Fault("coco", _changed("label-crowd", lambda e: e | {"iscrowd": 1}, whole=True)),
    "label-polygon-crossing": Fault("coco", _changed("label-polygon-crossing", _crossing)),
    "label-box-mismatch": Fault("coco", _changed("label-box-mismatch", _off_its_mask)),
    "class-conflict": Fault("coco", _conflict, ("split-class-shift",)),
    "class-duplicate-name": Fault("coco", _same_name),
    "mask-unlisted-segment": Fault("panoptic", _unlisted_segment),
    "mask-missing-segment": Fault("panoptic", _missing_segment),
}


Row: TypeAlias = list[float]


def _largest_changed(code: str, change: Callable[[Row], list[Row]]) -> Plant:
    """The largest label of an image changed, or taken away, while the predictions stay as they are."""

    def plant(site: Site) -> list[Planted]:
        picture = max(site.pictures(), key=lambda p: max((row[3] * row[4] for row in site.rows(p)), default=0.0))
        rows = site.rows(picture)
        largest = max(rows, key=lambda row: row[3] * row[4])
        site.write_rows(picture, [row for row in rows if row is not largest] + change(largest))
        return [Planted(code, picture)]

    return plant


def _moved(row: Row) -> list[Row]:
    """The box moved towards the middle of the image by 0.3 of its width: an IoU of about 0.54."""
    towards = -1 if row[1] > 0.5 else 1
    return [[row[0], row[1] + towards * 0.3 * row[3], *row[2:]]]


def _alike(code: str, across: bool) -> Plant:
    """Two images get one vector."""

    def plant(site: Site) -> list[Planted]:
        pictures = sorted([*site.pictures("train"), *site.pictures("val")])
        first = site.pictures("train")[3]
        second = site.pictures("val")[2] if across else site.pictures("train")[7]
        vectors = np.load(site.root / EMBEDDINGS_NAME)
        vectors[pictures.index(second)] = vectors[pictures.index(first)]
        np.save(site.root / EMBEDDINGS_NAME, vectors)
        return [Planted(code, first)]

    return plant


PREDICTION_FAULTS: dict[str, Fault] = {
    "label-overlooked": Fault("predicted", _largest_changed("label-overlooked", lambda _: [])),
    "label-badly-located": Fault(
        "predicted",
        _largest_changed("label-badly-located", _moved),
    ),
    "image-alike": Fault("embedded", _alike("image-alike", across=False)),
    "split-overlap-alike": Fault("embedded", _alike("split-overlap-alike", across=True)),
    "label-swapped": Fault("predicted", _largest_changed("label-swapped", lambda r: [[(r[0] + 1) % 4, *r[1:]]])),
}
