"""Run ours and a peer in turn, in one process, and say how they compare. Shared by the benchmark scripts."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sightline.core.runs import hardware, package_versions

Work = Callable[[], Any]


def interleave(ours: Work, peer: Work, *, repeats: int, warm_up: int = 1) -> dict[str, Any]:
    """Median and best seconds of both after `warm_up` unmeasured rounds, and the ratio peer / ours of the medians.

    Beside the clock's seconds stand those of the processor, of all threads together: on a machine that is shared the
    clock measures the neighbours too.
    """
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    busy: dict[str, list[float]] = {"ours": [], "peer": []}
    for round_index in range(-warm_up, repeats):
        for name, work in (("ours", ours), ("peer", peer)):
            start, busy_start = time.perf_counter(), time.process_time()
            work()
            if round_index >= 0:
                seconds[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - busy_start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    busy_medians = {name: statistics.median(values) for name, values in busy.items()}
    return {
        "ours_s": medians["ours"],
        "peer_s": medians["peer"],
        "ours_best_s": min(seconds["ours"]),
        "peer_best_s": min(seconds["peer"]),
        "ratio": medians["peer"] / medians["ours"],
        "ours_cpu_s": busy_medians["ours"],
        "peer_cpu_s": busy_medians["peer"],
        "ratio_cpu": busy_medians["peer"] / busy_medians["ours"],
        "warm_up": warm_up,
        "repeats": repeats,
    }


def arguments(description: str) -> argparse.Namespace:
    """`--quick` for a smaller load, `--repeats`, `--out` for the JSON file."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a fifth of the load")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    return parser.parse_args()


def publish(rows: list[dict[str, Any]], packages: Sequence[str], out: Path | None) -> None:
    """Print a line for each comparison and keep all of them with versions and machine."""
    width = max(len(row["what"]) for row in rows)
    for row in rows:
        busy = f", of processor time {row['ratio_cpu']:6.2f}" if "ratio_cpu" in row else ""
        print(
            f"{row['what']:<{width}}  ours {row['ours_s'] * 1e3:9.2f} ms  {row['peer']} {row['peer_s'] * 1e3:9.2f} ms"
            f"  ratio {row['ratio']:6.2f}{busy}"
        )
    if out is not None:
        record = {"results": rows, "versions": package_versions(packages), "machine": hardware()}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
