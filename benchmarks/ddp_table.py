"""Train the same command in one process and under `torchrun` in two, and compare what came out.

At the same global batch the two differ by the order in which numbers are added up. How much that alone does is shown by
a control: one process with two threads against one with a single thread; the two may differ by no more than a few times
as much. Validation must be exact: the weights that two processes leave behind are evaluated by one process and must
give the same numbers to the last digit. A run of two is also cut by SIGINT and resumed, and must equal the whole one.
Prints a Markdown table and exits with 1 where that does not hold. Run: python benchmarks/ddp_table.py
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from resume_table import compare
from sightline.core.predictions import Predictions
from sightline.synth import generate

TASKS = {"detect": ("traffic", "yolo11n"), "semantic": ("cracks", "unet-small")}
# Relative, of the loss; absolute, of the metric: on seven validation images one detection moves it by two hundredths.
TOLERANCE = {"first epoch": 0.01, "train": 0.02, "val": 0.03}
CONTROL_FACTOR = 3.0
SETTINGS = ("--imgsz", "96", "--batch", "8", "--epochs", "4", "--precision", "fp32", "--pictures-every", "0")


def command(processes: int, *arguments: str) -> list[str]:
    """`sightline ...`, alone or under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "sightline", *arguments]


def run(processes: int, threads: int, *arguments: str) -> str:
    """Its output; ends the script where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command(processes, *arguments), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout


def cut(run_folder: Path, *arguments: str) -> None:
    """Start two processes, send SIGINT to all once the first epoch is done, and wait for the end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        command(2, *arguments),
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while not (run_folder / "metrics.jsonl").exists() and started.poll() is None:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGINT)
    output, _ = started.communicate()
    record = json.loads((run_folder / "run.json").read_text())
    if record["status"] != "interrupted":
        raise SystemExit(f"the run must be interrupted, got '{record['status']}'\n{output.decode()[-3000:]}")


def rows(folder: Path) -> list[dict[str, Any]]:
    """`metrics.jsonl`."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def apart(left: Path, right: Path) -> dict[str, float]:
    """Greatest differences: of the training loss and the weights, relative; of the validation metrics, absolute."""
    pairs = list(zip(rows(left), rows(right), strict=True))
    losses = [[sum(v for k, v in row.items() if k.startswith("train/")) for row in pair] for pair in pairs]
    metrics = [abs(a[k] - b[k]) for a, b in pairs for k in a if k.startswith("val/")]
    states = [torch.load(f / "weights" / "last.ckpt", weights_only=True)["learner"]["weights"] for f in (left, right)]
    weights = [torch.cat([v.flatten().double() for v in state.values()]) for state in states]
    return {
        "first epoch": abs(losses[0][0] - losses[0][1]) / losses[0][0],
        "train": max(abs(a - b) / a for a, b in losses),
        "weights": float((weights[0] - weights[1]).norm() / weights[0].norm()),
        "val": max(metrics),
    }


def check(task: str, root: Path) -> bool:
    """One line of the table; whether all holds."""
    scene, model = TASKS[task]
    data, runs = root / task, root / "runs"
    generate(scene, data, images=33, val_fraction=0.21, size_hw=(96, 96), seed=3)
    common = ("train", "--data", str(data), "--model", model, *SETTINGS, "--runs", str(runs), "--name")
    for name, processes, threads in (("one", 1, 1), ("control", 1, 2), ("two", 2, 1)):
        run(processes, threads, *common, name)
    cut(runs / task / "cut", *common, "cut")
    run(2, 1, "train", "--resume", str(runs / task / "cut"))
    one, two = runs / task / "one", runs / task / "two"
    found, control = apart(one, two), apart(one, runs / task / "control")
    unlike = [name for name, names in compare(two, runs / task / "cut").items() if names]
    again = json.loads(
        run(
            1,
            1,
            "eval",
            "--data",
            str(data),
            "--model",
            str(two / "weights/best.safetensors"),
            "--batch",
            "4",
            "--json",
        )
    )
    kept = json.loads((two / "evaluation.json").read_text())
    exact = again["metrics"] == kept["metrics"]
    images = Predictions.load(two / "predictions.parquet").table["image_id"].n_unique()
    cells = [f"{found[k]:.1e} ({control[k]:.1e})" for k in ("first epoch", "train", "weights", "val")]
    cells += [f"{'equal' if exact else 'differs'} ({images} images)", ", ".join(unlike) or "equal"]
    print(f"| {model} | {' | '.join(cells)} |", flush=True)
    alike = all(found[k] <= max(limit, CONTROL_FACTOR * control[k]) for k, limit in TOLERANCE.items())
    return exact and not unlike and alike


def main() -> None:
    heads = ("loss of epoch 1", "loss, 4 epochs", "weights", "val metrics", "evaluated by one", "cut and resumed")
    print("two processes against one; in brackets one process with two threads against one\n")
    print(f"| model | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        good = [check(task, Path(folder)) for task in TASKS]
    raise SystemExit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
