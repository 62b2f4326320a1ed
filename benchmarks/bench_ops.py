"""Boxes, suppression, fusion and run-length masks: ours beside pycocotools, torchvision and others, one thread each.

The results are compared before the times are printed. Run: python benchmarks/bench_ops.py [--quick] [--out FILE]
"""

from typing import Any

import ensemble_boxes
import numpy as np
import pycocotools.mask as coco_mask
import torch
import torchvision

from interleave import Work, arguments, interleave, publish
from sightline.ops import fuse_boxes, iou_matrix, nms, rle, soft_nms, xywh_to_xyxy

SIZE_HW = (480, 640)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes `xywh`, from small to a third of the image."""
    return np.concatenate([rng.uniform(0, 400, (count, 2)), rng.uniform(8, 200, (count, 2))], axis=1)


def random_rings(rng: np.random.Generator, count: int) -> list[list[float]]:
    """Wobbly polygons of 40 points."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    rings = []
    for _ in range(count):
        radius = rng.uniform(30, 120) * rng.uniform(0.8, 1.2, 40)
        centre = rng.uniform(80, 400, 2)
        rings.append((np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None] + centre).ravel().tolist())
    return rings


def check(what: str, same: bool) -> None:
    if not same:
        raise SystemExit(f"{what}: the results differ, the times mean nothing")


def mask_cases(rng: np.random.Generator, count: int) -> dict[str, tuple[str, Work, Work]]:
    rings = random_rings(rng, count)
    counts = [rle.from_polygons([ring], SIZE_HW) for ring in rings]
    theirs = [coco_mask.merge(coco_mask.frPyObjects([ring], *SIZE_HW)) for ring in rings]
    check("polygons", counts == [t["counts"] for t in theirs])
    masks = [np.asfortranarray(rle.decode(c, SIZE_HW)) for c in counts]
    bytes_masks = [m.view(np.uint8) for m in masks]
    check("encode", [rle.encode(m) for m in masks] == [coco_mask.encode(m)["counts"] for m in bytes_masks])
    half = len(counts) // 2
    check(
        "mask IoU",
        np.array_equal(
            rle.iou_matrix(counts[:half], counts[half:], SIZE_HW),
            coco_mask.iou(theirs[:half], theirs[half:], [False] * (len(theirs) - half)),
        ),
    )
    crowd = [False] * (len(theirs) - half)
    return {
        f"RLE encode, {count} masks": (
            "pycocotools",
            lambda: [rle.encode(m) for m in masks],
            lambda: [coco_mask.encode(m) for m in bytes_masks],
        ),
        f"RLE decode, {count} masks": (
            "pycocotools",
            lambda: [rle.decode(c, SIZE_HW) for c in counts],
            lambda: [coco_mask.decode(t) for t in theirs],
        ),
        f"polygon to RLE, {count} rings": (
            "pycocotools",
            lambda: [rle.from_polygons([r], SIZE_HW) for r in rings],
            lambda: [coco_mask.merge(coco_mask.frPyObjects([r], *SIZE_HW)) for r in rings],
        ),
        f"mask IoU, {half} x {half}": (
            "pycocotools",
            lambda: rle.iou_matrix(counts[:half], counts[half:], SIZE_HW),
            lambda: coco_mask.iou(theirs[:half], theirs[half:], crowd),
        ),
    }


def box_cases(rng: np.random.Generator, count: int) -> dict[str, tuple[str, Work, Work]]:
    a, b = random_boxes(rng, count), random_boxes(rng, count)
    a_xyxy, b_xyxy = xywh_to_xyxy(a), xywh_to_xyxy(b)
    a_torch, b_torch = torch.from_numpy(a_xyxy), torch.from_numpy(b_xyxy)
    scores, class_ids = rng.random(count), rng.integers(0, 20, count)
    scores_torch, ids_torch = torch.from_numpy(scores), torch.from_numpy(class_ids)
    crowd = np.zeros(count, dtype=np.uint8)
    check("box IoU", np.allclose(iou_matrix(a_xyxy, b_xyxy), coco_mask.iou(a, b, crowd), rtol=1e-14))
    kept = torchvision.ops.batched_nms(a_torch, scores_torch, ids_torch, 0.5).numpy()[:300]
    check("NMS", np.array_equal(nms(a_xyxy, scores, class_ids, 0.5, 300), kept))
    return {
        f"box IoU, {count} x {count}": (
            "pycocotools",
            lambda: iou_matrix(a_xyxy, b_xyxy),
            lambda: coco_mask.iou(a, b, crowd),
        ),
        f"box IoU, {count} x {count}, float64": (
            "torchvision",
            lambda: iou_matrix(a_xyxy, b_xyxy),
            lambda: torchvision.ops.box_iou(a_torch, b_torch),
        ),
        f"NMS, {count} boxes, 20 classes, 300 kept": (
            "torchvision",
            lambda: nms(a_xyxy, scores, class_ids, 0.5, 300),
            lambda: torchvision.ops.batched_nms(a_torch, scores_torch, ids_torch, 0.5)[:300],
        ),
    }


def suppression_cases(rng: np.random.Generator, count: int) -> dict[str, tuple[str, Work, Work]]:
    """One class and no cap: the most that suppression can be asked for."""
    boxes = xywh_to_xyxy(random_boxes(rng, count) * [1, 1, 0.3, 0.3])
    scores, one_class = rng.random(count), np.zeros(count, np.int64)
    boxes_torch, scores_torch = torch.from_numpy(boxes), torch.from_numpy(scores)
    check(
        "NMS of one class",
        np.array_equal(
            nms(boxes, scores, one_class, 0.5, count), torchvision.ops.nms(boxes_torch, scores_torch, 0.5).numpy()
        ),
    )
    ours, theirs = soft_nms(boxes, scores, one_class, iou_threshold=None, max_det=count), plain_soft_nms(boxes, scores)
    check("Soft-NMS", np.array_equal(ours[0], theirs[0]) and np.allclose(ours[1], theirs[1]))
    return {
        f"NMS, {count} boxes, 1 class, all kept": (
            "torchvision",
            lambda: nms(boxes, scores, one_class, 0.5, count),
            lambda: torchvision.ops.nms(boxes_torch, scores_torch, 0.5),
        ),
        f"Soft-NMS (Gaussian), {count} boxes": (
            "NumPy loop",
            lambda: soft_nms(boxes, scores, one_class, iou_threshold=None, max_det=count),
            lambda: plain_soft_nms(boxes, scores),
        ),
    }


def plain_soft_nms(
    boxes: np.ndarray, scores: np.ndarray, sigma: float = 0.5, conf: float = 0.001
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian Soft-NMS as one writes it in NumPy: a loop over what is taken."""
    scores, waiting, taken = scores.copy(), np.arange(len(boxes)), []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    while len(waiting):
        best = waiting[scores[waiting].argmax()]
        taken.append(best)
        waiting = waiting[waiting != best]
        low = np.maximum(boxes[waiting, :2], boxes[best, :2])
        high = np.minimum(boxes[waiting, 2:], boxes[best, 2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        iou = common / (area[waiting] + area[best] - common)
        scores[waiting] *= np.exp(-(iou**2) / sigma)
        waiting = waiting[scores[waiting] >= conf]
    return np.array(taken), scores[taken]


def fusion_cases(rng: np.random.Generator, count: int) -> dict[str, tuple[str, Work, Work]]:
    """Three models of so many boxes each, twenty classes."""
    corner = rng.uniform(0, 0.8, (3, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.02, 0.12, (3, count, 2))], axis=2)
    scores, class_ids, models = rng.random((3, count)), rng.integers(0, 20, (3, count)), np.repeat(range(3), count)

    def ours() -> Any:
        return fuse_boxes(boxes.reshape(-1, 4), scores, class_ids, weights=[1, 1, 1], models=models)

    def theirs() -> Any:
        return ensemble_boxes.weighted_boxes_fusion(boxes, scores, class_ids)

    check("fusion", all(np.allclose(a, b, atol=1e-6) for a, b in zip(ours(), theirs(), strict=True)))
    return {f"weighted boxes fusion, 3 x {count} boxes": ("ensemble-boxes", ours, theirs)}


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    cases = mask_cases(rng, 60 if options.quick else 300) | box_cases(rng, 400 if options.quick else 2000)
    for count in (300,) if options.quick else (1000, 10_000):
        cases |= suppression_cases(rng, count)
    cases |= fusion_cases(rng, 100 if options.quick else 1000)
    rows: list[dict[str, Any]] = []
    for what, (peer, ours, theirs) in cases.items():
        rows.append(interleave(ours, theirs, repeats=options.repeats) | {"what": what, "peer": peer})
    publish(rows, ["pycocotools", "torch", "torchvision", "ensemble-boxes", "numpy", "numba"], options.out)


if __name__ == "__main__":
    main()
