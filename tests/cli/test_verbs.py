"""The verbs as a user meets them: results on stdout, one sentence on stderr, exit codes 0, 1, 2."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
import supervision as sv
import yaml

from sightline import Model, __version__
from sightline.cli import evaluate as cli_evaluate
from sightline.cli import main as cli_main
from sightline.core.predictions import Predictions, predictions_from_rows
from sightline.data import read_dataset
from sightline.infer import run_pipeline
from sightline.models import create, save_weights
from sightline.train import TrainConfig


def test_proposed_anchors_are_shown_and_written_for_training(sightline, traffic, tmp_path):
    shown = sightline("anchors", traffic, "--imgsz", 96, "--per-level", 1)
    assert shown.returncode == 0
    assert "best possible recall" in shown.stdout
    settings = yaml.safe_load(shown.stdout[shown.stdout.index("model:") :])
    assert settings["model"] == {"name": "yolo5n", "imgsz": [96, 96]}
    assert sightline("anchors", traffic, "--imgsz", 96, "--per-level", 1, "--out", "anchors.yaml").returncode == 0
    settings = yaml.safe_load((tmp_path / "anchors.yaml").read_text())
    assert len(settings["arguments"]["anchors"]) == 3
    assert TrainConfig.load({**settings, "data": "some"}).model_arguments["imgsz"] == (96, 96)


def test_help_names_every_verb_and_loads_none():
    code = (
        "import sys\nfrom sightline.cli.main import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f" {verb} " in done.stdout for verb in cli_main.VERBS)
    assert done.stdout.splitlines()[-1] == "False"


def test_the_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "sightline", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["audt"], "unknown verb 'audt' (nearest: audit"),
        (["audit", "nowhere"], "nowhere: a data set must exist"),
        (["models", "yolo11q"], "unknown model 'yolo11q'"),
        (["train", "--data", "x", "--model", "unet", "--epoch", "3"], "--epochs"),
        (["train", "--data", "x", "--model", "unet", "--imgsz", "100"], "imgsz': must be a multiple of 32"),
        (["train", "--data", "x"], "--model must be given"),
        (["train", "--resume", "nowhere"], "must be the folder of an interrupted training run"),
        (["run", "model.pt", "x.mp4"], "must end in"),
        (["report", "nowhere"], "nowhere"),
        (
            ["eval", "--data", ".", "--predictions", "p", "--batch", "4"],
            "--batch, --device, --threads, --tile and --also are for a model",
        ),
        (["eval", "--data", "."], "exactly one of --model and --predictions"),
        (["train", "--resume", "nowhere", "--runs", "other"], "takes no other options"),
        (["run", "m.onnx", "x.mp4", "--batch", "0"], "--batch"),
        (["run", "m.onnx", "x.mp4", "--max-frames", "-1"], "--max-frames"),
        (["models", "--classes", "0"], "--classes"),
        (["demo", "--epochs", "0"], "--epochs"),
        (["demo", "--imgsz", "100"], "imgsz': must be a multiple of 32"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(sightline, arguments, sentence):
    done = sightline(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_audit_counts_and_exit_code_by_severity(sightline, traffic):
    done = sightline("audit", traffic, "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert result["images"] == 8
    assert result["objects_by_class"] == read_dataset(traffic).counts_by_class()
    assert not [f for f in result["findings"] if f["severity"] != "info"]
    assert sightline("audit", traffic, "--fail-on", "warning").returncode == 0


def test_audit_fails_on_a_planted_fault(sightline, traffic, tmp_path):
    done = sightline("convert", traffic, "yolo", "--to", "yolo", "--json")
    assert done.returncode == 0, done.stderr
    written = sum(len(p.read_text().splitlines()) for p in (tmp_path / "yolo").rglob("labels/*/*.txt"))
    assert json.loads(done.stdout)["read_back"]["objects"] == written < read_dataset(traffic).objects.height
    label = next((tmp_path / "yolo").rglob("labels/train/*.txt"))
    label.write_text(label.read_text() + "0 0.5 0.5 0.0 0.1\n")
    done = sightline("audit", "yolo", "--json", "--fail-on", "error")
    assert done.returncode == 1
    found = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]
    assert [f["code"] for f in found] == ["label-degenerate-box"]
    assert found[0]["line"] == len(label.read_text().splitlines())


def test_synth_is_reproducible_and_refuses_to_overwrite(sightline, tmp_path):
    for name in ("one", "two"):
        assert sightline("synth", name, "--images", "2", "--height", "64", "--width", "64").returncode == 0
    one, two = (read_dataset(tmp_path / name) for name in ("one", "two"))
    assert one.digest() == two.digest()
    done = sightline("synth", "one", "--images", "2")
    assert done.returncode == 2
    assert "new or empty" in done.stderr


@pytest.mark.parametrize(
    ("given", "names"), [(["300"], ["AR1", "AR10", "AR300"]), (["2", "5", "7"], ["AR2", "AR5", "AR7"])]
)
def test_eval_takes_other_limits_of_detections(sightline, traffic, tmp_path, given, names):
    dataset = read_dataset(traffic).split("val")
    objects = dataset.objects.select("image_id", "class_id", "x1", "y1", "x2", "y2").with_columns(score=0.9)
    predictions_from_rows(objects, {}).of(dataset).save(tmp_path / "p.parquet")
    done = sightline("eval", "--data", traffic, "--predictions", "p.parquet", "--json", "--max-dets", *given)
    assert list(json.loads(done.stdout)["metrics"])[6:9] == names
    for wrong in (["1", "2"], ["5"], ["10", "5", "1"]):
        done = sightline("eval", "--data", traffic, "--predictions", "p.parquet", "--max-dets", *wrong)
        assert (done.returncode, "dets must be" in done.stderr) == (2, True)


def test_eval_of_predictions_equal_to_the_labels_is_perfect(sightline, traffic, tmp_path):
    dataset = read_dataset(traffic).split("val")
    rows = dataset.usable_objects.select("image_id", "class_id", "x1", "y1", "x2", "y2").with_columns(score=1.0)
    predictions_from_rows(rows, {"class_names": dataset.class_names}).of(dataset).save(tmp_path / "p.parquet")
    done = sightline("eval", "--data", traffic, "--predictions", "p.parquet", "--out", "o", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["metrics"]["AP"] == pytest.approx(1.0)
    assert result["operating_point"]["recall"] == 1.0
    written = json.loads((tmp_path / "o" / "evaluation.json").read_text())
    assert written.pop("seal").startswith("sightline-file-sha256:")
    assert written == result
    assert len(Predictions.load(tmp_path / "o" / "predictions.parquet")) == rows.height


def test_eval_reads_coco_results_and_names_a_bad_entry(sightline, traffic, tmp_path):
    dataset = read_dataset(traffic).split("val")
    source = dict(dataset.classes.select("class_id", "source_id").iter_rows())
    results = [
        {"image_id": o["image_id"], "category_id": source[o["class_id"]], "score": 0.9,
         "bbox": [o["x1"], o["y1"], o["x2"] - o["x1"], o["y2"] - o["y1"]]}
        for o in dataset.usable_objects.iter_rows(named=True)
    ]  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results))
    done = sightline("eval", "--data", traffic, "--predictions", "results.json", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["AP"] == pytest.approx(1.0)
    results[1]["category_id"] = 99
    (tmp_path / "results.json").write_text(json.dumps(results))
    done = sightline("eval", "--data", traffic, "--predictions", "results.json")
    assert done.returncode == 2
    assert "entry 1: category_id must be one of" in done.stderr


def test_eval_of_mot_results_equal_to_the_ground_truth_is_perfect(sightline, traffic, tmp_path):
    sequence = traffic / "video" / "traffic"
    (tmp_path / "traffic.txt").write_text((sequence / "gt" / "gt.txt").read_text())
    done = sightline("eval", "--data", sequence, "--predictions", "traffic.txt", "--preprocessing", "none", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["combined"]["metrics"]["HOTA"] == pytest.approx(1.0)
    refused = sightline("eval", "--data", sequence, "--predictions", "traffic.txt", "--best-conf")
    assert refused.returncode == 2
    assert (
        "--best-conf, --conf, --iou-type and --resamples must be left out where tracks are measured" in refused.stderr
    )


def test_segment_names_all_that_give_masks_or_label_maps(sightline):
    done = sightline("models", "--task", "segment", "--json")
    listed = {row["name"]: row["task"] for row in json.loads(done.stdout)["models"]}
    assert (listed["yolo11n-seg"], listed["unet"], set(listed.values())) == (
        "instance",
        "semantic",
        {"instance", "semantic"},
    )


def test_models_that_lack_their_package_are_left_out_of_a_list_and_said(sightline, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("sightline.models.list_models", lambda: ["deeplabv3", "tv:ssdlite320", "unet-small"])
    done = sightline("models", "--imgsz", "64", "--json")
    assert [row["name"] for row in json.loads(done.stdout)["models"]] == ["unet-small"]
    for name in ("tv:ssdlite320", "deeplabv3"):
        assert f"left out: the model '{name}' needs torchvision" in done.stderr
    assert sightline("models", "tv:ssdlite320", "--imgsz", "64").returncode == 2


def test_models_counts_parameters(sightline):
    done = sightline("models", "yolo11n", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"][0]["parameters"] == 2_624_080


def test_drill_prints_its_rows_as_json(sightline):
    done = sightline("drill", "--fault", "class-unused", "--json")
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout)["rows"] if row["code"] == "class-unused"]
    assert rows
    for row in rows:
        assert (row["found"], row["false"], row["missed"]) == (row["planted"], 0, [])


def test_doctor_finds_this_environment_sound(sightline):
    done = sightline("doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert {"torch", "video codecs", "processor", "threads"} <= {c["name"] for c in json.loads(done.stdout)["checks"]}


def test_a_settings_file_without_augmentation_is_one_sentence(sightline, tmp_path):
    (tmp_path / "s.yaml").write_text("augment:\n")
    done = sightline("train", "--config", "s.yaml", "--data", "x", "--model", "unet")
    assert done.returncode == 2
    assert "'augment'" in done.stderr


def test_a_data_path_that_is_wrong_leaves_no_run_folder(sightline, tmp_path):
    assert sightline("train", "--data", "nowhere", "--model", "yolo11n").returncode == 2
    assert not list((tmp_path / "runs" / "detect").iterdir())


def test_options_that_would_be_ignored_are_refused(sightline, traffic, tmp_path):
    sequence = traffic / "video" / "traffic"
    done = sightline("eval", "--data", sequence, "--predictions", sequence / "gt" / "gt.txt", "--conf", "0.5")
    assert done.returncode == 2
    assert "--conf, --iou-type and --resamples must be left out" in done.stderr
    assert sightline("synth", "c", "--scene", "cracks", "--images", "4", "--height", "64").returncode == 0
    done = sightline("eval", "--data", "c", "--predictions", "p.parquet", "--iou-type", "segm")
    assert done.returncode == 2
    assert "--iou-type are for detections" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_is_gone_is_no_failure(options, traffic):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sightline", "audit", str(traffic), *options]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 0, done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_full_disk_is_one_sentence(sightline, traffic, monkeypatch):
    def fail(folder, *others):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "evaluation.json"))

    dataset = read_dataset(traffic)
    predictions_from_rows([], {"class_names": dataset.class_names}).of(dataset).save("p.parquet")
    monkeypatch.setattr(cli_evaluate, "_write", fail)
    done = sightline("eval", "--data", traffic, "--predictions", "p.parquet", "--out", "o")
    assert done.returncode == 2
    sentence = "error: o/evaluation.json: cannot be written or read (No space left on device)."
    assert done.stderr.strip().splitlines()[-1] == sentence
    assert "AP50" in done.stdout, "what was measured is not lost with the file"


def test_ctrl_c_in_run_keeps_the_frames_done_and_says_so(sightline, traffic, tmp_path, monkeypatch):
    def interrupted(source, predictor, tracker, sinks, **options):
        return run_pipeline(source, Interrupting(), tracker, sinks)

    class Interrupting:
        task = "detect"
        class_names = read_dataset(traffic).class_names

        def __call__(self, images):
            signal.raise_signal(signal.SIGINT)
            return [sv.Detections.empty() for _ in images]

    monkeypatch.setattr("sightline.infer.open_predictor", lambda path, **options: Interrupting())
    monkeypatch.setattr("sightline.infer.run_pipeline", interrupted)
    done = sightline("run", "m.onnx", traffic / "video" / "traffic.mp4", "--out", "o", "--save", "jsonl", "--json")
    assert done.returncode == 130
    assert json.loads(done.stdout)["frames"] == 1
    assert "interrupted after 1 frames" in done.stderr


def test_coco_results_with_an_id_of_a_wrong_kind_name_the_entry(sightline, traffic, tmp_path):
    (tmp_path / "r.json").write_text(
        json.dumps([{"image_id": [1], "category_id": 1, "score": 1, "bbox": [0, 0, 1, 1]}])
    )
    done = sightline("eval", "--data", traffic, "--predictions", "r.json")
    assert done.returncode == 2
    assert "entry 0: image_id must be a whole number, got [1]" in done.stderr


def test_detection_thresholds_are_refused_for_label_maps(sightline, traffic, tmp_path):
    save_weights(tmp_path / "u.safetensors", create("unet-small", class_names=("background", "crack"), imgsz=64))
    done = sightline("run", "u.safetensors", traffic / "video" / "traffic.mp4", "--iou", "0.5")
    assert done.returncode == 2
    assert "--iou, --max-det, --suppression and --sigma are for detections" in done.stderr


def test_rules_for_tracks_are_refused_for_boxes(sightline, traffic, tmp_path):
    (tmp_path / "results.json").write_text("[]")
    done = sightline("eval", "--data", traffic, "--predictions", "results.json", "--preprocessing", "mot17")
    assert done.returncode == 2
    assert "--preprocessing is for tracks" in done.stderr
    sequence = traffic / "video" / "traffic"
    (tmp_path / "traffic.txt").write_text((sequence / "gt" / "gt.txt").read_text())
    done = sightline("eval", "--data", sequence, "--predictions", "traffic.txt", "--iou-type", "segm")
    assert done.returncode == 2
    assert "--iou-type and --resamples must be left out" in done.stderr


def test_resamples_are_refused_where_tracks_are_measured(sightline, traffic):
    sequence = traffic / "video" / "traffic"
    done = sightline("eval", sequence, "--predictions", sequence / "gt" / "gt.txt", "--resamples", 10)
    assert done.returncode == 2
    assert "--iou-type and --resamples must be left out where tracks are measured" in done.stderr


def test_an_evaluation_names_its_model_and_a_predictor_that_never_looks(sightline, traffic, tmp_path):
    weights = tmp_path / "w.safetensors"
    names = read_dataset(traffic).class_names
    save_weights(weights, create("yolo11n", class_names=names, imgsz=64))
    done = sightline("eval", traffic, "--model", weights, "--resamples", 20, "--json")
    assert done.returncode == 0, done.stderr
    conventions = json.loads(done.stdout)["conventions"]
    assert conventions["model_file"] == str(weights)
    assert conventions["code"].startswith("sightline ")
    assert conventions["baseline"]["metric"] == "AP50"
    ours = Model(weights).val(traffic)
    assert (ours.conventions["model_file"], ours.conventions["baseline"]) == (str(weights), conventions["baseline"])
