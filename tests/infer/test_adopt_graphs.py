"""Graphs made elsewhere: recognised by shapes and values, tried on labelled pictures, and read from then on as ours."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import sightline
from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import ConfigError, ModelError
from sightline.infer.foreign.trial import SCALES

SIZE, CELL = 64, 16
COLOUR = np.array([200, 60, 20], np.float32)
NAMES = ("red", "other")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Wide pictures with one or two patches of a colour, each one cell of the network's input when letterboxed."""
    root = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    images, objects = [], []
    for number in range(6):
        pixels = rng.integers(90, 110, (64, 128, 3)).astype(np.uint8)
        for place in rng.choice(8, 2, replace=False).tolist():
            x, y = 32 * (place % 4), 32 * (place // 4)
            pixels[y : y + 32, x : x + 32] = COLOUR
            box = {"x1": x, "y1": y, "x2": x + 32, "y2": y + 32}
            objects.append({"image_id": number, "class_id": 0, **{k: float(v) for k, v in box.items()}})
        Image.fromarray(pixels).save(root / f"{number}.png")
        images.append({"image_id": number, "path": f"{number}.png", "height": 64, "width": 128, "split": None})
    classes = [{"class_id": i, "name": name} for i, name in enumerate(NAMES)]
    return dataset_from_rows(images, objects, classes, root=root, name="patches", task="detect", format="test")


def cells(images, channels, scale):
    """Boxes (A, 4) of the cells and how much each is of the colour, for pictures fed as a network wants them."""
    mean, std = (np.array(v, np.float32).reshape(-1, 1, 1) for v in SCALES[scale])
    wanted = (COLOUR.reshape(-1, 1, 1) / 255 - mean) / std
    if channels == "bgr":
        wanted = wanted[::-1]
    b, c, h, w = images.shape
    means = images.reshape(b, c, h // CELL, CELL, w // CELL, CELL).mean((3, 5))
    distance = np.abs((means - wanted) * np.abs(std)).sum(1).reshape(b, -1)
    y, x = (v.reshape(-1) * CELL for v in np.meshgrid(np.arange(h // CELL), np.arange(w // CELL), indexing="ij"))
    boxes = np.stack((x, y, x + CELL, y + CELL), 1).astype(np.float32)
    return np.repeat(boxes[None], b, 0), np.clip(1 - 2 * distance, 0.0, 1).astype(np.float32)


def centred(boxes):
    return np.concatenate(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), -1)


def one_hot(scores):
    return np.stack((scores, np.zeros_like(scores)), -1)


def logits(shares):
    return np.log(np.clip(shares, 1e-4, 1 - 1e-4)) - np.log(1 - np.clip(shares, 1e-4, 1 - 1e-4))


def with_rest(shares, place):
    """Logits of a softmax that gives these shares and the rest to a class that is no object."""
    clipped = np.clip(shares, 1e-4, 1)
    rest = np.clip(1 - clipped.sum(-1, keepdims=True), 1e-4, 1)
    return np.log(np.concatenate((rest, clipped) if place == "first" else (clipped, rest), -1))


def many(array):
    """More anchors than any graph keeps that gives each object once: of nothing."""
    return np.concatenate((array, np.zeros((array.shape[0], 1200, array.shape[2]), np.float32)), 1)


HEADS = {
    "yolo8": lambda b, s: many(np.concatenate((centred(b), one_hot(s)), -1)).transpose(0, 2, 1),
    "yolo8-rows": lambda b, s: many(np.concatenate((centred(b), one_hot(s)), -1)),
    "yolo5": lambda b, s: many(np.concatenate((centred(b), s[..., None], one_hot(np.ones_like(s))), -1)),
    "one-to-one": lambda b, s: np.concatenate((b, s[..., None], np.zeros_like(s)[..., None]), -1),
    "pairs-cxcywh-sigmoid": lambda b, s: (logits(one_hot(s)), centred(b) / SIZE),
    "pairs-cxcywh-softmax-last": lambda b, s: (with_rest(one_hot(s), "last"), centred(b) / SIZE),
    "pairs-xyxy-softmax-first": lambda b, s: (with_rest(one_hot(s), "first"), b / SIZE),
    "pairs-yxyx-probability": lambda b, s: (one_hot(s), b[..., [1, 0, 3, 2]]),
    "labelled-from-1": lambda b, s: (b[0], np.ones(len(b[0]), np.int64), s[0]),
    "labelled-from-0": lambda b, s: (b[0], np.zeros(len(b[0]), np.int64), s[0]),
}


def detector(head, channels="rgb", scale="0..1"):
    return lambda images: HEADS[head](*cells(images, channels, scale))


@pytest.mark.parametrize("head", list(HEADS))
def test_every_kind_of_output_is_found_by_trying(data, head):
    adopted = sightline.adopt(detector(head), data=data, imgsz=(SIZE, SIZE), channels="rgb", scale="0..1")
    assert adopted.tried.row(0)[:4] == (head, "rgb", "0..1", "letterbox")
    assert adopted.tried["AP50"][0] == pytest.approx(1.0)
    assert adopted.tried["AP50"].is_sorted(descending=True)
    found = adopted.predictor([data[0].file])[0]
    best = found[found.confidence > 0.5]
    assert sorted(map(tuple, best.xyxy.tolist())) == sorted(map(tuple, data[0].boxes.tolist()))
    assert set(best.data["class_name"]) == {"red"}


def masked(head):
    """The colour detector with a coefficient for each box, and a prototype that covers the upper half of each cell."""

    def detect(images):
        boxes, scores = cells(images, "rgb", "0..1")
        rows = HEADS[head.removesuffix("-seg")](boxes, scores)
        shape = (len(images), 1, rows.shape[2]) if head == "yolo8-seg" else (*rows.shape[:2], 1)
        upper = np.where(np.arange(SIZE // 4) % 4 < 2, 4, -4).astype(np.float32)
        prototypes = np.broadcast_to(upper[:, None], (len(images), 1, SIZE // 4, SIZE // 4))
        return prototypes, np.concatenate((rows, np.ones(shape, np.float32)), 1 if head == "yolo8-seg" else 2)

    return detect


@pytest.mark.parametrize("head", ["yolo8-seg", "yolo8-rows-seg", "yolo5-seg", "one-to-one-seg"])
def test_masks_of_objects_are_read(data, head):
    adopted = sightline.adopt(
        masked(head), data=data, imgsz=(SIZE, SIZE), channels="rgb", scale="0..1", fit="letterbox"
    )
    assert (adopted.task, adopted.checks["reading"].split()[0]) == ("instance", head)
    found = adopted.predictor([data[0].file])[0]
    found = found[found.confidence > 0.5]
    assert len(found) == 2
    for (x1, y1, x2, y2), mask in zip(found.xyxy.astype(int).tolist(), np.asarray(found.mask), strict=True):
        expected = np.zeros(mask.shape, bool)
        expected[y1 : (y1 + y2) // 2, x1:x2] = True
        assert (mask != expected).sum() <= 4 * (x2 - x1)  # between cells the probability is linear
    given = {"imgsz": (SIZE, SIZE), "channels": "rgb", "scale": "0..1", "fit": "letterbox"}
    with pytest.raises(ConfigError, match=r"as many as the outputs' classes \(2\), got 7"):
        sightline.adopt(masked("yolo8-seg"), class_names=tuple("abcdefg"), **given)


@pytest.mark.parametrize("head", ["one-to-one", "yolo5"])
def test_maps_beside_the_boxes_are_left(data, head):
    def detect(images):
        boxes, scores = cells(images, "rgb", "0..1")
        maps = [np.zeros((1, side, side, 3, 7), np.float32) for side in (8, 4, 2, 1)]
        return *maps, HEADS[head](boxes, scores)

    adopted = sightline.adopt(detect, data=data, imgsz=(SIZE, SIZE), channels="rgb", scale="0..1", fit="letterbox")
    assert adopted.checks["reading"].startswith(head)
    assert adopted.tried["AP50"][0] == pytest.approx(1.0)


def test_many_heads_of_a_graph_are_no_known_kind():
    """Each level's boxes and scores by themselves, as graphs for accelerators give them."""
    heads = tuple(np.zeros((1, 64, side, side), np.float32) for side in (8, 4, 2) for _ in range(2))
    with pytest.raises(ModelError, match=r"outputs must be of a known kind, got .*output 5 \(1, 64, 2, 2\)"):
        sightline.adopt(
            lambda images: (*heads, heads[0][:, :3]),
            class_names=NAMES,
            imgsz=(SIZE, SIZE),
            channels="rgb",
            scale="0..1",
            fit="letterbox",
        )


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("scale", list(SCALES))
def test_channels_and_range_are_found_by_trying(data, channels, scale):
    adopted = sightline.adopt(detector("yolo8", channels, scale), data=data, imgsz=(SIZE, SIZE), fit="letterbox")
    assert adopted.tried.height == 8
    assert adopted.checks["reading"] == f"yolo8 {channels} {scale} letterbox"
    assert adopted.tried.row(0)[1] == channels
    assert adopted.tried["AP50"][0] == pytest.approx(1.0)
    told_apart = adopted.tried["AP50"][1] < 0.95
    assert adopted.checks["tried on labels"].startswith(f"AP50 1.000, {'clearly' if told_apart else 'the commonest'}")


def test_what_gives_each_object_once_is_not_suppressed_again(data):
    def twice(images):
        boxes, scores = cells(images, "rgb", "0..1")
        return HEADS["one-to-one"](np.concatenate((boxes, boxes), 1), np.concatenate((scores, scores * 0.9), 1))

    given = {"imgsz": (SIZE, SIZE), "channels": "rgb", "scale": "0..1", "fit": "letterbox", "class_names": NAMES}
    once = sightline.adopt(twice, reading="one-to-one", **given).predictor([data[0].file])[0]
    assert (once.confidence > 0.5).sum() == 4
    again = sightline.adopt(detector("yolo8"), **given).predictor([data[0].file])[0]
    assert (again.confidence > 0.5).sum() == 2


def test_maps_of_classes_are_read(tmp_path):
    mask = np.zeros((64, 128), np.uint8)
    mask[:32, 32:96] = 1
    pixels = np.where(mask[..., None] == 1, COLOUR, 100).astype(np.uint8)
    for head, low in (("map", -6.0), ("foreground", -6.0), ("ids", 0.0)):

        def segmenter(images, head=head, low=low):
            _, scores = cells(images, "rgb", "0..1")
            grid = scores.reshape(-1, 1, SIZE // CELL, SIZE // CELL)
            if head == "ids":
                return (grid[:, 0] > 0.5).astype(np.int64)
            bright = low + 12 * grid
            return bright if head == "foreground" else np.concatenate((np.zeros_like(bright), bright), 1)

        names = ("background", "red")
        given = {"channels": "rgb", "scale": "0..1", "fit": "letterbox", "imgsz": (SIZE, SIZE)}
        adopted = sightline.adopt(segmenter, class_names=names, **given)
        assert adopted.task == "semantic"
        share = (adopted.predictor([pixels])[0].class_ids == mask).mean()
        assert share > 0.85  # cells of 16 pixels, resized linearly


@pytest.mark.parametrize(
    ("head", "given", "message"),
    [
        (
            "yolo8",
            {"class_names": NAMES, "channels": "rgb"},
            r"how pictures are fed must be known.*--scale, --fit are open",
        ),
        ("yolo8", {"scale": "0..1", "fit": "letterbox", "channels": "rgb"}, "class names must be known"),
        ("yolo8", {"class_names": ("a", "b", "c")}, r"as many as the outputs' classes \(2\), got 3"),
        (
            "yolo8",
            {"class_names": NAMES, "reading": "yolo5"},
            r"--reading must be one the outputs allow \(yolo8\), got",
        ),
        ("pairs-xyxy-softmax-first", {"class_names": NAMES}, "several: pairs-cxcywh-softmax-first.*; pairs-xyxy-soft"),
        ("yolo8", {"class_names": NAMES, "imgsz": None}, "imgsz must be given for a function"),
    ],
)
def test_what_is_open_is_asked_for(head, given, message):
    if "scale" not in given and "channels" not in given:
        given = {"channels": "rgb", "scale": "0..1", "fit": "letterbox", **given}
    with pytest.raises(ConfigError, match=message):
        sightline.adopt(detector(head), **{"imgsz": (SIZE, SIZE), **given})


def test_no_reading_that_finds_nothing_is_taken(data):
    with pytest.raises(ConfigError, match=r"a reading must find the labelled objects .*got 0\.000 at best"):
        sightline.adopt(lambda images: np.zeros((1, 6, 2000), np.float32), data=data, imgsz=(SIZE, SIZE))
    with pytest.raises(ModelError, match=r"outputs must be of a known kind, got output 0 \(1, 7\)"):
        sightline.adopt(lambda images: np.zeros((1, 7), np.float32), data=data, imgsz=(SIZE, SIZE))


def write_graph(path, *, layout="nchw", kind=TensorProto.FLOAT, props=None, batch=1):
    """The colour detector with a head as YOLOv8 writes it; fed from 0 to 255 where it takes bytes."""
    shape = {"nchw": [batch, 3, SIZE, SIZE], "nhwc": [batch, SIZE, SIZE, 3]}[layout]
    boxes, _ = cells(np.zeros((1, 3, SIZE, SIZE), np.float32), "rgb", "0..1")
    steps = SIZE // CELL
    unit = np.float32(255 if kind == TensorProto.UINT8 else 1)
    constants = {
        "colour": (COLOUR / 255 * unit).reshape(1, 3, 1, 1),
        "two": np.float32(-2) / unit,
        "one": np.float32(1),
        "zero": np.float32(0),
        "flat": np.array([0, 1, steps * steps], np.int64),
        "axis": np.array([1], np.int64),
        "boxes": centred(boxes).transpose(0, 2, 1),
    }
    nodes = [
        helper.make_node("Cast", ["input"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["values"], ["image"], perm=[0, 1, 2, 3] if layout == "nchw" else [0, 3, 1, 2]),
        helper.make_node("AveragePool", ["image"], ["means"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Sub", ["means", "colour"], ["off"]),
        helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("ReduceSum", ["far", "axis"], ["distance"], keepdims=1),
        helper.make_node("Mul", ["distance", "two"], ["scaled"]),
        helper.make_node("Add", ["scaled", "one"], ["raw"]),
        helper.make_node("Clip", ["raw", "zero", "one"], ["score"]),
        helper.make_node("Reshape", ["score", "flat"], ["first"]),
        helper.make_node("Mul", ["first", "zero"], ["second"]),
        helper.make_node("Concat", ["boxes", "first", "second"], ["output0"], axis=1),
    ]
    tensors = [numpy_helper.from_array(np.asarray(v, v.dtype), name) for name, v in constants.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, steps * steps])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if props:
        helper.set_model_props(model, props)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
    return path


ULTRALYTICS = {"author": "Ultralytics", "names": "{0: 'red', 1: 'other'}", "imgsz": "[64, 64]", "stride": "32",
               "task": "detect", "license": "AGPL-3.0 License (https://ultralytics.com/license)"}  # fmt: skip


def test_a_file_that_states_everything_needs_nothing_else(tmp_path, data):
    path = write_graph(tmp_path / "best.onnx", props=ULTRALYTICS)
    before = path.read_bytes()
    adopted = sightline.adopt(path)
    assert path.read_bytes() == before
    assert (tmp_path / "best-sightline.onnx").read_bytes().startswith(before)
    assert adopted.licence == "AGPL-3.0"
    assert adopted.checks["tried on labels"].startswith("NOT MEASURED")
    model = sightline.Model(adopted.file)
    assert model.val(data, split="all")["AP50"] == pytest.approx(1.0)
    onnx.checker.check_model(onnx.load(adopted.file), full_check=True)
    with pytest.raises(ModelError, match="got one that carries Sightline's metadata"):
        sightline.adopt(adopted.file)
    altered = bytearray((tmp_path / "best-sightline.onnx").read_bytes())
    altered[200] ^= 1
    (tmp_path / "best-sightline.onnx").write_bytes(bytes(altered))
    with pytest.raises(ModelError, match="damaged or edited since"):
        sightline.Model(adopted.file)


@pytest.mark.parametrize(("layout", "kind"), [("nhwc", TensorProto.FLOAT), ("nchw", TensorProto.UINT8)])
def test_other_layouts_and_types_of_the_input(tmp_path, data, layout, kind):
    path = write_graph(tmp_path / "m.onnx", layout=layout, kind=kind)
    adopted = sightline.adopt(path, data=data, images=4)
    assert adopted.tried.row(0)[1:] == ("rgb", "0..255" if kind == TensorProto.UINT8 else "0..1", "letterbox", 1.0, 1.0)
    assert sightline.Model(adopted.file).val(data, split="all")["AP50"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("props", "given", "error", "message"),
    [
        (
            ULTRALYTICS | {"task": "pose"},
            {},
            ModelError,
            "a graph for boxes or masks of objects or maps of classes can be adopted, got 'pose'",
        ),
        (ULTRALYTICS, {"imgsz": (96, 96)}, ConfigError, "imgsz must be 64 x 64, the graph's own, got 96 x 96"),
        (ULTRALYTICS | {"names": "(" * 5000}, {}, ConfigError, "class names must be known"),
        (ULTRALYTICS | {"names": "{0: 'a'}"}, {}, ConfigError, r"as many as the outputs' classes \(2\), got 1"),
        ({}, {"class_names": NAMES}, ConfigError, "how pictures are fed must be known"),
        (ULTRALYTICS, {"onnx": "x.onnx"}, ConfigError, "--onnx proves a checkpoint"),
        (ULTRALYTICS, {"out": "{folder}/m.onnx"}, ConfigError, "the output must not be a file that is read"),
    ],
)
def test_files_that_cannot_be_taken_are_one_sentence(tmp_path, props, given, error, message):
    path = write_graph(tmp_path / "m.onnx", props=props)
    given = {k: v.format(folder=tmp_path) if isinstance(v, str) else v for k, v in given.items()}
    with pytest.raises(error, match=message):
        sightline.adopt(path, **given)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_adopted_files_run_one_picture_at_a_time_where_the_graph_does(tmp_path, data):
    adopted = sightline.adopt(write_graph(tmp_path / "m.onnx", props=ULTRALYTICS))
    single = [adopted.predictor([item.file])[0] for item in data]
    together = adopted.predictor([item.file for item in data])
    for one, other in zip(single, together, strict=True):
        np.testing.assert_array_equal(one.xyxy, other.xyxy)


def test_the_page_runs_as_it_stands():
    page = Path(__file__).parents[2] / "docs" / "adopt.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(compile(block, page.name, "exec"), names)
    np.testing.assert_allclose(
        names["adopted"].predictor([np.zeros((64, 64, 3), np.uint8)])[0].xyxy[0], [16, 16, 48, 48]
    )
