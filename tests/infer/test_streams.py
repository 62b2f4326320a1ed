"""Streams that stall, break, jump or hold what an output cannot: said, and nothing that was done is lost."""

import os
import resource
import shutil
import signal
import socket
import threading
import time
from collections import namedtuple
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
from PIL import Image

from sightline.core.errors import SourceError
from sightline.infer import VideoSettings, create_sinks, open_source, run_pipeline
from sightline.track import KalmanIouTracker, TrackerConfig

from .artefacts import SIZE_HW, numbered_image
from .test_pipeline import Moving, lines, run


@pytest.fixture
def make_stream(tmp_path):
    """Writes numbered frames, 30 a second, with settings of the codec's context and a sound track."""

    def make(name, frames=12, sound=None, **context):
        with av.open(str(tmp_path / name), "w") as out:
            video = out.add_stream("libx264", rate=30, options={"g": "4", "crf": "10"})
            video.height, video.width, video.pix_fmt = *SIZE_HW, "yuv420p"
            for key, value in context.items():
                setattr(video.codec_context, key, value)
            audio = out.add_stream(sound, rate=8000) if sound else None
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(numbered_image(index), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 30)
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
            if audio is not None:
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 3200), np.int16), format="s16", layout="mono")
                samples.sample_rate, samples.pts = 8000, 0
                out.mux(audio.encode(samples))
                out.mux(audio.encode(None))
        return tmp_path / name

    return make


def interrupt_after(seconds, number=signal.SIGINT):
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.start()
    return timer


@pytest.fixture
def serve():
    """A server that sends some bytes to whoever connects, and then nothing more."""
    listening = socket.create_server(("127.0.0.1", 0))
    kept = []

    def start(content=b""):
        def answer():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                kept.append(connection)
                if content:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + content)

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/stream.ts"

    yield start
    listening.close()
    for connection in kept:
        connection.close()


@pytest.mark.parametrize(("name", "codec"), [("a.mov", "pcm_alaw"), ("a.mkv", "pcm_s16le"), ("a.avi", "pcm_u8")])
def test_sound_the_container_cannot_hold_is_left_out_and_said(make_stream, tmp_path, name, codec):
    source = make_stream(name, sound=codec)
    for container, kept in (("mp4", 0), ("mov", 1)):
        sinks = create_sinks(("video", "jsonl"), tmp_path / container, "r", VideoSettings(container=container))
        result = run_pipeline(open_source(source), Moving(), None, list(sinks.values()))
        assert len(lines(tmp_path / container / "r.jsonl")) == 12
        with av.open(str(tmp_path / container / f"r.{container}")) as written:
            assert len(written.streams.audio) == kept
            assert sum(1 for _ in written.decode(video=0)) == 12
        assert [(codec in note, "sound left out" in note) for note in result.notes] == [(True, True)] * (1 - kept)


def test_without_audio_none_is_copied_and_nothing_said(make_stream, tmp_path):
    sinks = create_sinks(("video",), tmp_path / "o", "r", VideoSettings(audio=False, container="mkv"))
    result = run_pipeline(open_source(make_stream("a.mov", sound="aac")), Moving(), None, list(sinks.values()))
    assert result.notes == ()
    with av.open(str(tmp_path / "o" / "r.mkv")) as written:
        assert not written.streams.audio


def test_a_clock_that_jumps_back_goes_on_and_tracks_begin_anew(make_stream, tmp_path):
    one = make_stream("one.ts", frames=30).read_bytes()
    (tmp_path / "joined.ts").write_bytes(one + one)
    source = open_source(tmp_path / "joined.ts")
    frames = list(source)
    assert len(frames) == 60
    times = [frame.time_s for frame in frames]
    assert np.diff(times).min() > 0
    assert times[-1] == pytest.approx(59 / 30, abs=0.05)
    assert [f.index for f in frames if f.restarts] == [30]
    assert len(source.notes) == 1
    assert "jumped back by 0.967 s at frame 30" in source.notes[0]
    result = run(tmp_path / "joined.ts", tmp_path / "out")
    assert (result.tracks, result.frames) == (2, 60)
    tracks = [record["detections"][0]["track_id"] for record in lines(tmp_path / "out" / "r.jsonl")]
    assert tracks == [1] * 30 + [2] * 30
    log = lines(tmp_path / "out" / "r-association.jsonl")
    assert [row["track_id"] for row in log] == tracks
    assert len({row["track_key"] for row in log}) == 2
    out = list(open_source(tmp_path / "out" / "r.mp4"))
    assert out[-1].time_s == pytest.approx(59 / 30, abs=0.05)


def test_sound_of_joined_recordings_ends_with_the_first_and_that_is_said(make_stream, tmp_path):
    one = make_stream("one.ts", frames=30, sound="aac").read_bytes()
    (tmp_path / "joined.ts").write_bytes(one + one)
    sinks = create_sinks(("video", "jsonl"), tmp_path / "o", "r")
    result = run_pipeline(open_source(tmp_path / "joined.ts"), Moving(), None, list(sinks.values()))
    assert len(list(open_source(tmp_path / "o" / "r.mp4"))) == result.frames == 60
    assert ["jumped back" in note for note in result.notes] == [True, False]
    assert "sound left out of the video from about" in result.notes[1]


@pytest.mark.parametrize(("trc", "curve"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_said(make_stream, trc, curve):
    source = open_source(make_stream("h.mp4", color_trc=trc))
    list(source)
    assert len(source.notes) == 1
    assert f"HDR ({curve})" in source.notes[0]


def test_pixels_that_are_not_square_are_said(make_stream):
    source = open_source(make_stream("s.mp4", sample_aspect_ratio=Fraction(16, 11)))
    list(source)
    assert source.notes == ["pixels are 16/11 as wide as high: pictures, boxes and outputs are in pixels as stored"]


def test_files_of_a_folder_that_are_no_images_are_said(tmp_path):
    Image.fromarray(numbered_image(0)).save(tmp_path / "a.png")
    for name in ("b.dng", "c.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    source = open_source(tmp_path)
    assert [f.source for f in source] == ["a.png"]
    assert source.notes == ["2 files of the folder are no images and left out: b.dng, c.txt"]


def test_damaged_pictures_are_skipped_when_asked(tmp_path):
    for index in range(3):
        Image.fromarray(numbered_image(index)).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    with pytest.raises(SourceError, match=r"last good image is '0.png'"):
        list(open_source(tmp_path))
    source = open_source(tmp_path, skip_damaged=True)
    assert [(f.index, f.source) for f in source] == [(0, "0.png"), (2, "2.png")]
    assert source.notes == ["1 damaged pictures left out: 1.png"]


def test_damaged_frames_are_skipped_when_asked(make_stream, tmp_path):
    path = make_stream("d.avi", frames=40)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for place, size in packets[10:14]:
        data[place + 8 : place + 8 + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(SourceError):
        list(open_source(path))
    source = open_source(path, skip_damaged=True)
    frames = list(source)
    assert 20 < len(frames) < 40
    assert np.diff([f.index for f in frames]).min() > 0
    assert any("damaged frames left out" in note for note in source.notes)


@pytest.mark.parametrize("content", [b"", b"\x00" * 10], ids=["silent", "stalled"])
def test_a_stream_that_does_not_answer_is_given_up_in_time(serve, content):
    start = time.monotonic()
    with pytest.raises(SourceError):
        open_source(serve(content), allow_network=True, timeout_s=0.5)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", ["network", "pipe"])
def test_ctrl_c_ends_the_opening_at_once(serve, tmp_path, kind):
    if kind == "pipe":
        os.mkfifo(tmp_path / "pipe.ts")
    spec = serve() if kind == "network" else tmp_path / "pipe.ts"
    timer, start = interrupt_after(0.5), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        open_source(spec, allow_network=True, timeout_s=20)
    assert time.monotonic() - start < 3
    timer.join()


def test_a_pipe_nobody_writes_to_is_given_up(tmp_path):
    os.mkfifo(tmp_path / "pipe.ts")
    with pytest.raises(SourceError, match=r"must answer within 0\.3 s"):
        open_source(tmp_path / "pipe.ts", timeout_s=0.3)


def test_a_stream_that_stalls_is_ended_by_the_first_ctrl_c(serve, make_stream, tmp_path):
    url = serve(make_stream("live.ts", frames=300).read_bytes())
    source = open_source(url, allow_network=True, timeout_s=20)
    sinks = create_sinks(("jsonl",), tmp_path / "o", "r")
    timer, start = interrupt_after(1.5), time.monotonic()
    result = run_pipeline(source, Moving(), None, list(sinks.values()))
    assert time.monotonic() - start < 8
    assert result.interrupted
    assert len(lines(tmp_path / "o" / "r.jsonl")) == result.frames > 100
    timer.join()


def test_a_live_stream_that_breaks_is_opened_again(serve, make_stream, monkeypatch):
    url = serve(make_stream("live.ts", frames=60).read_bytes())
    monkeypatch.setattr("sightline.infer.sources.video._RECONNECTS", 1)
    monkeypatch.setattr("sightline.infer.sources.video.time.sleep", lambda seconds: None)
    source = open_source(url, allow_network=True, timeout_s=0.5)
    assert source.live
    frames = list(islice(source, 100))
    assert len(frames) == 100
    assert np.diff([f.time_s for f in frames]).min() > 0
    assert frames[[f.restarts for f in frames].index(True)].index > 30
    assert source.notes[0].startswith("opened again behind frame")


def test_sigterm_keeps_the_frames_that_are_done(make_video, tmp_path):
    stopping = Moving(lambda index: os.kill(os.getpid(), signal.SIGTERM) if index == 4 else None)
    result = run(make_video(), tmp_path / "o", predictor=stopping)
    assert (result.frames, result.interrupted, result.reason) == (5, True, "")
    assert len(lines(tmp_path / "o" / "r.jsonl")) == len(list(open_source(tmp_path / "o" / "r.mp4"))) == 5


def test_a_disk_that_is_nearly_full_ends_the_run_with_all_outputs(make_video, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    free = iter([10**9] * 6)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(2e9, 1e9, next(free, 10**6)))
    result = run(make_video(), tmp_path / "o")
    assert result.interrupted
    assert "nearly full" in result.reason
    assert 0 < result.frames < 12
    assert len(lines(tmp_path / "o" / "r.jsonl")) == len(list(open_source(tmp_path / "o" / "r.mp4"))) == result.frames


def test_an_output_that_cannot_be_written_leaves_the_others_complete(make_video, tmp_path):
    sinks = create_sinks(("video", "jsonl", "csv"), tmp_path / "o", "r")
    write, close = sinks["csv"].write, OSError(28, "No space left on device")

    def full(result):
        if result.frame.index == 5:
            raise close
        write(result)

    sinks["csv"].write = full
    tracker = KalmanIouTracker(TrackerConfig(min_hits=1))
    with pytest.raises(OSError, match="No space left"):
        run_pipeline(open_source(make_video()), Moving(), tracker, list(sinks.values()))
    assert len(lines(tmp_path / "o" / "r.jsonl")) >= 5
    assert len(list(open_source(tmp_path / "o" / "r.mp4"))) >= 5


def test_a_file_that_may_not_grow_ends_with_a_whole_frame(make_video, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(index):
        if index == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))

    try:
        with pytest.raises(OSError, match="File too large"):
            run(make_video(), tmp_path / "o", ("jsonl", "csv", "coco", "mot"), predictor=Moving(limit))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    records = lines(tmp_path / "o" / "r.jsonl")
    assert [record["frame"] for record in records] == list(range(len(records)))
    assert 3 <= len(records) < 12
    assert (tmp_path / "o" / "r.csv").read_text().endswith("\n")


def test_a_local_path_is_never_an_address(make_stream, tmp_path, monkeypatch, serve):
    server = serve().removeprefix("http://").partition("/")[0]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "http:" / server
    folder.mkdir(parents=True)
    shutil.copy(make_stream("v.mp4"), folder / "stream.ts")
    assert len(list(open_source(f"http:/{server}/stream.ts"))) == 12
    for name in ("concat:v.mp4", "file:v.mp4"):
        with pytest.raises(SourceError, match="no such file"):
            open_source(name)


PLAYLISTS = {
    "p.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "p.ffconcat": "ffconcat version 1.0\nfile {}\n",
    "p.mpd": '<?xml version="1.0"?><MPD type="static"><BaseURL>{}</BaseURL></MPD>',
}


@pytest.mark.parametrize("name", sorted(PLAYLISTS))
def test_a_playlist_opens_no_other_file(make_stream, tmp_path, name):
    make_stream("inner.ts")
    for target in (str(tmp_path / "inner.ts"), "inner.ts"):
        (tmp_path / name).write_text(PLAYLISTS[name].format(target))
        with pytest.raises(SourceError, match="readable video"):
            open_source(tmp_path / name)
    shutil.copy(tmp_path / name, tmp_path / "p.mp4")
    with pytest.raises(SourceError, match="readable video"):
        open_source(tmp_path / "p.mp4")
