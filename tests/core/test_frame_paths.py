"""Paths of frames of videos, and folders that appear whole."""

from pathlib import Path

import pytest

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import ConfigError
from sightline.core.files import atomic_folder
from sightline.core.frames import frame_path, picture_file, split_frame_path


@pytest.mark.parametrize("video", ["a.mp4", "clips/Straße 1.MKV", "/data/x#1.avi", "a#000001.mp4"])
def test_a_frame_path_gives_back_what_it_was_made_of(video: str) -> None:
    assert split_frame_path(frame_path(video, 12)) == (video, 12)
    assert picture_file(frame_path(video, 0)) == Path(video)


@pytest.mark.parametrize("path", ["a.png", "a.png#000001", "a.mp4", "a.mp4#", "a.mp4#-1", "a#1", "a.mp4#1.png"])
def test_other_paths_are_none(path: str) -> None:
    assert split_frame_path(path) is None
    assert picture_file(path) == Path(path)


def test_the_digest_reads_a_video_once_and_tells_its_frames_apart(tmp_path: Path) -> None:
    def digest(content: bytes, *frames: int) -> str:
        (tmp_path / "a.mp4").write_bytes(content)
        rows = [{"image_id": i, "path": f"a.mp4#{f:06d}", "width": 4, "height": 4} for i, f in enumerate(frames)]
        names = [{"class_id": 0, "name": "x"}]
        return dataset_from_rows(rows, [], names, root=tmp_path, name="x", task="detect", format="x").digest()

    assert digest(b"one", 0, 1) == digest(b"one", 1, 0)
    assert len({digest(b"one", 0, 1), digest(b"two", 0, 1), digest(b"one", 0, 2)}) == 3


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep/out") as folder:
        (folder / "a.txt").write_text("x")
        assert not (tmp_path / "deep/out").exists()
    assert [p.name for p in (tmp_path / "deep").rglob("*")] == ["out", "a.txt"]
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "cut")
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def interrupted(path: Path) -> None:
    with atomic_folder(path) as folder:
        (folder / "a.txt").write_text("x")
        raise KeyboardInterrupt


def test_only_a_new_or_empty_folder_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "a.txt").write_text("x")
    for name in ("empty", "empty/a.txt", "empty/a.txt/b"):
        with pytest.raises(ConfigError, match=r"output must be a new|must be a folder"):
            interrupted(tmp_path / name)
