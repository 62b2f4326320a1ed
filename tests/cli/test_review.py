"""`sightline review`: a package whose numbers are those of `eval`, image by image."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_thresholds import labelled
from tests.infer.artefacts import metadata, write_onnx

from sightline.core.frames import IGNORE_INDEX
from sightline.data import read_dataset
from sightline.draw import map_errors


@pytest.fixture
def cracks(sightline, tmp_path):
    size = ("--height", "64", "--width", "96", "--seed", "2")
    assert sightline("synth", str(tmp_path / "cracks"), "--scene", "cracks", "--images", "12", *size).returncode == 0
    names = read_dataset(tmp_path / "cracks").class_names
    return str(tmp_path / "cracks"), str(write_onnx(tmp_path / "maps.onnx", metadata("semantic", class_names=names)))


def test_maps_are_reviewed_the_worst_first(sightline, tmp_path, cracks):
    data, model = cracks
    out = tmp_path / "out"
    done = sightline("review", model, data, "--split", "all", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["images"]
    scores = [row["score"] for row in rows]
    assert len(rows) == 12
    assert scores == sorted(scores)
    measured = json.loads(sightline("eval", data, "--model", model, "--split", "all", "--json").stdout)
    numbers = [json.loads((out / row["folder"] / "numbers.json").read_text()) for row in rows]
    pooled = np.array(measured["confusion"])
    assert sum(n["classes"][1]["predicted_pixels"] for n in numbers) == pooled[:, 1].sum()
    assert sum(sum(n["errors"].values()) for n in numbers) == pooled.sum() - np.trace(pooled)
    assert all(0.5 <= c["confidence"] <= 1 for n in numbers for c in n["classes"] if c["predicted_pixels"])
    for row, number in zip(rows, numbers, strict=True):
        mask = Image.open(out / row["folder"] / "mask.png")
        assert mask.mode == "P"
        assert [(np.asarray(mask) == i).sum() for i in (0, 1)] == [c["predicted_pixels"] for c in number["classes"]]
        said = json.loads(mask.text["sightline"])
        assert {said["model_digest"], said["label_digest"]} == {"sha256:0", measured["conventions"]["label_digest"]}
        assert said["preprocess_digest"].startswith("sha256:")
    page = (out / "index.html").read_text()
    assert page.index(rows[0]["image"]) < page.index(rows[-1]["image"])
    assert json.loads((out / "evaluation.json").read_text())["metrics"].items() <= measured["metrics"].items()
    again = sightline("review", "--data", data, "--predictions", str(out / "predictions.parquet"), "--split", "all",
                      "--out", str(tmp_path / "again"), "--json")  # fmt: skip
    assert [row["score"] for row in json.loads(again.stdout)["images"]] == scores


@pytest.mark.parametrize(("task", "files"), [("detect", 2), ("instance", 4)])
def test_objects_are_reviewed_at_the_operating_point(sightline, tmp_path, task, files):
    data, out = labelled(tmp_path / "data"), tmp_path / "out"
    model = str(write_onnx(tmp_path / "m.onnx", metadata(task)))
    (tmp_path / "data/labels/val/b.txt").write_text("")
    if task == "instance":  # its outlines in place of boxes
        lines = []
        for class_id, x, y, w, h in np.loadtxt(tmp_path / "data/labels/val/a.txt").tolist():
            corners = [x - w / 2, y - h / 2, x + w / 2, y - h / 2, x + w / 2, y + h / 2, x - w / 2, y + h / 2]
            lines.append(" ".join(map(str, [int(class_id), *corners])))
        (tmp_path / "data/labels/val/a.txt").write_text("\n".join(lines))
    done = sightline("review", model, data, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    worst, best = json.loads(done.stdout)["images"]
    assert (worst["image"], worst["score"]) == ("images/val/b.png", 0.0)
    assert best["score"] > 0
    numbers = json.loads((out / best["folder"] / "numbers.json").read_text())
    assert [o["is_right"] for o in numbers["objects"]] == [True] * numbers["right"] + [False] * best["wrong"]
    assert len(list((out / best["folder"]).iterdir())) == files + 1, "and the small picture"


def test_a_review_replaces_only_a_review(sightline, tmp_path):
    data, out = labelled(tmp_path / "data"), tmp_path / "out"
    model = str(write_onnx(tmp_path / "m.onnx", metadata()))
    for _ in range(2):
        assert sightline("review", model, data, "--out", str(out)).returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("x")
    for words, said in (
        ((model, data, "--out", str(other)), "must be new, empty or an earlier review"),
        ((model, data, "--out", str(tmp_path / "data/here")), "outside the data set"),
        ((model, data, "--predictions", "p.json"), "either a model or --predictions"),
        ((model,), "a data set and either"),
    ):
        done = sightline("review", *words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert [p.name for p in other.iterdir()] == ["mine.txt"]


def test_errors_of_maps_are_told_apart():
    truth = np.zeros((20, 20), np.uint8)
    truth[4:12, 4:12] = 1
    truth[0, 0] = IGNORE_INDEX
    found = np.zeros_like(truth)
    found[4:12, 5:13] = 1  # moved by one
    found[16:19, 16:19] = 1  # nothing there
    found[0, 0] = 1
    parts = map_errors(truth, found, 2)
    assert {name: int(mask.sum()) for name, mask in parts.items()} == {
        "right": 56,
        "wrong": 9,
        "missed": 0,
        "boundary": 16,
    }
    assert int(map_errors(truth, np.zeros_like(truth), 2)["missed"].sum()) == 64, "all of it, its edge too"
    several = map_errors(truth * (truth != IGNORE_INDEX) * 2, found, 3)
    assert (int(several["wrong"].sum()), int(several["boundary"].sum())) == (64 + 8 + 9 + 1, 0)
