"""The page of masks that were made from boxes: what was made, and the objects to look at first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.files import write_text_atomic
from sightline.draw import draw_masked_box, show_tones
from sightline.media import read_image
from sightline.ops import rle
from sightline.report.blocks import Pairs, Picture, Pictures, Section, Table, jpeg_uri
from sightline.report.numbers import TASK_TITLES, Number
from sightline.report.rendering import render_template

__all__ = ["write_label_page"]

SHOWN = 120
_CELL = (220, 220)


def write_label_page(dataset: Dataset, objects: pl.DataFrame, made: dict[str, Any], out: str | Path) -> Path:
    """Write the page of `dataset` with its new masks; `objects` in the order in which they are to be looked at, with
    object_id, image, class, confidence and outcome. Shows the first `SHOWN`.
    """
    counts = objects["outcome"].value_counts(sort=True).rows()
    source = "labels.json objects"
    rows = [(outcome, Number(count, source, "count")) for outcome, count in counts]
    pictures = list(_pictures(dataset, objects.head(SHOWN)))
    caption = (
        f"The first {len(pictures)} of {objects.height}: without a mask, then the least sure. The box is dashed, the "
        "mask blue."
    )
    page = render_template(
        "look.html",
        task=TASK_TITLES["instance"],
        name=dataset.name,
        about=f"masks from boxes, {objects.height} objects",
        tiles=[],
        empty="",
        sections=[
            Section("made", "What was made", blocks=[Table(("outcome", "objects"), rows)]),
            Section("look", "To be looked at", blocks=[Pictures("", pictures, caption, small=True)]),
            Section("how", "How it was made", blocks=[Pairs([(k, str(v)) for k, v in made.items()])]),
        ],
    )
    write_text_atomic(out, page)
    return Path(out)


def _pictures(dataset: Dataset, objects: pl.DataFrame) -> Iterator[Picture]:
    codes = dict(dataset.objects.select("object_id", "rle").iter_rows())
    last: tuple[str, Any] = ("", None)
    for number, row in enumerate(objects.iter_rows(named=True)):
        if row["image"] != last[0]:
            last = row["image"], show_tones(read_image(dataset.image_path(row["image"])))
        pixels = last[1]
        code = codes[row["object_id"]]
        mask = None if code is None else rle.decode(code, (pixels.shape[0], pixels.shape[1]))
        drawn = draw_masked_box(pixels, [row[c] for c in ("x1", "y1", "x2", "y2")], mask, _CELL)
        sure = Number(row["confidence"], f"labels.json objects.{number}.confidence")
        facts = [("confidence", sure)] if row["confidence"] is not None else []
        said = row["image"] if row["outcome"] == "mask" else f"{row['image']}: {row['outcome']}"
        alt = f"{row['class']} in {row['image']}"
        yield Picture(jpeg_uri(drawn), drawn.shape[1], drawn.shape[0], row["class"], alt, facts, said)
