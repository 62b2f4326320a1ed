"""`sightline look`."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import sightline.audit
import sightline.data
import sightline.draw.look
import sightline.report
from sightline.cli.console import Count, DataFormat, DataPath, JsonFlag, emit_json, note, progress_bar, show_table
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, unknown_name
from sightline.core.files import check_writable
from sightline.core.findings import Finding
from sightline.draw.look import LookOptions

__all__ = ["look"]

_ALL = "all"
_DRAWS = 4


def look(
    data: DataPath,
    *assignments: str,
    augment: bool = False,
    draws: Count = _DRAWS,
    config: str | None = None,
    out: str | None = None,
    format: Literal["png", "html", "both"] = "both",  # noqa: A002 - the option's name
    data_format: DataFormat = None,
    split: str | None = None,
    options: Annotated[LookOptions, Parameter(name="*")] = LookOptions(),  # noqa: B008 - frozen
    finding: str | None = None,
    audit: str | None = None,
    workers: Count = 2,
    json: JsonFlag = False,
) -> int:
    """Draw a data set's labels on its images: random ones, each class, tracks over time, the places of findings.

    Parameters
    ----------
    assignments
        With --augment: settings of a training run as KEY=VALUE: model=yolo11n, imgsz=320, augment.rotate=10.
    augment
        Show, instead of labels, what the network sees: images at its size, augmented as in training. Needs torch.
    draws
        With --augment: how often each image is augmented.
    config
        With --augment: YAML file of a training run's settings.
    out
        Folder for the pictures, outside the data; look/NAME without it. An earlier look there is replaced.
    format
        png: a picture for each grid. html: one page with all of them, look.html. both: the two.
    split
        Only the images of this split.
    options
        How many pictures of each kind, how large, and which.
    finding
        Also show the places of this finding code, or of all: the data is audited, unless --audit is given.
    audit
        Result of an audit (audit.json) whose findings are shown; all of them, unless --finding names one.
    workers
        Threads that read files for the audit.
    json
        Print what was written as JSON.
    """
    if finding is not None and finding not in {_ALL, *sightline.data.CODES}:
        raise ConfigError(unknown_name("finding", finding, [_ALL, *sightline.data.CODES]))
    if (assignments or config is not None) and not augment:
        raise ConfigError("settings of training belong to --augment, got them without it", do="add --augment")
    if augment and (finding is not None or audit is not None):
        raise ConfigError("--augment shows images as in training, got it together with findings", do="look twice")
    if out is not None:
        check_writable([Path(out) / "look.json"])
    whole = sightline.data.read_dataset(data, format=data_format)
    dataset = whole if split is None else whole.split(split)
    findings = _findings(whole, audit, finding, workers)
    if split is not None:
        shown = set(dataset.images["image_id"])
        findings = [f for f in findings if f.image_id is None or f.image_id in shown]
    codes = None if finding in {None, _ALL} else [str(finding)]
    folder = Path(out) if out is not None else Path("look") / (_file_name(dataset.name) or "data")
    if augment:
        training = importlib.import_module("sightline.cli.augment")  # torch, which no other look needs
        sheets = training.sheets_of_training(
            dataset, assignments, config, images=options.images, draws=draws, seed=options.seed
        )
    else:
        sheets = sightline.draw.look.look_at(dataset, options, findings, codes)
    result = sightline.report.write_look(dataset, sheets, folder, format, _about(dataset, split))
    if json:
        emit_json(result)
        return 0
    show_table("", ("sheet", "title", "pictures"), result.sheets)
    show_table("", ("written",), [(str(file),) for file in result.files])
    if codes and not any(f.code == codes[0] for f in findings):
        note(f"no finding of code {codes[0]}")
    return 0


def _findings(dataset: Dataset, audit: str | None, finding: str | None, workers: int) -> Sequence[Finding]:
    if audit is not None:
        return sightline.audit.read_audit(audit).findings
    if finding is None:
        return ()
    with progress_bar() as bar:
        done = sightline.audit.audit_dataset(dataset, workers=workers, progress=bar)
    return done.findings


def _about(dataset: Dataset, split: str | None) -> str:
    part = f"split {split}, " if split is not None else ""
    objects = "" if dataset.task == "semantic" else f", {dataset.objects.height} objects"
    return f"{dataset.format}, {part}{len(dataset)} images{objects}, {len(dataset.class_names)} classes"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")
