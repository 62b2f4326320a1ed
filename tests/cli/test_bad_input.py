"""Unusable models, videos, images and classes: one sentence, exit code 2, nothing half-written."""

import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from sightline.data import read_dataset
from sightline.models import create, save_weights


@pytest.fixture(scope="session")
def weights(traffic, tmp_path_factory):
    """Untrained weights for the classes of the traffic data."""
    path = tmp_path_factory.mktemp("weights") / "traffic.safetensors"
    save_weights(path, create("yolo11n", class_names=read_dataset(traffic).class_names, imgsz=64))
    return path


def one_sentence(done, *parts):
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(part in done.stderr for part in parts), done.stderr


def test_weights_that_are_not_ours(sightline, traffic, tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    one_sentence(
        sightline("eval", "--data", traffic, "--model", "foreign.safetensors"), "foreign.safetensors", "metadata"
    )
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    one_sentence(sightline("eval", "--data", traffic, "--model", "cut.safetensors"), "cut.safetensors")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "pickled.safetensors")
    one_sentence(sightline("eval", "--data", traffic, "--model", "pickled.safetensors"), "pickled.safetensors")


@pytest.mark.parametrize("threads", ["0", "-1", "many", "9" * 30])
def test_a_number_of_threads_that_polars_cannot_have(sightline, traffic, monkeypatch, threads):
    monkeypatch.setenv("POLARS_MAX_THREADS", threads)
    one_sentence(sightline("audit", traffic), "POLARS_MAX_THREADS must be a number from 1")


def test_a_wrong_argument_of_a_model_is_refused_before_data_is_read(sightline, tmp_path):
    words = ("train", "nowhere", "--model", "yolo11n", "arguments.box_los=giou")
    one_sentence(sightline(*words), "unknown argument of model 'yolo11n' 'box_los' (nearest: box_loss)")
    assert not list(tmp_path.iterdir())


def test_an_onnx_file_without_our_metadata(sightline, traffic, tmp_path):
    shape = ["batch", 3, 64, 64]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["out"])],
        "other",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "other.onnx")
    one_sentence(sightline("eval", "--data", traffic, "--model", "other.onnx"), "other.onnx", "metadata")


def test_another_number_of_classes(sightline, traffic, tmp_path):
    save_weights(tmp_path / "two.safetensors", create("yolo11n", class_names=("car", "tree"), imgsz=64))
    one_sentence(sightline("eval", "--data", traffic, "--model", "two.safetensors"), "classes", "car, tree")


def test_a_video_cut_before_its_index_or_empty_leaves_no_output(sightline, traffic, weights, tmp_path):
    whole = (traffic / "video" / "traffic.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    done = sightline("run", weights, "cut.mp4", "--out", "o", "--save", "jsonl")
    one_sentence(done, "cut.mp4")
    assert not (tmp_path / "o").exists()
    (tmp_path / "empty.mp4").write_bytes(b"")
    one_sentence(sightline("run", weights, "empty.mp4", "--out", "o"), "empty.mp4")


def test_an_unreadable_image_stops_training_with_its_name(sightline, traffic, tmp_path):
    copied = tmp_path / "broken"
    shutil.copytree(traffic, copied)
    image = sorted((copied / "images" / "train").glob("*.jpg"))[1]
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    done = sightline(
        "train", "--data", "broken", "--model", "yolo11n", "--imgsz", "64", "--epochs", "1", "--batch", "4"
    )
    one_sentence_with_notes = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2
    assert image.name in one_sentence_with_notes
    assert "Traceback" not in done.stderr


def test_a_data_yaml_with_a_typo_names_the_nearest_key(sightline, tmp_path):
    (tmp_path / "images").mkdir()
    np.zeros(1).tofile(tmp_path / "images" / "a.txt")
    (tmp_path / "data.yaml").write_text("path: .\ntrian: images\nval: images\nnames: [car]\n")
    one_sentence(sightline("audit", "data.yaml"), "trian", "train", "data.yaml")


def test_a_path_of_no_format_is_described_in_five_lines(sightline, tmp_path):
    (tmp_path / "nothing").mkdir()
    done = sightline("audit", tmp_path / "nothing")
    assert done.returncode == 2, done.stderr
    heads = [line.strip().partition(":")[0] for line in done.stderr.strip().splitlines()]
    assert heads == ["error", "seen", "nearest", "known", "the layout of each"]


def test_a_broken_settings_file_names_file_and_key(sightline, tmp_path):
    (tmp_path / "settings.yaml").write_text("model: yolo11n\ndata: x\nepoch: 3\n")
    one_sentence(sightline("train", "--config", "settings.yaml"), "settings.yaml", "'epoch'", "epochs")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        MemoryError("Unable to allocate 3 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_what_does_not_fit_into_memory_is_one_sentence(sightline, monkeypatch, error):
    def too_large(path, **settings):
        raise error

    monkeypatch.setattr("sightline.data.read_dataset", too_large)
    done = sightline("audit", "d")
    assert done.returncode == 2
    assert f"the memory must suffice, got too little: {error}" in done.stderr
