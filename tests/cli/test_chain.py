"""The chain end to end through the command line on a tiny data set."""

import json

import av
import numpy as np
import pytest


@pytest.fixture
def trained(sightline, traffic, tmp_path):
    done = sightline("train", "--data", traffic, "--model", "yolo11n", "--imgsz", "64", "--epochs", "1", "--batch", "4",
                     "--name", "tiny", "--precision", "fp32")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tmp_path / "runs" / "detect" / "tiny"


def test_train_export_eval_run_report(sightline, traffic, trained):
    weights = trained / "weights" / "best.safetensors"
    done = sightline("export", weights, "--data", traffic, "--record", trained, "--json")
    assert done.returncode == 0, done.stderr
    onnx = weights.with_suffix(".onnx")
    both = [sightline("eval", "--data", traffic, "--model", m, "--json") for m in (weights, onnx)]
    assert [d.returncode for d in both] == [0, 0], both[0].stderr + both[1].stderr
    left, right = (json.loads(d.stdout)["metrics"] for d in both)
    assert left["AP"] == pytest.approx(right["AP"], abs=1e-3)
    trained_metrics = json.loads((trained / "evaluation.json").read_text())["metrics"]
    assert left["AP"] == pytest.approx(trained_metrics["AP"], abs=1e-6)

    video = traffic / "video" / "traffic.mp4"
    done = sightline(
        "run", onnx, video, "--out", trained / "video", "--save", "video", "--save", "mot", "--save", "csv"
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(trained / "video" / "traffic.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 6
    assert all(np.ptp(frame) > 50 for frame in frames)

    stills = traffic / "images" / "val"
    done = sightline("run", onnx, stills, "--out", "stills", "--conf", "0", "--max-det", "5", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["detections"] == 5 * result["frames"]
    assert (result["tracks"], sorted(result["outputs"])) == (0, ["jsonl", "pictures"])

    done = sightline("report", trained)
    assert done.returncode == 0, done.stderr
    page = (trained / "report.html").read_text()
    assert "yolo11n" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_taken_run_name_is_refused_before_any_work(sightline, traffic, trained):
    done = sightline("train", "--data", traffic, "--model", "yolo11n", "--name", "tiny")
    assert done.returncode == 2
    assert "exists already" in done.stderr


def test_tracking_a_data_set_of_sequences(sightline, traffic, trained, tmp_path):
    sequence = traffic / "video" / "traffic"
    done = sightline("eval", "--data", sequence, "--model", trained / "weights" / "best.safetensors",
                     "--track", "kalman-iou", "--conf", "0", "--out", "t", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = sightline("eval", "--data", sequence, "--predictions", "t/mot", "--json")
    assert again.returncode == 0, again.stderr
    first, second = (json.loads(d.stdout)["combined"]["metrics"] for d in (done, again))
    assert first["HOTA"] == pytest.approx(second["HOTA"], abs=1e-9)
