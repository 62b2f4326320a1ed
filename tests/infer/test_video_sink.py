"""The review video keeps the source's frames, times, orientation and audio, and plays in a browser."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sightline.core.errors import ConfigError, SourceError
from sightline.core.frames import Frame
from sightline.infer import FrameResult, RunInfo, VideoSettings, open_source
from sightline.infer.sinks import VideoSink

from .artefacts import numbered_image, read_number

VFR = (0, 3000, 6500, 12000, 12900, 20000, 21000, 30000, 90000)


def rewrite(source_path: Path, target: Path, **settings: object) -> Path:
    """Copy a video frame by frame through source and sink."""
    source = open_source(source_path)
    sink = VideoSink(target, VideoSettings.load(settings))
    sink.open(RunInfo(source.name, "detect", ("a",), fps=source.fps, media_path=source.media_path))
    for frame in source:
        sink.write(FrameResult(frame))
    sink.close()
    return target


def audio_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_variable_frame_times_survive(make_video: Callable[..., Path], tmp_path: Path, suffix: str) -> None:
    out = rewrite(make_video(pts=VFR), tmp_path / f"out{suffix}")
    frames = list(open_source(out))
    assert [read_number(f.image) for f in frames] == list(range(len(VFR)))
    times = [f.pts * f.time_base for f in frames]
    if suffix == ".mkv":  # Matroska counts in milliseconds
        assert [float(t) for t in times] == pytest.approx([p / 90000 for p in VFR], abs=6e-4)
    else:
        assert times == [Fraction(p, 90000) for p in VFR]


def test_a_late_start_survives(make_video: Callable[..., Path], tmp_path: Path) -> None:
    late = make_video(name="late.mkv", pts=(45000, 48000, 51000))
    frames = list(open_source(rewrite(late, tmp_path / "out.mp4")))
    assert [float(f.pts * f.time_base) for f in frames] == pytest.approx([0.5, 48 / 90, 51 / 90], abs=1e-3)


def test_audio_packets_are_copied_unchanged(make_video: Callable[..., Path], tmp_path: Path) -> None:
    source = make_video(pts=tuple(range(0, 180000, 3000)), audio=True)
    out = rewrite(source, tmp_path / "out.mp4")
    given, copied = audio_packets(source), audio_packets(out)
    assert len(given) > 20
    # The sound ends with the last picture.
    assert len(given) - 2 <= len(copied) <= len(given)
    assert copied == given[: len(copied)]
    assert audio_packets_or_none(rewrite(source, tmp_path / "mute.mp4", audio=False)) is None


def audio_packets_or_none(path: Path) -> list[bytes] | None:
    with av.open(str(path)) as container:
        return audio_packets(path) if container.streams.audio else None


def test_rotated_video_comes_out_upright(make_video: Callable[..., Path], tmp_path: Path) -> None:
    out = rewrite(make_video(rotation=90), tmp_path / "out.mp4")
    frame = next(iter(open_source(out)))
    assert np.abs(frame.image.astype(int) - np.rot90(numbered_image(0))).mean() < 6
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_it_plays_in_a_browser(make_video: Callable[..., Path], tmp_path: Path) -> None:
    out = rewrite(make_video(size_hw=(64, 96)), tmp_path / "out.mp4")
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
    data = out.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # faststart: playable while it loads


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "odd.mp4", VideoSettings(crf=1))
    sink.open(RunInfo("pictures", "detect", ("a",)))
    image = np.full((33, 47, 3), 200, np.uint8)
    for index in range(3):
        sink.write(FrameResult(Frame(image, index, None, "a.png")))
    sink.close()
    source = open_source(tmp_path / "odd.mp4")
    frames = list(source)
    assert source.size_hw == (34, 48)
    assert source.fps == pytest.approx(VideoSettings().fps_without_clock)
    assert len(frames) == 3
    assert abs(int(frames[0].image[10, 10, 0]) - 200) < 4
    assert frames[0].image[33].mean() < 20


@pytest.mark.parametrize("codec", ["h264", "av1", "vp9", "mpeg4"])
def test_every_codec_keeps_count_and_times(make_video: Callable[..., Path], tmp_path: Path, codec: str) -> None:
    out = rewrite(make_video(pts=VFR), tmp_path / "out.mp4", codec=codec, crf=20)
    frames = list(open_source(out))
    assert [read_number(f.image) for f in frames] == list(range(len(VFR)))
    assert [f.time_s for f in frames] == pytest.approx([p / 90000 for p in VFR], abs=2e-5)


def test_colours_survive(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "c.mp4", VideoSettings(crf=1))
    sink.open(RunInfo("c", "detect", ("a",), fps=10.0))
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:], image[32:, :32], image[32:, 32:] = (
        (200, 40, 40),
        (40, 200, 40),
        (40, 40, 200),
        128,
    )
    sink.write(FrameResult(Frame(image, 0, 0.0, "c")))
    sink.close()
    seen = next(iter(open_source(tmp_path / "c.mp4"))).image
    for y, x in ((16, 16), (16, 48), (48, 16), (48, 48)):
        assert np.abs(seen[y, x].astype(int) - image[y, x]).max() <= 4


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "v.mp4")
    sink.open(RunInfo("mixed", "detect", ("a",)))
    sink.write(FrameResult(Frame(np.zeros((32, 32, 3), np.uint8), 0, None, "a.png")))
    with pytest.raises(SourceError, match="must be of one size"):
        sink.write(FrameResult(Frame(np.zeros((32, 48, 3), np.uint8), 1, None, "b.png")))
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_unknown_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.mp4"):
        VideoSink(tmp_path / "v.avi")
