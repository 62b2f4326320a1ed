"""`sightline label`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import sightline.data
import sightline.report
import sightline.workbench
from sightline.cli.console import DataPath, JsonFlag, emit_json, note, progress_bar, show_table
from sightline.core.errors import ConfigError, unknown_name
from sightline.core.files import atomic_folder, check_new_folder, write_sealed_json
from sightline.data import WRITTEN_NAMES

__all__ = ["label"]

_SHOWN = 10


def label(
    data: DataPath,
    out: str,
    *,
    boxes_to_masks: bool = False,
    model: Literal["grabcut"] = "grabcut",
    to: Annotated[str, Parameter(help=f"Format to write: {', '.join(WRITTEN_NAMES)}.")] = "coco",
    split: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Make labels of labels: masks of boxes, each with how sure it is, as a new data set with a page to look at.

    Parameters
    ----------
    out
        New folder for the data set, labels.json (each object, the doubtful first) and labels.html.
    boxes_to_masks
        Turn each box into the mask of its object; what has a mask keeps it, and a box without a sound mask stays one.
    model
        What finds the masks. grabcut: colours inside and around the box, without weights.
    split
        Only the images of this split.
    """
    if not boxes_to_masks:
        raise ConfigError("what is to be made must be named, got nothing", do="add --boxes-to-masks")
    if to not in sightline.data.written_formats():
        raise ConfigError(unknown_name("format to write", to, sightline.data.written_formats()))
    check_new_folder(out)
    whole = sightline.data.read_dataset(data)
    dataset = whole if split is None else whole.split(split)
    with progress_bar() as bar:
        made = sightline.workbench.masks_from_boxes(dataset, sightline.workbench.grabcut_masks, model, bar)
    objects = made.to_frame()
    with atomic_folder(out) as folder:
        with progress_bar() as bar:
            losses = sightline.data.write_dataset(made.dataset, folder, to, progress=bar)
        write_sealed_json(folder / "labels.json", {**made.conventions, "objects": objects.to_dicts()})
        sightline.report.write_label_page(made.dataset, objects, made.conventions, folder / "labels.html")
    result = {"path": out, "format": to, **made.conventions, "objects": objects.to_dicts(), "losses": losses}
    if json:
        emit_json(result)
        return 0
    show_table("", ("outcome", "objects"), objects["outcome"].value_counts(sort=True).rows())
    columns = ("image", "class", "confidence", "outcome")
    show_table("to be looked at first", columns, objects.select(columns).head(_SHOWN).rows())
    note(f"page: {Path(out) / 'labels.html'}")
    return 0
