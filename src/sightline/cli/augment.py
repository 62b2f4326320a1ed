"""`sightline augment`."""

import polars as pl

from sightline.cli.console import (
    Count,
    JsonFlag,
    check_json_name,
    give_result,
    note,
    progress_bar,
    show_line,
    show_table,
)
from sightline.cli.look_augment import training_view
from sightline.data import read_dataset
from sightline.train.studies import AugmentAudit, AugmentAuditOptions, audit_augmentation

__all__ = ["augment"]

_DEFAULT = AugmentAuditOptions()


def augment(
    data: str,
    *assignments: str,
    config: str | None = None,
    data_format: str | None = None,
    split: str | None = None,
    images: Count = _DEFAULT.images,
    draws: Count = _DEFAULT.draws,
    below_px: float = _DEFAULT.below_px,
    seed: int = _DEFAULT.seed,
    out: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Measure what augmentation does to the labels of a data set: each operation alone, then the whole policy.

    `sightline look DATA --augment` shows it.

    Parameters
    ----------
    data
        Path of the data set.
    assignments
        Settings of a training run as KEY=VALUE: model=yolo11n, imgsz=320, augment.rotate=10.
    config
        YAML file of a training run's settings.
    data_format
        Format of the data; found out without it.
    split
        Only the images of this split; train, as a rule.
    images
        Images, drawn at random.
    draws
        How often each is augmented by each operation.
    below_px
        Objects below this many pixels at the network's size count as small.
    seed
        Another seed draws other images, and augments them otherwise.
    out
        Write the result as JSON to this file.
    json
        Print the result as JSON.
    """
    check_json_name(out)
    whole = read_dataset(data, format=data_format)
    dataset = whole if split is None else whole.split(split)
    preprocess, policy = training_view(dataset, assignments, config)
    options = AugmentAuditOptions(images=images, draws=draws, below_px=below_px, seed=seed)
    with progress_bar() as bar:
        result = audit_augmentation(
            dataset, preprocess, policy, options, lambda done, total: bar("augmenting", done, total)
        )
    give_result(result, lambda: _show(result), out=out, json=json)
    return 0


def _show(result: AugmentAudit) -> None:
    facts = result.conventions
    height, width = facts["size_hw"]
    title = (
        f"{facts['counted']} of {facts['images']} images, {facts['draws']} draws each, at {width} × {height} pixels; "
        f"small: below {facts['below_px']:g} pixels"
    )
    table = result.table if facts["counted"] != "objects" else result.table.drop("pixels")
    show_table(title, tuple(table.columns), table.rows())
    policy = result.table["operation"][-1]
    last = result.by_class.filter(pl.col("operation") == policy).drop("operation")
    if last.height > 1:
        show_table(f"'{policy}' by class", tuple(last.columns), last.rows())
    for f in result.findings:
        show_line(f"{f.severity}: {f.message}. {f.do}.")
    if not result.findings:
        note("no operation removes or shrinks more than a tenth")
