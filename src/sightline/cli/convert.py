"""`sightline convert`."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import sightline.data
import sightline.testing
from sightline.cli.console import DataFormat, DataPath, JsonFlag, emit_json, note, progress_bar, show_line, show_table
from sightline.core.dataset import Dataset, Task
from sightline.core.errors import ConfigError, InputError, unknown_name
from sightline.core.files import atomic_folder, check_new_folder
from sightline.core.findings import Finding
from sightline.data import WRITTEN_NAMES

__all__ = ["convert"]


def convert(
    data: DataPath,
    out: str,
    *,
    to: Annotated[str, Parameter(help=f"Format to write: {', '.join(WRITTEN_NAMES)}.")],
    format: DataFormat = None,  # noqa: A002 - the option's name
    task: Task | None = None,
    copy_images: bool = True,
    verify: bool = True,
    json: JsonFlag = False,
) -> int:
    """Write a data set in another format; whatever the format cannot hold is listed and counted.

    The output folder appears when everything is in it, and not at all where something goes wrong.

    Parameters
    ----------
    out
        New folder for the result.
    task
        What to make of the labels, as detect for instances of which only the boxes matter.
    copy_images
        Copy the images too; without it only labels are written, as COCO alone can be read without them.
    verify
        Read the result back and check that images and objects reconcile; not without the images.
    """
    if to not in sightline.data.written_formats():
        raise ConfigError(unknown_name("format to write", to, sightline.data.written_formats()))
    check_new_folder(out)
    dataset = sightline.data.read_dataset(data, format=format, task=task)
    with atomic_folder(out) as folder, _named(folder, out):
        with progress_bar() as bar:
            losses = sightline.data.write_dataset(dataset, folder, to, copy_images=copy_images, progress=bar)
        after = sightline.testing.check_written(dataset, losses, folder, to) if verify and copy_images else None
    _show(dataset, after, losses, out, to, as_json=json)
    return 0


@contextmanager
def _named(folder: Path, out: str) -> Iterator[None]:
    """Errors about the temporary folder name the one that was asked for."""
    try:
        yield
    except InputError as error:
        where = None if error.where is None else error.where.replace(str(folder), out)
        raise type(error)(error.what.replace(str(folder), out), where=where, do=error.do) from None


def _show(dataset: Dataset, after: Dataset | None, losses: list[Finding], out: str, to: str, *, as_json: bool) -> None:
    read_back = None if after is None else {"images": len(after), "objects": after.objects.height}
    result: dict[str, Any] = {"path": out, "format": to, "images": len(dataset), "objects": dataset.objects.height}
    if as_json:
        emit_json({**result, "read_back": read_back, "losses": losses, "read_findings": dataset.findings})
        return
    show_table("", ("read", "value"), list(result.items()))
    unread = [f for f in dataset.findings if f.severity != "info"]
    if unread:
        counts = Counter[tuple[str, str]]()
        for finding in unread:
            counts[finding.code, finding.severity] += finding.count
        places = {f.code: f.path or "–" for f in reversed(unread)}
        rows = [(code, severity, count, places[code]) for (code, severity), count in counts.items()]
        show_table("not read as it stands", ("code", "severity", "count", "first place"), rows)
        note(f"{sum(counts.values())} findings in what was read; sightline audit lists them")
    kinds = Counter[tuple[str, str]]()
    for finding in losses:
        kinds[finding.code, finding.message] += finding.count
    if kinds:
        show_table(f"not kept by {to}", ("code", "what", "count"), [(c, m, n) for (c, m), n in kinds.items()])
    else:
        note(f"nothing of what was read is lost in {to}")
    if read_back is None:
        note("not read back")
    else:
        show_line(f"read back: {read_back['images']} images, {read_back['objects']} objects")
