"""Kill runs at planned points, resume them, and compare everything with a run that was never cut.

Every run is a process of its own; the cut ones are ended by real signals. Prints a Markdown table and exits with 1 if
anything differs. Run: python benchmarks/resume_table.py [--points NAME ...] [--tasks detect semantic]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sightline.cli.console import TrainWatcher
from sightline.core.runs import RunFolder
from sightline.synth import generate
from sightline.train import TrainConfig, resume, train
from sightline.train import run as run_module
from sightline.train.recorder import Recorder
from sightline.train.validation import Validator

SCENES = {"detect": ("traffic", "yolo11n"), "semantic": ("cracks", "unet-small")}
EPOCHS = 3
TIMED = {"seconds", "images_per_s", "seal"}  # the seal is of the line, its times included


def at_batch(number: int, what: signal.Signals) -> Callable[[], None]:
    """Send the signal when this many batches of the run are done, before what belongs to their end."""

    def plan() -> None:
        before, seen = Recorder.after_batch, []

        def hook(recorder: Any, *arguments: Any) -> None:
            seen.append(1)
            if len(seen) == number:
                os.kill(os.getpid(), what)
            before(recorder, *arguments)

        Recorder.after_batch = hook

    return plan


def before_call(owner: Any, name: str, number: int) -> Callable[[], None]:
    """SIGKILL when a function is called for the `number`-th time."""

    def plan() -> None:
        before, seen = getattr(owner, name), []

        def hook(*arguments: Any, **named: Any) -> Any:
            seen.append(1)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return before(*arguments, **named)

        setattr(owner, name, hook)

    return plan


def while_saving() -> None:
    """SIGKILL behind a state's last byte, before it takes the earlier one's place; the second epoch's."""
    before, seen = Path.write_bytes, []

    def hook(path: Path, data: Any) -> int:
        written = before(path, data)
        seen.extend([path] if path.suffix == ".ckpt" else [])
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    Path.write_bytes = hook


POINTS: dict[str, tuple[Callable[[], None], dict[str, Any]]] = {
    "SIGKILL at the first step": (at_batch(1, signal.SIGKILL), {}),
    "SIGKILL inside an epoch, no state saved in it": (at_batch(6, signal.SIGKILL), {"save_every_s": 0}),
    "SIGKILL inside an epoch, a state saved in it": (at_batch(6, signal.SIGKILL), {"save_every_s": 1e-9}),
    "SIGINT inside an epoch": (at_batch(6, signal.SIGINT), {}),
    "SIGINT in the last batch of an epoch": (at_batch(8, signal.SIGINT), {}),
    "SIGTERM inside an epoch": (at_batch(6, signal.SIGTERM), {}),
    "SIGINT between accumulated batches": (at_batch(5, signal.SIGINT), {"accumulate": 2}),
    "SIGKILL during validation": (before_call(Validator, "predict", 2), {}),
    "SIGKILL while a state is written": (while_saving, {}),
    "SIGKILL in the final evaluation": (before_call(run_module, "_finish", 1), {}),
}


def child(task: str, data: str, runs: str, name: str, point: str, again: bool) -> None:
    """One process: a run from the start, cut at the point if there is one, or the resumed run."""
    torch.set_num_threads(1)
    plan, extra = POINTS.get(point, (lambda: None, {}))
    if again:
        resume(Path(runs) / task / name, TrainWatcher(quiet=True))
        return
    if not name.startswith("whole"):
        plan()
    values = {"imgsz": 64, "batch": 2, "epochs": EPOCHS, "precision": "fp32", "pictures_every": 0, "seed": 3}
    config = TrainConfig.load({"data": data, "model": SCENES[task][1], **values, **extra})
    train(config, RunFolder.create(runs, task, name), TrainWatcher(quiet=True))


def run_child(*arguments: Any) -> int:
    """The exit code of a child process."""
    command = [sys.executable, __file__, "--child", json.dumps(arguments)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    if done.returncode > 0 and b"KeyboardInterrupt" not in done.stderr:
        raise SystemExit(done.stderr.decode()[-3000:])
    return done.returncode


def differences(left: Any, right: Any, place: str = "") -> list[str]:
    """Where two states differ, by name."""
    if isinstance(left, torch.Tensor):
        return [] if torch.equal(left, right) else [place]
    if isinstance(left, dict):
        keys = left.keys() | right.keys()
        return [d for k in keys for d in differences(left.get(k), right.get(k), f"{place}/{k}")]
    if isinstance(left, (list, tuple)) and len(left) == len(right):
        return [d for i, (a, b) in enumerate(zip(left, right, strict=True)) for d in differences(a, b, f"{place}/{i}")]
    return [] if left == right or (left != left and right != right) else [place]


def timeless(line: str) -> dict[str, Any]:
    """A row of `metrics.jsonl` without what the clock says."""
    return {key: value for key, value in json.loads(line).items() if key not in TIMED}


def compare(whole: Path, cut: Path) -> dict[str, list[str]]:
    """What differs between two finished runs: by part, the names of what is not equal."""
    states = [torch.load(run / "weights" / "last.ckpt", weights_only=True) for run in (whole, cut)]
    learners = [state["learner"] for state in states]
    records = [state["record"] for state in states]
    rows = [[timeless(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, cut)]
    evaluations = [json.loads((run / "evaluation.json").read_text())["metrics"] for run in (whole, cut)]
    parts = {
        "weights": [learner["weights"] for learner in learners],
        "optimiser": [learner["optimizer"] for learner in learners],
        "schedule": [learner["place"] for learner in learners],
        "averaged weights": [learner["average"] for learner in learners],
        "best": [(record["best_epoch"], record["best_value"]) for record in records],
        "random state": [state["random"] for state in states],
        "metrics.jsonl": rows,
        "evaluation": evaluations,
    }
    return {name: differences(*both) for name, both in parts.items()}


def check_point(point: str, task: str, data: Path, runs: Path) -> dict[str, list[str]]:
    """Cut a run at the point, resume it, and compare it with the whole one (made where it is not there yet)."""
    extra = POINTS[point][1]
    whole = "whole-accumulated" if "accumulate" in extra else "whole"
    if not (runs / task / whole).exists():
        run_child(task, str(data), str(runs), whole, point, False)
    name = f"cut-{list(POINTS).index(point)}"
    code = run_child(task, str(data), str(runs), name, point, False)
    if code == 0:
        raise SystemExit(f"the run was not cut: {point}")
    run_child(task, str(data), str(runs), name, "", True)
    return compare(runs / task / whole, runs / task / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", nargs="+", choices=list(POINTS), default=list(POINTS))
    parser.add_argument("--tasks", nargs="+", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*json.loads(options.child))
        return
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks:
            data = Path(folder) / task
            generate(SCENES[task][0], data, images=10, val_fraction=0.2, size_hw=(64, 64), seed=3)
            for number, point in enumerate(options.points):
                found = check_point(point, task, data, Path(folder) / "runs")
                if number == 0 and task == options.tasks[0]:
                    print(f"| model | cut | {' | '.join(found)} |\n|{'---|' * (len(found) + 2)}")
                cells = ["equal" if not names else f"{len(names)} differ: {names[0]}" for names in found.values()]
                print(f"| {SCENES[task][1]} | {point} | {' | '.join(cells)} |", flush=True)
                bad += sum(bool(names) for names in found.values())
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
