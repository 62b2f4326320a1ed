"""Exact near-duplicates among 64-bit hashes at radius 10: 1,000,000 random and clustered ones, time and peak memory.

Clustered: 500 clusters of 200 hashes per 100,000, as videos give them. The peer compares every pair with numpy's
popcount, block by block, and joins what is close; it does not finish with a million, so both run on fewer, where the
components must be equal.

Run: python benchmarks/bench_hamming.py [--quick] [--repeats N] [--out FILE]
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from interleave import arguments, interleave, publish
from sightline.audit.duplicates.hamming import hamming_components

RADIUS = 10
WORKERS = 2
BLOCK = 1000
CASES = ("random", "clustered", "black frames")


def make_hashes(kind: str, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.integers(0, 2**64, count, dtype=np.uint64)
    if kind == "clustered":
        centres = rng.integers(0, 2**64, max(count // 200, 1), dtype=np.uint64)
        hashes = np.repeat(centres, 200)[:count]
    else:
        hashes = np.full(count, 1 << 63, dtype=np.uint64)
    for _ in range(3):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, len(hashes), dtype=np.uint64))
    return rng.permutation(hashes)


def every_pair(hashes: np.ndarray) -> np.ndarray:
    """Component labels by comparing every pair."""
    labels = np.arange(len(hashes))
    for start in range(0, len(hashes), BLOCK):
        near = np.bitwise_count(hashes[start : start + BLOCK, None] ^ hashes[None, start:]) <= RADIUS
        one, other = np.nonzero(near)
        edges = (labels[one + start], labels[other + start])
        graph = coo_array((np.ones(len(one), np.int8), edges), shape=(len(hashes), len(hashes)))
        labels = connected_components(graph, directed=False)[1][labels]
    return labels


def peak_mib(kind: str, count: int) -> float:
    """Peak memory of a process that only makes such hashes and searches them, above one that searches a thousand."""

    def run(number: int) -> float:
        command = [sys.executable, __file__, "--measure", kind, str(number)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return run(count) - run(1000)


def measure(kind: str, count: int) -> None:
    hamming_components(make_hashes(kind, count), RADIUS, workers=WORKERS)
    # Not getrusage: its peak begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def compare(kind: str, count: int, repeats: int) -> dict[str, Any]:
    hashes = make_hashes(kind, count)
    ours, theirs = hamming_components(hashes, RADIUS, workers=WORKERS).labels, every_pair(hashes)
    pairs = len(set(zip(ours.tolist(), theirs.tolist(), strict=True)))
    if not pairs == len(set(ours.tolist())) == len(set(theirs.tolist())):
        raise SystemExit("the components differ, the times mean nothing")
    row = interleave(
        lambda: hamming_components(hashes, RADIUS, workers=WORKERS), lambda: every_pair(hashes), repeats=repeats
    )
    return row | {"what": f"{count:,} hashes, {kind}, {WORKERS} threads", "peer": "numpy, every pair"}


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    count, small = (200_000, 8_000) if options.quick else (1_000_000, 20_000)
    hamming_components(make_hashes("random", 5000), RADIUS)  # compiles
    whole = []
    for kind in CASES:
        hashes = make_hashes(kind, count)
        seconds = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            found = hamming_components(hashes, RADIUS, workers=WORKERS)
            seconds.append(time.perf_counter() - start)
        groups, extra = int(found.labels.max()) + 1, peak_mib(kind, count)
        print(
            f"{count:,} hashes, {kind}: median {np.median(seconds):.2f} s, best {min(seconds):.2f} s, "
            f"{groups:,} components, {extra:.0f} MiB ({extra * 2**20 / count:.0f} bytes each)"
        )
        whole.append({"kind": kind, "count": count, "seconds": seconds, "components": groups, "peak_mib": extra})
    rows = [compare(kind, small, options.repeats) for kind in CASES]
    publish([row | {"whole": whole} for row in rows], ["numpy", "numba", "scipy"], options.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        main()
