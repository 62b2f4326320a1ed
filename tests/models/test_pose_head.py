"""Pose models: published counts, places of points, and the loss against one candidate after the other."""

import math

import pytest
import torch

import sightline.models as models
from sightline.core.errors import ConfigError, DataError
from sightline.core.keypoints import COCO_SIGMAS, Keypoints
from sightline.models.assignment import Assignment
from sightline.models.pose_loss import pose_loss

# Ultralytics YOLOv8 and YOLO11 (2023, 2024) with 17 keypoints: classes, parameters before and after fusing.
TOTALS = {
    "yolo8n-pose": (1, 3_295_470, 3_289_964),
    "yolo8s-pose": (1, None, 11_615_724),
    "yolo8m-pose": (1, None, 26_447_596),
    "yolo11n-pose": (80, 2_908_507, None),
    "yolo11s-pose": (80, 9_948_811, None),
    "yolo11m-pose": (80, 20_973_273, None),
}
MILLIONS = {"yolo8l-pose": 44.4, "yolo8x-pose": 69.4, "yolo11l-pose": 26.2, "yolo11x-pose": 58.8}
SHARE = Keypoints(names=("left", "right", "top"), sigmas=(0.1, 0.2, 0.3))


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_the_published_ones(name):
    classes, parameters, fused = TOTALS[name]
    with torch.device("meta"):
        model = models.create(name, class_names=[f"class{i}" for i in range(classes)])
    if parameters is not None:
        assert models.count_parameters(model) == parameters
    if fused is not None:
        assert models.count_parameters(models.fuse(model)) == fused


def test_where_millions_are_published_they_are_those():
    for name, millions in MILLIONS.items():
        with torch.device("meta"):
            model = models.create(name, class_names=["person"])
        assert models.count_parameters(model) / 1e6 == pytest.approx(millions, abs=0.1)
    with torch.device("meta"):
        head = models.create("yolo11n-pose", class_names=["person"]).head
    assert models.count_parameters(head) == 715_294, "published of the head alone"


def scene():
    """Two images; of the objects one has hidden points, one has none, one has all."""
    targets = {
        "boxes": torch.tensor([[0.0, 0, 40, 20], [10, 10, 30, 50], [5, 5, 25, 25]]),
        "labels": torch.zeros(3, dtype=torch.int64),
        "batch_index": torch.tensor([0, 0, 1]),
        "keypoints": torch.tensor([
            [[1.0, 2, 2], [30, 10, 1], [0, 0, 0]],
            [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
            [[6, 6, 2], [20, 20, 2], [10, 8, 2]],
        ]),
    }  # fmt: skip
    found = Assignment(
        image=torch.tensor([0, 0, 0, 1]),
        anchor=torch.arange(4),
        target=torch.tensor([0, 0, 1, 2]),
        weight=torch.ones(4),
        score=torch.ones(4),
    )
    points = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0)) * 8 + 10
    return points, found, targets


def test_the_loss_is_one_less_the_similarity_of_each_candidate():
    points, found, targets = scene()
    off, unsure = [], []
    for row, target in zip(points.tolist(), found.target.tolist(), strict=True):
        labels = targets["keypoints"][target].tolist()
        if not any(v for *_, v in labels):
            continue
        x1, y1, x2, y2 = targets["boxes"][target].tolist()
        alike = []
        for (x, y, logit), (at_x, at_y, v), sigma in zip(row, labels, SHARE.sigmas, strict=True):
            likely = 1 / (1 + math.exp(-logit))
            unsure.append(-math.log(likely if v else 1 - likely))
            if v:
                distance2 = (x - at_x) ** 2 + (y - at_y) ** 2
                alike.append(math.exp(-distance2 / (2 * (x2 - x1) * (y2 - y1) * (2 * sigma) ** 2)))
        off.append(1 - sum(alike) / len(alike))
    got = pose_loss(points, found, targets, SHARE.sigmas)
    assert [value.item() for value in got] == pytest.approx([sum(off) / 3, sum(unsure) / 9], rel=1e-4)


def test_shares_of_a_batch_make_the_loss_of_the_whole():
    points, found, targets = scene()
    shares = []
    for image in range(2):
        of_object, here = targets["batch_index"] == image, found.image == image
        own = {key: value[of_object] for key, value in targets.items()}
        first = int(of_object.nonzero()[0])
        part = Assignment(*(v[here] for v in found[:2]), found.target[here] - first, *(v[here] for v in found[3:]))
        pose_loss(points[here], part, own, SHARE.sigmas, lambda values: shares.append(values) or values)
    off, unsure, objects, every = torch.stack(shares).sum(0).tolist()
    whole = [value.item() for value in pose_loss(points, found, targets, SHARE.sigmas)]
    assert whole == pytest.approx([off / objects, unsure / every], rel=1e-5)


def test_without_objects_the_loss_is_zero_and_has_a_gradient():
    points, found, targets = scene()
    points.requires_grad_()
    none = {key: value[:0] for key, value in targets.items()}
    terms = pose_loss(points[:0], Assignment(*(part[:0] for part in found)), none, SHARE.sigmas)
    sum(terms).backward()
    assert [term.item() for term in terms] == [0, 0]
    assert not points.grad.any()


def test_points_lie_two_strides_an_output_from_the_first_corner_of_their_cell():
    model = models.create("yolo11n-pose", class_names=["a"], imgsz=32, keypoints=SHARE).eval()
    with torch.no_grad():
        for branch in model.head.points:
            branch[-1].weight.zero_()
            branch[-1].bias.copy_(torch.tensor([0.0, 0, 0, 1, 0.5, 100, -1, 2, -100]))
        points = models.Decoded(model)(torch.zeros(1, 3, 32, 32))[2][0]
    assert points.shape == (16 + 4 + 1, 3, 3)
    assert points[5].tolist() == [[8, 8, 0.5], [24, 16, 1], [-8, 40, 0]], "of the second cell of the second row"
    assert points[20, :, :2].tolist() == [[0, 0], [64, 32], [-64, 128]]


def test_places_have_all_their_digits_where_the_network_runs_in_few():
    torch.manual_seed(0)
    model = models.create("yolo11n-pose", class_names=["a"], imgsz=64, keypoints=SHARE).eval()
    for branch in model.head.points:
        torch.nn.init.constant_(branch[-1].bias, 9.01)  # of which bfloat16 makes 9, a quarter of a pixel beside
    images = torch.zeros(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        few = model.decode(model(images))[2]
    with torch.no_grad():
        assert (few - model.decode(model(images))[2])[..., :2].abs().max() < 0.1


def test_other_keypoints_and_classes_start_anew_and_the_same_go_on(tmp_path):
    first = models.create("yolo11n-pose", class_names=["a"], imgsz=32, keypoints=SHARE)
    models.save_weights(tmp_path / "a.safetensors", first)
    assert models.load_model(tmp_path / "a.safetensors").head.keypoints == SHARE
    for names, keypoints in ((["a"], SHARE), (["a"], {"names": ["x", "y"]}), (["b", "c"], SHARE)):
        weights = tmp_path / "a.safetensors"
        other = models.create("yolo11n-pose", class_names=names, imgsz=32, weights=weights, keypoints=keypoints)
        assert torch.equal(other.stem.conv.weight, first.stem.conv.weight)
        kept = torch.equal(other.head.points[0][0].conv.weight, first.head.points[0][0].conv.weight)
        assert kept == (names == ["a"] and keypoints is SHARE)


def test_of_equal_classes_all_of_a_detector_starts_it_and_the_other_way(tmp_path):
    detector = models.create("yolo11n", class_names=["a"], imgsz=32)
    models.save_weights(tmp_path / "boxes.safetensors", detector)
    posed = models.create("yolo11n-pose", class_names=["a"], imgsz=32, weights=tmp_path / "boxes.safetensors")
    own, theirs = posed.head.boxes.state_dict(), detector.head.state_dict()
    assert all(torch.equal(own[key], value) for key, value in theirs.items())
    assert posed.started.endswith("new: head.points")
    models.save_weights(tmp_path / "points.safetensors", posed)
    back = models.create("yolo11n", class_names=["a"], imgsz=32, weights=tmp_path / "points.safetensors")
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in detector.state_dict().items())


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ({"names": []}, "'keypoints' of model 'yolo11n-pose'"),
        ({"names": ["a", "b"], "skeleton": [[0, 2]]}, r"the skeleton must join keypoints 0\.\.1"),
        ({"names": ["a", "b"], "sigmas": [0.1]}, "must have an entry for each of the 2 names"),
        ({"names": ["a", "b"], "mirror": [0, 0]}, "must have an entry for each of the 2 names"),
        ({"names": ["a"], "sigmas": [0.0]}, "greater than 0"),
    ],
)
def test_keypoints_that_are_none_are_refused(keypoints, message):
    with pytest.raises(ConfigError, match=message):
        models.create("yolo11n-pose", class_names=["a"], imgsz=32, keypoints=keypoints)


def test_targets_that_do_not_fit_are_refused():
    model = models.create("yolo11n-pose", class_names=["a"], imgsz=32, keypoints=SHARE)
    targets = scene()[2]
    raw = model(torch.zeros(2, 3, 32, 32))
    with pytest.raises(DataError, match=r"target 'keypoints' must be \(3, K, 3\), one row for each label, got \(2, 3"):
        model.loss(raw, {**targets, "keypoints": targets["keypoints"][1:]})
    with pytest.raises(DataError, match="targets of task 'pose' must be"):
        model.loss(raw, {key: targets[key] for key in ("boxes", "labels", "batch_index")})


def test_seventeen_keypoints_are_coco_s_and_others_are_alike():
    assert Keypoints(names=tuple(map(str, range(17)))).sigmas == COCO_SIGMAS
    assert Keypoints(names=("a", "b")).sigmas == (0.5, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo8n-pose", "yolo11n-pose"])
def test_a_pose_model_learns_four_images_by_heart(name):
    """The best candidate of each object has its three points to within a tenth of the object's side."""
    generator = torch.Generator().manual_seed(0)
    images = 0.45 + 0.02 * torch.randn(4, 3, 96, 96, generator=generator)
    boxes, points = [], []
    for number in range(8):
        width, height = (24 + torch.randint(0, 17, (2,), generator=generator)).tolist()
        x = int(torch.randint(0, 96 - width, (1,), generator=generator))
        y = int(torch.randint(0, 48 - height + 1, (1,), generator=generator)) + number % 2 * 48
        images[number // 2, :, y : y + height, x : x + width] = torch.tensor([0.9, 0.2, 0.7 * (number % 2)])[
            :, None, None
        ]
        images[number // 2, :, y : y + height // 2, x : x + width // 2] = torch.tensor([0.1, 0.9, 0.2])[:, None, None]
        boxes.append([x, y, x + width, y + height])
        points.append([[x, y, 2], [x + width, y + height, 1], [x + width / 2, y + height / 2, 2 * (number % 2)]])
    targets = {
        "boxes": torch.tensor(boxes).float(),
        "labels": torch.zeros(8).long(),
        "batch_index": torch.arange(8) // 2,
        "keypoints": torch.tensor(points).float(),
    }
    torch.manual_seed(0)
    model = models.create(name, class_names=["card"], imgsz=96, keypoints={"names": ["first", "last", "middle"]})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=150)
    for _ in range(150):
        loss = torch.stack(list(model.loss(model(images), targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():  # with the batch's own statistics: running ones need some 200 steps at momentum 0.03
        found_boxes, scores, found = model.decode(model(images))
    for box, image, wanted in zip(targets["boxes"], targets["batch_index"].tolist(), targets["keypoints"], strict=True):
        inside = (found_boxes[image] - box).abs().amax(1) < 6
        best = int((scores[image, :, 0] * inside).argmax())
        labelled, side = wanted[:, 2] > 0, (box[2:] - box[:2]).prod().sqrt()
        off = (found[image, best, :, :2] - wanted[:, :2]).norm(dim=1)[labelled]
        assert off.max() < 0.1 * side
        assert torch.equal(found[image, best, :, 2] > 0.5, labelled)
