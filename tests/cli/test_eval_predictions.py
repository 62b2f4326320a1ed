"""`eval` of predictions made elsewhere: what is found by name, what is said, and where it is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SPLITS = {"train": 2, "val": 3, "test": 4}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    rng = np.random.default_rng(4)
    for split, count in SPLITS.items():
        for i in range(count):
            image, label = root / f"images/{split}/{split}{i}.png", root / f"labels/{split}/{split}{i}.txt"
            for file in (image, label):
                file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(image)
            label.write_text("0 0.5 0.5 0.4 0.4\n1 0.3 0.3 0.2 0.2\n")
    lines = [f"{split}: images/{split}\n" for split in SPLITS]
    (root / "data.yaml").write_text("path: .\n" + "".join(lines) + "names: {0: cat, 1: dog}\n")
    return root


def results(tmp_path: Path, split: str, *, score: float = 0.01, shift: int = 0) -> Path:
    boxes = {0: [24, 18, 32, 24], 1: [16, 12, 16, 12]}
    entries = [
        {"image_id": f"{split}{i}", "category_id": c + shift, "bbox": box, "score": score}
        for i in range(SPLITS[split])
        for c, box in boxes.items()
    ]
    path = tmp_path / f"{split}.json"
    path.write_text(json.dumps(entries))
    return path


def test_another_split_never_overwrites_the_first_one(sightline, data, tmp_path):
    out = tmp_path / "run"
    for split in ("val", "test", "test"):
        file = results(tmp_path, split)
        done = sightline("eval", "--data", data, "--predictions", file, "--split", split, "--out", out)
        assert done.returncode == 0, done.stderr
    first, second = (json.loads((out / name).read_text()) for name in ("evaluation.json", "evaluation-test.json"))
    assert (first["conventions"]["split"], first["conventions"]["images"]) == ("val", 3)
    assert (second["conventions"]["split"], second["conventions"]["images"]) == ("test", 4)
    assert sorted(p.name for p in out.iterdir()) == [
        "evaluation-test.json", "evaluation.json", "predictions-test.parquet", "predictions.parquet",
    ]  # fmt: skip


def test_the_screen_says_what_was_measured_and_at_which_point(sightline, data, tmp_path):
    done = sightline("eval", "--data", data, "--predictions", results(tmp_path, "val", score=0.6))
    assert (
        "COCO boxes, 3 images · NO SCORE BELOW 0.6: IF THEY WERE CUT THERE, AP AND AR ARE LOWER BOUNDS" in done.stdout
    )
    assert "at confidence 0.25 (for want of the model's own)" in done.stderr
    best = sightline("eval", "--data", data, "--predictions", results(tmp_path, "val"), "--best-conf")
    assert "(best pooled F1 on these very images, and so flattering)" in best.stderr
    both = sightline("eval", "--data", data, "--predictions", results(tmp_path, "val"), "--best-conf", "--conf", "0.5")
    assert both.returncode == 2
    assert "--best-conf" in both.stderr


def test_our_own_predictions_are_read_back_and_not_written_onto_themselves(sightline, data, tmp_path):
    out = tmp_path / "run"
    assert sightline("eval", "--data", data, "--predictions", results(tmp_path, "val"), "--out", out).returncode == 0
    saved = out / "predictions.parquet"
    before = saved.stat().st_mtime_ns
    done = sightline("eval", "--data", data, "--predictions", saved, "--out", out)
    assert done.returncode == 0, done.stderr
    assert saved.stat().st_mtime_ns == before
    other = sightline("eval", "--data", data, "--predictions", saved, "--split", "test")
    assert other.returncode == 2
    assert "got none of them, neither by name nor by content" in other.stderr


def test_the_audit_matches_predictions_by_name_too(sightline, data, tmp_path):
    agree = results(tmp_path, "val", score=0.9)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps([{**entry, "bbox": [60, 2, 15, 10]} for entry in json.loads(agree.read_text())]))
    for file, images in ((agree, set()), (wrong, {f"images/val/val{i}.png" for i in range(3)})):
        done = sightline("audit", data, "--predictions", file, "--json")
        assert done.returncode in (0, 1), done.stderr
        overlooked = [f for f in json.loads(done.stdout)["findings"] if f["code"] == "label-overlooked"]
        assert {f["path"] for f in overlooked} == images
    numbers = [{"image_id": 0, "category_id": 0, "bbox": [1, 1, 5, 5], "score": 0.9}]
    (tmp_path / "numbers.json").write_text(json.dumps(numbers * 3))
    refused = sightline("audit", data, "--predictions", tmp_path / "numbers.json")
    assert refused.returncode == 2
    assert "must be a number in the name of an image" in refused.stderr
