"""R-CNN and Fast R-CNN: what is cut out, what learns, and that they differ in where a region is cut out alone."""

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from sightline import models
from sightline.core.errors import ConfigError, ModelError
from sightline.deploy import export_onnx
from sightline.models.regions import classics
from sightline.models.regions.region_loss import Truth

SIZE = (64, 96)


def make(name, **arguments):
    torch.manual_seed(0)
    return models.create(name, class_names=["a", "b"], imgsz=SIZE, **arguments)


def scene():
    """Two images with things, and their truth."""
    images = torch.full((2, 3, *SIZE), 0.4)
    boxes = [[8, 8, 40, 40], [56, 16, 88, 56], [16, 24, 64, 56]]
    colours = [[0.9, 0.1, 0.1], [0.1, 0.2, 0.9], [0.9, 0.1, 0.1]]
    for image, (x1, y1, x2, y2), colour in zip((0, 0, 1), boxes, colours, strict=True):
        images[image, :, y1:y2, x1:x2] = torch.tensor(colour)[:, None, None]
    return images, {
        "boxes": torch.tensor(boxes).float(),
        "labels": torch.tensor([0, 1, 0]),
        "batch_index": torch.tensor([0, 0, 1]),
    }


def test_regions_are_cut_out_as_torchvision_cuts_them():
    x, boxes = (
        torch.rand(2, 3, 16, 24),
        torch.tensor([[[8.0, 8, 40, 40], [60, 20, 92, 64]], [[0, 0, 96, 64], [4, 4, 20, 9]]]),
    )
    regions = torch.cat((torch.tensor([0.0, 0, 1, 1])[:, None], boxes.flatten(0, 1)), 1)
    wanted = roi_align(x, regions, 8, 0.25, sampling_ratio=1, aligned=True)
    assert torch.allclose(classics.cut_out(x, boxes, 0.25, 8), wanted, atol=1e-5)


def test_offsets_lead_back_to_the_box():
    regions, boxes = torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([[10.0, 4, 50, 24]])
    offsets = classics._offsets(regions, boxes)
    assert offsets.tolist() == [[pytest.approx(v, abs=1e-4) for v in (10 * 6 / 32, -10 * 10 / 32, 1.1157, -2.3500)]]
    assert torch.allclose(classics._moved(regions, offsets), boxes, atol=1e-4)


def test_regions_on_objects_learn_them_and_others_learn_background():
    torch.manual_seed(0)
    truth = Truth(torch.tensor([[8.0, 8, 40, 40], [56, 16, 88, 56]]), torch.tensor([1, 2]), torch.tensor([0, 1]))
    regions = torch.tensor([[8.0, 8, 40, 36], [8, 8, 40, 20], [0, 0, 96, 64]])
    drawn = classics._drawn(regions, truth, 3)
    by_box = {tuple(row[1:].tolist()): int(label) for row, label in zip(drawn.regions, drawn.labels, strict=True)}
    assert by_box == {(8, 8, 40, 36): 1, (8, 8, 40, 20): 0, (0, 0, 96, 64): 0, (8, 8, 40, 40): 1, (56, 16, 88, 56): 2}
    assert drawn.regions[:, 0].tolist() == [3] * 5
    many = classics._drawn(torch.tensor([[8.0, 8, 40, 40]]).repeat(300, 1), truth, 0)
    assert int((many.labels > 0).sum()) == len(many.labels) == 16


@pytest.mark.parametrize("name", [pytest.param("rcnn", marks=pytest.mark.slow), "fast-rcnn"])
def test_shares_of_a_batch_add_up(name):
    model = make(name).eval()
    images, targets = scene()
    whole = model.loss(model(images), targets)  # fewer regions than are drawn: all learn
    sums = []
    for image in (slice(0, 1), slice(1, 2), slice(0)):
        rows = [[0, 1], [2]][image.start or 0] if image.stop else []
        own = {key: value[rows] for key, value in targets.items()}
        own["batch_index"] = own["batch_index"] * 0
        raw = model(images[image])
        terms = model.loss(raw, own, lambda values: sums.append(values) or values)
    torch.stack(list(terms.values())).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or bool(p.grad.any())]
    again = model.loss(raw, own, lambda _: torch.stack(sums).sum(0))
    assert {key: value.item() for key, value in again.items()} == {
        key: pytest.approx(value.item(), rel=1e-4) for key, value in whole.items()
    }


def test_one_pass_for_each_region_against_one_for_each_image():
    """The counts of their convolutions: equal weights, and the trunk runs over 200 crops or over one image."""
    classes = [f"class-{i}" for i in range(80)]
    shapes = {name: models.build_shapes(name, classes, {}) for name in ("rcnn", "fast-rcnn")}
    assert {k: v.shape for k, v in shapes["rcnn"].state_dict().items()} == {
        k: v.shape for k, v in shapes["fast-rcnn"].state_dict().items()
    }
    costs = {name: models.describe_model(model).macs for name, model in shapes.items()}
    trunk = {
        side: 27 * 32 * side**2 // 4 + 288 * 64 * side**2 // 16 + (576 + 1152) * 128 * side**2 // 64
        for side in (64, 320)
    }
    assert costs["rcnn"] - costs["fast-rcnn"] == 200 * trunk[64] - trunk[320]


@pytest.mark.parametrize("name", ["rcnn", "fast-rcnn"])
def test_export_is_refused_with_the_reason(name, tmp_path):
    picture = np.zeros((*SIZE, 3), np.uint8)
    with pytest.raises(
        ModelError, match=rf"'{name}' cannot be exported: its regions come from selective search, which no"
    ):
        export_onnx(make(name), tmp_path / "m.onnx", images=[picture])
    assert not list(tmp_path.iterdir())


def test_wrong_numbers_of_regions_are_refused():
    with pytest.raises(ConfigError, match=r"regions must be 1\.\.2000, got 0"):
        make("rcnn", regions=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rcnn", "fast-rcnn"])
def test_two_images_are_learnt_by_heart(name):
    images, targets = scene()
    model = make(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(40):
        loss = torch.stack(list(model.loss(model(images), targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        boxes, scores = model.decode(model(images))
    for box, label, image in zip(targets["boxes"], targets["labels"], targets["batch_index"], strict=True):
        fits = (boxes[image] - box).abs().amax(1) < 3
        assert float(scores[image][fits][:, label].max()) > 0.5
