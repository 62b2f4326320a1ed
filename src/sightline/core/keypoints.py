"""The keypoints of a data set's objects, as a network learns them: their names, what joins them, how exact they are."""

from dataclasses import replace
from typing import Self

import polars as pl
import pydantic

from sightline.core.config import Config
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError

__all__ = [
    "COCO_SIGMAS",
    "PERSON",
    "Keypoints",
    "keypoints_of",
    "mirrored",
    "most_keypoints",
    "with_names",
]

COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip
"""How far people who label the 17 keypoints of a person differ, over the root of its area. Source: the COCO keypoint
evaluation (2016)."""


class Keypoints(Config):
    """K keypoints of an object, in the order of the labels.

    `skeleton` are pairs of indices that are joined, `mirror` the order after left and right have changed places, and
    `sigmas` say how far a good label may be off, over the root of the object's area (see `sightline.ops.keypoints`).
    """

    names: tuple[str, ...] = pydantic.Field(min_length=1, max_length=1000)
    skeleton: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[pydantic.PositiveFloat, ...] = ()
    mirror: tuple[int, ...] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: object) -> object:
        if not isinstance(value, dict) or not isinstance(value.get("names"), (list, tuple)):
            return value
        names = tuple(value["names"])
        usual = COCO_SIGMAS if len(names) == len(COCO_SIGMAS) else (1 / max(1, len(names)),) * len(names)
        return {**value, "sigmas": value.get("sigmas") or usual, "mirror": value.get("mirror") or mirrored(names)}

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        count = len(self.names)
        if len(self.sigmas) != count or sorted(self.mirror) != list(range(count)):
            raise ValueError(f"sigmas and mirror must have an entry for each of the {count} names")
        if any(not 0 <= i < count for pair in self.skeleton for i in pair):
            raise ValueError(f"the skeleton must join keypoints 0..{count - 1}")
        return self

    def __len__(self) -> int:
        return len(self.names)


def mirrored(names: tuple[str, ...]) -> tuple[int, ...]:
    """The order that exchanges 'left' and 'right' in the names of keypoints.

    >>> mirrored(("nose", "left eye", "right eye"))
    (0, 2, 1)
    """
    lowered = [str(name).lower() for name in names]
    other = {"left": "right", "right": "left"}
    order = list(range(len(names)))
    for place, name in enumerate(lowered):
        side = next((s for s in other if s in name), None)
        partner = name.replace(side, other[side]) if side else name
        if partner in lowered:
            order[place] = lowered.index(partner)
    return tuple(order)


PERSON = Keypoints(
    names=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    skeleton=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
)  # fmt: skip
"""COCO's person."""


def most_keypoints(dataset: Dataset) -> int:
    """How many keypoints the object that has the most has."""
    return max(dataset.objects["keypoints"].list.len().drop_nulls().to_list(), default=0) // 3


def keypoints_of(dataset: Dataset) -> Keypoints | None:
    """What the labels say of their keypoints; None where no object has any.

    Without names they are numbered, and of 17 those of COCO are meant. DataError where classes name different ones, or
    an object has more than its classes name.
    """
    most = most_keypoints(dataset)
    named = dataset.classes.filter(pl.col("keypoint_names").list.len() > 0)
    lists = [tuple(names) for names in named["keypoint_names"].to_list()]
    if len(set(lists)) > 1:
        got = " and ".join(f"{len(names)} of '{name}'" for name, names in zip(named["name"], lists, strict=True))
        message = f"all classes must have the same keypoints to be learnt together, got {got:.120}"
        raise DataError(message, where=str(dataset.root), do="train a model for each of them")
    if not most and not lists:
        return None
    first = named.row(0, named=True) if lists else {}
    if lists and most > len(lists[0]):
        message = f"objects must have at most the {len(lists[0])} keypoints that are named, got {most}"
        raise DataError(message, where=str(dataset.root))
    mirror = dataset.classes["mirror"].drop_nulls()
    said = {"mirror": tuple(mirror[0])} if len(mirror) else {}
    if not lists and most == len(PERSON):
        return Keypoints.load({**PERSON.model_dump(), **said})
    names = lists[0] if lists else tuple(map(str, range(most)))
    return Keypoints.load({"names": names, "skeleton": first.get("skeleton") or (), **said}, where=str(dataset.root))


def with_names(dataset: Dataset) -> Dataset:
    """The data set with its keypoints named by its classes, so that a part without objects knows them too."""
    labelled = keypoints_of(dataset)
    if labelled is None:
        return dataset
    names = pl.Series([list(labelled.names)] * dataset.classes.height, dtype=dataset.classes.schema["keypoint_names"])
    return replace(dataset, classes=dataset.classes.with_columns(keypoint_names=names))
