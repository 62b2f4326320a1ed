"""Run folders made by hand: a small data set with hostile names, real evaluations of made-up predictions."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.files import write_sealed_json, write_text_atomic
from sightline.core.predictions import predictions_from_rows
from sightline.core.runs import provenance
from sightline.data import read_dataset, split_dataset
from sightline.evaluate import evaluate_detection, evaluate_semantic, evaluate_tracking
from sightline.ops import rle

HOSTILE = "<script>alert('x')</script>"
CLASSES = (HOSTILE, 'b" onload="alert(2)', "größe & co")


@dataclass(frozen=True)
class MadeRun:
    """A run folder and the data set it is about."""

    folder: Path
    data: Path
    dataset: Dataset


def draw_scene(rng: np.random.Generator, objects: list[tuple[int, list[float]]]) -> np.ndarray:
    image = rng.integers(70, 110, (120, 160, 3)).astype(np.uint8)
    for class_id, (x1, y1, x2, y2) in objects:
        image[round(y1) : round(y2), round(x1) : round(x2)] = [(200, 60, 60), (60, 190, 90), (80, 110, 220)][class_id]
    return image


def random_objects(rng: np.random.Generator, count: int) -> list[tuple[int, list[float]]]:
    found = []
    for _ in range(count):
        x, y = rng.uniform(0, 120), rng.uniform(0, 80)
        w, h = rng.uniform(12, 40, 2)
        found.append((int(rng.integers(0, 3)), [float(v) for v in (x, y, min(160, x + w), min(120, y + h))]))
    return found


def write_coco(root: Path, rng: np.random.Generator) -> None:
    for split, count in (("train", 12), ("valid", 16)):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for i in range(count):
            objects = random_objects(rng, int(rng.integers(0, 6)))
            Image.fromarray(draw_scene(rng, objects)).save(root / split / f"{split}{i:02d}.png")
            image_id = i + (100 if split == "valid" else 0)
            images.append({"id": image_id, "file_name": f"{split}{i:02d}.png", "width": 160, "height": 120})
            for class_id, (x1, y1, x2, y2) in objects:
                box = [x1, y1, x2 - x1, y2 - y1]
                annotations.append(
                    {"id": image_id * 100 + len(annotations), "image_id": image_id, "category_id": class_id + 1}
                    | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                )
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        (root / split / "_annotations.coco.json").write_text(text, encoding="utf-8")


def detection_rows(dataset: Dataset, rng: np.random.Generator) -> list[dict]:
    rows = []
    for row in dataset.objects.iter_rows(named=True):
        kind = rng.random()
        if kind < 0.15:
            continue
        jitter = rng.normal(0, 1.5 if kind < 0.85 else 12, 4)
        box = np.array([row["x1"], row["y1"], row["x2"], row["y2"]]) + jitter
        class_id = row["class_id"] if kind < 0.9 else (row["class_id"] + 1) % 3
        box[2:] = np.maximum(box[2:], box[:2] + 2)
        rows.append((row["image_id"], class_id, box, float(rng.uniform(0.4, 0.99))))
    for image_id in dataset.images["image_id"].to_list()[::2]:
        rows.append((image_id, 1, np.array([5.0, 5.0, 25.0, 30.0]), float(rng.uniform(0.05, 0.7))))
    return [
        {"image_id": i, "class_id": c, "x1": b[0], "y1": b[1], "x2": b[2], "y2": b[3], "score": s}
        for i, c, b, s in rows
    ]


def epoch_rows(metrics: dict[str, float]) -> list[dict]:
    rows = []
    for epoch in range(1, 13):
        share = 1 - np.exp(-epoch / 4)
        row = {"epoch": epoch, "lr": 0.002 * (1 - epoch / 13), "images_per_s": 30.0 + epoch % 3, "seconds": 4.5}
        row |= {f"train/{name}": scale * (1.2 - share) for name, scale in (("box", 1.9), ("cls", 1.2), ("dfl", 0.9))}
        row |= {f"valloss/{name}": 2 * row[f"train/{name}"] for name in ("box", "cls", "dfl")}
        row |= {f"class/{name}/AP": 0.5 * share for name in CLASSES}
        row |= {"watch/gradient_median": 2.0 + share, "watch/gradient_max": 9.0, "watch/found": 3.0}
        rows.append(row | {f"val/{name}": value * share for name, value in metrics.items()})
    return rows


def run_facts(task: str, model: str, data: Path, dataset: Dataset) -> dict:
    digest = dataset.digest()
    return provenance(seeds={"train": 0}, data_digest=digest, command=["sightline", "train", "--data", "my data"]) | {
        "task": task,
        "model": {"name": model, "arguments": {"imgsz": 160}, "parameters": 2_624_080, "class_names": CLASSES},
        "data": {
            "path": str(data),
            "format": dataset.format,
            "name": dataset.name,
            "digest": digest,
            "images_by_split": dict(dataset.images.group_by("split", maintain_order=True).len().iter_rows()),
            "objects_by_class": dataset.counts_by_class(),
            "excluded": [],
        },
        "preprocess": {"size_hw": [160, 160], "policy": "letterbox", "mean": [0.0]},
        "status": "finished",
        "epochs_done": 12,
        "best": {"epoch": 9, "metric": "mAP50-95", "value": 0.625},
        "duration_s": 119.6,
        "images_per_s": 31.25,
        "notes": ["3 findings in the labels"],
    }


def write_lines(path: Path, rows: list[dict]) -> None:
    write_text_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def video_result() -> dict:
    stages = [("decode", 2.1), ("preprocess", 1.4), ("network", 18.3), ("postprocess", 0.8), ("track", 0.6)]
    latency = [
        {
            "stage": s,
            "count": 90,
            "mean_ms": m,
            "p50_ms": m * 0.95,
            "p95_ms": m * 1.4,
            "p99_ms": m * 1.9,
            "max_ms": m * 3,
        }
        for s, m in stages
    ]
    return {"source": "clip.mp4", "task": "detect", "frames": 90, "fps": 40.5, "tracks": 7, "latency": latency}


def tracking_result():
    images = [
        {"image_id": i, "path": f"s{i}.png", "width": 200, "height": 100, "group": "seq", "frame": i} for i in range(20)
    ]
    objects = [
        {"image_id": i, "class_id": 0, "x1": 5.0 * i + 40 * t, "y1": 10.0, "x2": 5.0 * i + 40 * t + 20, "y2": 50.0}
        | {"track_id": t}
        for i in range(20)
        for t in range(2)
    ]
    dataset = dataset_from_rows(
        images, objects, [{"class_id": 0, "name": "car"}], root=".", name="clip", task="track", format="mot"
    )
    rows = [
        {k: o[k] for k in ("image_id", "class_id", "x1", "y1", "x2", "y2")}
        | {"score": 0.9, "track_id": o["track_id"] + (10 if o["image_id"] > 12 else 0)}
        for o in objects
        if o["image_id"] != 5
    ]
    return evaluate_tracking(dataset, predictions_from_rows(rows, {}))


@pytest.fixture(scope="session")
def detect_run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """Detection with every part a run can have."""
    root = tmp_path_factory.mktemp("detect")
    rng = np.random.default_rng(7)
    write_coco(root / "data", rng)
    dataset = read_dataset(root / "data")
    part = dataset.split("val" if "val" in dataset.splits else "valid")
    meta = {"task": "detect", "class_names": list(CLASSES), "conf": 0.001, "iou": 0.7, "max_det": 300}
    predictions = predictions_from_rows(detection_rows(part, rng), meta).of(part)
    evaluation = evaluate_detection(part, predictions)
    folder = root / "runs" / "detect" / "mine"
    (folder / "figures").mkdir(parents=True)
    write_sealed_json(folder / "run.json", run_facts("detect", "yolo11n", root / "data", dataset))
    write_text_atomic(folder / "config.yaml", f"data: {HOSTILE}\nmodel: yolo11n\n")
    write_lines(folder / "metrics.jsonl", epoch_rows({"mAP50": 0.9, "mAP50-95": 0.6}))
    finding = {"code": "label-degenerate-box", "severity": "warning", "message": f"no area {HOSTILE}", "path": "a.xml"}
    finding |= {"line": 3, "image_id": None, "count": 2, "do": "fix it"}
    info = {**finding, "severity": "info", "code": "image-small"}
    write_sealed_json(folder / "audit.json", {"images": 28, "findings": [info, finding]})
    write_sealed_json(folder / "evaluation.json", evaluation.to_dict())
    predictions.save(folder / "predictions.parquet")
    write_sealed_json(folder / "export.json", {"path": "best.onnx", "max_error": {"boxes_px": 1.5e-5}, "images": 16})
    write_sealed_json(folder / "video.json", video_result())
    write_sealed_json(folder / "tracking.json", tracking_result().to_dict())
    panels = [draw_scene(rng, random_objects(rng, 5)) for _ in range(12)]
    Image.fromarray(np.concatenate(panels, axis=1)).save(folder / "figures" / "strip-1-valid03.jpg")
    return MadeRun(folder, root / "data", dataset)


@pytest.fixture(scope="session")
def semantic_run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """Binary segmentation of data without splits: the run's configuration divides it."""
    root = tmp_path_factory.mktemp("semantic")
    rng = np.random.default_rng(11)
    for name in ("images", "masks"):
        (root / "data" / name).mkdir(parents=True)
    for i in range(20):
        mask = np.zeros((90, 120), np.uint8)
        x, y = rng.integers(0, 80), rng.integers(0, 60)
        mask[y : y + 25, x : x + 35] = 255
        image = rng.integers(80, 130, (90, 120, 3)).astype(np.uint8)
        image[mask > 0] -= 60
        Image.fromarray(image).save(root / "data" / "images" / f"{i:03d}.png")
        Image.fromarray(mask).save(root / "data" / "masks" / f"{i:03d}.png")
    dataset = split_dataset(read_dataset(root / "data"), {"train": 0.5, "val": 0.5}, 3)
    part = dataset.split("val")
    rows = []
    for image_id, path in part.images.select("image_id", "path").iter_rows():
        truth = np.asarray(Image.open(root / "data" / "masks" / Path(path).name)) > 0
        predicted = np.roll(truth, int(rng.integers(0, 14)), axis=1)
        for class_id, where in enumerate((~predicted, predicted)):
            counts = rle.encode(where)
            box = rle.to_box(counts, where.shape).tolist()
            rows.append({"image_id": image_id, "class_id": class_id, "score": 1.0, "rle": counts})
            rows[-1] |= dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
    predictions = predictions_from_rows(pl.DataFrame(rows), {"task": "semantic"}).of(part)
    folder = root / "runs" / "semantic" / "cracks"
    folder.mkdir(parents=True)
    evaluation = evaluate_semantic(part, predictions)
    write_sealed_json(folder / "run.json", run_facts("semantic", "unet-small", root / "data", dataset))
    write_text_atomic(
        folder / "config.yaml", "val_fraction: 0.5\nsplit_train: train\nsplit_val: val\nseed: 3\nmodel: unet-small\n"
    )
    write_lines(folder / "metrics.jsonl", epoch_rows({"foreground_dice": 0.7}))
    write_sealed_json(folder / "evaluation.json", evaluation.to_dict())
    predictions.save(folder / "predictions.parquet")
    return MadeRun(folder, root / "data", dataset)
