"""`sightline audit`."""

from collections import Counter
from typing import Literal

from sightline.cli.console import Count, JsonFlag, emit_json, note, progress_bar, show_line, show_table
from sightline.core.errors import at
from sightline.core.files import write_json_atomic
from sightline.core.findings import SEVERITIES, Severity, worst_severity
from sightline.core.runs import RunFolder
from sightline.data import AuditResult, audit_dataset, read_dataset

__all__ = ["audit"]

_SHOWN = 40


def audit(
    data: str,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    fail_on: Literal["info", "warning", "error", "never"] = "never",
    workers: Count = 2,
    record: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Read every label and every image of a data set and list what is wrong, with file and line.

    Parameters
    ----------
    data
        Path of the data set: a folder, a COCO file, a data YAML or a sightline.yaml.
    format
        Format of the data; found out without it.
    fail_on
        Exit with code 1 when a finding of this severity or above is there.
    workers
        Threads that read files.
    record
        Folder of a run: the audit is kept there as audit.json, for its report.
    json
        Print the result as JSON.
    """
    dataset = read_dataset(data, format=format)
    with progress_bar() as bar:
        result = audit_dataset(dataset, workers=workers, progress=lambda done, total: bar("reading files", done, total))
    if record is not None:
        write_json_atomic(RunFolder.open(record).path / "audit.json", result.to_dict())
    if json:
        emit_json(result.to_dict())
    else:
        _show(result)
    return _exit_code(worst_severity(result.findings), fail_on)


def _show(result: AuditResult) -> None:
    show_table(
        f"{result.name}: {result.format}, {result.task}, {result.images} images, {result.objects} objects",
        ("class", "objects"),
        list(result.objects_by_class.items()),
    )
    splits = [(name or "(none)", part["images"], part["objects"]) for name, part in result.splits.items()]
    show_table("", ("split", "images", "objects"), splits)
    kinds = Counter[tuple[str, str]]()
    for finding in result.findings:
        kinds[finding.severity, finding.code] += finding.count
    if not kinds:
        note("no findings")
        return
    show_table("findings", ("severity", "code", "count"), [(s, c, n) for (s, c), n in kinds.items()])
    shown = [f for f in result.findings if f.severity != "info"][:_SHOWN]
    for finding in shown:
        show_line(
            f"{at(finding.path or result.name, finding.line)}: {finding.severity}: {finding.message} [{finding.code}]"
        )
    left = len(result.findings) - len(shown)
    if left:
        note(f"{left} more findings; --json lists them all")


def _exit_code(worst: Severity | None, fail_on: str) -> int:
    if worst is None or fail_on == "never":
        return 0
    return int(SEVERITIES.index(worst) >= [*SEVERITIES].index(fail_on))  # type: ignore[arg-type]
