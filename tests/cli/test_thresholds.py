"""`sightline thresholds`: the table, the page, and the point that the model file then runs with."""

import json
import shutil

import numpy as np
from PIL import Image
from tests.infer.artefacts import BOXES, SIZE_HW, metadata, write_onnx

from sightline.core.files import write_sealed_json
from sightline.infer import open_predictor

NAMES = ("background", "foreground")


def labelled(folder):
    """A YOLO set of two white pictures with the boxes the constant detector gives."""
    height, width = SIZE_HW
    lines = []
    for class_id, (x1, y1, x2, y2) in ((0, BOXES[0]), (1, BOXES[2])):
        lines.append(
            f"{class_id} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
        )
    for name in ("a", "b"):
        for part in ("images", "labels"):
            (folder / part / "val").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*SIZE_HW, 3), 255, np.uint8)).save(folder / "images/val" / f"{name}.png")
        (folder / "labels/val" / f"{name}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("path: .\nval: images/val\nnames: [car, bus]\n")
    return str(folder)


def test_the_best_point_goes_into_the_file(sightline, tmp_path):
    model, data = write_onnx(tmp_path / "m.onnx", metadata()), labelled(tmp_path / "data")
    before = model.read_bytes()
    words = ("thresholds", str(model), data, "--conf", "0.01", "0.3", "--iou", "0.5", "0.99", "--max-det", "300")
    done = sightline(*words, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "best F1: 1.000 with conf 0.7, iou 0.5, max_det 300, nms" in done.stderr
    assert model.read_bytes() == before, "only --store writes into the model"
    assert "<svg" in (tmp_path / "out/thresholds.html").read_text()
    assert len(json.loads((tmp_path / "out/thresholds.json").read_text())["table"]) == 4
    assert sightline(*words, "--store").returncode == 0
    stored = open_predictor(model)
    assert (round(stored.thresholds.conf, 3), stored.thresholds.iou) == (0.7, 0.5)
    assert stored.metadata.training["operating_point_on"]["split"] == "val"
    assert stored.metadata.training["operating_point_by"] == "F1"


def test_the_threshold_of_a_segmenter_goes_into_the_file_and_is_what_eval_uses(sightline, tmp_path):
    """The network's foreground is the picture's brightness: what is labelled are the pixels from 180 on."""
    model = write_onnx(tmp_path / "m.onnx", metadata("semantic", operating_point=None, class_names=NAMES))
    pixels = np.random.default_rng(0).integers(0, 256, SIZE_HW, np.uint8)
    for part, shown in (("images", np.dstack([pixels] * 3)), ("masks", (pixels >= 180).astype(np.uint8))):
        (tmp_path / "data" / part).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(shown).save(tmp_path / "data" / part / f"{name}.png")
    words = ("thresholds", str(model), str(tmp_path / "data"), "--split", "all", "--out", str(tmp_path / "out"))
    done = sightline(*words, "--store")
    assert done.returncode == 0, done.stderr
    assert "best Dice: 1.000 with foreground from probability" in done.stderr
    conf = open_predictor(model).foreground_conf
    assert 179 / 255 < conf <= 180 / 255
    assert "specificity" in (tmp_path / "out/thresholds.html").read_text()
    run, base = tmp_path / "run", ("eval", "--data", str(tmp_path / "data"), "--split", "all")
    measured = sightline(*base, "--model", str(model), "--objects", "--out", str(run))
    assert f"foreground from probability {conf:.4g} on (the model's own" in measured.stderr, measured.stderr
    assert "errors of objects" in measured.stdout
    write_sealed_json(run / "run.json", {"task": "semantic"})
    assert sightline("report", str(run)).returncode == 0
    page = (run / "report.html").read_text()
    for shown in ("What the threshold does", "Errors of objects", "Foreground Dice, mean over images"):
        assert shown in page
    decided = sightline(*base, "--predictions", str(run / "predictions.parquet"), "--conf", "0.5")
    assert (decided.returncode, "got maps that are decided" in decided.stderr) == (2, True)


def test_what_cannot_be_sought_is_one_sentence(sightline, tmp_path):
    model, data = write_onnx(tmp_path / "m.onnx", metadata()), labelled(tmp_path / "data")
    maps = write_onnx(tmp_path / "maps.onnx", metadata("semantic"))
    several = write_onnx(tmp_path / "several.onnx", metadata("semantic", class_names=("background", "a", "b")))
    bare = tmp_path / "bare"
    shutil.copytree(data, bare)
    for file in (bare / "labels/val").glob("*.txt"):
        file.write_text("")
    for words, said in (
        ((str(maps), data, "--iou", "0.5"), "the grid, --by and --by-size are for detectors"),
        ((str(several), data), "must be sought for a model of boxes, objects or label maps of two classes"),
        ((str(model), str(bare)), "must be sought on images with objects"),
        ((str(model), data, "--tile", "640"), "unknown option --tile"),
        ((str(model), data, "--iou", "2"), "less than or equal to 1"),
        ((str(model), data, "--sigma", "0.3"), "sigma must be given with soft-gaussian"),
        ((str(model), data, "--suppression", "sort"), "suppression"),
    ):
        done = sightline("thresholds", *words)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
