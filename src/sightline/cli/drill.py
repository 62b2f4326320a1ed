"""`sightline drill`."""

from sightline.cli.console import JsonFlag, emit_json, note, progress_bar, show_line, show_table
from sightline.synth.faults import run_drill

__all__ = ["drill"]


def drill(*, fault: list[str] | None = None, seed: int = 0, json: JsonFlag = False) -> int:
    """Plant every fault the audit knows into generated data, audit it, and count what was planted, found and false.

    Exit code 1 when a planted fault was missed or a sound data set was accused.

    Parameters
    ----------
    fault
        Only these codes.
    seed
        Seed of the generated data and of the places.
    json
        Print the result as JSON.
    """
    with progress_bar() as bar:
        result = run_drill(fault, seed=seed, progress=lambda done, total: bar("planting and auditing", done, total))
    if json:
        emit_json(result)
        return int(not result.passed)
    show_table(
        "the audit on generated data with planted faults",
        ("code", "data", "planted", "found", "false"),
        [(row.code, row.base, row.planted, row.found, row.false) for row in result.rows],
    )
    for row in result.rows:
        for text in (*(f"missed: {m}" for m in row.missed), *(f"false: {s}" for s in row.strangers)):
            show_line(f"{row.code} ({row.base}): {text}")
    planted, found = sum(r.planted for r in result.rows), sum(r.found for r in result.rows)
    note(f"{planted} planted, {found} found, {sum(r.false for r in result.rows)} false")
    return int(not result.passed)
