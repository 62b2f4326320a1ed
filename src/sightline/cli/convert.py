"""`sightline convert`."""

from collections import Counter
from pathlib import Path
from typing import Literal

from sightline.cli.console import JsonFlag, emit_json, note, show_table
from sightline.core.errors import ConfigError
from sightline.data import read_dataset, write_dataset

__all__ = ["convert"]

_LOST_WHOLE = ("loss-crowd", "loss-ignore")
"""Codes of objects that are not written at all; other losses are of a part."""


def convert(
    data: str,
    out: str,
    *,
    to: Literal["coco", "yolo"],
    format: str | None = None,  # noqa: A002 - the option's name
    copy_images: bool = True,
    json: JsonFlag = False,
) -> int:
    """Write a data set in another format; whatever the format cannot hold is listed and counted.

    Parameters
    ----------
    data
        Path of the data set.
    out
        New folder for the result.
    to
        Format to write.
    format
        Format of the data; found out without it.
    copy_images
        Copy the images too; without it only labels are written.
    json
        Print the result as JSON.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError("the output must be a new or empty folder, got one with files in it", where=out)
    dataset = read_dataset(data, format=format)
    losses = write_dataset(dataset, target, to, copy_images=copy_images)
    lost = sum(finding.count for finding in losses if finding.code in _LOST_WHOLE)
    written = {"path": out, "format": to, "images": len(dataset), "objects": dataset.objects.height - lost}
    if json:
        found = {"losses": losses, "read_findings": dataset.findings}
        emit_json({**written, **{name: [f.to_dict() for f in several] for name, several in found.items()}})
        return 0
    show_table("", ("written", "value"), list(written.items()))
    kinds = Counter[tuple[str, str]]()
    for finding in losses:
        kinds[finding.code, finding.message] += finding.count
    if kinds:
        show_table(f"not kept by {to}", ("code", "what", "count"), [(c, m, n) for (c, m), n in kinds.items()])
    else:
        note(f"nothing is lost in {to}")
    return 0
