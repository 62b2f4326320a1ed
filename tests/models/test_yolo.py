"""The YOLO family: parameter counts are the published ones, layer by layer; the head decodes by the definition."""

import itertools
import math

import pytest
import torch
from torchvision.ops import box_iou

import sightline.models as models
from sightline.core.errors import ConfigError
from sightline.models.detection_loss import DetectionRaw
from sightline.models.yolo import blocks
from sightline.models.yolo.head import STRIDES, cell_centres
from sightline.models.yolo.plan import Row, add_rows, run_rows

# Public configuration of YOLO11n at 80 classes, layer by layer (Ultralytics YOLO11, 2024).
YOLO11N_LAYERS = {
    "stem": 464,
    "down2": 4672,
    "stage2": 6640,
    "down3": 36992,
    "stage3": 26080,
    "down4": 147712,
    "stage4": 87040,
    "down5": 295424,
    "stage5": 346112,
    "pool5": 164608,
    "attend5": 249728,
    "top4": 111296,
    "out3": 32096,
    "up4": 36992,
    "out4": 86720,
    "up5": 147712,
    "out5": 378880,
    "head": 464912,
}
# name: classes, parameters, fused parameters; None where no count of the fused network is published.
TOTALS = {
    "yolo1-resnet50": (20, 26_728_060, None),
    "yolo3": (80, 61_949_149, 61_922_845),
    "yolo5n": (80, 1_872_157, 1_867_405),
    "yolo5s": (80, 7_235_389, 7_225_885),
    "yolo5m": (80, 21_190_557, 21_172_173),
    "yolo5l": (80, 46_563_709, 46_533_693),
    "yolo5x": (80, 86_749_405, 86_705_005),
    "yolo8n": (80, 3_157_200, 3_151_904),
    "yolo8s": (80, 11_166_560, None),
    "yolo8m": (80, 25_902_640, None),
    "yolo8l": (80, 43_691_520, 43_668_288),
    "yolo8x": (80, 68_229_648, None),
    "yolo9t": (80, 2_128_720, None),
    "yolo9s": (80, 7_318_368, None),
    "yolo9m": (80, 20_216_160, None),
    "yolo9c": (80, 25_590_912, None),
    "yolo10n": (80, 2_775_520, None),
    "yolo10s": (80, 8_128_272, None),
    "yolo10m": (80, 16_576_768, None),
    "yolo10l": (80, 25_888_688, None),
    "yolo10x": (80, 31_808_960, None),
    "yolo11n": (80, 2_624_080, 2_616_248),
    "yolo11s": (80, 9_458_752, None),
    "yolo11m": (80, 20_114_688, 20_091_712),
    "yolo11l": (80, 25_372_160, None),
    "yolo11x": (80, 56_966_176, 56_919_424),
    "yolo12n": (80, 2_553_904, 2_542_440),
    "yolo12s": (80, 9_127_424, None),
    "yolo12m": (80, 19_670_784, None),
    "yolo12l": (80, 26_506_496, None),
    "yolo12x": (80, 59_414_176, None),
}
# name: classes, published parameters in millions and GFLOPs, which are fused for the one and unfused for the other.
LIGHT = {"vdxnet": (1, 1.608, 5.9), "litefodnet": (11, 2.515, 7.9)}
TORCHVISION = ("tv:fcos-resnet18", "tv:retinanet-resnet18", "tv:ssdlite320")
SMALLEST = (
    "yolo1-resnet50",
    "yolo3",
    "yolo5n",
    "yolo8n",
    "yolo9t",
    "yolo10n",
    "yolo11n",
    "yolo12n",
    "lite0-yolo",
    *LIGHT,
)
# RetinaNet tells anchors that overlap an object by .4 to .5 nothing: one of them may have the best score, and any box.
BY_HEART = (*SMALLEST, *(name for name in TORCHVISION if "retinanet" not in name), "tv:fasterrcnn-resnet18")


def named(count):
    return [f"class{i}" for i in range(count)]


def make(class_count: int = 3, imgsz: int = 64, name: str = "yolo11n"):
    torch.manual_seed(0)
    return models.create(name, class_names=[f"c{i}" for i in range(class_count)], imgsz=imgsz)


def test_every_layer_of_yolo11n_has_the_published_parameter_count():
    model = models.create("yolo11n", class_names=named(80))
    assert {name: models.count_parameters(layer) for name, layer in model.named_children()} == YOLO11N_LAYERS


def test_head_of_one_class_has_the_published_parameter_count():
    assert models.count_parameters(make(1).head) == 430_867


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_the_published_ones(name):
    classes, parameters, fused = TOTALS[name]
    with torch.device("meta"):
        model = models.create(name, class_names=named(classes))
    assert models.count_parameters(model) == parameters
    fixed = 0 if name.startswith(("yolo1-", "yolo3", "yolo5")) else 16  # the distance bins
    assert models.count_parameters(model, trainable_only=True) == parameters - fixed
    if fused is not None:
        assert models.count_parameters(models.fuse(model)) == fused


def test_yolo10b_folded_alone_has_the_published_count():
    """Of its 80 classes none is published; of two, folded and with both heads, 20,414,236."""
    model = models.build_shapes("yolo10b", ["a", "b"], {})
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert models.count_parameters(model) - sum(norm.num_features for norm in norms) == 20_414_236


@pytest.mark.parametrize("name", ["yolo9t", "yolo10n"])
def test_what_is_counted_as_fused_is_what_fuse_leaves(name):
    model = models.build_shapes(name, named(80), {})
    assert models.describe_model(model).fused_parameters == models.count_parameters(models.fuse(model))


@pytest.mark.parametrize("name", LIGHT)
def test_light_detectors_are_as_large_and_as_costly_as_published(name):
    """0.5 % of the parameters and 3 % of the operations, by the conventions their papers count in."""
    classes, millions, gflops = LIGHT[name]
    described = models.describe_model(models.create(name, class_names=named(classes), imgsz=640))
    assert described.fused_parameters / 1e6 == pytest.approx(millions, rel=0.005)
    assert described.flops / 1e9 == pytest.approx(gflops, rel=0.03)


def test_cell_centres_lie_in_the_middle_of_their_cells():
    centres, strides = cell_centres([(2, 4), (1, 2), (1, 1)], torch.device("cpu"))
    assert centres.tolist() == [
        *[[4.0, 4.0], [12.0, 4.0], [20.0, 4.0], [28.0, 4.0], [4.0, 12.0], [12.0, 12.0], [20.0, 12.0], [28.0, 12.0]],
        *[[8.0, 8.0], [24.0, 8.0]],
        [16.0, 16.0],
    ]
    assert strides.squeeze(1).tolist() == [8.0] * 8 + [16.0] * 2 + [32.0]


def test_levels_have_strides_8_16_32_and_finest_comes_first():
    model = make().eval()
    with torch.no_grad():
        raw = model(torch.rand(1, 3, 64, 96))
    assert raw.strides.squeeze(1).unique(return_counts=True)[1].tolist() == [8 * 12, 4 * 6, 2 * 3]
    assert raw.distances.shape == (1, 126, 64)
    assert raw.logits.shape == (1, 126, 3)


def test_decode_is_the_mean_distance_around_the_centre():
    """A distribution with mass .25 on bin 2 and .75 on bin 3 has mean 2.75 strides, by hand."""
    model = make(1)
    logits = torch.full((1, 1, 4, 16), -100.0)
    logits[..., 2], logits[..., 3] = math.log(0.25), math.log(0.75)
    raw = DetectionRaw(logits.flatten(2), torch.zeros(1, 1, 1), torch.tensor([[100.0, 60.0]]), torch.tensor([[8.0]]))
    boxes, scores = model.decode(raw)
    assert boxes[0, 0].tolist() == pytest.approx([100 - 22, 60 - 22, 100 + 22, 60 + 22], abs=1e-4)
    assert scores.item() == 0.5


def test_decode_under_bfloat16_autocast_keeps_float32_boxes():
    model = make(1)
    raw = DetectionRaw(torch.randn(1, 5, 64), torch.zeros(1, 5, 1), torch.rand(5, 2) * 600, torch.full((5, 1), 32.0))
    expected = model.decode(raw)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        boxes = model.decode(raw)[0]
    assert boxes.dtype == torch.float32
    assert torch.equal(boxes, expected)


def test_start_biases():
    model = make(3)
    for box, classes, stride in zip(model.head.box_branches, model.head.class_branches, STRIDES, strict=True):
        assert torch.equal(box[-1].bias, torch.ones(64))
        assert classes[-1].bias.tolist() == pytest.approx([math.log(5 / 3 / (640 / stride) ** 2)] * 3)


@pytest.mark.parametrize("name", [*SMALLEST, *TORCHVISION])
def test_fused_model_gives_the_same_detections(name):
    model = make(name=name).double()
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)  # float64: rounding differences grow through 100 layers
    torch.optim.swa_utils.update_bn([images], model)
    model.eval()
    with torch.no_grad():
        boxes, scores = model.decode(model(images))
        fused_boxes, fused_scores = model.decode(models.fuse(model)(images))
    assert (boxes - fused_boxes).abs().max() < 1e-3  # pixels
    assert (scores - fused_scores).abs().max() < 1e-5


@pytest.mark.parametrize("areas", [1, 4])
def test_area_attention_attends_within_runs_of_cells(areas):
    """Every area by torch's own attention, one head of one image after another."""
    torch.manual_seed(0)
    block = blocks.AreaAttention(64, areas).eval()
    x = torch.randn(2, 64, 4, 6)
    with torch.no_grad():
        query_key, value = block.query_key(x).flatten(2), block.value(x).flatten(2)
        attended = torch.empty_like(value)
        for image, head, area in itertools.product(range(2), range(2), range(areas)):
            own = slice(24 // areas * area, 24 // areas * (area + 1))
            query, key = query_key[image, 64 * head : 64 * (head + 1), own].chunk(2)
            weights = (query.T @ key / 32**0.5).softmax(-1)
            channels = slice(32 * head, 32 * (head + 1))
            attended[image, channels, own] = value[image, channels, own] @ weights.T
        wanted = block.project(attended.reshape(x.shape) + block.position(value.reshape(x.shape)))
        assert torch.allclose(block(x), wanted, atol=1e-5)


def test_rows_read_what_they_name():
    rows = (
        Row("a", lambda given, out: torch.nn.Conv2d(given, out, 2, 2), 4),
        Row("out3", lambda given, out: torch.nn.Conv2d(given, out, 1), 5),
        Row("out4", lambda given, out: torch.nn.Conv2d(given, out, 2, 2), 6, ("a",)),
        Row("out5", lambda given, out: torch.nn.Conv2d(given, out, 1), 7, ("^out4", "out3")),
    )
    network = torch.nn.Module()
    add_rows(network, rows)
    assert [(name, part.in_channels) for name, part in network.named_children()] == [
        ("a", 3), ("out3", 4), ("out4", 4), ("out5", 11),
    ]  # fmt: skip
    fine, coarse, last = run_rows(network, rows, torch.rand(1, 3, 8, 8))
    assert (fine.shape[1:], coarse.shape[1:], last.shape[1:]) == ((5, 4, 4), (6, 2, 2), (7, 4, 4))
    doubled = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(last, network.out5(torch.cat((doubled, fine), 1)))


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match=r"imgsz must be a multiple of 32, got 100\. Use 96\."):
        make(imgsz=100)
    with pytest.raises(ConfigError, match="multiples of 32, got"):
        make()(torch.zeros(1, 3, 64, 40))
    assert models.create("yolo11n", class_names=["a"], imgsz=(64, 96)).preprocess.size_hw == (64, 96)


def test_gflops_are_the_published_ones_without_and_with_normalisation():
    """6.48 (fused) counts convolutions; 6.61 (unfused) adds 8 operations per normalised value; attention is extra."""
    model = models.create("yolo11n", class_names=named(80), imgsz=640)
    described = models.describe_model(model)
    tokens, heads, key_dim, value_dim = 20 * 20, 2, 32, 64
    attention = 2 * heads * tokens * tokens * (key_dim + value_dim)
    assert (described.flops - attention) / 1e9 == pytest.approx(6.48, abs=0.005)

    normalised = []
    shadow = model.to("meta").eval()
    for part in shadow.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.register_forward_hook(lambda _m, _i, out: normalised.append(out.numel()))
    shadow(torch.empty(1, 3, 640, 640, device="meta"))
    assert (described.flops - attention + 8 * sum(normalised)) / 1e9 == pytest.approx(6.61, abs=0.005)


def paint_scenes(size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Four images of a red and a blue rectangle on noise."""
    generator = torch.Generator().manual_seed(0)
    images = 0.45 + 0.02 * torch.randn(4, 3, size, size, generator=generator)
    boxes, labels, batch_index = [], [], []
    for image in range(4):
        for half in range(2):
            width, height = (int(v) for v in torch.randint(size // 5, size // 3, (2,), generator=generator))
            left = int(torch.randint(0, size - width, (1,), generator=generator))
            top = half * size // 2 + int(torch.randint(0, size // 2 - height, (1,), generator=generator))
            label = (image + half) % 2
            colour = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.2, 0.9]])[label]
            images[image, :, top : top + height, left : left + width] = colour[:, None, None]
            boxes.append([left, top, left + width, top + height])
            labels.append(label)
            batch_index.append(image)
    targets = {"boxes": torch.tensor(boxes).float(), "labels": torch.tensor(labels)}
    return images, {**targets, "batch_index": torch.tensor(batch_index)}


@pytest.mark.parametrize(
    "name", ["yolo11n", *(pytest.param(n, marks=pytest.mark.slow) for n in BY_HEART if n != "yolo11n")]
)
def test_a_detector_learns_four_images_by_heart(name):
    """The best candidate of an object's class has IoU > 0.9 with it; every image holds one object of each class."""
    images, targets = paint_scenes(96)
    # yolo5's objectness starts low, and is learnt in a mean over all anchors; the others know one anchor an object.
    slow = {**dict.fromkeys(TORCHVISION, 300), "tv:fasterrcnn-resnet18": 90}
    steps = slow.get(name, 150 if name.startswith(("yolo1-", "yolo3", "yolo5")) else 60)
    torch.manual_seed(0)
    model = models.create(name, class_names=["red", "blue"], imgsz=96)
    rate = {"yolo3": 5e-4, "tv:fasterrcnn-resnet18": 5e-4, **dict.fromkeys(TORCHVISION, 1e-3)}.get(name, 2e-3)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=steps)
    for _ in range(steps):
        loss = torch.stack(list(model.loss(model(images), targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    # With the batch's own statistics: running ones need some 200 steps at momentum 0.03.
    with torch.no_grad():
        boxes, scores = model.decode(model(images))
    for image in range(4):
        own = targets["batch_index"] == image
        for box, label in zip(targets["boxes"][own], targets["labels"][own], strict=True):
            best = int(scores[image, :, label].argmax())
            assert float(box_iou(boxes[image, best][None], box[None])) > 0.9  # torchvision 0.29.2
            assert int(scores[image, best].argmax()) == int(label)
            assert scores[image, best, label] > 0.5
