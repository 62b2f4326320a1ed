"""Training speed and peak memory: ours against Ultralytics on the same images, each in processes of its own, in turn.

images/s of whole training epochs (decoding or cache, augmentation, forward, backward, step; no validation), the first
epoch left out. Peak memory is the process's largest resident size. Ultralytics runs as it comes (it leaves one core
free) and once more with every core. U-Net has no counterpart there: it is measured alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sightline.core.runs import hardware, package_versions
from sightline.data import read_dataset, write_dataset
from sightline.data.synth import generate

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT / ".venv-peers" / "bin" / "python"


def measured(command: list[str], log: Path) -> int:
    """Run to the end; peak resident memory in MiB."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}\n{log.read_text()[-2000:]}")
    return usage.ru_maxrss // 1024


def ours(data: Path, model: str, side: int, precision: str, epochs: int, batch: int, work: Path) -> dict[str, Any]:
    name = f"{model}-{side}-{precision}-{len(list(work.iterdir()))}"
    command = [sys.executable, "-m", "sightline", "train", "--data", str(data), "--model", model, "--runs", str(work)]
    command += ["--name", name, f"imgsz={side}", f"precision={precision}", f"epochs={epochs}", f"batch={batch}"]
    memory = measured([*command, "pictures_every=0"], work / f"{name}.log")
    (rows,) = (path.read_text().splitlines() for path in work.glob(f"*/{name}/metrics.jsonl"))
    speeds = [json.loads(row)["images_per_s"] for row in rows[1:]]
    return {"images_per_s": statistics.median(speeds), "peak_mib": memory}


def peer(data: Path, side: int, epochs: int, images: int, threads: int, work: Path) -> dict[str, Any]:
    log = work / "peer.log"
    arguments = [str(data), str(work / "peer"), *map(str, (side, epochs, images, threads))]
    memory = measured([str(PEER), str(ROOT / "benchmarks" / "peer_train.py"), *arguments], log)
    said = json.loads(log.read_text().strip().splitlines()[-1])
    return {"images_per_s": statistics.median(said["images_per_s"][1:]), "peak_mib": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a detection data set; generated scenes without it")
    parser.add_argument("--sides", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "ours").mkdir()
        data = options.data or work / "traffic"
        if options.data is None:
            generate("traffic", data, images=128, size_hw=(320, 320), seed=0)
        write_dataset(read_dataset(data), work / "yolo", "yolo")
        images = len(read_dataset(data).split("train"))
        results: dict[str, dict[str, Any]] = {}
        for turn in range(options.rounds):
            for side in options.sides:
                makers = {
                    f"yolo11n {side} ours fp32": lambda s=side: ours(
                        data, "yolo11n", s, "fp32", options.epochs, 16, work / "ours"
                    ),
                    f"yolo11n {side} Ultralytics": lambda s=side: peer(
                        work / "yolo/data.yaml", s, options.epochs, images, 0, work
                    ),
                    f"yolo11n {side} ours auto": lambda s=side: ours(
                        data, "yolo11n", s, "auto", options.epochs, 16, work / "ours"
                    ),
                    f"yolo11n {side} Ultralytics, all cores": lambda s=side: peer(
                        work / "yolo/data.yaml", s, options.epochs, images, os.cpu_count() or 1, work
                    ),
                }
                for what, make in makers.items():
                    results[f"{what} #{turn}"] = make()
        generate("cracks", work / "cracks", images=64, size_hw=(256, 256), seed=0)
        for precision in ("fp32", "auto"):
            results[f"unet-small 256 ours {precision} #0"] = ours(
                work / "cracks", "unet-small", 256, precision, options.epochs, 8, work / "ours"
            )
    for what, values in results.items():
        side = what.split(" ")[1]
        base = results.get(f"yolo11n {side} Ultralytics #{what[-1]}")
        ratio = f"  {values['images_per_s'] / base['images_per_s']:5.2f} x" if base else ""
        print(f"{what:<42} {values['images_per_s']:7.1f} images/s  {values['peak_mib']:6d} MiB{ratio}")
    if options.out is not None:
        record = {"results": results, "versions": package_versions(["torch", "lightning"]), "machine": hardware()}
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
