"""Instance segmenters: published counts, and the loss against one that keeps every mask."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import sightline.models as models
from sightline.core.errors import DataError, ModelError
from sightline.models.assignment import Assignment
from sightline.models.mask_loss import mask_loss
from sightline.ops.boxes import iou_matrix
from sightline.ops.instance_masks import object_masks

# Ultralytics YOLOv8 and YOLO11 (2023, 2024) at 80 classes, before and, where published, after fusing.
TOTALS = {
    "yolo8n-seg": (3_409_968, 3_404_320),
    "yolo8s-seg": (11_821_056, None),
    "yolo8m-seg": (27_285_968, None),
    "yolo8l-seg": (45_997_728, None),
    "yolo8x-seg": (71_827_888, None),
    "yolo11n-seg": (2_876_848, 2_868_664),
    "yolo11s-seg": (10_113_248, None),
    "yolo11m-seg": (22_420_896, None),
    "yolo11l-seg": (27_678_368, None),
    "yolo11x-seg": (62_142_656, None),
}


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_the_published_ones(name):
    parameters, fused = TOTALS[name]
    with torch.device("meta"):
        model = models.create(name, class_names=[f"class{i}" for i in range(80)])
    assert models.count_parameters(model) == parameters
    if fused is not None:
        assert models.count_parameters(models.fuse(model)) == fused


def scene():
    """Two images, of which the first has two objects that overlap and one whose mask is not known."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.tensor([[1, 2, 6, 5], [3, 1, 8, 6], [0, 0, 0, 0], [2, 2, 4, 3]])
    count = int((cells[:, 2:] - cells[:, :2]).prod(1).sum())
    targets = {
        "boxes": cells * 4.0,
        "labels": torch.zeros(4, dtype=torch.int64),
        "batch_index": torch.tensor([0, 0, 0, 1]),
        "cells": cells,
        "masks": torch.randint(0, 256, (count,), generator=generator, dtype=torch.uint8),
    }
    coefficients = torch.randn(2, 9, 3, generator=generator).requires_grad_()
    prototypes = torch.randn(2, 3, 8, 8, generator=generator).requires_grad_()
    found = Assignment(
        image=torch.tensor([0, 1, 0, 0, 0]),
        anchor=torch.tensor([4, 7, 0, 8, 2]),
        target=torch.tensor([1, 3, 0, 2, 1]),
        weight=torch.ones(5),
        score=torch.ones(5),
    )
    return coefficients, prototypes, found, targets


def dense_loss(coefficients, prototypes, found, targets):
    """Every mask of every candidate in full, cut to its box behind the cross-entropy."""
    wanted, first = torch.zeros(4, 8, 8), 0
    for full, (x1, y1, x2, y2) in zip(wanted, targets["cells"].tolist(), strict=True):
        area = (y2 - y1) * (x2 - x1)
        full[y1:y2, x1:x2] = targets["masks"][first : first + area].view(y2 - y1, x2 - x1) / 255
        first += area
    values = []
    for image, anchor, target in zip(*(part.tolist() for part in found[:3]), strict=True):
        x1, y1, x2, y2 = targets["cells"][target].tolist()
        if x2 > x1:
            logits = torch.einsum("m,mhw->hw", coefficients[image, anchor], prototypes[image])
            wrong = functional.binary_cross_entropy_with_logits(logits, wanted[target], reduction="none")
            values.append(wrong[y1:y2, x1:x2].mean())
    return torch.stack(values).mean()


def test_the_loss_and_its_gradient_are_those_of_whole_masks():
    coefficients, prototypes, found, targets = scene()
    wanted = dense_loss(coefficients, prototypes, found, targets)
    expected = torch.autograd.grad(wanted, (coefficients, prototypes))
    loss = mask_loss(coefficients, prototypes, found, targets)
    got = torch.autograd.grad(3 * loss, (coefficients, prototypes))
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    for theirs, ours in zip(expected, got, strict=True):
        assert torch.allclose(3 * theirs, ours, atol=1e-6)


def test_shares_of_a_batch_make_the_loss_of_the_whole():
    coefficients, prototypes, found, targets = scene()
    whole = mask_loss(coefficients, prototypes, found, targets)
    shares = []
    for image in range(2):
        of_object = targets["batch_index"] == image
        sizes = (targets["cells"][:, 2:] - targets["cells"][:, :2]).prod(1)
        own = {key: targets[key][of_object] for key in ("cells", "batch_index")} | {
            "masks": targets["masks"][torch.repeat_interleave(of_object, sizes)]
        }
        here = found.image == image
        first = int(of_object.nonzero()[0])
        part = Assignment(
            found.image[here], found.anchor[here], found.target[here] - first, *(v[here] for v in found[3:])
        )
        mask_loss(coefficients, prototypes, part, own, lambda values: shares.append(values) or values)
    summed, count = torch.stack(shares).sum(0).tolist()
    assert summed / count == pytest.approx(whole.item(), rel=1e-6)


def test_without_objects_the_loss_is_zero_and_has_a_gradient():
    coefficients, prototypes, _, targets = scene()
    none = {key: value[:0] for key, value in targets.items()}
    nothing = torch.zeros(0, dtype=torch.int64)
    loss = mask_loss(coefficients, prototypes, Assignment(nothing, nothing, nothing, *[torch.zeros(0)] * 2), none)
    loss.backward()
    assert loss.item() == 0
    assert not coefficients.grad.any()


def test_masks_that_do_not_fit_their_cells_are_refused():
    model = models.create("yolo11n-seg", class_names=["a"], imgsz=32)
    targets = scene()[3]
    raw = model(torch.zeros(2, 3, 32, 32))
    with pytest.raises(DataError, match="target 'masks' must have the 42 values that 'cells' call for, got 41"):
        model.loss(raw, {**targets, "masks": targets["masks"][1:]})
    with pytest.raises(DataError, match="targets of task 'instance' must be"):
        model.loss(raw, {key: targets[key] for key in ("boxes", "labels", "batch_index")})


def test_fused_networks_give_the_same_masks():
    torch.manual_seed(0)
    model = models.create("yolo11n-seg", class_names=["a", "b"], imgsz=64).double()
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    torch.optim.swa_utils.update_bn([images], model)
    with torch.no_grad():
        pairs = zip(models.Decoded(model)(images), models.Decoded(models.fuse(model))(images), strict=True)
        assert max(float((ours - fused).abs().max()) for ours, fused in pairs) < 1e-3


def paint_discs(size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """Four images of a disc above another on noise, their targets, and the masks (8, size, size)."""
    generator = torch.Generator().manual_seed(0)
    images = 0.45 + 0.02 * torch.randn(4, 3, size, size, generator=generator)
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    masks = []
    for number in range(8):
        radius = size / 10 + torch.rand(1, generator=generator) * size / 10
        left, top = radius + torch.rand(2, generator=generator) * (torch.tensor([size, size / 2]) - 2 * radius)
        masks.append((x - left) ** 2 + (y - top - number % 2 * size / 2) ** 2 <= radius**2)
        images[number // 2, 0][masks[-1]] = 0.9
    found = [mask.nonzero() for mask in masks]
    boxes = torch.stack([torch.cat((p.amin(0).flip(0), p.amax(0).flip(0) + 1)) for p in found]).float()
    cells = torch.cat(((boxes[:, :2] / 4).floor(), (boxes[:, 2:] / 4).ceil()), 1).long()
    shares = functional.avg_pool2d(torch.stack(masks)[:, None].float(), 4)[:, 0]
    parts = [s[y1:y2, x1:x2].reshape(-1) for s, (x1, y1, x2, y2) in zip(shares, cells.tolist(), strict=True)]
    targets = {"boxes": boxes, "labels": torch.zeros(8).long(), "batch_index": torch.arange(8) // 2, "cells": cells}
    return images, {**targets, "masks": (torch.cat(parts) * 255).round().to(torch.uint8)}, torch.stack(masks)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo8n-seg", "yolo11n-seg", "tv:maskrcnn-resnet18"])
def test_a_segmenter_learns_four_images_by_heart(name):
    """The mask of the best candidate in each object's box has IoU > 0.85 with it."""
    images, targets, masks = paint_discs(96)
    torch.manual_seed(0)
    model = models.create(name, class_names=["disc"], imgsz=96)
    rate, steps = (5e-4, 60) if name.startswith("tv:") else (2e-3, 100)
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
        boxes, scores, own, *prototypes = (part.numpy() for part in model.decode(model(images)))
    geometry = model.preprocess.geometry((96, 96))
    for box, image, mask in zip(targets["boxes"].numpy(), targets["batch_index"].tolist(), masks.numpy(), strict=True):
        fits = np.where(iou_matrix(boxes[image], box[None])[:, 0] > 0.8, scores[image, :, 0], 0)
        best = int(fits.argmax())
        chosen = boxes[image, best][None]
        of_masks = [own[image, best][None], *(maps[image] for maps in prototypes)]
        (crop,) = object_masks(of_masks, chosen, chosen.clip(0, 96), geometry)
        whole = np.zeros((96, 96), np.bool_)
        whole[crop.top :, crop.left :][: crop.pixels.shape[0], : crop.pixels.shape[1]] = crop.pixels
        assert (whole & mask).sum() / (whole | mask).sum() > 0.85


def test_a_detectors_weights_start_what_both_have(tmp_path):
    """And back; of other classes the class branch stays new, of another family nothing is taken."""
    torch.manual_seed(0)
    detector = models.create("yolo11n", class_names=["a", "b"], imgsz=64)
    models.save_weights(tmp_path / "d.safetensors", detector)
    started = models.create("yolo11n-seg", class_names=["a", "b"], imgsz=64, weights=tmp_path / "d.safetensors")
    own, given = started.state_dict(), detector.state_dict()
    for key, tensor in given.items():
        assert torch.equal(own[key.replace("head.", "head.boxes.")], tensor), key
    assert started.started == (
        f"started from d.safetensors (yolo11n): {len(given)} of {len(own)} tensors; "
        "new: head.coefficients, head.prototypes"
    )
    other = models.create("yolo11n-seg", class_names=["a", "c"], imgsz=64, weights=tmp_path / "d.safetensors")
    assert "head.boxes.class_branches, head.coefficients, head.prototypes" in other.started
    models.save_weights(tmp_path / "s.safetensors", started)
    back = models.create("yolo11n", class_names=["a", "b"], imgsz=64, weights=tmp_path / "s.safetensors")
    assert all(torch.equal(tensor, given[key]) for key, tensor in back.state_dict().items())
    assert back.started.endswith("nothing is new")
    with pytest.raises(ModelError, match="must be of 'yolo8n-seg', got 'yolo11n'"):
        models.create("yolo8n-seg", class_names=["a", "b"], imgsz=64, weights=tmp_path / "d.safetensors")
