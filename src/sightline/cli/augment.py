"""`sightline augment`, and what `sightline look --augment` shows: the two that need torch to see the data."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated

import polars as pl
from cyclopts import Parameter

from sightline.cli.console import (
    DataFormat,
    DataPath,
    JsonFlag,
    check_json_out,
    give_result,
    note,
    progress_bar,
    show_line,
    show_table,
)
from sightline.cli.train import parse_assignments
from sightline.core.config import read_yaml
from sightline.core.dataset import Dataset
from sightline.core.files import refuse_overwriting
from sightline.core.preprocess import Preprocess
from sightline.data import dataset_files, read_dataset
from sightline.draw.look import Sheet
from sightline.models import create
from sightline.train import Augmentation, TrainConfig
from sightline.train.augment import check_policy
from sightline.train.studies import (
    AugmentAudit,
    AugmentAuditOptions,
    audit_augmentation,
    augmented_sheets,
    merge_settings,
    settings_of,
)

__all__ = ["augment", "sheets_of_training", "training_view"]


def augment(
    data: DataPath,
    *assignments: str,
    config: str | None = None,
    data_format: DataFormat = None,
    split: str | None = None,
    options: Annotated[AugmentAuditOptions, Parameter(name="*")] = AugmentAuditOptions(),  # noqa: B008 - frozen
    out: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Measure what augmentation does to the labels of a data set: each operation alone, then the whole policy.

    `sightline look DATA --augment` shows it.

    Parameters
    ----------
    assignments
        Settings of a training run as KEY=VALUE: model=yolo11n, imgsz=320, augment.rotate=10.
    config
        YAML file of a training run's settings.
    split
        Only the images of this split; train, as a rule.
    options
        How much is measured, and what counts as small.
    out
        Write the result as JSON to this file.
    """
    check_json_out(out)
    whole = read_dataset(data, format=data_format)
    if out is not None:
        refuse_overwriting([out], chain([] if config is None else [config], dataset_files(whole, data)))
    dataset = whole if split is None else whole.split(split)
    preprocess, policy = training_view(dataset, assignments, config)
    with progress_bar() as bar:
        result = audit_augmentation(dataset, preprocess, policy, options, bar)
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


_USUAL_MODEL = {"semantic": "unet-small"}
_DETECTOR = "yolo11n"


def training_view(dataset: Dataset, assignments: Sequence[str], config: str | None) -> tuple[Preprocess, Augmentation]:
    """How a run of these settings would see the data: `model`, `imgsz` and `augment.*` count, the rest is checked."""
    values = settings_of(read_yaml(config), config) if config is not None else {}
    usual = {"data": {"path": str(dataset.root)}, "model": {"name": _USUAL_MODEL.get(dataset.task, _DETECTOR)}}
    given = merge_settings(merge_settings(usual, values), parse_assignments(assignments))
    settings = TrainConfig.load(given, where=config)
    model = create(settings.model.name, class_names=dataset.class_names, **settings.model_arguments)
    check_policy(settings.augment, dataset)
    return model.preprocess, settings.augment


def sheets_of_training(
    dataset: Dataset, assignments: Sequence[str], config: str | None, *, images: int, draws: int, seed: int
) -> Iterator[Sheet]:
    """Images as a run of these settings would see them."""
    preprocess, policy = training_view(dataset, assignments, config)
    return augmented_sheets(dataset, preprocess, policy, images=images, draws=draws, seed=seed)
