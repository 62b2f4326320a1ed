"""The verb adopt as a stranger uses it: files of other tools, hostile ones, names in files, read-only places."""

import json
import os
import pickle
from pathlib import Path

import pytest
from tests.infer.test_adopt_graphs import ULTRALYTICS, write_graph
from tests.models.foreign_yolo import checkpoint_of, random_model, save_as_its_tool
from tests.models.test_foreign_pickles import Calls, archive


def test_an_adopted_file_goes_through_the_other_verbs(sightline, traffic: Path, tmp_path: Path) -> None:
    write_graph(tmp_path / "best.onnx", props=ULTRALYTICS)
    (tmp_path / "names.txt").write_text("\ufeffcar\nbüs\n", encoding="utf-8")
    done = sightline("adopt", "best.onnx", "--names", "names.txt", "--licence", "MIT", "--out", "own/m.onnx", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["class_names"], said["licence"], said["file"]) == (["car", "büs"], "MIT", "own/m.onnx")
    ran = sightline("run", "own/m.onnx", traffic / "images", "--save", "csv", "--out", "found")
    assert ran.returncode == 0, ran.stderr
    shown = sightline("adopt", "best.onnx", "--out", "again.onnx")
    assert "yolo8 rgb 0..1 letterbox" in shown.stdout
    assert "NOT MEASURED" in shown.stdout


def test_a_checkpoint_that_wants_to_run_something_does_not(sightline, tmp_path: Path) -> None:
    held = pickle.dumps({"model": Calls(os.system, "touch ran"), "names": Calls(eval, "open('ran', 'w')")}, 2)
    archive(tmp_path / "evil.pt", held)
    done = sightline("adopt", "evil.pt")
    assert done.returncode == 2
    assert done.stderr.startswith("error: evil.pt: a checkpoint must hold a model")
    assert done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pt"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["absent.pt"], "absent.pt: no such file"),
        (["best.onnx", "--names", "no.txt"], "no.txt: the file of class names must be there"),
        (["best.onnx", "--names", "latin.txt"], "latin.txt: class names must be UTF-8"),
        (["best.onnx", "--names", "empty.yaml"], "empty.yaml: 'names' must be a list"),
        (["best.onnx", "--imgsz", "big"], "--imgsz must be a number of pixels"),
        (["best.onnx", "--scale", "0..2"], "--scale"),
        (["cut.onnx"], "cut.onnx: must be a sound ONNX file"),
        (["best.onnx", "--out", "m.pt"], "m.pt: the output must end in .onnx"),
        (["best.onnx", "--out", "best.onnx/m.onnx"], "is no folder"),
        (["model.engine"], "a model to adopt must end in"),
        (["model.tflite"], "got 'model.tflite'. Make an ONNX file of it (tf2onnx reads .tflite"),
    ],
)
def test_what_cannot_be_taken_is_one_sentence(sightline, tmp_path: Path, arguments, sentence) -> None:
    data = write_graph(tmp_path / "best.onnx", props=ULTRALYTICS).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    (tmp_path / "latin.txt").write_bytes("büs".encode("latin-1"))
    (tmp_path / "empty.yaml").write_text("path: x\n")
    done = sightline("adopt", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_names_that_are_no_utf8_are_names(sightline, tmp_path: Path) -> None:
    odd = os.fsdecode(b"b\xfcr")
    write_graph(tmp_path / f"{odd}.onnx", props=ULTRALYTICS)
    save_as_its_tool(tmp_path / "m.pt", checkpoint_of(random_model(1))).rename(tmp_path / f"{odd}.pt")
    for ending, written in ((".onnx", f"{odd}-sightline.onnx"), (".pt", f"{odd}.safetensors")):
        done = sightline("adopt", odd + ending)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / written).exists()
        assert "licence AGPL-3.0" in done.stdout
        assert "NOT MEASURED" in done.stdout
