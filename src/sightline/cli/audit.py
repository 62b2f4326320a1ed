"""`sightline audit`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sightline.audit import AuditOptions, audit_dataset, read_audit, write_quarantine
from sightline.cli.audit_table import show_audit
from sightline.cli.console import Count, JsonFlag, emit_json, note, progress_bar
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.files import write_json_atomic
from sightline.core.findings import SEVERITIES, Severity, worst_severity
from sightline.core.predictions import Predictions
from sightline.core.runs import RunFolder
from sightline.data import read_coco_results, read_dataset
from sightline.infer import embed_dataset
from sightline.report import write_audit_page

__all__ = ["audit"]


def audit(
    data: str,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    html: str | None = None,
    out: str | None = None,
    record: str | None = None,
    quarantine: str | None = None,
    quarantine_from: Severity = "error",
    since: str | None = None,
    predictions: str | None = None,
    embeddings: str | None = None,
    options: Annotated[AuditOptions, Parameter(name="*")] = AuditOptions(),  # noqa: B008 - frozen
    fail_on: Literal["info", "warning", "error", "never"] = "never",
    workers: Count = 2,
    json: JsonFlag = False,
) -> int:
    """Read every label and every image of a data set and list what is wrong, with file and line.

    Parameters
    ----------
    data
        Path of the data set: a folder, a COCO file, a data YAML or a sightline.yaml.
    format
        Format of the data; found out without it.
    html
        Write a page (.html) with all findings and the pictures behind them.
    out
        Write the result as JSON to this file, for --since and `sightline look --audit`.
    record
        Folder of a run: the audit is kept there as audit.json, for its report.
    quarantine
        Write a description (.yaml) that leaves out the images found faulty; give it instead of DATA from then on.
    quarantine_from
        Lowest severity that leaves an image out.
    since
        An earlier audit's JSON: splits that are not as they were then are findings.
    predictions
        A model's predictions on this data, Parquet or COCO results: labels they speak against are findings.
    embeddings
        A model's weights: images it finds alike are findings, a second opinion on near-duplicates. Needs torch.
    options
        The thresholds of the checks.
    fail_on
        Exit with code 1 when a finding of this severity or above is there.
    workers
        Threads that read files.
    json
        Print the result as JSON.
    """
    for option, file, suffixes in (
        ("--html", html, (".html", ".htm")),
        ("--out", out, (".json",)),
        ("--quarantine", quarantine, (".yaml", ".yml")),
    ):
        if file is not None and Path(file).suffix.lower() not in suffixes:
            raise ConfigError(f"{option} must name a file that ends in {suffixes[0]}, got '{file}'")
    run = None if record is None else RunFolder.open(record)
    earlier = None if since is None else read_audit(since)
    dataset = read_dataset(data, format=format)
    found = None if predictions is None else _read_predictions(predictions, dataset)
    with progress_bar() as bar:
        vectors = None
        if embeddings is not None:
            vectors = embed_dataset(
                dataset, embeddings, workers=workers, progress=lambda done, total: bar("embedding images", done, total)
            )
        result = audit_dataset(
            dataset,
            options,
            workers=workers,
            progress=lambda done, total: bar("reading files", done, total),
            since=earlier,
            predictions=found,
            embeddings=vectors,
        )
    if json:
        emit_json(result)
    else:
        show_audit(result)
    for target in (None if run is None else run.path / "audit.json", out):
        if target is not None:
            write_json_atomic(target, result)
    if html is not None:
        page = write_audit_page(dataset, result, html)
        note(f"written: {page.path} ({page.size_bytes / 1e6:.1f} MB, {page.pictures} pictures)")
    if quarantine is not None:
        count = write_quarantine(dataset, result, quarantine, quarantine_from, data=data)
        note(f"written: {quarantine}, which leaves out {count} image{'s' if count != 1 else ''}")
    return _exit_code(worst_severity(result.findings), fail_on)


def _read_predictions(path: str, dataset: Dataset) -> Predictions:
    return read_coco_results(path, dataset) if path.endswith(".json") else Predictions.load(path)


def _exit_code(worst: Severity | None, fail_on: str) -> int:
    if worst is None or fail_on == "never":
        return 0
    return int(SEVERITIES.index(worst) >= [*SEVERITIES].index(fail_on))  # type: ignore[arg-type]
