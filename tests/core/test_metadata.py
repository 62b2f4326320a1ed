"""What a model file says about itself: it survives the trip, and what is not ours is refused in one sentence."""

import json

import pytest

from sightline.core.errors import ModelError
from sightline.core.metadata import MODEL_SCHEMA_VERSION, ModelMetadata, OperatingPoint
from sightline.core.preprocess import Preprocess


def metadata(**changes) -> ModelMetadata:
    values = {
        "sightline_version": "0.1.0",
        "architecture": "yolo11n",
        "arguments": {"imgsz": 320, "widths": [16, 32]},
        "task": "detect",
        "class_names": ("cat", "größe <b>"),
        "preprocess": Preprocess(size_hw=(320, 320), mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2)),
        "operating_point": OperatingPoint(conf=0.37),
        "data_digest": "ab" * 32,
        "model_digest": "cd" * 32,
        "training": {"epoch": 12, "mAP50": 0.81},
    }
    return ModelMetadata(**{**values, **changes})


def test_json_round_trip():
    made = metadata()
    assert ModelMetadata.from_json(made.to_json(), "m.onnx") == made
    assert json.loads(made.to_json())["schema_version"] == MODEL_SCHEMA_VERSION


def test_defaults_are_not_shared():
    first, second = metadata(training={}), metadata(training={})
    first.training["epoch"] = 1
    assert second.training == {}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "metadata must be JSON"),
        ("{", "metadata must be JSON"),
        ("[" * 100_000, "metadata must be JSON"),
        ("[]", "metadata must be a JSON object, got a list"),
        ("{}", "metadata is unusable: 'sightline_version' is missing"),
        (" " * 5_000_000, "metadata must be at most"),
        (json.dumps({"schema_version": MODEL_SCHEMA_VERSION + 1}), "metadata schema must be at most"),
        (json.dumps({**json.loads(metadata().to_json()), "clas_names": []}), "nearest: class_names"),
        (json.dumps({**json.loads(metadata().to_json()), "class_names": []}), "'class_names'"),
        (json.dumps({**json.loads(metadata().to_json()), "task": "paint"}), "'task'"),
        (json.dumps({**json.loads(metadata().to_json()), "preprocess": {"size_hw": [0, 1]}}), "'preprocess'"),
    ],
)
def test_what_is_not_ours_is_refused(text, part):
    with pytest.raises(ModelError) as caught:
        ModelMetadata.from_json(text, "m.onnx")
    assert part in str(caught.value)
    assert str(caught.value).startswith("m.onnx: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_names", ["van", "car"]),
        ("architecture", "yolo11s"),
        ("model_digest", "sha256:0"),
        ("operating_point", {"conf": 0.9, "iou": 0.7, "max_det": 300}),
        ("seal", "sha256:0"),
        ("seal", None),
    ],
)
def test_altered_metadata_is_noticed(key, value):
    values = json.loads(metadata().to_json())
    with pytest.raises(ModelError, match="metadata must match the digest beside it"):
        ModelMetadata.from_json(json.dumps({**values, key: value}), "m.onnx")
    values["preprocess"]["mean"] = [0.5, 0.5, 0.5]
    with pytest.raises(ModelError, match="metadata must match the digest beside it"):
        ModelMetadata.from_json(json.dumps(values), "m.onnx")


def test_files_from_before_the_digest_are_read():
    values = json.loads(metadata().to_json())
    del values["seal"]
    assert ModelMetadata.from_json(json.dumps(values | {"schema_version": 1}), "m.onnx").class_names
