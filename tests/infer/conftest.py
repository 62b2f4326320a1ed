"""Fixtures of the infer tests: ONNX artefacts and video files with known content."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from .artefacts import SIZE_HW, metadata, numbered_image, write_onnx


@pytest.fixture
def detector_path(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "detector.onnx", metadata())


@pytest.fixture
def segmenter_path(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "segmenter.onnx", metadata("semantic"))


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Writes an H.264 video of numbered frames with the given pts, in ticks of 1/90000 s."""

    def make(
        name: str = "clip.mp4",
        pts: tuple[int, ...] = tuple(range(0, 36000, 3000)),
        *,
        audio: bool = False,
        rotation: int = 0,
        size_hw: tuple[int, int] = SIZE_HW,
        faststart: bool = True,
    ) -> Path:
        path = tmp_path / name
        options = {"movflags": "+faststart"} if faststart and path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as out:
            video = out.add_stream("libx264", rate=30, options={"crf": "10", "g": "4"})
            video.height, video.width, video.pix_fmt = *size_hw, "yuv420p"
            video.codec_context.time_base = Fraction(1, 90000)
            sound = out.add_stream("aac", rate=16000) if audio else None
            if rotation:
                video.set_display_rotation(rotation)
            for index, stamp in enumerate(pts):
                frame = av.VideoFrame.from_ndarray(numbered_image(index, size_hw), format="rgb24")
                frame.pts, frame.time_base = stamp, Fraction(1, 90000)
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
            if sound is not None:
                for block in range(int(pts[-1] / 90000 * 16000) // 1024 + 1):
                    wave = (np.sin(np.arange(block * 1024, block * 1024 + 1024) / 9) * 8000).astype(np.int16)
                    samples = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
                    samples.sample_rate, samples.pts, samples.time_base = 16000, block * 1024, Fraction(1, 16000)
                    out.mux(sound.encode(samples))
                out.mux(sound.encode(None))
        return path

    return make
