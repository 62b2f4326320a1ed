"""Training speed and peak memory: ours against Ultralytics on the same images, each in processes of its own, in turn.

images/s of whole training epochs (decoding or cache, augmentation, forward, backward, step; no validation), the first
epoch left out. Peak memory is the process's largest resident size. Ultralytics runs as it comes (it leaves one core
free) and once more with every core. U-Net has no counterpart there: its peer is a plain torch loop (peer_unet.py).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sightline.core.runs import hardware, package_versions
from sightline.data import read_dataset, write_dataset
from sightline.synth import generate

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


def ultralytics(data: Path, side: int, epochs: int, images: int, threads: int, work: Path) -> dict[str, Any]:
    return peer("peer_train.py", work, data, work / "peer", side, epochs, images, threads)


def peer(script: str, work: Path, *arguments: Any) -> dict[str, Any]:
    log = work / "peer.log"
    memory = measured([str(PEER), str(ROOT / "benchmarks" / script), *map(str, arguments)], log)
    said = json.loads(log.read_text().strip().splitlines()[-1])
    return {"images_per_s": statistics.median(said["images_per_s"][1:]), "peak_mib": memory}


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of the speeds and the largest memory of several rounds."""
    speed = statistics.median(values["images_per_s"] for values in rounds)
    return {"images_per_s": speed, "peak_mib": max(values["peak_mib"] for values in rounds)}


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
        generate("cracks", work / "cracks", images=160, size_hw=(256, 256), seed=0)
        makers: dict[str, Callable[[], dict[str, Any]]] = {}
        for side in options.sides:
            own = partial(ours, data, "yolo11n", side, epochs=options.epochs, batch=16, work=work / "ours")
            other = partial(ultralytics, work / "yolo/data.yaml", side, options.epochs, images, work=work)
            makers[f"yolo11n {side}, Ultralytics"] = partial(other, threads=0)
            makers[f"yolo11n {side}, ours fp32"] = partial(own, precision="fp32")
            makers[f"yolo11n {side}, Ultralytics on all cores"] = partial(other, threads=os.cpu_count() or 1)
            makers[f"yolo11n {side}, ours best"] = partial(own, precision="auto")
        own = partial(ours, work / "cracks", "unet-small", 256, epochs=options.epochs, batch=8, work=work / "ours")
        for precision, best in (("fp32", 0), ("best", 1)):
            loop = partial(peer, "peer_unet.py", work, work / "cracks", 256, options.epochs, best)
            makers[f"unet-small 256, plain torch {precision}"] = loop
            makers[f"unet-small 256, ours {precision}"] = partial(own, precision="auto" if best else "fp32")
        rounds = [{what: make() for what, make in makers.items()} for _ in range(options.rounds)]
    results = {what: middle([values[what] for values in rounds]) for what in makers}
    for what, values in results.items():
        first = next(name for name in results if name.split(",")[0] == what.split(",")[0])
        ratio = values["images_per_s"] / results[first]["images_per_s"]
        print(f"{what:<42} {values['images_per_s']:7.1f} images/s  {values['peak_mib']:6d} MiB  {ratio:5.2f} x")
    if options.out is not None:
        record = {"results": results, "versions": package_versions(["torch"]), "machine": hardware()}
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
