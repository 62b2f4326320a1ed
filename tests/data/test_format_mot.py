"""MOTChallenge: sequences, the 1-based door, classes and visibility, and a round trip."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import DataError
from sightline.data import read_dataset, read_mot_txt, write_dataset, write_mot_txt
from sightline.data.formats.mot.sequence import mot_text
from sightline.media import read_image
from written_datasets import boxes, tracks, write_video

INFO = "[Sequence]\nname=x\nimDir=img1\nframeRate=5\nseqLength=3\nimWidth=32\nimHeight=24\nimExt=.png\n"


@pytest.fixture
def sequence(tmp_path: Path, save_image):
    def make(name: str, rows: str, info: str = INFO) -> Path:
        folder = tmp_path / name
        for frame in (1, 2, 3):
            save_image(f"{name}/img1/{frame:06d}.png")
        (folder / "gt").mkdir()
        (folder / "gt/gt.txt").write_text(rows)
        (folder / "seqinfo.ini").write_text(info)
        return folder

    return make


def test_mot15_sequence(sequence) -> None:
    folder = sequence("S1", "1,4,3,5,10,12,1,-1,-1,-1\n3,4,4,5,10,12,0,-1,-1,-1\n")
    dataset = read_dataset(folder)
    assert (dataset.format, dataset.task, dataset.class_names) == ("mot", "track", ("pedestrian",))
    assert dataset.images.select("path", "group", "frame", "time_s").rows() == [
        ("S1/img1/000001.png", "S1", 0, 0.0),
        ("S1/img1/000002.png", "S1", 1, 0.2),
        ("S1/img1/000003.png", "S1", 2, 0.4),
    ]
    columns = ["image_id", "x1", "y1", "x2", "y2", "track_id", "ignore", "occlusion"]
    assert dataset.objects.select(columns).rows() == [
        (0, 2, 4, 12, 16, 4, False, None),
        (2, 3, 4, 13, 16, 4, True, None),
    ]
    assert not dataset.findings


def test_mot17_classes_and_visibility(sequence, tmp_path: Path) -> None:
    sequence("S1", "1,1,3,5,10,12,1,3,0.25\n1,2,3,15,9,5,1,1,1\n")
    sequence("S2", "2,1,3,5,10,12,1,99,1\n")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("pedestrian", "car", "class_99")
    assert dataset.objects["occlusion"].to_list() == [0.75, 0.0, 0.0]
    assert [f.code for f in dataset.findings] == ["class-names-missing"]
    assert dataset.images["group"].unique(maintain_order=True).to_list() == ["S1", "S2"]
    assert dataset.objects["image_id"].to_list() == [0, 0, 4]


def test_train_and_test_folders_become_splits(sequence, tmp_path: Path) -> None:
    sequence("train/S1", "1,1,3,5,10,12,1,1,1\n")
    sequence("test/S2", "1,1,3,5,10,12,1,1,1\n")
    dataset = read_dataset(tmp_path)
    assert dict(dataset.images.group_by("group").agg(pl.col("split").first()).iter_rows()) == {
        "train/S1": "train",
        "test/S2": "test",
    }


def test_each_defect_is_found_with_its_line(sequence, judged) -> None:
    rows = [
        "1,1,3,5,10,12,1,-1,-1,-1",
        "1,1,13,5,10,12,1,-1,-1,-1",  # 2: id twice in a frame
        "",
        "2,1,3,5,0,12,1,-1,-1,-1",  # 4: no area
        "2,2,103,5,10,12,1,-1,-1,-1",  # 5: outside
        "9,1,3,5,10,12,1,-1,-1,-1",  # 6: beyond the last frame
        "3,1,3,5,10",  # 7: too short
        "3,1,3,five,10,12,1",  # 8: no number
        "0,1,3,5,10,12,1",  # 9: frames count from 1
        "1.5,1,3,5,10,12,1",  # 10: no whole frame
        "3,1,3,5,nan,12,1",  # 11
    ]
    folder = sequence("S1", "\n".join(rows))
    dataset = judged(read_dataset(folder))
    assert {(f.code, f.line) for f in dataset.findings} == {
        ("track-duplicate-id", 2),
        ("label-degenerate-box", 4),
        ("label-out-of-bounds", 5),
        ("track-frame-range", 6),
        *(("label-malformed", line) for line in (7, 8, 9, 10, 11)),
    }
    assert {f.path for f in dataset.findings} == {"S1/gt/gt.txt"}
    assert dataset.objects.height == 4


def test_missing_frames_and_labels(sequence, tmp_path: Path) -> None:
    folder = sequence("S1", "1,1,3,5,10,12,1,-1,-1,-1\n")
    (folder / "img1/000002.png").unlink()
    (found,) = read_dataset(folder).findings
    assert (found.code, found.count) == ("image-missing", 1)
    assert "000002.png" in found.message
    (folder / "gt/gt.txt").unlink()
    assert {f.code for f in read_dataset(folder).findings} == {"image-missing", "label-missing-file"}


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("nonsense", "must be a MOTChallenge seqinfo"),
        ("[Other]\nx=1\n", "must be a MOTChallenge seqinfo"),
        ("[Sequence]\nseqLength=many\n", "must be a MOTChallenge seqinfo"),
        ("[Sequence]\nframeRate=0\n", "must be sane"),
        ("[Sequence]\nimDir=../../elsewhere\n", "must stay inside"),
    ],
)
def test_wrong_seqinfo_is_one_sentence(sequence, info: str, message: str) -> None:
    folder = sequence("S1", "1,1,3,5,10,12,1\n", info)
    with pytest.raises(DataError, match=message):
        read_dataset(folder)


def test_sequence_without_seqinfo(sequence) -> None:
    folder = sequence("S1", "1,1,3,5,10,12,1\n")
    (folder / "seqinfo.ini").unlink()
    dataset = read_dataset(folder)
    assert len(dataset) == 3
    assert dataset.images["time_s"].null_count() == 3
    assert dataset.images.row(0)[2:4] == (32, 24)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip_of_a_tracked_data_set(tmp_path: Path, data: st.DataObject) -> None:
    coordinate = st.floats(-20, 60, allow_subnormal=False)
    length = data.draw(st.integers(1, 4))
    rows = []
    for frame in range(length):
        for track in range(data.draw(st.integers(0, 3))):
            x, y = data.draw(coordinate), data.draw(coordinate)
            side = data.draw(st.floats(0.001, 50))
            rows.append(
                {
                    "image_id": frame,
                    "class_id": data.draw(st.integers(0, 1)),
                    "x1": x,
                    "y1": y,
                    "x2": x + side,
                    "y2": y + 2 * side,
                    "track_id": track,
                    "ignore": data.draw(st.booleans()),
                    "occlusion": data.draw(st.floats(0, 1)),
                }
            )
    images = [
        {"image_id": f, "path": f"s/img1/{f + 1:06d}.png", "width": 32, "height": 24, "frame": f, "time_s": f / 8}
        for f in range(length)
    ]
    before = dataset_from_rows(
        [row | {"group": "s"} for row in images],
        rows,
        [{"class_id": 0, "name": "car"}, {"class_id": 1, "name": "long lorry"}],
        root=tmp_path,
        name="x",
        task="track",
        format="none",
    )
    write_dataset(before, tmp_path, "mot", copy_images=False)
    after = read_dataset(tmp_path / "s")
    assert after.class_names == ("car", "long lorry")
    assert after.images.drop("time_s").equals(before.images.drop("time_s"))
    keys = ["image_id", "class_id", "track_id", "ignore"]
    assert after.objects.select(keys).rows() == before.objects.select(keys).rows()
    numbers = ["x1", "y1", "x2", "y2", "occlusion"]
    assert np.allclose(after.objects.select(numbers), before.objects.select(numbers), rtol=0, atol=2e-8)


def test_tracks_without_ids_cannot_be_written(tmp_path: Path) -> None:
    dataset = dataset_from_rows(
        [{"image_id": 0, "path": "a.png", "width": 9, "height": 9, "group": "s", "frame": 0}],
        [{"image_id": 0, "class_id": 0, "x1": 1, "y1": 1, "x2": 5, "y2": 5}],
        [{"class_id": 0, "name": "car"}],
        root=tmp_path,
        name="x",
        task="track",
        format="none",
    )
    with pytest.raises(DataError, match="every object must have a track id"):
        write_dataset(dataset, tmp_path, "mot", copy_images=False)


def test_results_and_detections_text(tmp_path: Path) -> None:
    file = tmp_path / "results.txt"
    file.write_text("2,-1,140,272,36.769,83.436,41.154,-1,-1,-1\n1 3 1 1 2 2 0.5\n")
    rows, findings = read_mot_txt(file)
    assert findings == []
    assert rows.select("line", "frame", "track_id", "x1", "y1", "x2", "score").rows() == [
        (1, 1, -1, 139.0, 271.0, 139 + 36.769, 41.154),
        (2, 0, 3, 0.0, 0.0, 2.0, 0.5),
    ]
    assert mot_text(rows) == "1,3,1,1,2,2,0.5,-1,-1,-1\n2,-1,140,272,36.769,83.436,41.154,-1,-1,-1\n"
    write_mot_txt(tmp_path / "again.txt", rows)
    assert read_mot_txt(tmp_path / "again.txt")[0].drop("line").equals(rows.sort("frame").drop("line"))


@pytest.fixture
def filmed(tmp_path: Path):
    """A sequence of six frames without pictures."""

    def make(name: str = "S1", size: str = "64x48", length: int = 6) -> Path:
        folder = tmp_path / "data" / name
        (folder / "gt").mkdir(parents=True)
        (folder / "gt/gt.txt").write_text("1,4,3,5,10,12,1,-1,-1,-1\n6,4,4,5,10,12,1,-1,-1,-1\n")
        width, height = size.split("x")
        text = f"[Sequence]\nname={name}\nseqLength={length}\nimWidth={width}\nimHeight={height}\n"
        (folder / "seqinfo.ini").write_text(text)
        return folder

    return make


@pytest.mark.parametrize("place", ["S1/S1.mp4", "S1.mp4", "S1/film.mp4", "film.mp4"])
def test_a_video_instead_of_pictures(filmed, place: str) -> None:
    root = filmed().parent
    write_video(root / place, 6)
    dataset = read_dataset(root)
    rows = dataset.images.select("path", "width", "height", "group", "frame", "time_s").rows()
    assert rows == [(f"{place}#{i:06d}", 64, 48, "S1", i, i / 10) for i in range(6)]
    assert dataset.objects.select("image_id", "x1", "y1", "x2", "y2").rows() == [(0, 2, 4, 12, 16), (5, 3, 4, 13, 16)]
    expected = [] if place.endswith("S1.mp4") else [("layout-elsewhere", f"the frames are those of the video {place}")]
    assert [(f.code, f.message) for f in dataset.findings] == expected
    assert read_image(dataset.image_path(rows[3][0])).shape == (48, 64, 3)
    assert read_dataset(root / "S1").images["path"].to_list()[0] == f"{place}#000000"


def test_boxes_are_scaled_to_the_video(filmed) -> None:
    root = filmed(size="128x192").parent
    write_video(root / "S1.mp4", 6)
    dataset = read_dataset(root)
    assert dataset.objects.select("x1", "y1", "x2", "y2").row(0) == (1, 1, 6, 4)
    (told,) = dataset.findings
    assert (told.code, told.severity) == ("label-scaled", "info")
    assert "128 × 192 pixels, the video S1.mp4 has 64 × 48; boxes are scaled by 0.5 and 0.25" in told.message


def test_a_video_of_another_length(filmed) -> None:
    root = filmed().parent
    write_video(root / "S1.mp4", 4)
    dataset = read_dataset(root)
    assert len(dataset) == 4
    assert [(f.code, f.count) for f in dataset.findings] == [("sequence-frame-missing", 2), ("track-frame-range", 1)]
    write_video(root / "S1.mp4", 9)
    dataset = read_dataset(root)
    assert len(dataset) == 6
    assert [f.message for f in dataset.findings] == ["of the 9 frames of the video S1.mp4 the first 6 are used"]
    (root / "S1.mp4").write_bytes(b"no video")
    codes = {f.code for f in read_dataset(root).findings}
    assert codes == {"image-unreadable", "image-missing"}


def test_a_strange_video_is_not_taken_for_the_sequence(filmed) -> None:
    root = filmed().parent
    write_video(root / "film.mp4", 5)
    assert [f.code for f in read_dataset(root).findings] == ["image-missing"]
    (root / "film.mp4").unlink()
    write_video(root / "film.mp4", 6)
    filmed("S2")
    assert {f.code for f in read_dataset(root).findings} == {"image-missing"}


def test_videos_named_in_a_description(filmed, tmp_path: Path) -> None:
    filmed()
    described = tmp_path / "data/sightline.yaml"
    write_video(tmp_path / "film.mp4", 6)
    described.write_text("format: mot\nvideo: ../film.mp4\n")
    dataset = read_dataset(described)
    assert dataset.images["path"][0] == "film.mp4#000000"
    assert dataset.images["group"].unique().to_list() == ["S1"]
    filmed("S2")
    with pytest.raises(DataError, match="'video' must name the video of each sequence"):
        read_dataset(described)
    write_video(tmp_path / "other.mp4", 6, bf="0")
    described.write_text("video: {S1: ../film.mp4, S2: ../other.mp4}\n")
    assert read_dataset(described).images["path"].to_list()[5:7] == ["film.mp4#000005", "other.mp4#000000"]
    described.write_text("video: {S1: ../gone.mp4}\n")
    with pytest.raises(DataError, match=r"gone\.mp4: 'video' must be a file, got none"):
        read_dataset(described)


def test_what_cannot_be_written_as_sequences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every object must have a track id, got 6 of 6 without"):
        write_dataset(boxes(tmp_path), tmp_path / "out", "mot")
    dataset = tracks(tmp_path / "tracks")
    odd = {
        "every image must have a group and a frame": {"frame": None},
        "a frame number of its own": {"frame": 0},
    }
    for message, values in odd.items():
        images = dataset.images.with_columns(**{k: pl.lit(v, dtype=pl.Int64) for k, v in values.items()})
        with pytest.raises(DataError, match=message):
            write_dataset(replace(dataset, images=images), tmp_path / "out", "mot")
    assert not (tmp_path / "out").exists()


def test_gaps_and_odd_times_are_stated(tmp_path: Path) -> None:
    dataset = tracks(tmp_path)
    frames = dataset.images.with_columns(frame=pl.col("frame") * 5, time_s=pl.col("frame") ** 2 / 10)
    losses = write_dataset(replace(dataset, images=frames), tmp_path / "out", "mot")
    assert [(f.code, f.count) for f in losses] == [("loss-attributes", 3), ("loss-attributes", 1)]
    after = read_dataset(tmp_path / "out")
    assert sorted(after.images["frame"]) == [0, 0, 1, 1, 2]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["train", "val"]


@pytest.mark.real_data
def test_real_video_as_a_sequence(data_root: Path) -> None:
    dataset = read_dataset(data_root / "track_pets09_s2l1_video")
    assert (len(dataset), dataset.objects.height, dataset.objects["track_id"].n_unique()) == (795, 4650, 19)
    assert dataset.images.select("path", "width", "height").row(-1) == ("vtest.mp4#000794", 480, 360)
    assert {f.code for f in dataset.findings if f.severity != "info"} == set()
    assert float(dataset.objects.select(pl.max_horizontal("x2", "y2").max()).item()) < 481 + 1


def test_an_empty_field_is_not_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "gt.txt"
    file.write_text("1,1,,3,10,10,1,1,1\n1, 2, 2, 3, 10, 10, 1, 1, 0.5,\r\n")
    rows, findings = read_mot_txt(file)
    assert [f.line for f in findings] == [1]
    assert rows.select("line", "x1", "class_number", "visibility").rows() == [(2, 1.0, 1, 0.5)]


def test_absurd_frame_numbers_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/gt.txt").write_text("1,1,3,5,10,12,1,1,1\n100000000000,1,3,5,10,12,1,1,1\n")
    info = INFO.replace("seqLength=3\n", "")
    (tmp_path / "seqinfo.ini").write_text(info)
    data = read_dataset(tmp_path)
    assert (len(data), data.objects.height) == (1, 1)
    assert ("track-frame-range", 2) in [(f.code, f.line) for f in data.findings]
    (tmp_path / "seqinfo.ini").write_text(f"{info}seqLength=9000000\n")
    with pytest.raises(DataError, match=r"seqLength must be at most 1,000,000 where the frames are not there, got 9,0"):
        read_dataset(tmp_path)
