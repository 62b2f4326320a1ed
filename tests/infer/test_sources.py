"""Sources: order, times, orientation, and damage that is named."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.core.errors import SourceError
from sightline.infer import open_source
from sightline.media import IMAGE_SUFFIXES

from .artefacts import SIZE_HW, numbered_image, read_number

VFR = (0, 3000, 6500, 12000, 12900, 20000, 21000, 30000)


def test_video_frames_have_their_true_times(make_video: Callable[..., Path]) -> None:
    source = open_source(make_video(pts=VFR))
    frames = list(source)
    assert [read_number(f.image) for f in frames] == list(range(len(VFR)))
    assert [f.pts * f.time_base for f in frames] == [Fraction(p, 90000) for p in VFR]
    assert [f.time_s for f in frames] == [p / 90000 for p in VFR]
    assert source.frame_count == len(VFR)
    assert source.size_hw == SIZE_HW
    assert source.media_path is None
    assert [f.index for f in source] == list(range(len(VFR)))  # a source can be read again


def test_times_count_from_the_first_frame(make_video: Callable[..., Path]) -> None:
    frames = list(open_source(make_video(name="late.mkv", pts=(90000, 93000, 99000))))
    assert [f.time_s for f in frames] == pytest.approx([0.0, 3000 / 90000, 0.1], abs=1e-3)  # mkv counts milliseconds
    assert float(frames[0].pts * frames[0].time_base) == pytest.approx(1.0)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, -1), (180, 2)])
def test_rotation_is_applied(make_video: Callable[..., Path], rotation: int, turns: int) -> None:
    source = open_source(make_video(rotation=rotation))
    expected = np.rot90(numbered_image(0), turns)
    frames = list(source)
    assert frames[0].image.shape == expected.shape
    assert (source.size_hw, frames[0].size_hw) == (expected.shape[:2], expected.shape[:2])
    assert np.abs(frames[0].image.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_truncated_video_delivers_the_good_frames_and_names_the_last(
    make_video: Callable[..., Path], name: str
) -> None:
    path = make_video(name=name, pts=tuple(range(0, 90000 * 4, 6000)))
    whole = len(list(open_source(path)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    numbers: list[int] = []
    with pytest.raises(SourceError) as caught:
        numbers.extend(read_number(frame.image) for frame in open_source(path))
    assert 10 < len(numbers) < whole
    assert numbers == [i % 64 for i in range(len(numbers))]
    sentence = str(caught.value)
    assert sentence.startswith(f"{name}: the video must be whole, got") or "got damaged data" in sentence
    assert f"frame {len(numbers) - 1} at" in sentence
    assert "is the last good one" in sentence


def test_a_video_without_its_index_is_refused(make_video: Callable[..., Path]) -> None:
    path = make_video(faststart=False)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(SourceError, match="must be a readable video"):
        open_source(path)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.fromarray(numbered_image(number)).save(tmp_path / f"img{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(tmp_path)
    assert source.frame_count == 3
    assert [(f.source, f.index, f.time_s) for f in source] == [
        ("img1.png", 0, None),
        ("img2.png", 1, None),
        ("img10.png", 2, None),
    ]


def test_gray_and_16_bit_images_become_rgb(tmp_path: Path) -> None:
    ramp = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.fromarray((ramp >> 8).astype(np.uint8)).save(tmp_path / "b.png")
    first, second = (f.image for f in open_source(tmp_path))
    assert first.shape == (6, 8, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


def test_a_mot_sequence_has_its_frame_rate(tmp_path: Path) -> None:
    (tmp_path / "img1").mkdir()
    for number in (1, 2):
        Image.fromarray(numbered_image(number)).save(tmp_path / "img1" / f"{number:06d}.png")
    info = tmp_path / "seqinfo.ini"
    info.write_text("[Sequence]\nname=S\nimDir=img1\nframeRate=25\n")
    source = open_source(tmp_path)
    assert (source.name, source.fps) == ("S", 25.0)
    assert [f.time_s for f in source] == [0.0, 0.04]
    info.write_text("[Sequence]\nframeRate=fast\n")
    with pytest.raises(SourceError, match=r"seqinfo\.ini"):
        open_source(tmp_path)


def test_a_mot_sequence_without_pictures_has_the_frames_of_its_video(
    tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    folder = tmp_path / "S"
    folder.mkdir()
    info = folder / "seqinfo.ini"
    info.write_text(f"[Sequence]\nseqLength=3\nimWidth={SIZE_HW[1]}\nimHeight={SIZE_HW[0]}\n")
    with pytest.raises(SourceError, match=r"seqinfo\.ini: imDir must name the folder of the frames, got 'img1' and no"):
        open_source(folder)
    made = make_video(name="S.mp4", pts=VFR)
    made.rename(tmp_path / "S.mp4")
    source = open_source(folder)
    assert (source.name, source.size_hw, source.frame_count) == ("S", SIZE_HW, 3)
    assert source.fps == pytest.approx(2 * 90000 / 6500)
    info.write_text("[Sequence]\nframeRate=5\n")
    frames = list(open_source(folder))
    assert [read_number(f.image) for f in frames] == list(range(len(VFR)))
    assert [(f.time_s, f.source) for f in frames[:2]] == [(0.0, "S.mp4#000000"), (0.2, "S.mp4#000001")]


def test_an_unreadable_image_names_the_last_good_one(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.fromarray(numbered_image(number)).save(tmp_path / f"{number}.jpg")
    bad = tmp_path / "2.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    iterator = iter(open_source(tmp_path))
    assert next(iterator).source == "1.jpg"
    with pytest.raises(SourceError, match=r"2\.jpg.*the last good image is '1\.jpg' \(1 of 2\)"):
        next(iterator)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.mp4", "no such file or folder"),
        (99, "camera 99 must be a device"),
        ("99", "camera 99 must be a device"),
        ("rtsp://camera/1", "must be on this machine"),
    ],
)
def test_what_cannot_be_opened_is_refused(spec: str | int, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(spec)


def test_foreign_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="must hold images"):
        open_source(tmp_path)
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(SourceError, match=r"noise\.mp4: must be a readable video"):
        open_source(noise)


@pytest.mark.real_data
def test_real_clips(data_root: Path) -> None:
    source = open_source(data_root / "video_clips" / "car-detection.mp4")
    assert (source.frame_count, source.size_hw, source.fps) == (377, (432, 768), 12.5)
    assert source.media_path is not None
    times = [f.time_s for f in source]
    assert len(times) == 377
    assert times == pytest.approx([i / 12.5 for i in range(377)])


@pytest.mark.parametrize(
    "suffix", sorted(IMAGE_SUFFIXES - {".heic", ".heif", ".dcm", ".dicom"})
)  # which Pillow cannot write
def test_every_picture_a_data_set_may_hold_can_be_run_on(tmp_path: Path, suffix: str) -> None:
    pixels = np.full((6, 8), 90, np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    assert [f.image.shape for f in open_source(tmp_path / f"a{suffix}")] == [(6, 8, 3)]
    assert [f.source for f in open_source(tmp_path)] == [f"a{suffix}"]
