"""How much memory do outputs of a long run take? 20,000 frames of 12 detections, written to sinks of tables.

Run: python benchmarks/sink_memory.py [--frames 20000] [--kinds parquet mot coco]
"""

import argparse
import resource
import tempfile

import numpy as np
import supervision as sv

from sightline.core.frames import Frame
from sightline.infer import FrameResult, RunInfo, create_sinks

PER_FRAME = 12


def peak_mb() -> float:
    """The most memory this process has had; Linux counts it in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--kinds", nargs="+", default=["parquet", "mot", "coco"])
    options = parser.parse_args()
    rng, image = np.random.default_rng(0), np.zeros((8, 8, 3), np.uint8)
    info = RunInfo("v.mp4", "detect", ("car", "bus"), fps=30.0, tracked=True, meta={"task": "detect"})
    with tempfile.TemporaryDirectory() as folder:
        sinks = create_sinks(options.kinds, folder, "run").values()
        for sink in sinks:
            sink.open(info)
        before = peak_mb()
        for index in range(options.frames):
            boxes = rng.uniform(0, 500, (PER_FRAME, 4))
            boxes[:, 2:] += boxes[:, :2]
            found = sv.Detections(boxes, confidence=rng.random(PER_FRAME), class_id=rng.integers(0, 2, PER_FRAME))
            found.tracker_id = np.arange(1, PER_FRAME + 1)
            frame = Frame(image, index, index / 30, "v.mp4", file=f"/data/v.mp4#{index:06d}")
            for sink in sinks:
                sink.write(FrameResult(frame, found))
        for sink in sinks:
            sink.close()
    print(f"{', '.join(options.kinds)}: {options.frames} frames, {before:.0f} MB before, {peak_mb():.0f} at most")


if __name__ == "__main__":
    main()
