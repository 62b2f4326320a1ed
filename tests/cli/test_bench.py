"""`sightline bench`: models side by side, trained here or taken from files."""

import json

import pytest
from tests.cli.test_thresholds import labelled
from tests.infer.artefacts import metadata, write_onnx

from sightline.data import read_dataset


def test_files_are_measured_alike(sightline, tmp_path):
    data, out = labelled(tmp_path / "data"), tmp_path / "out"
    good = write_onnx(tmp_path / "good.onnx", metadata())
    moved = write_onnx(tmp_path / "moved.onnx", metadata(), shift_px=9)
    done = sightline("bench", data, "--models", f"{moved},{good}", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)["table"]
    assert [row["model"] for row in table] == ["good", "moved"], "the best first"
    assert table[0]["AP"] == 1.0 > table[1]["AP"]
    assert all(row["ms"] >= row["network_ms"] > 0 for row in table)
    assert "<svg" in (out / "bench.html").read_text()


def test_label_maps_of_two_classes_are_compared_by_their_foreground(sightline, tmp_path):
    size = ("--height", "64", "--width", "96", "--seed", "2")
    data = tmp_path / "cracks"
    assert sightline("synth", str(data), "--scene", "cracks", "--images", "60", *size).returncode == 0
    names = read_dataset(data).class_names
    model = write_onnx(tmp_path / "maps.onnx", metadata("semantic", class_names=names))
    done = sightline("bench", str(data), "--models", str(model), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "foreground_dice" in done.stdout
    row = json.loads((tmp_path / "out/bench.json").read_text())["table"][0]
    for name in ("foreground_dice", "foreground_iou", "foreground_sensitivity", "boundary_f"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_what_cannot_be_compared_is_one_sentence(sightline, tmp_path):
    data = labelled(tmp_path / "data")
    detector, maps = write_onnx(tmp_path / "d.onnx", metadata()), write_onnx(tmp_path / "m.onnx", metadata("semantic"))
    for words, said in (
        (("--models", f"{detector},{maps}"), "must be of one task"),
        (("--models", "yolo11q"), "nearest: yolo11"),
        (("--models", f"{detector},{detector}"), "each once"),
        (("--models", str(detector), "--budget", "soon"), "must be a time such as 90s"),
        (("--models", str(detector), "--budget", "1m", "--epochs", "3"), "got both"),
        (("--models", str(tmp_path / "none.onnx")), "No such file"),
        (("--models", "yolo11n", "arguments.box_los=giou"), "'box_los' (nearest: box_loss)"),
    ):
        done = sightline("bench", data, *words, "--out", str(tmp_path / "out"))
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


@pytest.mark.slow
def test_models_are_trained_once_within_their_budget(sightline, tmp_path):
    size = ("--height", "96", "--width", "96", "--seed", "2")
    assert sightline("synth", str(tmp_path / "data"), "--images", "24", *size).returncode == 0
    words = (
        "bench",
        str(tmp_path / "data"),
        "--models",
        "yolo11n,yolo8n",
        "--seeds",
        "2",
        "--out",
        str(tmp_path / "out"),
    )
    settings = ("imgsz=64", "batch=4", "workers=0", "device=cpu")
    done = sightline(*words, "--budget", "20s", *settings, "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert {row["n"] for row in first["table"]} == {2}
    assert {row["parameters"] for row in first["table"]} > set()
    assert {type(row["parameters"]) for row in first["table"]} == {int}
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("best.safetensors")}
    assert len(made) == 4
    again = json.loads(sightline(*words, "--budget", "20s", *settings, "--json").stdout)
    assert [r["AP"] for r in again["runs"]] == [r["AP"] for r in first["runs"]]
    assert made == {path: path.stat().st_mtime_ns for path in made}


def test_an_evaluation_of_several_names_all_of_them(sightline, tmp_path):
    data = labelled(tmp_path / "data")
    files = [str(write_onnx(tmp_path / f"{name}.onnx", metadata())) for name in "ab"]
    done = sightline("eval", data, "--model", files[0], "--also", files[1], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["conventions"]["model_file"] == " + ".join(files)
