"""What works without torch: audit, eval of a predictions file, running an ONNX model.

By default torch is hidden from the interpreter; SIGHTLINE_BASE_PYTHON names one of an environment that has none.
"""

import json
import os
import subprocess
import sys

import pytest

from sightline.core.predictions import predictions_from_rows
from sightline.data import read_dataset
from sightline.deploy import export_onnx
from sightline.models import create

HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'torchvision', 'onnx', 'onnxscript'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name.split('.')[0])
sys.meta_path.insert(0, Hide())
"""
CALL = "import sys; from sightline.cli.main import main; main(sys.argv[1:])"


@pytest.fixture
def base(tmp_path):
    python = os.environ.get("SIGHTLINE_BASE_PYTHON")

    def run(*arguments):
        code = CALL if python else HIDE + CALL
        command = [python or sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240, check=False)

    return run


def test_audit_and_eval_of_a_predictions_file(base, traffic, tmp_path):
    done = base("audit", traffic, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 8
    dataset = read_dataset(traffic).split("val")
    rows = dataset.usable_objects.select("image_id", "class_id", "x1", "y1", "x2", "y2").with_columns(score=1.0)
    predictions_from_rows(rows, {"class_names": dataset.class_names}).of(dataset).save(tmp_path / "p.parquet")
    done = base("eval", "--data", traffic, "--predictions", "p.parquet", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["AP50"] == pytest.approx(1.0)


def test_an_onnx_model_runs_and_is_measured(base, traffic, tmp_path):
    dataset = read_dataset(traffic)
    model = create("yolo11n", class_names=dataset.class_names, imgsz=64).eval()
    images = [dataset.image_path(p) for p in dataset.images["path"][:2]]
    export_onnx(model, tmp_path / "model.onnx", images=images)
    done = base(
        "run", "model.onnx", traffic / "video" / "traffic.mp4", "--out", "o", "--save", "jsonl", "--conf", "0.2"
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "o" / "traffic.jsonl").read_text().splitlines()) >= 6
    done = base("eval", "--data", traffic, "--model", "model.onnx", "--json")
    assert done.returncode == 0, done.stderr


def test_a_verb_that_needs_torch_says_what_to_install(base):
    done = base("train", "--data", "x", "--model", "yolo11n")
    assert done.returncode == 2
    assert "pip install 'sightline[train]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
