"""Two-stage detectors of torchvision in our protocol give the regions, detections, masks and losses of their own."""

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms

from sightline import models, testing
from sightline.core.errors import ConfigError
from sightline.core.keypoints import Keypoints
from sightline.core.preprocess import Preprocess
from sightline.models import own_point
from sightline.models.regions.proposals import take_regions
from sightline.models.regions.region_loss import Sampled, mask_sums
from sightline.models.regions.selection import best_pairs, stays

SMALL = ("tv:fasterrcnn-resnet18", "tv:maskrcnn-resnet18")
# name: torchvision's constructor, parameters that it publishes for 90 classes, of frozen norms none.
PUBLISHED = {
    "tv:fasterrcnn-resnet50": (detection.fasterrcnn_resnet50_fpn, 41_755_286),
    "tv:fasterrcnn-mobilenet320": (detection.fasterrcnn_mobilenet_v3_large_320_fpn, 19_386_354),
    "tv:maskrcnn-resnet50": (detection.maskrcnn_resnet50_fpn, 44_401_393),
    "tv:ssd300": (detection.ssd300_vgg16, 35_641_826),
}
SIZE = (96, 128)
ALL = 10**6


def make(name, **arguments):
    torch.manual_seed(0)
    return models.create(name, class_names=["a", "b", "c"], imgsz=SIZE, **arguments)


def settled(model):
    """With filled statistics, and heads whose scores differ."""
    torch.optim.swa_utils.update_bn([torch.rand(4, 3, *SIZE)], model)
    with torch.no_grad():
        for layer in (model.inner.rpn.head.cls_logits, model.inner.rpn.head.bbox_pred):
            layer.weight.normal_(0, 0.1)
        model.inner.roi_heads.box_predictor.cls_score.weight.normal_(0, 0.3)
    return model.eval()


def random_boxes(count):
    corner = torch.rand(count, 2) * 80
    return torch.cat((corner, corner + 2 + torch.rand(count, 2) * 40), 1)


@pytest.mark.parametrize("groups", [1, 3])
def test_what_stays_is_what_greedy_suppression_leaves(groups):
    torch.manual_seed(0)
    boxes, scores = torch.stack([random_boxes(300) for _ in range(2)]), torch.rand(2, 300).sort(1, descending=True)[0]
    labels = torch.randint(0, groups, (2, 300))
    alive = torch.rand(2, 300) > 0.1
    kept = stays(boxes, alive, 0.4, labels)
    for image in range(2):
        rows = alive[image].nonzero().flatten()
        left = batched_nms(boxes[image, rows], scores[image, rows], labels[image, rows], 0.4)
        assert kept[image].nonzero().flatten().tolist() == sorted(rows[left].tolist())
        assert len(left) < 230


def test_pairs_come_best_first_with_the_box_of_their_class():
    scores = torch.tensor([[[0.1, 0.9], [0.3, 0.2]]])
    boxes = torch.arange(16.0).reshape(1, 2, 2, 4)
    pairs = best_pairs(boxes, scores, 3)
    assert pairs.scores.tolist() == [[pytest.approx(0.9), pytest.approx(0.3), pytest.approx(0.2)]]
    assert pairs.labels.tolist() == [[1, 0, 1]]
    assert pairs.boxes_xyxy[0, :, 0].tolist() == [4, 8, 12]
    assert pairs.by_class(2)[0].tolist() == [[0, pytest.approx(0.9)], [pytest.approx(0.3), 0], [0, pytest.approx(0.2)]]


@pytest.mark.parametrize(
    "name",
    [
        "tv:maskrcnn-resnet18",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("tv:fasterrcnn-resnet18", "tv:fasterrcnn-mobilenet320")
        ),
    ],
)
def test_regions_and_detections_are_those_of_its_own(name):
    masks = name.startswith("tv:mask")
    model = settled(make(name, **({"detections": 20} if masks else {})))
    images = torch.rand(2, 3, *SIZE)
    heads = model.inner.roi_heads
    heads.score_thresh, heads.detections_per_img = 0.0, 20
    listed = ImageList(images, [SIZE, SIZE])
    with torch.no_grad():
        raw = model(images)
        regions, _ = model.inner.rpn(listed, raw.features)
        theirs, _ = heads(raw.features, regions, listed.image_sizes)
        boxes, scores, *of_masks = model.decode(raw)
    for image in range(2):
        alive = raw.proposed.alive[image]
        assert torch.allclose(raw.proposed.regions_xyxy[image][alive], regions[image], atol=1e-4)
        assert len(regions[image]) > 20
        best, labels = scores[image].max(1)
        found = (best > 0) & (boxes[image][:, 2:] - boxes[image][:, :2] >= 0.01).all(1)
        if not masks:  # theirs suppresses by class
            rows = found.nonzero().flatten()
            found = rows[batched_nms(boxes[image, rows], best[rows], labels[rows], 0.5)]
        ours = [values[found][:20] for values in (boxes[image], best, labels)]
        assert torch.allclose(ours[0], theirs[image]["boxes"], atol=1e-3)
        assert torch.allclose(ours[1], theirs[image]["scores"], atol=1e-5)
        assert torch.equal(ours[2] + 1, theirs[image]["labels"])
        if masks:
            assert torch.allclose(of_masks[0][image][found][:20], theirs[image]["masks"][:, 0], atol=1e-4)


def truth():
    return {
        "boxes": torch.tensor([[4.0, 4, 60, 50], [20, 30, 90, 90], [5, 5, 5, 30], [60, 10, 120, 40]]),
        "labels": torch.tensor([0, 2, 1, 1]),  # the third has no width
        "batch_index": torch.tensor([0, 0, 1, 1]),
    }


def with_masks(targets):
    cells = torch.cat(((targets["boxes"][:, :2] / 4).floor(), (targets["boxes"][:, 2:] / 4).ceil()), 1).long()
    cells[0] = 0  # its mask is not known
    areas = (cells[:, 2:] - cells[:, :2]).prod(1)
    values = torch.randint(0, 256, (int(areas.sum()),), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return {**targets, "cells": cells, "masks": values}


def sampling_all(model):
    """What is sampled is all there is: nothing is left to chance."""
    for part in (model.inner.rpn, model.inner.roi_heads):
        part.fg_bg_sampler.batch_size_per_image = ALL
    return model


def test_the_loss_is_its_own():
    model = sampling_all(settled(make("tv:fasterrcnn-resnet18")))
    images, targets = torch.rand(2, 3, *SIZE), truth()
    raw = model(images)
    theirs = []
    for image in range(2):
        own = (targets["batch_index"] == image) & (targets["boxes"][:, 2] > targets["boxes"][:, 0])
        theirs.append({"boxes": targets["boxes"][own], "labels": targets["labels"][own] + 1})
    model.inner.rpn.training = model.inner.roi_heads.training = True
    regions, first = model.inner.rpn(ImageList(images, [SIZE, SIZE]), raw.features, theirs)
    _, second = model.inner.roi_heads(raw.features, regions, [SIZE, SIZE], theirs)
    expected = {**first, **second}
    names = {"cls": "classifier", "box": "box_reg", "objectness": "objectness", "region": "rpn_box_reg"}
    assert {name: value.item() for name, value in model.loss(raw, targets).items()} == {
        ours: pytest.approx(expected[f"loss_{name}"].item(), rel=1e-4) for ours, name in names.items()
    }


@pytest.mark.parametrize(
    "name", ["tv:maskrcnn-resnet18", pytest.param("tv:fasterrcnn-resnet18", marks=pytest.mark.slow)]
)
def test_shares_of_a_batch_add_up(name):
    """Each share's terms, with the sums of all of them, are those of the whole: without an object, without an image."""
    model = sampling_all(settled(make(name)))
    images, targets = torch.rand(3, 3, *SIZE), truth()
    whole = model.loss(model(images), with_masks(targets) if "mask" in name else targets)
    sums = []
    full = with_masks(targets)
    areas = (full["cells"][:, 2:] - full["cells"][:, :2]).prod(1)
    for share, rows, first in [
        (images[:1], [0, 1], 0),
        (images[1:2], [2, 3], 1),
        (images[2:], [], 2),
        (images[:0], [], 0),
    ]:
        own = {key: value[rows] for key, value in full.items() if key != "masks"}
        taken = torch.zeros(4, dtype=torch.bool).index_fill(0, torch.tensor(rows).long(), True)
        own["masks"] = full["masks"][torch.repeat_interleave(taken, areas)]
        own["batch_index"] = own["batch_index"] - first
        own = own if "mask" in name else {key: own[key] for key in targets}
        raw = model(share)
        terms = model.loss(raw, own, lambda values: sums.append(values) or values)
    torch.stack(list(terms.values())).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or bool(p.grad.any()))]
    again = model.loss(raw, own, lambda _: torch.stack(sums).sum(0))
    assert {key: value.item() for key, value in again.items()} == {
        key: pytest.approx(value.item(), rel=1e-4) for key, value in whole.items()
    }


def test_the_mask_of_a_region_is_cut_out_of_the_object():
    """Left half of the cells covered: of a region over all of it the left half of the grid, the middle between."""
    targets = {"cells": torch.tensor([[0, 0, 0, 0], [2, 0, 10, 8]]), "masks": torch.zeros(8, 8, dtype=torch.uint8)}
    targets["masks"][:, :4] = 255
    targets["masks"] = targets["masks"].flatten()
    sampled = Sampled(
        torch.tensor([[0.0, 8, 0, 40, 32], [0.0, 8, 0, 40, 32]]),
        torch.tensor([1, 2]),
        torch.zeros(2, 4),
        torch.tensor([1, 0]),  # the second's mask is not known
    )
    logits = torch.zeros(2, 3, 4, 4)
    logits[0, 1, :, :2], logits[0, 1, :, 2:] = 20.0, -20.0
    assert mask_sums(logits, sampled, targets, (32, 48)).tolist() == [pytest.approx(0.0, abs=1e-6), 1.0]
    assert mask_sums(-logits, sampled, targets, (32, 48)).tolist() == [pytest.approx(20.0), 1.0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_its_own_constructor(name):
    build, published = PUBLISHED[name]
    model = models.build_shapes(name, [f"class-{i}" for i in range(90)], {})
    with torch.device("meta"):
        theirs = build(weights=None, weights_backbone=None, num_classes=91)
    assert models.count_parameters(model) == models.count_parameters(theirs)
    norms = sum(2 * part.num_features for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d))
    assert models.count_parameters(model) - norms == published


def test_parameters_of_keypoints_are_those_of_its_own_constructor():
    """torchvision publishes 59,137,258 of a person with COCO's 17 keypoints."""
    model = models.build_shapes("tv:keypointrcnn-resnet50", ["person"], {})
    norms = sum(2 * part.num_features for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d))
    assert models.count_parameters(model) - norms == 59_137_258


def posed(**arguments):
    return make("tv:keypointrcnn-resnet18", keypoints=Keypoints(names=("tip", "left", "right")), **arguments)


def with_points(targets):
    points = torch.rand(len(targets["boxes"]), 3, 3, generator=torch.Generator().manual_seed(0))
    corner, far = targets["boxes"][:, None, :2], targets["boxes"][:, None, 2:]
    seen = torch.tensor([[2.0, 2, 0], [1, 2, 2], [2, 2, 2], [0, 0, 0]])
    return {**targets, "keypoints": torch.cat((corner + points[..., :2] * (far - corner), seen[..., None]), -1)}


def test_the_loss_of_keypoints_is_its_own():
    model = sampling_all(settled(posed()))
    targets = with_points(truth())
    raw = model(torch.rand(2, 3, *SIZE))
    solid = targets["boxes"][:, 2] > targets["boxes"][:, 0]
    owns = [(targets["batch_index"] == image) & solid for image in range(2)]
    model.inner.rpn.training = model.inner.roi_heads.training = True
    boxes, labels, points = ([targets[key][own] for own in owns] for key in ("boxes", "labels", "keypoints"))
    theirs = [{"boxes": b, "labels": n + 1, "keypoints": p} for b, n, p in zip(boxes, labels, points, strict=True)]
    regions, _ = model.inner.rpn(ImageList(torch.rand(2, 3, *SIZE), [SIZE, SIZE]), raw.features, theirs)
    _, expected = model.inner.roi_heads(raw.features, regions, [SIZE, SIZE], theirs)
    assert model.loss(raw, targets)["points"].item() == pytest.approx(expected["loss_keypoint"].item(), rel=1e-4)


def test_keypoints_lie_at_the_mean_of_their_maps():
    model = settled(posed(detections=6)).eval()
    with torch.no_grad():
        raw = model(torch.rand(2, 3, *SIZE))
        boxes, scores, points = model.decode(raw)
        for image in range(2):
            regions = torch.cat((torch.full((6, 1), float(image)), boxes[image]), 1)
            likely = model._maps(raw, regions).flatten(2).softmax(-1).reshape(6, 3, 56, 56)
            middles = (torch.arange(56) + 0.5) / 56
            x, y = (likely.sum(2) * middles).sum(-1), (likely.sum(3) * middles).sum(-1)
            width, height = (boxes[image, :, 2:] - boxes[image, :, :2]).unbind(1)
            expected = torch.stack(
                (boxes[image, :, :1] + x * width[:, None], boxes[image, :, 1:2] + y * height[:, None]), -1
            )
            there = scores[image].max(1)[0] > 0
            assert torch.allclose(points[image, there, :, :2], expected[there], atol=1e-4)
            assert not points[image, ~there].any()
    assert float(points[..., 2].min()) >= 0
    assert float(points[..., 2].max()) <= 1


def test_shares_of_a_batch_of_keypoints_add_up():
    model = sampling_all(settled(posed()))
    images, full = torch.rand(2, 3, *SIZE), with_points(truth())
    whole = model.loss(model(images), full)
    sums = []
    for image in range(3):  # the last share has nothing
        rows = [[0, 1], [2, 3], []][image]
        own = {key: value[rows] for key, value in full.items()}
        own["batch_index"] = own["batch_index"] * 0
        raw = model(images[image : image + 1])
        model.loss(raw, own, lambda values: sums.append(values) or values)
    again = model.loss(raw, own, lambda _: torch.stack(sums).sum(0))
    assert {key: value.item() for key, value in again.items()} == {
        key: pytest.approx(value.item(), rel=1e-4) for key, value in whole.items()
    }


def test_regions_are_cut_out_exactly_in_half_precision():
    model = settled(make("tv:fasterrcnn-resnet18"))
    features = {str(level): torch.rand(1, 128, 24 >> level, 32 >> level).bfloat16() for level in range(4)}
    regions = torch.tensor([[0.0, 65.3, 40.7, 126.9, 90.1]])
    pool = model.inner.roi_heads.box_roi_pool
    wanted = take_regions(pool, {name: x.float() for name, x in features.items()}, regions, SIZE)
    assert torch.equal(take_regions(pool, features, regions, SIZE), wanted)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        anchors = model(torch.rand(1, 3, *SIZE)).proposed.anchors_xyxy
    assert torch.equal(anchors, model(torch.rand(1, 3, *SIZE)).proposed.anchors_xyxy)


def test_fused_it_gives_the_same_and_has_no_norm_left():
    model = settled(make("tv:fasterrcnn-resnet18"))
    fused = models.fuse(model)
    images = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        regions, fused_regions = (x(images).proposed for x in (model, fused))
    assert (regions.deltas - fused_regions.deltas).abs().max() < 1e-4
    assert (regions.objectness - fused_regions.objectness).abs().max() < 1e-4
    assert not [part for part in fused.modules() if isinstance(part, torch.nn.BatchNorm2d)]


def test_what_they_say_of_themselves():
    model = make("tv:maskrcnn-resnet18", detections=7, anchor_sides=(4, 8, 16, 32, 64))
    assert model.preprocess == Preprocess(size_hw=SIZE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert (own_point(model).suppression, own_point(make(SMALL[0])).suppression) == ("none", "nms")
    again = models.create(model.name, class_names=model.class_names, **model.arguments)
    assert again.inner.rpn.anchor_generator.sizes == ((4,), (8,), (16,), (32,), (64,))
    assert model.decode(model(torch.rand(1, 3, *SIZE)))[2].shape == (1, 7, 28, 28)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tv:fasterrcnn-resnet18", {"anchor_sides": (8, 16)}, r"anchor_sides must be 5 lengths .*got \[8\.0, 16\.0\]"),
        ("tv:fasterrcnn-resnet18", {"anchor_sides": (8, 16, 32, 64, -1)}, "anchor_sides must be 5 lengths"),
        ("tv:maskrcnn-resnet18", {"detections": 0}, r"detections must be 1\.\.1000, got 0"),
        (
            "tv:fasterrcnn-resnet18",
            {"detections": 5},
            "unknown argument of model 'tv:fasterrcnn-resnet18' 'detections'",
        ),
        ("tv:ssd300", {"imgsz": 320}, "imgsz of 'tv:ssd300' must be 300, got 320. Or use tv:ssdlite320"),
    ],
)
def test_wrong_arguments_are_refused(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        models.create(name, class_names=["a"], **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL, "tv:fasterrcnn-mobilenet320", "tv:keypointrcnn-resnet18"])
def test_they_conform(name):
    testing.check_model(make(name), size_hw=(64, 96))
