"""Checkpoints of another tool become our networks: the same outputs, its licence, its classes; others are refused."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tests.models.foreign_yolo import Segment, checkpoint_of, fused, random_model, save_as_its_tool

import sightline
from sightline.core.errors import ConfigError, ModelError, ParityError
from sightline.models import adopt_checkpoint, create, read_weights_meta, weights_origin
from sightline.models.foreign.mapping import _pairs, fit_tensors, foreign_rows
from sightline.models.registry import build_shapes

NAMES = ("cell", "other")


def boxes_and_scores(outputs):
    centre, half, scores = outputs[..., :2], outputs[..., 2:4] / 2, outputs[..., 4:]
    return torch.cat((centre - half, centre + half), -1), scores


@pytest.mark.parametrize("kind", ["module with moving average", "module", "tensors by name"])
def test_outputs_are_those_of_the_tool(tmp_path, kind):
    first, second = random_model(1), random_model(2)
    values = {
        "module with moving average": checkpoint_of(first, second),
        "module": checkpoint_of(second),
        "tensors by name": {"state_dict": second.state_dict(), "names": list(NAMES)},
    }[kind]
    path = save_as_its_tool(tmp_path / "best.pt", values)
    found = adopt_checkpoint(path)
    assert found.model.name == "yolo8n"
    assert found.model.class_names == NAMES
    images = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = boxes_and_scores(second.float()(images))
        got = found.model.decode(found.model(images))
    for own, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(own, theirs, atol=2e-4, rtol=1e-5)
    assert found.evidence["tensors"].startswith("all 355 in place")


def test_masks_are_those_of_the_tool(tmp_path):
    theirs = random_model(4, head=Segment)
    path = save_as_its_tool(tmp_path / "best.pt", checkpoint_of(theirs))
    adopted = sightline.adopt(path)
    assert (adopted.architecture, adopted.task) == ("yolo8n-seg", "instance")
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        rows, prototypes = theirs.float()(images)
        got = adopted.predictor.run(images.numpy())
    expected = (*boxes_and_scores(rows[..., :6]), rows[..., 6:], prototypes)
    for own, array in zip(got.values(), expected, strict=True):
        np.testing.assert_allclose(own, array.numpy(), atol=2e-4, rtol=1e-4)


def test_licence_size_and_origin_go_into_the_file(tmp_path):
    path = save_as_its_tool(tmp_path / "best.pt", checkpoint_of(None, random_model(2)))
    adopted = sightline.adopt(path)
    meta = read_weights_meta(adopted.file)
    assert meta.licence == "AGPL-3.0"
    assert meta.preprocess.size_hw == (96, 96)
    origin = meta.training["adopted_from"]
    assert origin["weights"] == "ema"
    assert origin["trained_on"] == "bccd/data.yaml"
    assert origin["class"] == "ultralytics.nn.tasks.DetectionModel"
    assert origin["epoch"] == 4
    assert adopted.checks["outputs"].startswith("NOT MEASURED")
    assert sightline.Model(adopted.file).class_names == NAMES
    onward = weights_origin(adopted.file)
    assert onward["licence"] == "AGPL-3.0"
    assert onward["training"]["started_from"]["adopted_from"] == origin


NAMED = ["yolo5n", "yolo8s", "yolo8n-seg", "yolo9t", "yolo9c", "yolo10n", "yolo10m", "yolo11n", "yolo11m-seg"]


@pytest.mark.parametrize("name", [*NAMED, "yolo12n", "yolo12x"])
def test_every_tensor_of_a_network_has_one_name_there(name):
    model = build_shapes(name, NAMES, {})
    own = [row.name for row in model.rows] + ["head"]
    named = {}
    for block, child in enumerate(own):
        pairs = list(_pairs(model.get_submodule(child), ""))
        named |= {f"model.{block * 2}.{there}": tensor for _, (there, tensor) in pairs}
    assert len(named) == len(model.state_dict())
    assert fit_tensors(model, foreign_rows(named)).first_difference is None
    fit = fit_tensors(build_shapes("yolo8n", NAMES, {}), foreign_rows(named))
    assert fit.first_difference is not None


@pytest.mark.parametrize(
    ("name", "row", "tensors"),
    [
        ("yolo8n-seg", "head", {"proto.upsample.bias": (64,), "cv4.2.0.conv.weight": (32, 256, 3, 3)}),
        ("yolo9t", "stage3", {"cv2.0.m.2.cv1.conv1.conv.weight": (16, 16, 3, 3), "cv4.conv.weight": (64, 128, 1, 1)}),
        ("yolo9t", "stage3", {"cv3.0.m.0.cv1.conv2.conv.weight": (16, 16, 1, 1), "cv3.1.bn.bias": (32,)}),
        ("yolo9t", "pool5", {"cv1.conv.weight": (64, 128, 1, 1), "cv5.conv.weight": (128, 256, 1, 1)}),
        ("yolo9c", "down3", {"cv1.conv.weight": (128, 128, 3, 3), "cv2.conv.weight": (128, 128, 1, 1)}),
        ("yolo10n", "down4", {"cv1.conv.weight": (128, 64, 1, 1), "cv2.conv.weight": (128, 1, 3, 3)}),
        (
            "yolo10n",
            "out5",
            {"m.0.cv1.2.conv.conv.weight": (256, 1, 7, 7), "m.0.cv1.2.conv1.conv.weight": (256, 1, 3, 3)},
        ),
        ("yolo10n", "attend5", {"m.0.attn.qkv.conv.weight": (256, 128, 1, 1)}),
        ("yolo10n", "head", {"cv3.2.0.0.conv.weight": (256, 1, 3, 3), "one2one_cv3.1.1.1.conv.weight": (80, 80, 1, 1)}),
        ("yolo10n", "head", {"one2one_cv2.0.2.bias": (64,), "dfl.conv.weight": (16,)}),
    ],
)
def test_names_are_those_of_its_files(name, row, tensors):
    """As they stand in the checkpoints that Ultralytics 8.4 writes, of 80 classes."""
    model = build_shapes(name, tuple(map(str, range(80))), {})
    pairs = dict(dict(_pairs(model.get_submodule(row), "")).values())
    assert {there: tuple(pairs[there].shape) for there in tensors} == tensors


def test_a_lone_block_of_attention_needs_no_number():
    model = build_shapes("yolo10n", NAMES, {})
    own = [row.name for row in model.rows] + ["head"]
    named = {
        f"model.{block}.{there.removeprefix('m.0.') if child == 'attend5' else there}": tensor
        for block, child in enumerate(own)
        for _, (there, tensor) in _pairs(model.get_submodule(child), "")
    }
    assert "model.10.attn.qkv.conv.weight" in named
    assert fit_tensors(model, foreign_rows(named)).first_difference is None


def test_yolov5_needs_its_own_anchors(tmp_path):
    torch.manual_seed(0)
    model = create("yolo5n", class_names=NAMES)
    tensors, place = {}, 0
    for child in [row.name for row in model.rows] + ["head"]:
        tensors |= {f"model.{place}.{there}": t for _, (there, t) in _pairs(model.get_submodule(child), "")}
        place += 1
    anchors = model.head.anchors / torch.tensor([8.0, 16.0, 32.0])[:, None, None]
    for scale, fits in ((1.0, True), (1.1, False)):
        torch.save({"model": tensors | {f"model.{place - 1}.anchors": anchors * scale}}, tmp_path / "v5.pt")
        if fits:
            assert adopt_checkpoint(tmp_path / "v5.pt", class_names=NAMES).model.name == "yolo5n"
        else:
            with pytest.raises(ModelError, match="the anchors must be those of YOLOv5"):
                adopt_checkpoint(tmp_path / "v5.pt", class_names=NAMES)


@pytest.mark.parametrize(
    ("values", "given", "message"),
    [
        (lambda m: {"model": m.state_dict()}, {}, "class names must be known"),
        (lambda m: {"model": fused(m)}, {"class_names": NAMES}, "got folded ones"),
        (lambda m: {"model": {"a.w": torch.ones(2), "b.running_mean": torch.ones(1)}}, {}, "a YOLO's numbered blocks"),
        (lambda m: {"model": m.state_dict()}, {"class_names": ("a", "b", "c")}, "nearest is 'yolo8n' with 349 of 355"),
        (lambda m: {"model": m.model[:9].state_dict()}, {"class_names": NAMES}, "got 9 blocks that none has"),
        (lambda m: {"model": m.state_dict()}, {"class_names": ("a", "a")}, "classes are unusable: .* must differ"),
        (checkpoint_of, {"class_names": ("a",)}, "a name for each of the 2 classes, got 1"),
        (lambda m: checkpoint_of(setattr(m, "task", "pose") or m), {}, "got one of the task 'pose'"),
        (
            lambda m: checkpoint_of(setattr(m, "task", "segment") or m),
            {},
            "the task stated, 'segment', must be that of the tensors, got those of 'yolo8n'",
        ),
        (
            lambda m: checkpoint_of(m.model[22].cv3[0][2].bias.data.fill_(torch.nan) is not None and m),
            {},
            "must be finite",
        ),
        (lambda m: checkpoint_of(setattr(m.model[0].bn, "eps", 1e-5) or m), {}, "an eps of 0.001, got 1e-05"),
        (
            lambda m: checkpoint_of(setattr(m, "stride", torch.tensor([4.0, 8.0])) or m),
            {},
            "levels must have the strides",
        ),
        (
            lambda m: checkpoint_of(m.model[22].dfl.conv.weight.data.neg_() is not None and m),
            {},
            "bins must count from 0",
        ),
        (lambda m: checkpoint_of(m.model[3].conv.weight.data.fill_(torch.nan) is not None and m), {}, "must be finite"),
    ],
)
def test_what_is_none_of_ours_is_refused(tmp_path, values, given, message):
    path = save_as_its_tool(tmp_path / "best.pt", values(random_model(2)))
    with pytest.raises(ModelError, match=message):
        adopt_checkpoint(path, **given)


def constant_head(path, side=64, value=0.5):
    """An ONNX file with the shapes of the export of two classes, whatever the picture; `value` is one cell's."""
    cells = sum((side // stride) ** 2 for stride in (8, 16, 32))
    taken = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])
    given = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, cells])
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "head"], ["output0"]),
    ]
    numbers = np.full((1, 6, cells), 0.5, np.float32)
    numbers[0, 0, 7] = value
    head = numpy_helper.from_array(numbers, "head")
    graph = helper.make_graph(nodes, "g", [taken], [given], [head])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_the_export_of_another_model_is_noticed(tmp_path):
    path = save_as_its_tool(tmp_path / "best.pt", checkpoint_of(random_model(2)))
    file = constant_head(tmp_path / "other.onnx")
    with pytest.raises(ParityError, match=r"outputs must be those of the export within 0\.05 px and 0\.001"):
        sightline.adopt(path, tmp_path / "a.safetensors", onnx=file)
    no_number = constant_head(tmp_path / "nan.onnx", value=np.nan)
    with pytest.raises(ParityError, match="got differences of nan px"):
        sightline.adopt(path, tmp_path / "a.safetensors", onnx=no_number)
    three = save_as_its_tool(tmp_path / "three.pt", checkpoint_of(random_model(2, nc=3, names=("a", "b", "c"))))
    with pytest.raises(ModelError, match="must give raw outputs of the same classes: class names must be as many"):
        sightline.adopt(three, tmp_path / "a.safetensors", onnx=file)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.slow
def test_the_export_of_the_same_model_proves_it(tmp_path):
    class Raw(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = random_model(2).half().float()

        def forward(self, images):
            return self.inner(images).transpose(1, 2)

    path = save_as_its_tool(tmp_path / "best.pt", checkpoint_of(random_model(2)))
    torch.onnx.export(Raw().eval(), (torch.zeros(1, 3, 64, 64),), dynamo=True, verbose=False).save(
        str(tmp_path / "m.onnx")
    )
    checks = sightline.adopt(path, onnx=tmp_path / "m.onnx").checks
    assert checks["outputs"].startswith("those of m.onnx on 8 pictures of noise: within")


def test_what_is_given_must_fit_the_file(tmp_path):
    path = save_as_its_tool(tmp_path / "best.pt", checkpoint_of(random_model(2)))
    for given, message in (
        ({"reading": "yolo8"}, "a checkpoint says how it is fed and read, got --reading"),
        ({"out": tmp_path / "m.onnx"}, "the output must end in .safetensors"),
        ({"imagesize": 3}, "unknown key 'imagesize'"),
    ):
        with pytest.raises(ConfigError, match=message):
            sightline.adopt(path, **given)
    with pytest.raises(ConfigError, match="a model to adopt must end in"):
        sightline.adopt(tmp_path / "model.h5")
