"""`sightline report`."""

from sightline.cli.console import JsonFlag, emit_json, show_table
from sightline.report import write_report

__all__ = ["report"]


def report(run: str, *, out: str | None = None, data: str | None = None, json: JsonFlag = False) -> int:
    """Write one self-contained HTML page of a run: everything measured, how, and how to measure it again.

    Parameters
    ----------
    run
        Folder of the run.
    out
        The page; report.html in the run's folder without it.
    data
        Where the data set lies now, if no longer where the run says.
    json
        Print the result as JSON.
    """
    result = write_report(run, out, data=data)
    if json:
        emit_json(result)
        return 0
    rows = [(name, "yes" if measured else "not measured in this run") for name, measured in result.sections.items()]
    show_table(f"{result.path} ({result.size_bytes / 1024:.0f} KiB)", ("section", "measured"), rows)
    return 0
