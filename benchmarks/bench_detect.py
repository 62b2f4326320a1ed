"""Detection end to end, from a file to boxes in the image: ours beside Ultralytics with the same weights.

Both are called as their users call them, on one picture after another, in turn and in one process, on the same cores:
decoding, preparation, network, suppression. In torch our weights, and the peer's own network with the same in it; in
ONNX Runtime what each one's own export writes of that. Ultralytics is asked once for the square input that ours has
(rect=False) and once as it comes, with an input as small as the picture allows, which ours is then given too.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interleave import interleave, publish
from sightline.deploy import export_onnx
from sightline.infer import StageTimer, open_predictor
from sightline.media import read_image
from sightline.models import create, load_model, save_weights
from sightline.models.foreign.mapping import fit_tensors, foreign_rows
from sightline.ops import iou_matrix
from sightline.synth import generate

ROOT = Path(__file__).resolve().parents[1]
SIDE, CONF, IOU = 640, 0.25, 0.7


def peer_class(folder: Path | None) -> Any:
    """Ultralytics' `YOLO`, from an environment of its own; its torch is ours."""
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    places = [folder] if folder is not None else sorted((ROOT / ".venv-peers").glob("lib/python*/site-packages"))
    sys.path += map(str, places)
    from ultralytics import YOLO

    return YOLO


def lively(images: Sequence[Path], path: Path) -> Path:
    """Weights of an untrained network that finds things: normalisations as pictures make them, scores spread."""
    torch.manual_seed(0)
    model: Any = create("yolo11n", class_names=[f"class-{i}" for i in range(80)])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    side = SIDE // 2
    pixels = [read_image(path)[:side, :side].transpose(2, 0, 1) / 255 for path in images[:8]]
    model.train()(torch.from_numpy(np.stack(pixels).astype(np.float32)))
    with torch.no_grad():
        for branch in model.head.class_branches:
            branch[-1].weight.normal_(0, 0.25)
            branch[-1].bias.fill_(-6.0)
    save_weights(path, model.eval())
    return path


def lend(own: Path, yolo: Any, path: Path) -> Path:
    """A checkpoint of the peer's network with our weights in it."""
    model: Any = load_model(own)
    peer = yolo("yolo11n.yaml").model.float()
    if len(model.class_names) != 80:
        peer = type(peer)("yolo11n.yaml", nc=len(model.class_names), verbose=False).float()
    peer.names, peer.args, peer.task = dict(enumerate(model.class_names)), {"imgsz": SIDE}, "detect"
    rows = foreign_rows(peer.state_dict())
    assert rows is not None
    fit = fit_tensors(model, rows)
    assert fit.first_difference is None, fit.first_difference
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            fit.tensors[name].copy_(tensor)  # a view of the peer's own
    torch.save({"model": peer.eval(), "train_args": {"imgsz": SIDE}}, path)
    return path


def compared(ours: Any, theirs: Any) -> tuple[int, int, float, float]:
    """Detections of one image: pairs, those without a partner, the largest difference in pixels and in score."""
    boxes, scores, classes = (np.asarray(v, np.float64) for v in (ours.xyxy, ours.confidence, ours.class_id))
    others = (theirs.boxes.xyxy, theirs.boxes.conf, theirs.boxes.cls)
    their_boxes, their_scores, their_classes = (np.asarray(v.cpu().numpy(), np.float64) for v in others)
    overlap = np.where(classes[:, None] == their_classes, iou_matrix(boxes, their_boxes), 0.0)
    if not overlap.size:
        return 0, len(boxes) + len(their_boxes), 0.0, 0.0
    best, back = overlap.argmax(1), overlap.argmax(0)
    mine = np.flatnonzero((back[best] == np.arange(len(best))) & (overlap.max(1) > 0.5))
    chosen = best[mine]
    apart = np.abs(boxes[mine] - their_boxes[chosen]).max(initial=0.0)
    score = np.abs(scores[mine] - their_scores[chosen]).max(initial=0.0)
    return len(mine), len(boxes) + len(their_boxes) - 2 * len(mine), float(apart), float(score)


def stages(predictor: Any, images: Sequence[Path]) -> dict[str, float]:
    """Median milliseconds of each stage of ours."""
    timer = StageTimer()
    for path in images:
        with timer.measure("decode"):
            image = read_image(path)
        with timer.measure("preprocess"):
            batch = predictor.prepare([image])
        with timer.measure("network"):
            outputs = predictor.run(batch.pixels)
        with timer.measure("postprocess"):
            predictor.finish(outputs, batch.geometries)
    return dict(timer.summary().select("stage", "p50_ms").iter_rows())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a yolo11n (.safetensors); an untrained one without it")
    parser.add_argument("--images", type=Path, help="a folder of pictures; generated scenes without it")
    parser.add_argument("--peers", type=Path, help="where Ultralytics lies, else in .venv-peers")
    parser.add_argument("--count", type=int, default=16, help="pictures of a round")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # holds for the runtimes' threads too
    torch.set_num_threads(options.threads)
    yolo = peer_class(options.peers)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if options.images is None:
            generate("traffic", work / "scenes", images=options.count, size_hw=(480, 640), seed=0)
        found = sorted(p for p in (options.images or work / "scenes").rglob("*.jpg"))
        images = found[:: max(1, len(found) // options.count)][: options.count]
        own = options.weights or lively(images, work / "untrained.safetensors")
        checkpoint = lend(own, yolo, work / "peer.pt")
        results = list(rows(yolo, own, checkpoint, images, options))
        publish(results, ["torch", "onnxruntime", "ultralytics"], options.out)
        for row in results:
            print(row["what"], *(f"{side}: {row[side]}" for side in ("ours_ms", "peer_ms")), sep="\n  ")


def rows(yolo: Any, own: Path, checkpoint: Path, images: Sequence[Path], options: argparse.Namespace) -> Any:
    height, width = read_image(images[0]).shape[:2]
    scale = SIDE / max(height, width)
    small = tuple(-(-round(side * scale) // 32) * 32 for side in (height, width))
    opened = partial(open_predictor, conf=CONF, iou=IOU, device="cpu", threads=options.threads)
    peer, square = yolo(checkpoint), (SIDE, SIDE)
    exported = export_onnx(
        _at(own, checkpoint.with_name("own.safetensors")), checkpoint.with_name("own.onnx"), images=images[:2]
    )
    theirs = yolo(peer.export(format="onnx", imgsz=SIDE, simplify=False, opset=17), task="detect")
    ways = [
        ("torch, square", opened(own, size_hw=square), peer, {"rect": False}),
        ("torch, as small as it can be", opened(own, size_hw=small), peer, {"rect": True}),
        ("ONNX Runtime, square", opened(exported.path), theirs, {"rect": False}),
    ]
    for what, predictor, other, how in ways:
        settings = {"imgsz": SIDE, "conf": CONF, "iou": IOU, "device": "cpu", "verbose": False, **how}

        def ask(path: Path, model: Any = other, given: dict[str, Any] = settings) -> Any:
            return model.predict(str(path), **given)[0]

        pairs = [compared(predictor(path)[0], ask(path)) for path in images]
        alike, alone = (sum(pair[i] for pair in pairs) for i in (0, 1))
        apart, score = (max(pair[i] for pair in pairs) for i in (2, 3))
        speeds = [ask(path).speed for path in images]
        row = interleave(
            lambda p=predictor: [p(path) for path in images], lambda a=ask: [a(path) for path in images],
            repeats=options.repeats,
        )  # fmt: skip
        per_image = {k: v / len(images) for k, v in row.items() if k.endswith("_s")}
        yield (
            row
            | per_image
            | {
                "what": f"{what}: {alike} detections alike, {alone} not, within {apart:.2g} px and {score:.1e}",
                "peer": "Ultralytics",
                "ours_ms": stages(predictor, images),
                "peer_ms": {key: float(np.median([speed[key] for speed in speeds])) for key in speeds[0]},
            }
        )


def _at(own: Path, path: Path) -> Path:
    """A copy of weights whose network takes the size that is measured."""
    model: Any = load_model(own)
    same = create(model.name, class_names=model.class_names, **{**model.arguments, "imgsz": SIDE})
    same.load_state_dict(model.state_dict())
    save_weights(path, same)
    return path


if __name__ == "__main__":
    main()
