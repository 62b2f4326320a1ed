"""What only a model reveals: label errors by its predictions, alike images by its vectors."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from sightline.synth.faults.bases import EMBEDDINGS_NAME
from sightline.synth.faults.site import Fault, Plant, Planted, Site

__all__ = ["PREDICTION_FAULTS"]

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
