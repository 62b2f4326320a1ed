"""Which image a finding is about, where it is about one."""

from collections.abc import Iterable

import polars as pl

from sightline.core.findings import Finding

__all__ = ["images_of_findings"]


def images_of_findings(findings: Iterable[Finding], images: pl.DataFrame) -> list[int | None]:
    """The `image_id` each finding is about; None for one that is about the data set, or an image not in the table.

    A finding names its image by id, by path in its fact `image`, or by having the image's or its mask's path as place.
    A finding that sums up several images (a `count` above 1 without an id) is about none of them.
    """
    known = set(images["image_id"].to_list())
    by_path: dict[str | None, int] = dict(images.select("path", "image_id").iter_rows())
    by_path |= dict(images.drop_nulls("mask_path").select("mask_path", "image_id").iter_rows())

    def image_of(f: Finding) -> int | None:
        if f.image_id is not None:
            return f.image_id if f.image_id in known else None
        return by_path.get(f.facts.get("image", f.path)) if f.count == 1 else None

    return [image_of(f) for f in findings]
