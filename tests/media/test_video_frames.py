"""Frames of videos by number: what decoding from the start gives, in any order, thread and process."""

import multiprocessing
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from sightline.core.errors import DataError
from sightline.data.formats.shared.writing import copied_name, copy_files
from sightline.media import image_size, read_image
from sightline.media.video_index import read_frame, video_index
from written_datasets import SIZE_HW, write_video

FRAMES = 40
CODECS = {
    "b-frames.mp4": ("libx264", {"g": "8", "bf": "3"}),
    "open-gop.mkv": ("libx264", {"x264-params": "open-gop=1:keyint=8:min-keyint=8:bframes=3:scenecut=0"}),
    "refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=10:bframes=0"}),
    "no-times.avi": ("libx264", {"g": "8", "bf": "3"}),
    "packed.avi": ("mpeg4", {"g": "8", "bf": "2"}),
    "quicktime.mov": ("mpeg4", {"g": "8"}),
    "alt-ref.webm": ("libvpx", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}),
}


def decoded(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


@pytest.fixture(params=CODECS)
def video(request, tmp_path: Path) -> Path:
    codec, options = CODECS[request.param]
    if codec not in av.codecs_available:
        pytest.skip(f"this build has no {codec}")
    write_video(tmp_path / request.param, FRAMES, codec, **options)
    return tmp_path / request.param


def test_any_order_gives_the_frames_of_decoding_from_the_start(video: Path) -> None:
    expected = decoded(video)
    assert video_index(video).frame_count == len(expected) == FRAMES
    orders = [list(range(FRAMES)), list(range(FRAMES))[::-1], random.Random(0).sample(range(FRAMES), FRAMES)]
    for order in orders:
        assert [read_frame(video, i).tobytes() == expected[i] for i in order] == [True] * FRAMES


def test_threads_and_forked_processes_read_for_themselves(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    write_video(video, FRAMES, g="8")
    expected = decoded(video)
    read_frame(video, 20)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: read_frame(video, i).tobytes(), range(FRAMES)))
    assert found == expected
    with multiprocessing.get_context("fork").Pool(2) as processes:
        assert processes.starmap(_frame_bytes, [(video, i) for i in range(20, FRAMES)]) == expected[20:]
    assert read_frame(video, 21).tobytes() == expected[21]


def _frame_bytes(video: Path, index: int) -> bytes:
    return read_frame(video, index).tobytes()


def test_a_frame_is_an_image(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3)
    path = tmp_path / "a.mp4#000002"
    assert image_size(path) == SIZE_HW
    assert read_image(path).tobytes() == decoded(tmp_path / "a.mp4")[2]
    assert video_index(tmp_path / "a.mp4").times == (0.0, 0.1, 0.2)
    assert copied_name("b/a.mp4#000002") == "b/a/000002.png"
    assert copied_name("b/a.png") == "b/a.png"
    assert copy_files([(path, tmp_path / "out/2.png")]) == 1
    assert np.array_equal(read_image(tmp_path / "out/2.png"), read_image(path))
    with pytest.raises(DataError, match=r"must be written as \.png"):
        copy_files([(path, tmp_path / "out/2.jpg")])
    with pytest.raises(DataError, match="images must exist to be copied"):
        copy_files([(tmp_path / "gone.mp4#000002", tmp_path / "out/3.png")])


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    write_video(video, 3)
    read_frame(video, 2)
    write_video(video, 5, bf="0")
    assert read_frame(video, 4).tobytes() == decoded(video)[4]


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    write_video(video, 3)
    for index in (-1, 3):
        with pytest.raises(DataError, match=r"a frame must be one of 0\.\.2"):
            read_frame(video, index)
    with pytest.raises(DataError, match="cannot read the video"):
        read_frame(tmp_path / "gone.mp4", 0)
    (tmp_path / "b.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(DataError, match="must be a readable video"):
        read_image(tmp_path / "b.mp4#000000")


def test_a_damaged_part_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    write_video(video, FRAMES, g="8", bf="0")
    expected = decoded(video)
    data = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for place, size in packets[17:19]:
        data[place : place + size] = bytes(size)
    video.write_bytes(data)
    good = [i for i in range(FRAMES) if _is_read(video, i, expected)]
    assert set(range(16)) | set(range(24, FRAMES)) <= set(good)
    assert 17 not in good


def _is_read(video: Path, index: int, expected: list[bytes]) -> bool:
    try:
        return read_frame(video, index).tobytes() == expected[index]
    except DataError:
        return False


@pytest.mark.real_data
def test_real_videos(data_root: Path) -> None:
    for video in (data_root / "track_pets09_s2l1_video/vtest.mp4", data_root / "video_clips/car-detection.mp4"):
        expected = [hash(frame) for frame in decoded(video)]
        assert video_index(video).frame_count == len(expected)
        for index in random.Random(1).sample(range(len(expected)), 25):
            assert hash(read_frame(video, index).tobytes()) == expected[index]
