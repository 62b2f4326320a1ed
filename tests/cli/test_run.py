"""`sightline run`: several sources, what is kept of them, what is written and what is said on screen."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from tests.infer.artefacts import SIZE_HW, metadata, numbered_image, write_onnx

from sightline.core.dataset import dataset_from_rows
from sightline.data import read_predictions
from sightline.ops import rle


@pytest.fixture
def detector(tmp_path):
    return write_onnx(tmp_path / "detector.onnx", metadata())


def film(path, frames=6, sound=None):
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=5)
        video.height, video.width, video.pix_fmt = *SIZE_HW, "yuv420p"
        audio = out.add_stream(sound, rate=8000) if sound else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_image(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 5)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), format="s16", layout="mono")
            samples.sample_rate = 8000
            out.mux(audio.encode(samples))
            out.mux(audio.encode(None))
    return path


def stills(folder, count=2):
    folder.mkdir()
    for index in range(count):
        Image.fromarray(numbered_image(index)).save(folder / f"{index}.png")
    return folder


def test_unconfirmed_and_left_out_detections_are_said(sightline, detector, tmp_path):
    film(tmp_path / "a.mp4")
    done = sightline("run", detector, "a.mp4", "--save", "jsonl")
    assert done.returncode == 0, done.stderr
    # Two boxes a frame; with the third frame both tracks are confirmed.
    assert "4 detections belong to no confirmed track and have no track id (none in MOT text)" in done.stderr
    assert "left out" not in done.stderr
    settings = ("--tracker-settings", "high_conf=0.7", "--tracker-settings", "min_hits=1", "--conf", "0.2")
    done = sightline("run", detector, "a.mp4", "--save", "jsonl", "--out", "o", *settings)
    assert "6 detections left out: their scores may only continue a track, and they continued none" in done.stderr
    assert "no confirmed track" not in done.stderr
    assert json.loads((tmp_path / "o" / "video.json").read_text())["left_out"] == 6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("max_age=1", "max_age_s"),
        ("min_hits", "must be name=value"),
        ("min_hits=0", "min_hits"),
        ("motion.velocity=1", "velocity_noise"),
        ("motion=1", "motion"),
    ],
)
def test_unknown_settings_of_the_tracker_are_refused(sightline, detector, tmp_path, given, said):
    film(tmp_path / "a.mp4")
    done = sightline("run", detector, "a.mp4", "--tracker-settings", given)
    assert done.returncode == 2
    assert said in done.stderr


def test_dotted_settings_reach_the_tracker(sightline, detector, tmp_path):
    film(tmp_path / "a.mp4")
    given = ("--tracker-settings", "motion.velocity_noise=2", "max_age_s=none", "max_age_frames=3")
    done = sightline("run", detector, "a.mp4", "--save", "jsonl", *given)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("chosen", ["bus", "1"])
def test_classes_are_chosen_by_name_or_id(sightline, detector, tmp_path, chosen):
    stills(tmp_path / "pictures")
    done = sightline("run", detector, "pictures", "--save", "jsonl", "--conf", "0.1", "--classes", chosen, "--json")
    assert json.loads(done.stdout)["objects_by_class"] == {"car": 0, "bus": 2}
    done = sightline("run", detector, "pictures", "--classes", "buss")
    assert (done.returncode, "bus" in done.stderr) == (2, True)


def test_several_sources_and_patterns_each_have_their_outputs(sightline, detector, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        film(tmp_path / name)
    (tmp_path / "more").mkdir()
    film(tmp_path / "more" / "a.mp4", frames=3)
    done = sightline("run", detector, "*.mp4", "more/a.mp4", "--save", "jsonl", "--out", "o", "--json")
    assert done.returncode == 0, done.stderr
    assert [result["frames"] for result in json.loads(done.stdout)] == [6, 6, 3]
    names = {p.name for p in (tmp_path / "o").iterdir()}
    assert names == {f"{stem}{end}" for stem in ("a-1", "b", "a-2") for end in (".jsonl", "-video.json")}
    done = sightline("run", detector, "*.avi", "--save", "jsonl")
    assert (done.returncode, "fits none" in done.stderr) == (2, True)


def test_yolo_text_reads_back(sightline, detector, tmp_path):
    stills(tmp_path / "pictures")
    done = sightline("run", detector, "pictures", "--save", "txt", "--save", "jsonl", "--out", "o", "--conf", "0.1")
    assert done.returncode == 0, done.stderr
    images = [{"image_id": i, "path": f"{i}.png", "width": 96, "height": 64} for i in range(2)]
    names = [{"class_id": i, "name": name} for i, name in enumerate(("car", "bus"))]
    shape = {"root": ".", "name": "d", "task": "detect", "format": "yolo"}
    dataset = dataset_from_rows(images, [], names, **shape)
    text, lines = (read_predictions(f"o/pictures{end}", dataset).table for end in ("-txt", ".jsonl"))
    assert text["class_id"].to_list() == lines["class_id"].to_list()
    for column in ("x1", "y1", "x2", "y2", "score"):
        np.testing.assert_allclose(text[column], lines[column], rtol=1e-6)
    film(tmp_path / "a.mp4", frames=2)
    sightline("run", detector, "a.mp4", "--save", "txt", "--out", "v")
    assert sorted(p.name for p in (tmp_path / "v" / "a-txt").iterdir()) == ["a_000000.txt", "a_000001.txt"]


def test_yolo_text_of_a_model_with_masks_holds_outlines(sightline, tmp_path):
    stills(tmp_path / "pictures")
    model = write_onnx(tmp_path / "masks.onnx", metadata("instance"))
    done = sightline("run", model, "pictures", "--save", "txt", "--save", "parquet", "--out", "o")
    assert done.returncode == 0, done.stderr
    images = [{"image_id": i, "path": f"{i}.png", "width": 96, "height": 64} for i in range(2)]
    names = [{"class_id": i, "name": name} for i, name in enumerate(("car", "bus"))]
    dataset = dataset_from_rows(images, [], names, root=".", name="d", task="instance", format="yolo")
    text, whole = (read_predictions(f"o/pictures{end}", dataset).table for end in ("-txt", ".parquet"))
    car, bus = text["rle"][:2]
    assert rle.area(car) == 32 * 32
    assert car == whole["rle"][0], "an outline along the edges of pixels is the mask itself"
    assert rle.area(bus) == 50 * (90 - 68), "of two parts the larger one"
    assert "of 2 masks of several parts or with holes the largest part" in done.stderr
    (line, _) = (tmp_path / "o/pictures-txt/0.txt").read_text().splitlines()
    assert len(line.split()) == 1 + 2 * 4 + 1


def test_masks_of_label_maps_are_written_as_class_ids(sightline, detector, tmp_path):
    stills(tmp_path / "pictures")
    Image.fromarray(numbered_image(2)).save(tmp_path / "pictures" / "1.jpg")
    segmenter = write_onnx(tmp_path / "segmenter.onnx", metadata("semantic"))
    done = sightline("run", segmenter, "pictures", "--save", "masks", "--out", "o")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "o" / "pictures-masks"
    assert sorted(p.name for p in folder.iterdir()) == ["0.png", "1.png", "1_000002.png"]
    mask = np.asarray(Image.open(folder / "0.png"))
    assert mask.shape == SIZE_HW
    assert set(np.unique(mask)) == {0, 1}
    for model, kind in ((detector, "masks"), (segmenter, "txt")):
        done = sightline("run", model, "pictures", "--save", kind)
        assert (done.returncode, f"'{kind}' must be given" in done.stderr) == (2, True)


def test_sound_that_does_not_fit_is_said_on_screen_and_in_the_record(sightline, detector, tmp_path):
    film(tmp_path / "a.mov", sound="pcm_alaw")
    done = sightline("run", detector, "a.mov", "--codec", "mpeg4")
    assert done.returncode == 0, done.stderr
    assert "sound left out of the video" in done.stderr
    assert any(
        "sound left out" in line for line in json.loads((tmp_path / "outputs" / "video.json").read_text())["notes"]
    )
    done = sightline("run", detector, "a.mov", "--codec", "mpeg4", "--no-audio", "--container", "mkv")
    assert "sound" not in done.stderr
    assert (tmp_path / "outputs" / "a.mkv").exists()


def test_damaged_pictures_stop_the_run_or_are_skipped(sightline, detector, tmp_path):
    stills(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert sightline("run", detector, "pictures", "--save", "jsonl").returncode == 2
    done = sightline("run", detector, "pictures", "--save", "jsonl", "--skip-damaged")
    assert done.returncode == 0, done.stderr
    assert "1 damaged pictures left out: 1.png" in done.stderr


@pytest.mark.parametrize("device", ["0", "cuda:7", "gpu"])
def test_a_device_is_a_name_or_a_number(sightline, tmp_path, device):
    done = sightline("run", "model.safetensors", "x.mp4", "--device", device)
    assert done.returncode == 2
    assert ("--device" in done.stderr) == (device == "gpu")


def test_tiles_and_several_models(sightline, tmp_path):
    detector = str(write_onnx(tmp_path / "detector.onnx", metadata()))
    pictures = stills(tmp_path / "pictures")
    out = tmp_path / "out"
    done = sightline(
        "run", "--model", detector, "--model", detector, str(pictures), "--out", str(out), "--save", "jsonl"
    )
    assert done.returncode == 0, done.stderr
    video = json.loads((out / "video.json").read_text())
    assert len(video["conventions"]["fused"]["models"]) == 2
    done = sightline("run", detector, str(pictures), "--out", str(out), "--tile", "640", "--save", "jsonl")
    assert "were looked at whole" in done.stderr
    for words, said in (
        (["--tile", "auto"], "Give --tile with a size"),
        (["--tile", "4"], "at least 32 pixels"),
        (["--tile", "big"], "must be one side or HEIGHTxWIDTH"),
        (["--overlap", "0.5"], "must be given with --tile"),
        (["--also", str(write_onnx(tmp_path / "other.onnx", metadata(class_names=("a", "b"))))], "the same classes"),
    ):
        refused = sightline("run", detector, str(pictures), "--out", str(out), *words)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
