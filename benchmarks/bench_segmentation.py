"""Label maps: pooled counts beside torchmetrics, surface distances beside medpy, panoptic quality beside panopticapi.

Numbers are equal, or nothing is timed.

The pairs are smooth regions with ragged edges. medpy and panopticapi are measured where they are installed (pip install
medpy git+https://github.com/cocodataset/panopticapi). All run with one thread.
Run: python benchmarks/bench_segmentation.py [--quick] [--out FILE]
"""

import contextlib
import importlib.util
import io
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from interleave import Work, arguments, interleave, publish
from sightline.data import read_dataset, read_predictions
from sightline.evaluate import (
    BoundaryAccumulator,
    PanopticAccumulator,
    Segments,
    SemanticAccumulator,
    evaluate_panoptic,
)
from sightline.evaluate.pixels import summary

SIDE, CLASSES = 512, 20
Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def pairs(count: int, classes: int, cells: int = 16, ragged: float = 0.3) -> list[Pair]:
    """Truth and a guess that is near it: the greatest of as many smooth fields as there are classes."""
    random, made = np.random.default_rng(0), []
    for _ in range(count):
        rough = random.random((classes, cells, cells)).astype(np.float32)
        fields = np.stack([cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for f in rough])
        noise = cv2.resize(random.random((SIDE // 4, SIDE // 4)).astype(np.float32), (SIDE, SIDE))
        made.append(
            (fields.argmax(0).astype(np.uint8), (fields + ragged * noise * fields[::-1]).argmax(0).astype(np.uint8))
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


def segments_of(classes: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int32], dict[int, int]]:
    """The connected parts of a class of at least 256 pixels as segments, ids as of colours, and their classes."""
    ids, of_class = np.zeros(classes.shape, np.int32), {}
    for c in np.unique(classes).tolist():
        _, parts, stats, _ = cv2.connectedComponentsWithStats((classes == c).astype(np.uint8))
        for part in (1 + np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= 256)).tolist():
            number = (len(of_class) + 1) * 1031
            ids[parts == part] = number
            of_class[number] = c
    return ids, of_class


def panoptic_files(cases: list[Pair], folder: Path) -> tuple[Path, Path]:
    """The pairs as two COCO panoptic sets; the pictures are empty."""
    categories = [{"id": c, "name": f"class {c}", "isthing": c % 2} for c in range(CLASSES)]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": SIDE, "height": SIDE} for i in range(len(cases))]
    files = []
    for side, name in enumerate(("truth", "guess")):
        (folder / name).mkdir(parents=True)
        entries = []
        for i, case in enumerate(cases):
            ids, of_class = segments_of(case[side])
            listed = [
                {"id": n, "category_id": c, "iscrowd": 0, "area": int((ids == n).sum())} for n, c in of_class.items()
            ]
            entries.append({"image_id": i, "file_name": f"{i}.png", "segments_info": listed})
            colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
            Image.fromarray(colours).save(folder / name / f"{i}.png")
            Image.new("RGB", (SIDE, SIDE)).save(folder / f"{i}.jpg")
        content = {"images": images, "annotations": entries, "categories": categories}
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(content))
    return files[0], files[1]


def panoptic_works(cases: list[Pair], folder: Path) -> dict[str, tuple[str, Work, Work]]:
    """Ours beside one process of panopticapi, both from files and both from colours that are decoded already."""
    from panopticapi import evaluation

    files = panoptic_files(cases, folder)
    arrays = [[(ids, Segments(list(of), list(of.values()))) for ids, of in map(segments_of, case)] for case in cases]
    labels, guesses = (json.loads(file.read_text()) for file in files)
    categories = {c["id"]: c for c in labels["categories"]}
    matched = list(zip(labels["annotations"], guesses["annotations"], strict=True))

    folders = [str(file.with_suffix("")) for file in files]
    decoded = {str(png): np.array(Image.open(png)) for side in folders for png in Path(side).glob("*.png")}

    def theirs() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            counts = evaluation.pq_compute_single_core(0, matched, *folders, categories)
        return float(counts.pq_average(categories, None)[0]["pq"])

    def theirs_decoded() -> float:
        with mock.patch.object(evaluation.Image, "open", decoded.__getitem__):
            return theirs()

    def from_arrays() -> float:
        total = PanopticAccumulator([bool(c["isthing"]) for c in labels["categories"]])
        for truth, guess in arrays:
            total.update(*truth, *guess)
        return total.metrics()["PQ"]

    def from_files() -> float:
        dataset = read_dataset(files[0])
        return evaluate_panoptic(dataset, read_predictions(files[1], dataset))["PQ"]

    if not np.allclose([from_arrays(), from_files()], theirs(), atol=1e-12, rtol=0):
        raise SystemExit(f"panoptic quality must be equal, got {from_arrays()}, {from_files()} and {theirs()}")
    count = sum(len(of) for case in arrays for of in (case[0][1].ids, case[1][1].ids)) // (2 * len(cases))  # type: ignore[arg-type]
    what = f"panoptic quality, {len(cases)} pairs of {count} segments"
    return {
        f"{what}, arrays": ("panopticapi", from_arrays, theirs_decoded),
        f"{what}, files": ("panopticapi", from_files, theirs),
    }


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
    with tempfile.TemporaryDirectory() as folder:
        if importlib.util.find_spec("panopticapi") is None:
            print("panopticapi is not installed: panoptic quality is left out")
        else:
            for cells in (5, 16):  # as many segments as COCO's images have, and as a crowd of nuclei has
                works |= panoptic_works(pairs(50, CLASSES, cells, 0.1), Path(folder) / str(cells))
        for name, (peer, work, other) in works.items():
            rows.append({"what": name, "peer": peer} | interleave(work, other, repeats=options.repeats))
    publish(rows, ("torchmetrics", "medpy", "panopticapi"), options.out)


if __name__ == "__main__":
    main()
