"""Frames per second of decode → draw → encode through our sources and sinks.

    python benchmarks/bench_video.py [VIDEO] [--codecs h264 mpeg4] [--out video.json]

Without VIDEO a 1280x720 test film of 300 frames is made first. The predictor costs nothing: it returns twenty moving
boxes. Prints frames per second and the p50 of each stage; decoding overlaps with the rest.
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import supervision as sv

from sightline.core.dataset import Task
from sightline.infer import VideoSettings, create_sinks, open_source, run_pipeline
from sightline.track import KalmanIouTracker, TrackerConfig

OBJECTS = 20


class TwentyBoxes:
    """Twenty boxes on straight lines, whatever the image."""

    task: Task = "detect"
    class_names = ("thing",)
    preprocess = None

    def __init__(self) -> None:
        self.frame = 0

    def __call__(self, images: Sequence[Any]) -> list[sv.Detections]:
        return [self.one(image.shape[1], image.shape[0]) for image in images]

    def one(self, width: int, height: int) -> sv.Detections:
        self.frame += 1
        index = np.arange(OBJECTS)
        left = (index * 61 + 2 * self.frame) % (width - 80)
        top = (index * 37) % (height - 80)
        boxes = np.stack([left, top, left + 70, top + 60], axis=1).astype(np.float64)
        names = np.array(["thing"] * OBJECTS)
        return sv.Detections(
            boxes, confidence=np.full(OBJECTS, 0.9), class_id=np.zeros(OBJECTS, int), data={"class_name": names}
        )


def make_film(path: Path, frames: int = 300) -> Path:
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(60, 200, (46, 80, 3), np.uint8), np.ones((16, 16, 1), np.uint8))[:720]
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(ground, 3 * index, axis=1)), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--codecs", nargs="+", default=["h264", "mpeg4"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = options.video if options.video is not None else make_film(folder / "film.mp4")
        for codec in options.codecs:
            sinks = create_sinks(["video"], folder / codec, "review", VideoSettings(codec=codec))
            tracker = KalmanIouTracker(TrackerConfig(min_hits=1))
            result = run_pipeline(open_source(video), TwentyBoxes(), tracker, list(sinks.values()))
            stages = dict(result.latency.select("stage", "p50_ms").iter_rows())
            results[codec] = {"frames": result.frames, "fps": result.fps, "p50_ms": stages}
            print(f"{codec:6s} {result.fps:6.1f} frames/s  " + "  ".join(f"{k} {v:.2f} ms" for k, v in stages.items()))
    report = {
        "results": results,
        "av": av.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
