"""Models of oriented boxes: published counts, decoding and its way back, ProbIoU, assignment, learning by heart."""

import math

import numpy as np
import pytest
import torch

import sightline.models as models
from sightline.core.errors import DataError
from sightline.models.assignment import TASK_ALIGNED, Predicted, assign_targets
from sightline.models.oriented_boxes import distances_to_sides, enclosing_boxes, oriented_from_distances
from sightline.models.probiou import inside_oriented, probiou
from sightline.ops.oriented import box_corners, canonical, oriented_iou, upright

# Ultralytics YOLOv8 and YOLO11 (2023, 2024) at 80 classes; others in millions for the 15 classes of DOTA.
TOTALS = {
    "yolo8n-obb": 3_228_867,
    "yolo8s-obb": 11_452_739,
    "yolo8m-obb": 26_463_235,
    "yolo8l-obb": 44_540_355,
    "yolo8x-obb": 69_555_651,
    "yolo11n-obb": 2_695_747,
}
MILLIONS = {"yolo11n-obb": 2.7, "yolo11s-obb": 9.7, "yolo11m-obb": 20.9, "yolo11l-obb": 26.2, "yolo11x-obb": 58.8}


def test_totals_are_the_published_ones():
    for name, parameters in TOTALS.items():
        with torch.device("meta"):
            assert models.count_parameters(models.create(name, class_names=list(map(str, range(80))))) == parameters
    for name, millions in MILLIONS.items():
        with torch.device("meta"):
            model = models.create(name, class_names=list(map(str, range(15))))
        assert round(models.count_parameters(model) / 1e6, 1) == millions


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    middle, sides, angle = rng.uniform(20, 80, (count, 2)), rng.uniform(4, 40, (count, 2)), rng.uniform(-4, 4, count)
    return torch.from_numpy(np.column_stack([middle, sides, angle])).float()


def test_distances_make_the_box_and_the_box_the_distances():
    boxes, centres, strides = drawn(50), drawn(50, 1)[:, :2], torch.full((50, 1), 8.0)
    distances = distances_to_sides(boxes, centres, strides)
    again = oriented_from_distances(distances, boxes[:, 4], centres, strides)
    assert torch.allclose(again, boxes, atol=1e-3)
    inside = inside_oriented(boxes, centres)[torch.arange(50), torch.arange(50)]
    assert torch.equal((distances > 0).all(1), inside)
    around = upright(box_corners(boxes.numpy()))
    assert np.allclose(enclosing_boxes(boxes).numpy(), around, atol=1e-4)


def test_probiou_is_the_paper_s_of_the_two_gaussians():
    a, b = drawn(40), drawn(40, 1)
    b[:, :2] = a[:, :2] + torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 6

    def gaussian(box):
        x, y, w, h, t = box
        turn = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
        return np.array([x, y]), turn @ np.diag([w**2 / 12, h**2 / 12]) @ turn.T

    for one, other, got in zip(a.tolist(), b.tolist(), probiou(a, b).tolist(), strict=True):
        (m1, s1), (m2, s2) = gaussian(one), gaussian(other)
        s = (s1 + s2) / 2
        apart = (m1 - m2) @ np.linalg.inv(s) @ (m1 - m2) / 8
        distance = apart + 0.5 * np.log(np.linalg.det(s) / np.sqrt(np.linalg.det(s1) * np.linalg.det(s2)))
        assert got == pytest.approx(1 - np.sqrt(1 - np.exp(-distance)), abs=2e-3)
    other_words = torch.cat((a[:, :2], a[:, [3, 2]], a[:, 4:] + math.pi / 2), 1)
    assert torch.allclose(probiou(a, other_words), torch.ones(40), atol=2e-3)


def test_only_cells_inside_the_turned_box_learn_it():
    """A thin box on the diagonal: the corners of the upright one around it are no part of it."""
    y, x = torch.meshgrid(torch.arange(8) * 8 + 4.0, torch.arange(8) * 8 + 4.0, indexing="ij")
    centres = torch.stack((x, y), -1).view(-1, 2)
    truth = torch.tensor([[32.0, 32, 80, 10, math.pi / 4]])
    around = enclosing_boxes(truth)
    predicted = Predicted(torch.zeros(1, 64, 1), around.expand(1, 64, 4), centres, torch.full((64, 1), 8.0))
    predicted = predicted._replace(oriented=truth.expand(1, 64, 5))
    targets = {
        "boxes": around,
        "oriented": truth,
        "labels": torch.zeros(1).long(),
        "batch_index": torch.zeros(1).long(),
    }
    found = assign_targets(predicted, targets, TASK_ALIGNED)
    assert 0 < len(found.anchor) <= 10
    assert inside_oriented(truth, centres[found.anchor]).all()
    assert found.score.tolist() == pytest.approx([1.0] * len(found.score), abs=2e-3)


def test_targets_that_do_not_fit_are_refused():
    model = models.create("yolo11n-obb", class_names=["a"], imgsz=32)
    boxes = {"boxes": torch.zeros(2, 4), "labels": torch.zeros(2).long(), "batch_index": torch.zeros(2).long()}
    raw = model(torch.zeros(1, 3, 32, 32))
    with pytest.raises(DataError, match=r"target 'oriented' must be \(2, 5\), one row for each label, got \(2, 4\)"):
        model.loss(raw, {**boxes, "oriented": torch.zeros(2, 4)})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo8n-obb", "yolo11n-obb"])
def test_oriented_boxes_are_learnt_by_heart(name):
    """Eight turned cards on four images: the best scored box at each has exact IoU above 0.8 with it."""
    generator = torch.Generator().manual_seed(0)
    images = 0.45 + 0.02 * torch.randn(4, 3, 96, 96, generator=generator)
    y, x = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    points = torch.stack((x, y), -1).view(-1, 2)
    boxes = torch.rand(8, 5, generator=generator) * torch.tensor([16, 8, 16, 8, math.pi / 2])
    boxes += torch.tensor([40.0, 20, 24, 12, 0])
    boxes[1::2, 1] += 48
    for number, box in enumerate(boxes):
        inside = inside_oriented(box[None], points)[0].view(96, 96)
        images[number // 2, :, inside] = torch.tensor([0.9, 0.2, 0.1])[:, None]
    batch_index = torch.arange(8) // 2
    targets = {"boxes": enclosing_boxes(boxes), "oriented": boxes, "labels": torch.zeros(8).long()}
    targets["batch_index"] = batch_index
    torch.manual_seed(0)
    model = models.create(name, class_names=["card"], imgsz=96)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=150)
    for _ in range(150):
        loss = torch.stack(list(model.loss(model(images), targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():  # with the batch's own statistics: running ones need some 200 steps at momentum 0.03
        _, scores, found = model.decode(model(images))
    for box, image in zip(boxes, batch_index.tolist(), strict=True):
        near = (found[image, :, :2] - box[:2]).norm(dim=1) < 10
        best = int((scores[image, :, 0] * near).argmax())
        assert oriented_iou(canonical(found[image, best][None].numpy()), canonical(box[None].numpy()))[0, 0] > 0.8
