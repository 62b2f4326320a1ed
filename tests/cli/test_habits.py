"""What people type who come from other tools leads somewhere: to what it is here, or to one sentence."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_run import film, stills
from tests.infer.artefacts import SIZE_HW, metadata, write_onnx

from sightline.cli.habits import Option, in_our_words, our_verb, take_plugins
from sightline.cli.main import VERBS
from sightline.core.errors import ConfigError
from sightline.infer import SINKS
from sightline.track import TRACKERS


@pytest.fixture
def detector(tmp_path):
    return write_onnx(tmp_path / "detector.onnx", metadata())


@pytest.fixture
def segmenter(tmp_path):
    return write_onnx(tmp_path / "segmenter.onnx", metadata("semantic"))


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("predict m s", "run m s"),
        ("track m s", "run --track m s"),
        ("val d", "eval d"),
        ("detect train d", "train d"),
        ("segment predict m s", "run m s"),
        ("detect val d", "eval d"),
        ("checks", "doctor"),
        ("test d", "eval --split test d"),
        ("run m s", "run m s"),
    ],
)
def test_other_verbs_are_ours(typed, ours):
    words, changed = our_verb(typed.split(), VERBS)
    assert (words, changed) == (ours.split(), typed != ours)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("benchmark", "sightline profile --data DATA --model NAME"),
        ("detect", "sightline run MODEL SOURCE"),
        ("pose", "--model yolo11n-pose"),
        ("obb", "--model yolo11n-obb"),
        ("trian", "nearest: train"),
        ("xyz", "known: ablate"),
    ],
)
def test_a_verb_there_is_not_names_what_to_type(sightline, typed, said):
    done = sightline(*typed.split())
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


OPTIONS = {
    "model": Option(),
    "also": Option(is_own=False),
    "suppression": Option(is_own=False),
    "out": Option(),
    "save": Option(takes_several=True, choices=frozenset({"csv", "txt"})),
    "tracker-settings": Option(takes_several=True, is_own=False),
    "conf": Option(is_own=False),
    "track": Option(is_flag=True, is_own=False, has_negative=True),
    "show": Option(is_flag=True, is_own=False),
    "clean": Option(takes_several=True, is_own=False),
    "max-frames": Option(is_own=False),
}


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("run model=m.onnx s conf=0.3", "run m.onnx s --conf 0.3"),
        ("run m s max_frames=3 --max_frames 4", "run m s --max-frames 3 --max-frames 4"),
        ("run m s track=True", "run m s --track"),
        ("run m s track=false", "run m s --no-track"),
        ("run m s save=[csv,txt]", "run m s --save csv --save txt"),
        ("run m --save csv txt s", "run m --save csv --save txt s"),
        ("run m --save-txt s", "run m --save txt s"),
        ("run m --save-txt True s vid_stride=1", "run m --save txt s"),
        ("run m s --out a=1", "run m s --out a=1"),
        ("run m s save=True save_txt=True", "run m s --save txt"),
        ("run m s --save-txt --conf-thres 0.2", "run m s --save txt --conf 0.2"),
        (
            "run --model a --model b --model=c s --agnostic-nms",
            "run a --also b --also=c s --suppression agnostic",
        ),
        ("run m s --conf-thres=0.2", "run m s --conf=0.2"),
        ("run m s --tracker-settings conf=1 max_age_s=2", "run m s --tracker-settings conf=1 max_age_s=2"),
        ("run m s --clean conf=1 min_area=2 --conf 0.2", "run m s --clean conf=1 min_area=2 --conf 0.2"),
        ("run m s save_txt=False show=False", "run m s"),
        ("run m s --view-img", "run m s --show"),
        ("run m s conf=-1", "run m s --conf=-1"),
        ("run m rtsp://a?b=c clips/a=b.mp4", "run m rtsp://a?b=c clips/a=b.mp4"),
        ("run m -- conf=1", "run m -- conf=1"),
    ],
)
def test_options_of_other_tools_and_pairs_are_ours(typed, ours):
    assert in_our_words(typed.split(), OPTIONS, has_settings=False)[0] == ours.split()


def test_a_file_whose_name_is_a_pair_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf=1").touch()
    assert in_our_words(["run", "m", "conf=1"], OPTIONS, has_settings=False)[0] == ["run", "m", "conf=1"]


def test_several_models_may_follow_one_another():
    options = {"also": Option(takes_several=True), "conf": Option(), "model": Option()}
    for typed, ours in (
        ("run a.onnx d --also b.onnx c.onnx e --conf 0.1", "run a.onnx d --also b.onnx --also c.onnx e --conf 0.1"),
        ("run --also b.onnx a.onnx d", "run --also b.onnx a.onnx d"),
        ("eval d --also b.onnx c.onnx --model a.onnx", "eval d --also b.onnx --also c.onnx --model a.onnx"),
    ):
        assert in_our_words(typed.split(), options, has_settings=False)[0] == ours.split()


def test_the_task_and_the_mode_may_be_pairs():
    assert our_verb(["task=detect", "mode=train", "d"], VERBS)[0] == ["train", "d"]
    assert our_verb(["mode=predict", "m", "mode=x"], VERBS)[0] == ["run", "m", "mode=x"]


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("train d amp=False", ["train", "d", "--precision", "fp32"]),
        ("train d amp=True pretrained=False", ["train", "d"]),
        ("train d --cos-lr False", ["train", "d"]),
        ("train d exclude=a,b", ["train", "d", "--exclude", "a", "--exclude", "b"]),
        ("train d --exclude a=1", ["train", "d", "--exclude", "a=1"]),
        ("train d mosaic=0.5", ["train", "d", "augment.mosaic=0.5"]),
    ],
)
def test_switches_of_other_tools_keep_their_sense(typed, ours):
    options = {"precision": Option(is_own=False), "weights": Option(is_own=False), "schedule": Option(is_own=False),
               "exclude": Option(takes_several=True), "augment.mosaic": Option(is_own=False)}  # fmt: skip
    assert in_our_words(typed.split(), options, has_settings=True)[0] == ours


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("train d pretrained=True", "must be given a value here"),
        ("train d resume=True", "must be given the folder of a run"),
        ("eval d conf_thres=0.1", "The whole curve is always measured"),
        ("eval d name=x", "name included"),
        ("eval d exclude=False", "must be given names"),
        ("train d task=segment", "yolo11n-seg masks of objects"),
        ("run m d task=detect", "The model says what it does"),
    ],
)
def test_what_would_become_something_else_is_said(typed, said):
    options = {"weights": Option(is_own=False), "resume": Option(), "exclude": Option(takes_several=True)}
    with pytest.raises(ConfigError) as error:
        in_our_words(typed.split(), options, has_settings=typed.startswith("train"))
    assert said in error.value.sentence()


def test_settings_stay_settings_under_our_names():
    options = {"lr": Option(is_own=False), "runs": Option(), "schedule": Option(is_own=False), "name": Option()}
    typed = ["train", "d", "lr0=0.1", "augment.rotate=3", "project=a", "name=b", "cos_lr=true"]
    words, renamed = in_our_words(typed, options, has_settings=True)
    assert words == ["train", "d", "lr=0.1", "augment.rotate=3", "--runs", "a", "--name", "b", "--schedule", "cosine"]
    assert renamed


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("run m s --save-crop", "--save csv"),
        ("run m s --sav csv", "nearest: --save"),
        ("run m s half=True", "Arithmetic is that of the file"),
        ("run m s colour=3", "unknown option --colour of 'sightline run'"),
        ("eval d --model m --imgsz 320", "The size is part of the model"),
    ],
)
def test_an_option_there_is_not_is_one_sentence(sightline, typed, said):
    done = sightline(*typed.split())
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_plugins_are_taken_out_wherever_they_stand():
    assert take_plugins(["--plugin", "a.py", "run", "--plugin=b.py", "m"]) == (["run", "m"], ["a.py", "b.py"])
    with pytest.raises(ConfigError, match="followed by a Python file"):
        take_plugins(["run", "--plugin"])


def test_near_names_of_dotted_settings_are_said(sightline, traffic):
    for word in ("--augment.flp-lr=1", "augment.flp_lr=1"):
        done = sightline("train", traffic, "--model", "yolo11n", word)
        assert done.returncode == 2
        assert "flip" in done.stderr
    done = sightline("train", traffic, "--model", "yolo11n", "loggers=wandb,tensorboard")
    assert "'logging.loggers.0': input should be 'tensorboard' or 'mlflow', got 'wandb'" in done.stderr


def test_help_names_the_outputs_and_trackers_there_are(sightline):
    shown = " ".join(sightline("run", "--help").stdout.replace("│", " ").split())
    assert all(name in shown for name in (*SINKS, *TRACKERS))


def test_a_folder_of_videos_and_sub_folders_is_run(sightline, detector, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    stills(clips / "a")
    stills(clips / "b")
    (clips / "c").mkdir()
    film(clips / "one.mp4", frames=2)
    film(clips / "c" / "two.mp4", frames=3)
    done = sightline("predict", f"model={detector}", "source=clips", "save=csv", "--json")
    assert done.returncode == 0, done.stderr
    assert f"here this is: sightline run --model {detector} --source clips --save csv --json" in done.stderr
    assert [(r["source"], r["frames"]) for r in json.loads(done.stdout)] == [
        ("clips", 4),
        ("one.mp4", 2),
        ("two.mp4", 3),
    ]
    (clips / "bad.mp4").write_bytes(b"nothing")
    for more, code in (((), 2), (("--skip-damaged",), 0)):  # one bad file keeps no other from being run
        done = sightline("run", detector, "clips", "--save", "csv", "--out", f"o{code}", *more)
        assert done.returncode == code, done.stderr
        assert "bad.mp4: must be a readable video" in done.stderr
        assert {f"{n}.csv" for n in ("clips", "one", "two")} <= {p.name for p in (tmp_path / f"o{code}").iterdir()}
    (tmp_path / "empty").mkdir()
    done = sightline("run", detector, "empty")
    assert "must hold pictures, videos or sequences, here or in its sub-folders, got none" in done.stderr


def test_a_threshold_chooses_the_foreground_of_a_segmenter(sightline, segmenter, tmp_path):
    pixels = np.zeros((*SIZE_HW, 3), np.uint8)
    pixels[:, 48:] = 100  # a probability of 0.39
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shares = []
    for conf in ((), ("--conf", "0.3"), ("--conf", "0.5")):
        done = sightline("run", segmenter, "a.png", "--save", "masks", *conf)
        assert done.returncode == 0, done.stderr
        shares.append(float((np.asarray(Image.open(tmp_path / "outputs" / "a-masks" / "a.png")) == 1).mean()))
    assert shares == [0.0, 0.5, 0.0]
    assert json.loads((tmp_path / "outputs" / "video.json").read_text())["conventions"]["foreground_conf"] == 0.5
    for given in (("--conf", "2"), ("--iou", "0.5"), ("--imgsz", "32")):
        assert sightline("run", segmenter, "a.png", *given).returncode == 2


def test_another_task_is_said_as_such(sightline, segmenter, detector, traffic, tmp_path):
    done = sightline("eval", traffic, "--model", segmenter)
    assert done.returncode == 2
    assert "task must be that of the data set, got a model of label maps for labels of boxes" in done.stderr
    masks = tmp_path / "maps"
    assert sightline("convert", traffic, masks, "--to", "masks").returncode == 0
    done = sightline("eval", masks, "--model", detector, "--split", "all")
    assert "got a model of boxes for labels of masks of classes" in done.stderr
    done = sightline("eval", traffic, "--model", detector, "--iou-type", "segm")
    assert "is for what has masks of objects, got a model without" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "split traffic --out X/s.yaml",
        "card traffic --out X/card",
        "eval traffic --model detector.onnx --out X/e",
        "run detector.onnx traffic --out X/r",
        "look traffic --out X/l",
        "synth X/s",
        "audit traffic --html X/a.html",
        "profile traffic model=yolo11n --out X/p.json",
        "ablate study.yaml --out X/a",
    ],
)
def test_an_output_that_cannot_be_written_is_said_before_the_work(sightline, traffic, detector, tmp_path, words):
    (tmp_path / "file").touch()  # no folder can be made below a file, whoever asks
    (tmp_path / "traffic").symlink_to(traffic)
    done = sightline(*words.replace("X", "file").split())
    assert done.returncode == 2
    assert "file" in done.stderr
    assert "is no folder" in done.stderr or "Not a directory" in done.stderr, done.stderr


def test_weights_of_another_tool_are_named(sightline, tmp_path):
    done = sightline("run", "yolo11n.pt", "x.png")
    assert "got 'yolo11n.pt', a pickled file of PyTorch's. Take it over with 'sightline adopt'" in done.stderr
    done = sightline("train", "data=x", "model=yolo11n.pt")
    assert "Name the network, as yolo11n" in done.stderr
