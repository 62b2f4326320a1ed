"""How long a user waits: help, models, the first audit, report and export, each beside its limit.

Every verb runs in a process of its own on generated data, as typed; the median of the repeats counts, and the first
audit compiles its kernels into an empty folder. Prints a Markdown table with the machine's load, and exits with 1 where
a limit is passed. Run: python benchmarks/times.py [--repeats N]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_TRAINED = ("--model", "yolo11n", "--imgsz", "64", "--epochs", "2", "--batch", "4", "--workers", "0", "--name", "one")


@dataclass(frozen=True)
class Wait:
    """What is typed, the most seconds it may take, and whether its kernels are compiled anew."""

    words: tuple[str, ...]
    limit_s: float
    is_first: bool = False


WAITS = {
    "help": Wait(("--help",), 0.3),
    "models": Wait(("models",), 3),
    "first audit of 200 images": Wait(("audit", "traffic"), 15, is_first=True),
    "audit of 200 images": Wait(("audit", "traffic"), 15),
    "report": Wait(("report", "runs/detect/one"), 5),
    "export of yolo11n": Wait(
        ("export", "runs/detect/one/weights/best.safetensors", "--data", "traffic", "--out", "m.onnx"), 30
    ),
}


def seconds(words: tuple[str, ...], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of a call; SystemExit with what it said where it failed."""
    before, started = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "sightline", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, os.times()
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise SystemExit(done.stderr)
    own = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, own


def main() -> int:
    """Measure each wait; 1 where the median of one is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="calls of each verb")
    repeats = parser.parse_args().repeats
    passed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        usual = dict(os.environ)
        seconds(("synth", "traffic", "--images", "200"), folder, usual)
        seconds(("synth", "few", "--images", "12", "--height", "96", "--width", "96", "--seed", "2"), folder, usual)
        seconds(("train", "--data", "few", *_TRAINED), folder, usual)
        print("| wait | limit s | wall s | processor s | load |", "|---|---:|---:|---:|---:|", sep="\n")
        for what, wait in WAITS.items():
            found = []
            for turn in range(repeats):
                cache = {"NUMBA_CACHE_DIR": str(folder / f"kernels-{turn}")} if wait.is_first else {}
                found.append(seconds(wait.words, folder, usual | cache))
            wall, own = (statistics.median(column) for column in zip(*found, strict=True))
            passed |= wall > wait.limit_s
            print(f"| {what} | {wait.limit_s:g} | {wall:.2f} | {own:.2f} | {os.getloadavg()[0]:.1f} |", flush=True)
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
