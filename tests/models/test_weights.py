"""Weights: what is saved comes back; foreign, hostile and damaged files are refused in one sentence."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sightline.core.metadata as metadata_module
import sightline.models as models
from sightline.core.errors import ConfigError, ModelError
from sightline.core.metadata import METADATA_KEY, OperatingPoint
from sightline.core.preprocess import Preprocess

NAMES = ["background", "crack"]
META = {
    "operating_point": {"conf": 0.3, "iou": 0.6, "max_det": 100},
    "data_digest": "sha256:abc",
    "licence": "CC-BY-4.0",
    "training": {"epochs": 3, "seed": 0},
}


@pytest.mark.parametrize("imgsz", [2**40, 8192])
def test_a_size_that_no_network_input_has_is_refused(imgsz):
    with pytest.raises(ConfigError, match=r"cannot be made: size_hw must be at least 1 and of at most 16777216 pixels"):
        models.create("yolo11n", class_names=("car",), imgsz=imgsz)


def small(**changes):
    torch.manual_seed(0)
    return models.create("unet", class_names=changes.pop("class_names", NAMES), imgsz=32, base_width=2, **changes)


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "best.safetensors"
    models.save_weights(path, small(), META)
    return path


def rewrite(path: Path, change) -> Path:
    """The file again with other metadata and tensors: `change(meta, tensors)` edits both in place."""
    header_length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    header = json.loads(path.read_bytes()[8 : 8 + header_length])
    meta, tensors = json.loads(header["__metadata__"][METADATA_KEY]), load_file(path)
    change(meta, tensors)
    if meta.pop("redigest", True):
        meta["model_digest"] = models.model_digest(tensors)
    meta.pop("seal")
    meta["seal"] = metadata_module._seal(meta)
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(meta)})
    return path


def test_a_model_comes_back_with_its_outputs_and_metadata(saved):
    model = small()
    state = torch.get_rng_state()
    loaded = models.load_model(saved)
    assert torch.equal(state, torch.get_rng_state())
    assert not loaded.training
    assert (loaded.name, loaded.class_names, loaded.arguments) == ("unet", tuple(NAMES), model.arguments)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), model.eval()(images))
    meta = models.read_weights_meta(saved)
    assert meta.model_digest == models.model_digest(model.state_dict())
    assert meta.operating_point == OperatingPoint(**META["operating_point"])
    assert (meta.data_digest, meta.licence, meta.training) == ("sha256:abc", "CC-BY-4.0", META["training"])
    assert meta.preprocess == model.preprocess


def test_the_preprocessing_it_was_saved_with_comes_back(tmp_path):
    model = small()
    model.preprocess = Preprocess(size_hw=(64, 96), policy="stretch")
    models.save_weights(tmp_path / "w.safetensors", model)
    assert models.load_model(tmp_path / "w.safetensors").preprocess == model.preprocess


def test_yolo_comes_back(tmp_path):
    model = models.create("yolo11n", class_names=["a"], imgsz=(64, 96))
    models.save_weights(tmp_path / "w.safetensors", model.to(memory_format=torch.channels_last))
    loaded = models.load_model(tmp_path / "w.safetensors")
    assert models.model_digest(loaded.state_dict()) == models.model_digest(model.state_dict())
    assert loaded.preprocess.size_hw == (64, 96)


def test_the_digest_sees_a_single_bit():
    tensors = {"a": torch.zeros(3), "b": torch.ones(2, dtype=torch.bfloat16)}
    before = models.model_digest(tensors)
    assert models.model_digest(dict(reversed(tensors.items()))) == before
    tensors["a"][1] = 1e-45
    assert models.model_digest(tensors) != before
    assert models.model_digest({"a": torch.zeros(3, 1), "b": tensors["b"]}) != before


def test_transfer_to_other_classes_leaves_the_head_fresh(saved):
    source = models.load_model(saved)
    model = small(class_names=["background", "crack", "joint"], weights=saved)
    same = {
        k: torch.equal(v, source.state_dict()[k])
        for k, v in model.state_dict().items()
        if not k.startswith("network.head")
    }
    assert all(same.values())
    assert model.network.head.weight.shape[0] == 3


def test_weights_of_the_same_classes_are_all_taken(tmp_path):
    model = small()
    model.network.head.bias.data.fill_(7.0)
    models.save_weights(tmp_path / "w.safetensors", model)
    assert small(weights=tmp_path / "w.safetensors").network.head.bias.item() == 7.0


def test_weights_of_another_architecture_are_refused(saved):
    with pytest.raises(ModelError, match="weights must be of 'yolo11n', got 'unet'"):
        models.create("yolo11n", class_names=["a"], weights=saved)
    with pytest.raises(ModelError, match=r"tensor '.*' must have shape"):
        models.create("unet", class_names=NAMES, base_width=4, weights=saved)


def test_a_fused_model_is_not_saved_and_the_earlier_file_stays(saved):
    before = saved.read_bytes()
    with pytest.raises(ModelError, match="must have the tensors of 'unet' as created"):
        models.save_weights(saved, models.fuse(small()))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_wrong_metadata_is_not_saved(tmp_path):
    with pytest.raises(ConfigError, match="unknown metadata key 'license' \\(nearest: licence"):
        models.save_weights(tmp_path / "w.safetensors", small(), {"license": "MIT"})
    with pytest.raises(ConfigError, match="conf"):
        models.save_weights(
            tmp_path / "w.safetensors", small(), {"operating_point": {"conf": 2, "iou": 0.5, "max_det": 1}}
        )
    with pytest.raises(ConfigError, match=r"must be written to a \.safetensors file, got 'w.pt'"):
        models.save_weights(tmp_path / "w.pt", small())
    assert list(tmp_path.iterdir()) == []


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def write_torch(path: Path) -> None:
    torch.save({"model": Bomb()}, path)


def header_only(header: bytes, length: int | None = None):
    return lambda path: path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_pickle, "cannot be trusted: a pickle file"),
        (write_torch, "cannot be trusted: a pickle file"),
        (lambda path: path.write_bytes(b""), "whole safetensors file"),
        (lambda path: path.write_bytes(b"\x01\x02"), "whole safetensors file"),
        (lambda path: path.write_text("not weights at all, just some text"), "whole safetensors file"),
        (header_only(b"{}", 2**62), "whole safetensors file"),
        (header_only(b"[1, 2]"), "header is not JSON"),
        (header_only(b"{{{{"), "header is not JSON"),
        (header_only(b"\xff\xfe\xfa\xf0"), "header is not JSON"),
        (header_only(b"[" * 100_000), "header is not JSON"),
        (header_only(b'{"a": 3}'), "where tensor 'a' lies"),
        (lambda path: save_file({"a": torch.zeros(2)}, path), "without it"),
        (lambda path: save_file({"a": torch.zeros(2)}, path, metadata={METADATA_KEY: "{"}), "must be JSON"),
        (lambda path: save_file({"a": torch.zeros(2)}, path, metadata={METADATA_KEY: "[]"}), "JSON object"),
        (
            lambda path: save_file({"a": torch.zeros(2)}, path, metadata={METADATA_KEY: "9" * 5_000_000}),
            "at most 4000000",
        ),
        (lambda path: save_file({"a": torch.zeros(2)}, path, metadata={METADATA_KEY: "{}"}), "is missing"),
        (lambda path: path.mkdir(), "cannot read the weights"),
        (lambda path: None, "cannot read the weights \\(No such file"),
    ],
)
def test_foreign_files_are_refused_in_one_sentence(tmp_path, write, message):
    path = tmp_path / "foreign.safetensors"
    write(path)
    for read in (models.load_model, models.read_weights_meta):
        with pytest.raises(ModelError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def set_meta(key, value):
    return lambda meta, tensors: meta.update({key: value})


def drop(meta, tensors):
    del tensors["network.head.bias"]


def add(meta, tensors):
    tensors["extra"] = torch.zeros(1)


def reshape(meta, tensors):
    tensors["network.head.bias"] = torch.zeros(5)


def poison(meta, tensors):
    tensors["network.head.bias"][0] = float("nan")


def alter(meta, tensors):
    tensors["network.head.bias"] += 1
    meta["redigest"] = False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "1 missing \\('network.head.bias'\\)"),
        (add, "1 unexpected \\('extra'\\)"),
        (reshape, "'network.head.bias' must have shape \\(1,\\), got \\(5,\\)"),
        (poison, "must be finite"),
        (alter, "must match the digest"),
        (set_meta("architecture", "unett"), "unknown model 'unett' \\(nearest: unet"),
        (set_meta("arguments", {"base_width": 10**12}), "base_width must be 1..512"),
        (set_meta("arguments", {"weights": "https://example.invalid/x"}), "unknown argument of model 'unet' 'weights'"),
        (set_meta("arguments", {"base_width": 256}), "must have shape"),
        (set_meta("class_names", ["a", "a"]), "class_names must differ"),
        (set_meta("class_names", []), "class_names"),
        (set_meta("task", "detect"), "task and channels must be those"),
        (set_meta("task", "sing"), "'task'"),
        (set_meta("preprocess", {"size_hw": [0, 3]}), "size_hw"),
        (set_meta("schema_version", 99), "written by a newer Sightline"),
        (set_meta("colour", "red"), "unknown key 'colour'"),
    ],
)
def test_altered_files_are_refused(saved, change, message):
    with pytest.raises(ModelError, match=message):
        models.load_model(rewrite(saved, change))


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.999])
def test_truncated_files_are_refused(saved, kept):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match="truncated"):
        models.load_model(saved)


def test_another_description_of_the_same_tensors(saved):
    own = models.read_weights_meta(saved)
    point = OperatingPoint(conf=0.125, suppression="diou")
    models.restate_weights(saved, own.model_copy(update={"operating_point": point}))
    assert models.read_weights_meta(saved).operating_point == point
    assert models.model_digest(models.load_model(saved).state_dict()) == own.model_digest
    before = saved.read_bytes()
    with pytest.raises(ModelError, match="of these tensors"):
        models.restate_weights(saved, own.model_copy(update={"model_digest": "sha256:0"}))
    assert saved.read_bytes() == before
