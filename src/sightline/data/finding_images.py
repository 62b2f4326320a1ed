"""Which image a finding is about, where it is about one."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

import polars as pl

from sightline.core.findings import Finding

__all__ = ["images_of_findings"]

_NOT_OF_AN_IMAGE = frozenset({"label-orphan", "label-unknown-image"})
_LABEL_SUFFIXES = frozenset({".txt", ".xml", ".json", ".png", ".npy", ".mat"})


def images_of_findings(findings: Iterable[Finding], images: pl.DataFrame) -> list[int | None]:
    """The `image_id` each finding is about; None for one that is about the data set, or an image not in the table.

    A finding names its image by id, by the image's or mask's path, or by a label file that has the name of one image. A
    finding that sums up several images (a `count` above 1 without an id) is about none of them.
    """
    known = set(images["image_id"].to_list())
    by_path: dict[str, int] = dict(images.select("path", "image_id").iter_rows())
    by_path |= dict(images.drop_nulls("mask_path").select("mask_path", "image_id").iter_rows())
    by_stem = {PurePosixPath(p).stem: i for p, i in images.select("path", "image_id").iter_rows()}
    several = {s for s, n in Counter(PurePosixPath(p).stem for p in images["path"].to_list()).items() if n > 1}

    def image_of(f: Finding) -> int | None:
        if f.image_id is not None:
            return f.image_id if f.image_id in known else None
        if f.path is None or f.count > 1 or f.code in _NOT_OF_AN_IMAGE:
            return None
        if f.path in by_path:
            return by_path[f.path]
        name = PurePosixPath(f.path)
        # A picture that could not be taken in is no label of another picture with its name.
        is_label = name.suffix.lower() in _LABEL_SUFFIXES and not f.code.startswith("image-")
        return by_stem.get(name.stem) if is_label and name.stem not in several else None

    return [image_of(f) for f in findings]
