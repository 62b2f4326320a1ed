"""Label maps: pooled counts beside torchmetrics, surface distances beside medpy, with equal numbers.

The pairs are smooth regions with ragged edges. medpy is measured where it is installed (pip install medpy). Both sides
run with one thread. Run: python benchmarks/bench_segmentation.py [--quick] [--out FILE]
"""

import importlib.util
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from interleave import Work, arguments, interleave, publish
from sightline.evaluate import BoundaryAccumulator, SemanticAccumulator
from sightline.evaluate.segmentation import summary

SIDE, CLASSES = 512, 20
Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def pairs(count: int, classes: int) -> list[Pair]:
    """Truth and a guess that is near it: the greatest of as many smooth fields as there are classes."""
    random, made = np.random.default_rng(0), []
    for _ in range(count):
        rough = random.random((classes, SIDE // 32, SIDE // 32)).astype(np.float32)
        fields = np.stack([cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for f in rough])
        noise = cv2.resize(random.random((SIDE // 4, SIDE // 4)).astype(np.float32), (SIDE, SIDE))
        made.append(
            (fields.argmax(0).astype(np.uint8), (fields + 0.3 * noise * fields[::-1]).argmax(0).astype(np.uint8))
        )
    return made


def pooled(cases: list[Pair]) -> float:
    """Mean IoU of pooled pixels, ours."""
    counts = SemanticAccumulator(CLASSES)
    for truth, guess in cases:
        counts.update(truth, guess)
    return summary(counts.confusion)["mean_iou"]


def jaccard(cases: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """The same by torchmetrics' confusion matrix."""
    metric = MulticlassJaccardIndex(CLASSES, validate_args=False)
    for truth, guess in cases:
        metric.update(guess, truth)
    return float(metric.compute())


def mean_iou(cases: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """torchmetrics' segmentation metric, a mean over images: the time alone compares."""
    metric = MeanIoU(CLASSES, input_format="index")
    for truth, guess in cases:
        metric.update(guess[None], truth[None])
    return float(metric.compute())


def surfaces(cases: list[Pair]) -> list[tuple[float, float]]:
    """HD95 and ASSD of the second of two classes, ours: with boundary F and IoU, which come along."""
    found = []
    for truth, guess in cases:
        edges = BoundaryAccumulator(2)
        edges.update(truth, guess)
        got = edges.metrics()
        found.append((got["hd95_pooled"], got["assd_pooled"]))
    return found


def medpy_surfaces(cases: list[Pair]) -> list[tuple[float, float]]:
    """The same two by medpy."""
    from medpy.metric import binary

    return [(binary.hd95(g == 1, t == 1), binary.assd(g == 1, t == 1)) for t, g in cases]


def main() -> None:
    """Compare the numbers, then the times."""
    options = arguments(__doc__)
    torch.set_num_threads(1)
    count = 100 if options.quick else 500
    several = pairs(min(count, 50), CLASSES) * (count // 50)
    tensors = [(torch.from_numpy(t).long(), torch.from_numpy(g).long()) for t, g in several]
    ours, theirs = pooled(several), jaccard(tensors)
    if abs(ours - theirs) > 1e-6:
        raise SystemExit(f"mean IoU must be equal, got {ours} and {theirs}")
    fewer = tensors[: count // 50]
    what = f"{count} pairs {SIDE}² x {CLASSES} classes"
    works: dict[str, tuple[str, Work, Work]] = {
        f"mean IoU, {what}": ("torchmetrics JaccardIndex", lambda: pooled(several), lambda: jaccard(tensors)),
        f"mean IoU, {len(fewer)} pairs": (
            "torchmetrics MeanIoU", lambda: pooled(several[: len(fewer)]), lambda: mean_iou(fewer),
        ),
    }  # fmt: skip
    if importlib.util.find_spec("medpy") is None:
        print("medpy is not installed: surface distances are left out")
    else:
        binary = pairs(20, 2)
        if not np.allclose(surfaces(binary), medpy_surfaces(binary), atol=1e-6, rtol=0):
            raise SystemExit("surface distances must be equal")
        works["HD95 and ASSD, 20 pairs"] = ("medpy", lambda: surfaces(binary), lambda: medpy_surfaces(binary))
    rows: list[dict[str, Any]] = []
    for name, (peer, work, other) in works.items():
        rows.append({"what": name, "peer": peer} | interleave(work, other, repeats=options.repeats))
    publish(rows, ("torchmetrics", "medpy"), options.out)


if __name__ == "__main__":
    main()
