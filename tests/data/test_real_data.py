"""Every folder of the real data that a format covers: the counts its SOURCE.md states."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from sightline.audit import audit_dataset
from sightline.audit.labels.boxes import check_boxes
from sightline.audit.result import ImageSize
from sightline.data import (
    check_split_overlap,
    read_class_mask,
    read_dataset,
    read_mot_txt,
    split_dataset,
    write_dataset,
)
from sightline.media import read_image
from sightline.ops import rle

pytestmark = pytest.mark.real_data


def used(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def test_bccd(data_root: Path) -> None:
    result = audit_dataset(read_dataset(data_root / "det_bccd/BCCD"))
    assert result.images == 364
    assert result.objects_by_class == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert {s: part.images for s, part in result.splits.items()} == {"train": 205, "val": 87, "test": 72}
    flat = [(f.path, f.line) for f in result.findings if f.code == "label-degenerate-box"]
    assert flat == [("Annotations/BloodImage_00338.xml", 163), ("Annotations/BloodImage_00343.xml", 55)]
    assert [f.code for f in result.findings if f.severity == "error"] == ["label-degenerate-box"] * 2
    lines = (data_root / "det_bccd/BCCD/Annotations/BloodImage_00338.xml").read_text().splitlines()
    assert lines[162].strip() == "<bndbox>"
    assert lines[163].strip() == "<xmin>504</xmin>"


def test_aerial_cars(data_root: Path) -> None:
    dataset = read_dataset(data_root / "det_aerial_cars")
    assert (dataset.format, dataset.task, len(dataset)) == ("yolo", "detect", 122)
    assert dataset.counts_by_class() == {"car": 3399, "truck": 5, "bus": 94, "minibus": 99, "cyclist": 0}


def test_aerial_cars_by_group(data_root: Path, tmp_path: Path) -> None:
    rule = {"path": str(data_root / "det_aerial_cars"), "group": r"^([A-Za-z]+)", "split": {"val": 0.3, "seed": 1}}
    (tmp_path / "cars.yaml").write_text(yaml.safe_dump(rule))
    images = read_dataset(tmp_path / "cars.yaml").images
    assert set(images["group"]) == {"DJI", "MOS", "MunichStreet"}
    assert images.group_by("group").agg(pl.col("split").n_unique())["split"].to_list() == [1, 1, 1]
    assert set(images["split"]) == {"train", "val"}


def test_coco128_detection_and_instances(data_root: Path) -> None:
    root = data_root / "coco128_lightly"
    boxes = read_dataset(root / "object_detection/config.yaml")
    assert len(boxes) == 96
    assert dict(boxes.images.group_by("split").len().iter_rows()) == {"train": 48, "val": 48}
    missing = [f.path for f in boxes.findings if f.code == "label-missing-file"]
    assert missing == ["images/train2017/000000000250.jpg"]
    instances = read_dataset(root / "instance_segmentation")
    assert instances.task == "instance"
    assert instances.classes["source_id"].to_list()[:12] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    runs = read_dataset(root / "derived_coco_instances")
    objects = runs.objects.join(runs.images.select("image_id", "split", "width", "height"), on="image_id")
    assert dict(objects.group_by("split").len().iter_rows()) == {"train": 407, "val": 353}
    assert used(instances.counts_by_class()) == used(runs.counts_by_class())
    for row in objects.head(50).iter_rows(named=True):
        assert rle.area(row["rle"]) == row["area"]
        tight = rle.to_box(row["rle"], (row["height"], row["width"]))
        assert tight.tolist() == [row["x1"], row["y1"], row["x2"], row["y2"]]


def test_coco128_semantic(data_root: Path) -> None:
    dataset = read_dataset(data_root / "coco128_lightly/semantic_segmentation/config.yaml")
    assert (dataset.task, len(dataset)) == ("semantic", 96)
    assert dataset.class_names[:3] == ("unlabeled", "person", "bicycle")
    assert dataset.class_names[-1] == "rug-merged"
    mask = read_class_mask(dataset.image_path(dataset.images["mask_path"][0]), dataset)
    assert mask.shape == dataset.images.row(0)[3:1:-1]
    result = audit_dataset(dataset)
    assert {f.code for f in result.findings} <= {"class-unused", "class-imbalance", "image-gray", "mask-full"}


def test_nuts_and_samples(data_root: Path) -> None:
    nuts = read_dataset(data_root / "coco_nuts")
    assert (len(nuts), nuts.objects.height, nuts.class_names) == (18, 165, ("date", "fig", "hazelnut"))
    assert not nuts.findings
    assert not check_boxes(nuts)
    assert read_dataset(data_root / "format_samples/coco6_instances").objects.height == 36
    pets = read_dataset(data_root / "format_samples/pets5")
    assert (pets.format, pets.counts_by_class()) == ("voc", {"cat": 4, "dog": 1})


def test_coco_fixture_without_pictures(data_root: Path) -> None:
    dataset = read_dataset(data_root / "fixtures/coco_fake100")
    assert (len(dataset), dataset.objects.height, len(dataset.class_names)) == (100, 839, 80)
    assert [(f.code, f.count) for f in (*dataset.findings, *check_boxes(dataset))] == [("image-missing", 100)]


@pytest.mark.parametrize(
    "name", ["coco_nuts", "format_samples/coco6_instances", "coco128_lightly/derived_coco_instances"]
)
def test_coco_round_trip_is_exact(data_root: Path, tmp_path: Path, name: str) -> None:
    before = read_dataset(data_root / name)
    assert write_dataset(before, tmp_path, "coco") == []
    after = read_dataset(tmp_path)
    kept, again = (d.objects.drop("label_path").sort("object_id") for d in (before, after))  # another label file
    assert kept.equals(again)
    keys = ["image_id", "path", "width", "height", "split"]
    assert before.images.select(keys).sort("image_id").equals(after.images.select(keys).sort("image_id"))
    assert before.classes.equals(after.classes)


def test_bccd_to_yolo_and_back(data_root: Path, tmp_path: Path) -> None:
    before = read_dataset(data_root / "det_bccd/BCCD")
    losses = {f.code: f.count for f in write_dataset(before, tmp_path, "yolo")}
    assert losses == {"loss-attributes": 4888, "loss-ignore": 2}
    after = read_dataset(tmp_path)
    columns = ["x1", "y1", "x2", "y2"]
    kept = before.objects.filter(~pl.col("ignore"))
    assert np.allclose(kept.select(columns), after.objects.select(columns), rtol=0, atol=640 * 2e-8)
    assert Counter(after.images["split"]) == Counter(before.images["split"])


def test_crackforest_as_the_benchmark_takes_it(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "seg_crackforest"
    plain = read_dataset(folder)
    assert (len(plain), plain.class_names) == (118, ("background", "foreground"))
    assert Counter(f.code for f in plain.findings) == {"label-missing-file": 37}
    text = {
        "path": str(folder),
        "images": "image",
        "masks": "derived_masks_png",
        "classes": {0: "background", 255: "crack"},
        "exclude": ["042"],
        "split": {"val": 0.2, "seed": 0},
    }
    (tmp_path / "crack.yaml").write_text(yaml.safe_dump(text))
    dataset = read_dataset(tmp_path / "crack.yaml")
    assert dict(dataset.images.group_by("split").len().iter_rows()) == {"train": 94, "val": 23}
    assert "image/042.jpg" not in dataset.images["path"]
    check_split_overlap(dataset)
    result = audit_dataset(dataset)
    assert result.masks is not None
    assert 0.015 < result.masks.foreground_mean < 0.018  # SOURCE.md: mean crack fraction 1.6 %
    assert result.sizes == (ImageSize(480, 320, 117),)  # the two portrait pictures have no mask


def test_camvid(data_root: Path, tmp_path: Path) -> None:
    names = ["Sky", "Building", "Pole", "Road", "Pavement", "Tree"]
    names += ["SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"]
    text = {"path": str(data_root / "seg_camvid/CamVid"), "classes": names, "ignore_values": [11]}
    (tmp_path / "camvid.yaml").write_text(yaml.safe_dump(text))
    dataset = read_dataset(tmp_path / "camvid.yaml")
    assert dict(dataset.images.group_by("split").len().iter_rows()) == {"train": 367, "val": 101, "test": 233}
    assert dataset.class_names == tuple(names)
    assert not dataset.findings
    masks = [read_class_mask(dataset.image_path(p), dataset) for p in dataset.images["mask_path"][:20]]
    assert all(m.shape == (360, 480) for m in masks)
    assert {int(v) for m in masks for v in np.unique(m)} <= {*range(11), 255}
    assert any((m == 255).any() for m in masks)


def test_chasedb1_and_chair(data_root: Path) -> None:
    vessels = read_dataset(data_root / "seg_chasedb1")
    assert len(vessels) == 28
    assert all(p.endswith("_1stHO.png") for p in vessels.images["mask_path"])
    assert [f.code for f in vessels.findings] == ["mask-several-sets"]
    chair = read_dataset(data_root / "vos_chair")
    assert (len(chair), chair.classes["source_id"].to_list()) == (60, [0, 1])


def test_mot15(data_root: Path) -> None:
    dataset = read_dataset(data_root / "track_mot15")
    counts = dataset.objects.join(dataset.images.select("image_id", "group"), on="image_id").group_by("group")
    expected = {"TUD-Campus": (359, 8), "TUD-Stadtmitte": (1156, 10)}
    table = counts.agg(pl.len(), ids=pl.col("track_id").n_unique())
    assert {g: (n, ids) for g, n, ids in table.iter_rows()} == expected
    assert dict(dataset.images.group_by("group").len().iter_rows()) == {"TUD-Campus": 71, "TUD-Stadtmitte": 179}
    first = dataset.objects.row(0, named=True)
    assert (first["x1"], first["y1"], first["x2"], first["y2"]) == (398, 181, 519, 410)
    parts = split_dataset(dataset, {"train": 0.7, "val": 0.3}).images
    assert parts.group_by("group").agg(pl.col("split").n_unique())["split"].to_list() == [1, 1]
    rows, findings = read_mot_txt(data_root / "track_mot15/cem_tracker_results/TUD-Campus.txt")
    assert findings == []
    assert rows.height > 100


def test_every_picture_of_the_collection_decodes(data_root: Path) -> None:
    for name in ("coco128_lightly/images/val2017", "inst_dsb2018/stage1_train", "seg_chasedb1/CHASEDB1"):
        files = sorted((data_root / name).rglob("*.*g"))[:40]
        for file in files:
            assert read_image(file).dtype == np.uint8
