"""A full audit pass and hashing on 720p JPEGs of about 190 KB: ours beside cleanvision, LibreYOLO and imagehash.

The images are generated (shapes, textures and sensor noise) and labelled as a YOLO data set. Each round runs ours and
the peer after one another, one worker each; the peers run in `.venv-peers` (make bench-peers), their imports untimed.
The floor is the strict decoding of the same files at 1/8 scale, which reads all of their compressed data.

Run: python benchmarks/bench_audit.py [--quick] [--repeats N] [--out FILE]
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from interleave import arguments, publish
from sightline.audit import audit_dataset
from sightline.audit.scan.image_hash import hash_thumbnails
from sightline.audit.scan.one_pass import scan_files
from sightline.audit.scan.statistics import COPY_SIDE, measure_picture
from sightline.data import read_dataset
from sightline.media.decode import decode_reduced, read_bytes
from sightline.media.header import read_header

PEER_PYTHON = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin" / "python"
PEER_SCRIPT = Path(__file__).with_name("peer_audit.py")
SIZE_HW = (720, 1280)
QUALITY = 89


def picture(rng: np.random.Generator) -> np.ndarray:
    """Soft light, textures at all scales that are mostly gray, shapes with edges, and sensor noise."""
    height, width = SIZE_HW
    luma = np.full(SIZE_HW, 128, np.float32)
    for cell in (256, 128, 64, 32, 16, 8, 4):
        coarse = rng.normal(0, 1, (height // cell + 3, width // cell + 3)).astype(np.float32)
        luma += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 2.6 * cell**0.45
    tint = rng.normal(0, 9, (5, 8, 3)).astype(np.float32)
    image = luma[..., None] + cv2.resize(tint, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        x, y = (int(v) for v in rng.integers(0, (width, height)))
        w, h = (int(v) for v in rng.integers(8, 160, 2))
        image[y : y + h, x : x + w] += rng.normal(0, 35, 3).astype(np.float32)
    image += rng.normal(0, 3.2, (height, width, 1)).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def make_data(folder: Path, count: int) -> float:
    """A YOLO data set of `count` images, a fifth of them for validation; returns the mean file size in KB."""
    rng = np.random.default_rng(0)
    sizes = []
    for index in range(count):
        split = "val" if index % 5 == 4 else "train"
        file = folder / "images" / split / f"{index * 7919 % 100_003:06d}.jpg"
        label = folder / "labels" / split / f"{file.stem}.txt"
        for parent in (file.parent, label.parent):
            parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(simplejpeg.encode_jpeg(picture(rng), quality=QUALITY, colorsubsampling="420"))
        boxes = np.concatenate([rng.uniform(0.2, 0.8, (8, 2)), rng.uniform(0.02, 0.3, (8, 2))], axis=1)
        lines = [f"{rng.integers(4)} {' '.join(f'{v:.6f}' for v in box)}" for box in boxes]
        label.write_text("\n".join(lines) + "\n")
        sizes.append(file.stat().st_size)
    names = "[car, van, truck, bus]"
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: {names}\n")
    return float(np.mean(sizes)) / 1000


def seconds_of(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peer_seconds(name: str, folder: Path, workers: int) -> tuple[float, str]:
    command = [str(PEER_PYTHON), str(PEER_SCRIPT), name, str(folder), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr[-2000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return float(answer["seconds"]), str(answer["version"])


def compare(what: str, ours: Callable[[], Any], peer: str, folder: Path, workers: int, repeats: int) -> dict[str, Any]:
    ours()  # compiles the kernels and warms the file cache
    mine, theirs, release = [], [], ""
    for _ in range(repeats):
        mine.append(seconds_of(ours))
        taken, release = peer_seconds(peer, folder, workers)
        theirs.append(taken)
    return {
        "what": what,
        "peer": f"{peer} {release}",
        "ours_s": statistics.median(mine),
        "peer_s": statistics.median(theirs),
        "ours_best_s": min(mine),
        "peer_best_s": min(theirs),
        "ratio": statistics.median(theirs) / statistics.median(mine),
        "warm_up": 1,
        "repeats": repeats,
    }


def hash_all(files: list[Path]) -> np.ndarray:
    """Reading and hashing alone, as imagehash does it: no checks, no statistics kept."""
    thumbnails = []
    for file in files:
        picture_of = decode_reduced(read_bytes(file), read_header(file), file.name, COPY_SIDE)
        thumbnails.append(measure_picture(picture_of)[0])
    return hash_thumbnails(np.stack(thumbnails))


def measure(folder: Path, count: int, repeats: int) -> list[dict[str, Any]]:
    files = sorted((folder / "images").rglob("*.jpg"))
    stored = [f.read_bytes() for f in files]
    height, width = (-(-s // 8) for s in SIZE_HW)

    def floor() -> None:
        for data in stored:
            simplejpeg.decode_jpeg(data, "GRAY", min_height=height, min_width=width, min_factor=8, strict=True)

    def audit(workers: int) -> Callable[[], Any]:
        return lambda: audit_dataset(read_dataset(folder), workers=workers)

    floor()
    floor_s = min(seconds_of(floor) for _ in range(max(repeats, 3)))
    megabytes = sum(map(len, stored)) / 1e6
    print(
        f"floor: strict decoding at 1/8 scale, {megabytes / floor_s:.0f} MB/s, {count / floor_s:.0f} images/s per core"
    )
    dataset = read_dataset(folder)
    scan_files(dataset, workers=1)
    scan_s = min(seconds_of(lambda: scan_files(dataset, workers=1)) for _ in range(max(repeats, 3)))
    print(f"pass over the files alone: {count / scan_s:.0f} images/s per core")
    cores = os.cpu_count() or 1
    rows = [
        compare("full audit, 1 worker", audit(1), "libreyolo", folder, 1, repeats),
        compare(f"full audit, {cores} workers", audit(cores), "libreyolo", folder, cores, repeats),
        compare("full audit, 1 worker", audit(1), "cleanvision", folder, 1, min(repeats, 2)),
        compare("hashing, 1 worker", lambda: hash_all(files), "imagehash", folder, 1, repeats),
        compare("hashing, 1 worker", lambda: hash_all(files), "imagededup", folder, 1, repeats),
    ]
    for row in rows:
        row |= {"images": count, "ours_per_s": count / row["ours_s"], "peer_per_s": count / row["peer_s"]}
        print(f"{row['what']}: ours {row['ours_per_s']:.0f} images/s, {row['peer']} {row['peer_per_s']:.0f} images/s")
    return [*rows, {"floor_mb_per_s": megabytes / floor_s, "floor_images_per_s": count / floor_s}]


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    if not PEER_PYTHON.exists():
        raise SystemExit(f"the peers' environment {PEER_PYTHON.parents[1]} is missing: make bench-peers")
    cv2.setNumThreads(1)
    count = 80 if options.quick else 400
    with tempfile.TemporaryDirectory() as name:
        kilobytes = make_data(Path(name), count)
        print(f"{count} JPEGs of {SIZE_HW[1]} × {SIZE_HW[0]}, {kilobytes:.0f} KB on average")
        *rows, floor = measure(Path(name), count, options.repeats)
    publish([row | floor for row in rows], ["simplejpeg", "numpy", "numba", "polars"], options.out)


if __name__ == "__main__":
    main()
