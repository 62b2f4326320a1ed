"""Data sets on disk: readable by the readers, equal to what was rendered, complete or absent."""

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import polars as pl
import pytest

from sightline.core.errors import ConfigError, DataError
from sightline.data import read_dataset
from sightline.media import read_image, read_mask
from sightline.synth import TRAFFIC_CLASS_NAMES, generate, render_cracks, render_traffic
from sightline.synth.plan import Plan

SIZE = (96, 128)


def plan_of(scene, images, seed=3):
    return Plan(scene, None, images, 0.25, SIZE, seed, 0, SIZE, 25.0, True, 1, None)


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    calls = []
    result = generate(
        "traffic",
        tmp_path_factory.mktemp("synth") / "traffic",
        images=8,
        val_fraction=0.25,
        size_hw=SIZE,
        seed=3,
        video_frames=25,
        video_size_hw=(128, 160),
        fps=12.5,
        workers=2,
        progress=lambda *call: calls.append(call),
    )
    return result, calls


def test_the_coco_folder_reads_back_as_rendered(traffic):
    result, _ = traffic
    dataset = read_dataset(result.root)
    assert (dataset.format, dataset.task, len(dataset)) == ("coco", "instance", 8)
    assert dataset.class_names == TRAFFIC_CLASS_NAMES
    assert not [f for f in dataset.findings if f.severity != "info"]
    plan = plan_of("traffic", 8)
    hidden = 0
    for index in range(8):
        drawn = render_traffic(plan.image_rng(index), SIZE)
        seen = [item for item in drawn.objects if item.visible_area]
        hidden += len(drawn.objects) - len(seen)
        rows = dataset.objects.filter(pl.col("image_id") == index)
        assert rows.select("class_id", "x1", "y1", "x2", "y2", "rle", "area", "ignore").rows() == [
            (item.class_id, *item.box_xyxy, item.mask_rle, item.visible_area, item.ignore) for item in seen
        ]
        path = dataset.images.filter(pl.col("image_id") == index)["path"].item()
        decoded = read_image(dataset.image_path(path)).astype(int)
        assert np.abs(decoded - drawn.image).mean() < 8  # JPEG
    assert result.hidden == hidden
    assert result.ignored == dataset.objects["ignore"].sum()
    assert result.objects_by_class == dataset.counts_by_class()


def test_splits_and_record(traffic):
    result, calls = traffic
    assert result.images_by_split == {"train": 6, "val": 2}
    assert dict(read_dataset(result.root).images.group_by("split").len().iter_rows()) == {"train": 6, "val": 2}
    assert calls[:8] == [(k, 8, "images") for k in range(1, 9)]
    assert calls[8:] == [(k, 25, "frames") for k in range(1, 26)]
    record = json.loads((result.root / "synth.json").read_text())
    assert (record["scene"], record["seed"], record["images"]) == ("traffic", 3, 8)
    assert result.to_dict()["images_by_split"] == {"train": 6, "val": 2}


def test_the_video_is_h264_with_every_frame_at_its_time(traffic):
    result, _ = traffic
    with av.open(result.video) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(25, 2)
        frames = list(container.decode(video=0))
    assert len(frames) == result.video_frames == 25
    assert [frame.time for frame in frames] == pytest.approx([k / 12.5 for k in range(25)])
    assert (frames[0].height, frames[0].width) == (128, 160)
    head = result.video.read_bytes()[:4096]
    assert b"moov" in head  # the index comes first, so that browsers start at once
    before = read_image(result.sequences / "traffic" / "img1" / "000013.jpg").astype(int)
    assert np.abs(frames[12].to_ndarray(format="rgb24").astype(int) - before).mean() < 8


def test_the_sequence_reads_back_with_tracks_and_flags(traffic):
    result, _ = traffic
    dataset = read_dataset(result.sequences)
    assert (dataset.format, dataset.task, len(dataset)) == ("mot", "track", 25)
    assert dataset.class_names == TRAFFIC_CLASS_NAMES
    assert dataset.images["time_s"].to_list() == pytest.approx([k / 12.5 for k in range(25)])
    assert dataset.objects["track_id"].n_unique() == result.tracks
    assert sorted(dataset.objects["track_id"].unique()) == list(range(1, result.tracks + 1))
    covered = dataset.objects.filter(pl.col("occlusion") == 1.0)
    assert covered["ignore"].all()
    assert all((result.sequences / p).is_file() for p in dataset.images["path"])
    assert not [f for f in dataset.findings if f.severity != "info"]


def test_image_k_does_not_depend_on_how_many_there_are(traffic, tmp_path):
    result, _ = traffic
    smaller = generate("traffic", tmp_path / "few", images=3, val_fraction=0.0, size_hw=SIZE, seed=3, workers=1)
    assert smaller.images_by_split == {"train": 3}
    for name in ("images/train/000000.jpg", "images/train/000002.jpg"):
        assert (smaller.root / name).read_bytes() == (result.root / name).read_bytes()


def test_the_same_call_gives_the_same_files(tmp_path):
    def snapshot(root):
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    roots = [
        generate("traffic", tmp_path / str(k), images=3, size_hw=(64, 64), seed=9, video_frames=3,
                 video_size_hw=(64, 96), workers=k).root for k in (1, 3)
    ]  # fmt: skip
    first, second = (snapshot(root) for root in roots)
    assert first == second
    assert len(first) == 3 + 2 + 1 + 1 + 3 + 3  # images, labels, record, video, frames, gt + labels + seqinfo


def test_yolo_reads_back(tmp_path):
    result = generate("traffic", tmp_path / "y", images=4, size_hw=SIZE, seed=3, format="yolo")
    dataset = read_dataset(result.root)
    assert dataset.format == "yolo"
    assert dataset.class_names == TRAFFIC_CLASS_NAMES
    assert dataset.objects.height == sum(result.objects_by_class.values()) - result.ignored
    assert dict(dataset.images.group_by("split").len().iter_rows()) == result.images_by_split


def test_cracks_read_back_as_named_masks(tmp_path):
    result = generate("cracks", tmp_path / "cracks", images=4, val_fraction=0.25, size_hw=SIZE, seed=3)
    dataset = read_dataset(result.root)
    assert (dataset.format, dataset.task, len(dataset)) == ("masks", "semantic", 4)
    assert dataset.class_names == ("background", "crack")
    assert result.images_by_split == {"train": 3, "val": 1}
    fractions = []
    for index, (path, mask_path) in enumerate(dataset.images.sort("path").select("path", "mask_path").iter_rows()):
        drawn = render_cracks(plan_of("cracks", 4).image_rng(index), SIZE)
        assert Path(path).stem == f"{index:06d}"
        np.testing.assert_array_equal(read_mask(dataset.image_path(mask_path)), np.where(drawn.mask, 255, 0))
        fractions.append(drawn.mask.mean())
    assert result.crack_fraction == pytest.approx(np.mean(fractions))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scene": "trafic"}, "nearest: traffic"),
        ({"format": "masks"}, "coco or yolo"),
        ({"scene": "cracks", "format": "coco"}, "must be masks"),
        ({"images": 0}, "images must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"val_fraction": 1.2}, "val_fraction must be from 0 to 1"),
        ({"val_fraction": float("nan")}, "val_fraction must be from 0 to 1"),
        ({"size_hw": (32, 320)}, "size_hw must be height and width from 64 to 4096"),
        ({"video_frames": -5}, "video_frames must be at least 0"),
        ({"video_frames": 5, "video_size_hw": (321, 480)}, "must be even"),
        ({"video_frames": 5, "fps": 0.0}, "fps must be from 1 to 240"),
        ({"scene": "cracks", "video_frames": 5}, "only 'traffic' scenes move"),
    ],
)
def test_bad_arguments_are_refused_and_leave_nothing(tmp_path, changes, words):
    arguments = {"scene": "traffic", "images": 2, **changes}
    with pytest.raises(ConfigError, match=words):
        generate(arguments.pop("scene"), tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_are_never_overwritten(tmp_path):
    keep = tmp_path / "mine" / "thesis.txt"
    keep.parent.mkdir()
    keep.write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="mine"):
            generate("cracks", keep.parent, images=1, size_hw=(64, 64), overwrite=overwrite)
    with pytest.raises(DataError, match="must be a folder"):
        generate("cracks", keep, images=1, size_hw=(64, 64))
    assert keep.read_text() == "years of work"


def test_an_earlier_set_is_replaced_only_when_asked(tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    generate("cracks", out, images=2, size_hw=(64, 64), seed=1)
    before = (out / "images/train/000000.jpg").read_bytes()
    with pytest.raises(DataError, match="new or empty"):
        generate("cracks", out, images=1, size_hw=(64, 64), seed=2)
    assert (out / "images/train/000000.jpg").read_bytes() == before
    generate("cracks", out, images=1, size_hw=(64, 64), seed=2, overwrite=True)
    assert (out / "images/train/000000.jpg").read_bytes() != before
    assert not (out / "images/val").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_call_leaves_the_folder_as_it_was(tmp_path, overwrite):
    out = tmp_path / "set"
    if overwrite:
        generate("cracks", out, images=1, size_hw=(64, 64), seed=1)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))

    def stop(done, total, what):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate("traffic", out, images=4, size_hw=(64, 64), overwrite=overwrite, progress=stop)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_jpegs_are_ordinary_three_channel_files(tmp_path):
    result = generate("cracks", tmp_path / "c", images=1, size_hw=(64, 80))
    picture = cv2.imread(str(result.root / "images/train/000000.jpg"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (64, 80, 3)
