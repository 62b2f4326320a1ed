"""Formats that are only read: what tools export, and what is left of it when the files are damaged."""

import base64
import csv
import io
import json
import random
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.data import FORMATS, detect_format, read_class_mask, read_dataset, write_dataset
from sightline.data.formats.supervisely import _bitmap
from sightline.ops import rle

WIDTH, HEIGHT = 200, 100


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path)


def boxes(dataset: Dataset) -> list[tuple[Any, ...]]:
    """Path, class and box of each object."""
    paths = dict(dataset.images.select("image_id", "path").iter_rows())
    columns = ("image_id", "class_id", "x1", "y1", "x2", "y2")
    return sorted((paths[i], dataset.class_names[c], *b) for i, c, *b in dataset.objects.select(columns).iter_rows())


def kitti(root: Path) -> None:
    for stem in ("000000", "000001"):
        picture(root / f"image_2/{stem}.png")
        (root / "label_2").mkdir(exist_ok=True)
    rest = "1.5 1.6 3.7 1.0 1.5 20.0 -1.5"
    (root / "label_2/000000.txt").write_text(
        f"Car 0.25 1 -1.5 10.5 20 60 80 {rest}\nDontCare -1 -1 -10 100 10 150 30 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )
    (root / "label_2/000001.txt").write_text(f"Van 0.00 3 -1.5 1 2 3 4 {rest} 0.9\n")


def createml(root: Path) -> None:
    for split in ("train", "valid"):
        picture(root / f"{split}/a.jpg")
        coordinates = {"x": 30, "y": 40, "width": 20, "height": 10}
        annotations = [{"label": "cat", "coordinates": coordinates}]
        text = json.dumps([{"image": "a.jpg", "annotations": annotations}])
        (root / f"{split}/_annotations.createml.json").write_text(text)


def via_entries() -> dict[str, Any]:
    polygon = {"name": "polygon", "all_points_x": [10, 60, 50], "all_points_y": [10, 12, 70]}
    rectangle = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40}
    shapes = [(polygon, "cat"), (rectangle, "dog"), ({"name": "circle", "cx": 50, "cy": 50, "r": 10}, "dog")]
    regions = [{"shape_attributes": s, "region_attributes": {"kind": k, "note": ""}} for s, k in shapes]
    regions.append({"shape_attributes": {"name": "point", "cx": 5, "cy": 5}, "region_attributes": {"kind": "cat"}})
    return {
        "a.jpg123": {"filename": "a.jpg", "size": 123, "regions": regions},
        "b.jpg5": {"filename": "b.jpg", "size": 5, "regions": {"0": regions[1]}},
    }


def via(root: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        picture(root / name)
    (root / "via_project.json").write_text(json.dumps({"_via_img_metadata": via_entries(), "_via_settings": {}}))


def via_csv(root: Path) -> None:
    picture(root / "a.jpg")
    text = io.StringIO()
    head = ["filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes"]
    writer = csv.writer(text)
    writer.writerow([*head, "region_attributes"])
    for region in via_entries()["a.jpg123"]["regions"]:
        shape, attributes = (json.dumps(region[k]) for k in ("shape_attributes", "region_attributes"))
        writer.writerow(["a.jpg", 123, "{}", 4, 0, shape, attributes])
    (root / "via_region_data.csv").write_text(text.getvalue())


def bdd100k(root: Path) -> None:
    picture(root / "images/100k/val/a.jpg")
    (root / "labels").mkdir()
    lane = [{"vertices": [[0, 0], [10, 10]], "types": "LL", "closed": False}]
    area = [{"vertices": [[0, 0], [10, 0], [10, 10]], "types": "LLL", "closed": True}]
    labels = [
        {"category": "car", "attributes": {"occluded": True}, "box2d": {"x1": 10.5, "y1": 20, "x2": 40, "y2": 60}},
        {"category": "lane", "poly2d": lane},
        {"category": "area/drivable", "poly2d": area},
    ]
    frames = [{"name": "a.jpg", "labels": labels}]
    (root / "labels/bdd100k_labels_images_val.json").write_text(json.dumps(frames))


def region(kind: str, **value: Any) -> dict[str, Any]:
    return {
        "type": kind, "original_width": WIDTH, "original_height": HEIGHT, "value": {**value, kind: ["cat"]},
    }  # fmt: skip


def label_studio(root: Path) -> None:
    picture(root / "images/x0.jpg")
    picture(root / "images/x1.jpg")
    rectangle = region("rectanglelabels", x=10, y=20, width=30, height=40, rotation=0)
    turned = region("rectanglelabels", x=50, y=50, width=10, height=10, rotation=90)
    polygon = region("polygonlabels", points=[[10, 10], [20, 10], [20, 30]])
    old = {"result": [rectangle], "updated_at": "2024-01-01"}
    new = {"result": [rectangle, turned, polygon, {"type": "choices", "value": {}}], "updated_at": "2024-02-01"}
    skipped = {"result": [], "was_cancelled": True, "updated_at": "2025-01-01"}
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/1/x0.jpg"}, "annotations": [old, new, skipped]},
        {"id": 2, "data": {"image": "/data/local-files/?d=images/x1.jpg"}, "annotations": []},
    ]
    (root / "project.json").write_text(json.dumps(tasks))


def dota(root: Path) -> None:
    picture(root / "images/P0001.png")
    (root / "labelTxt").mkdir()
    rows = "10.0 10.0 18.0 11.0 17.8 13.0 9.8 12.0 ship 0\n20 20 60 20 60 40 20 40 plane 1\n"
    (root / "labelTxt/P0001.txt").write_text("imagesource:GoogleEarth\ngsd:0.146\n" + rows)


def csv_head(root: Path) -> None:
    picture(root / "images/a.jpg")
    text = f"filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,{WIDTH},{HEIGHT},cat,10,20,40,60\n"
    (root / "boxes.csv").write_text(text)


def csv_headless(root: Path) -> None:
    picture(root / "images/a.jpg")
    picture(root / "images/b.jpg")
    (root / "boxes.csv").write_text("images/a.jpg,10,20,40,60,cat\nimages/b.jpg,,,,,\n")


def open_images(root: Path) -> None:
    picture(root / "a.jpg")
    (root / "class-descriptions-boxable.csv").write_text("/m/01g317,Person\n")
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
    (root / "oidv6.csv").write_text(f"{head}\na,xclick,/m/01g317,1,0.1,0.2,0.3,0.5,0,0,1\n")


def datumaro(root: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[10:20, 5:25] = True
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel(order="F").astype(int), prepend=-1)), append=HEIGHT * WIDTH)
    annotations = [
        {"type": "bbox", "label_id": 1, "bbox": [10, 20, 30, 40], "attributes": {"occluded": True}},
        {"type": "polygon", "label_id": 0, "points": [10, 10, 60, 12, 50, 70], "attributes": {"is_crowd": True}},
        {"type": "mask", "label_id": 0, "rle": {"counts": runs.tolist(), "size": [HEIGHT, WIDTH]}},
        {"type": "label", "label_id": 0},
    ]
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("dog", "cat", "bird")]
    for split, item in (("train", {"id": "a", "annotations": annotations}), ("val", {"id": "sub/b"})):
        picture(root / f"images/{split}/{item['id']}.jpg")
        (root / "annotations").mkdir(exist_ok=True)
        named = {"image": {"path": f"{item['id']}.jpg", "size": [HEIGHT, WIDTH]}} if split == "train" else {}
        text = json.dumps({"info": {}, "categories": {"label": {"labels": labels}}, "items": [{**item, **named}]})
        (root / f"annotations/{split}.json").write_text(text)


def supervisely_bitmap(mask: np.ndarray) -> str:
    stream = io.BytesIO()
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(stream, format="PNG", transparency=0)
    return base64.b64encode(zlib.compress(stream.getvalue())).decode()


def supervisely(root: Path) -> None:
    classes = [{"title": title, "shape": "any", "color": "#ff0000"} for title in ("dog", "cat", "bird")]
    (root / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    square = [[10, 20], [40, 20], [40, 60], [10, 60]]
    hole = [[20, 30], [30, 30], [30, 40], [20, 40]]
    bitmap = {"origin": [100, 50], "data": supervisely_bitmap(np.eye(4, dtype=bool))}
    objects: list[dict[str, Any]] = [
        {"geometryType": "rectangle", "classTitle": "cat", "points": {"exterior": [[40, 60], [10, 20]]}},
        {"geometryType": "polygon", "classTitle": "dog", "points": {"exterior": square, "interior": [hole]}},
        {"geometryType": "bitmap", "classTitle": "dog", "bitmap": bitmap},
        {"geometryType": "point", "classTitle": "cat", "points": {"exterior": [[1, 2]]}},
    ]
    for name, tags, part in (("a", [{"name": "val"}], objects), ("b", [], objects[:1])):
        picture(root / f"first/img/{name}.jpg")
        (root / "first/ann").mkdir(exist_ok=True)
        value = {"size": {"height": HEIGHT, "width": WIDTH}, "tags": tags, "objects": part}
        (root / f"first/ann/{name}.jpg.json").write_text(json.dumps(value))


def cityscapes(root: Path) -> None:
    objects = [
        {"label": "car", "polygon": [[10, 10], [60, 12], [50, 70]]},
        {"label": "cargroup", "polygon": [[100, 10], [150, 12], [140, 70]]},
        {"label": "ego vehicle", "polygon": [[0, 90], [60, 90], [60, 99]]},
    ]
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            stem = f"{split}/ulm/ulm_00000{number}_000019_"
            picture(root / f"leftImg8bit/{stem}leftImg8bit.png")
            (root / f"gtFine/{split}/ulm").mkdir(parents=True, exist_ok=True)
            value = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}
            (root / f"gtFine/{stem}gtFine_polygons.json").write_text(json.dumps(value))


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "kitti": ("kitti", kitti), "createml": ("createml", createml), "via": ("via", via), "via-csv": ("via", via_csv),
    "bdd100k": ("bdd100k", bdd100k), "label-studio": ("label-studio", label_studio), "dota": ("dota", dota),
    "csv-head": ("csv-boxes", csv_head), "csv-headless": ("csv-boxes", csv_headless),
    "open-images": ("csv-boxes", open_images), "datumaro": ("datumaro", datumaro),
    "supervisely": ("supervisely", supervisely), "cityscapes": ("cityscapes", cityscapes),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_each_is_recognised_read_and_not_written(tmp_path: Path, name: str) -> None:
    format_name, write = WRITERS[name]
    write(tmp_path)
    assert detect_format(tmp_path) == format_name
    dataset = read_dataset(tmp_path)
    assert dataset.format == format_name
    assert dataset.objects.height
    assert [f.code for f in dataset.findings if f.severity == "error"] == []
    assert FORMATS[format_name].write is None
    with pytest.raises(ConfigError, match=f"unknown format to write '{format_name}'"):
        write_dataset(dataset, tmp_path / "out", format_name)
    write_dataset(dataset, tmp_path / "out", "coco")
    assert sorted(b[1:] for b in boxes(read_dataset(tmp_path / "out"))) == sorted(b[1:] for b in boxes(dataset))


def test_kitti(tmp_path: Path) -> None:
    kitti(tmp_path)
    data = read_dataset(tmp_path)
    assert boxes(data) == [
        ("image_2/000000.png", "Car", 10.5, 20.0, 60.0, 80.0),
        ("image_2/000000.png", "DontCare", 100.0, 10.0, 150.0, 30.0),
        ("image_2/000001.png", "Van", 1.0, 2.0, 3.0, 4.0),
    ]
    columns = ("crowd", "occlusion", "truncation", "label_path", "entry")
    assert data.objects.select(columns).rows()[:2] == [
        (False, 0.25, 0.25, "label_2/000000.txt", 1), (True, None, None, "label_2/000000.txt", 2),
    ]  # fmt: skip


def test_createml_boxes_are_around_their_centre(tmp_path: Path) -> None:
    createml(tmp_path)
    data = read_dataset(tmp_path)
    assert boxes(data) == [(f"{s}/a.jpg", "cat", 20.0, 35.0, 40.0, 45.0) for s in ("train", "valid")]
    assert sorted(data.splits) == ["train", "val"]


@pytest.mark.parametrize("name", ["via", "via-csv"])
def test_via(tmp_path: Path, name: str) -> None:
    WRITERS[name][1](tmp_path)
    data = read_dataset(tmp_path)
    found = [(name, *np.round(box, 6).tolist()) for path, name, *box in boxes(data) if path == "a.jpg"]
    assert found == [("cat", 10, 10, 60, 70), ("dog", 10, 20, 40, 60), ("dog", 40, 40, 60, 60)]
    assert [(f.code, f.message) for f in data.findings] == [
        ("label-unsupported-shape", "a point has no area that can be read"),
    ]
    assert data.task == "instance"


def test_bdd100k(tmp_path: Path) -> None:
    bdd100k(tmp_path)
    data = read_dataset(tmp_path)
    assert [b[1] for b in boxes(data)] == ["area/drivable", "car"]
    assert data.objects["occlusion"].to_list() == [0.5, None]
    assert data.splits == ["val"]
    assert [f.code for f in data.findings] == ["label-unsupported-shape"]


def test_label_studio(tmp_path: Path) -> None:
    label_studio(tmp_path)
    data = read_dataset(tmp_path)
    found = [np.round(b[2:], 6).tolist() for b in boxes(data)]
    # The turned one goes clockwise around its top left corner (100, 50): 20 × 10 becomes 10 × 20 to its left.
    assert sorted(found) == [[20, 10, 40, 30], [20, 20, 80, 60], [90, 50, 100, 70]]
    assert len(data) == 2
    assert [f.message for f in data.findings] == ["2 people annotated the image; the newest annotation is read"]


def test_what_label_studio_never_writes_is_counted(tmp_path: Path) -> None:
    label_studio(tmp_path)
    tasks = json.loads((tmp_path / "project.json").read_text())
    tasks[0]["annotations"][1]["result"].append(7)
    tasks[1]["annotations"] = [{"result": "none"}]
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    data = read_dataset(tmp_path)
    assert data.objects.height == 3
    said = [f.message for f in data.findings if f.code == "label-malformed"]
    assert sorted(said) == [
        "a region must be a JSON object, got 7", "an annotation's result must be a list, got 'none'",
    ]  # fmt: skip


def test_brush_masks_are_unpacked(tmp_path: Path) -> None:
    picture(tmp_path / "x.png")
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[10:30, 20:50] = True
    brush = region("brushlabels", rle=packed(mask))
    tasks = [{"id": 1, "data": {"image": "x.png"}, "annotations": [{"result": [brush]}]}]
    (tmp_path / "p.json").write_text(json.dumps(tasks))
    data = read_dataset(tmp_path)
    assert boxes(data) == [("x.png", "cat", 20, 10, 50, 30)]
    assert data.objects["area"].to_list() == [600]
    brush["value"]["rle"] = [0, 1, 2]
    (tmp_path / "p.json").write_text(json.dumps(tasks))
    assert [f.code for f in read_dataset(tmp_path).findings] == ["label-malformed"]


def packed(mask: np.ndarray) -> list[int]:
    """As the tool packs an RGBA picture: words of 8 bits, runs of up to 2 ** 16, every value a run or a literal."""
    values = np.repeat(mask.astype(np.uint8)[..., None] * 255, 4, axis=2).reshape(-1)
    bits = [f"{len(values):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    starts = np.flatnonzero(np.diff(values, prepend=-1 - values[0].astype(int)))
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        length = int(end - start)
        if length <= 4:
            bits.append(f"0{0:02b}{length - 1:03b}" + f"{values[start]:08b}" * length)
        else:
            bits.append(f"1{3:02b}{length - 1:016b}{values[start]:08b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def test_dota_outlines_and_difficult_ones(tmp_path: Path) -> None:
    dota(tmp_path)
    data = read_dataset(tmp_path)
    assert data.objects.select("x1", "y1", "x2", "y2", "ignore", "entry").rows() == [
        (9.8, 10.0, 18.0, 13.0, False, 3), (20.0, 20.0, 60.0, 40.0, True, 4),
    ]  # fmt: skip
    assert data.objects["polygon"][0].to_list() == [[10.0, 10.0, 18.0, 11.0, 17.8, 13.0, 9.8, 12.0]]


def test_datumaro(tmp_path: Path) -> None:
    datumaro(tmp_path)
    data = read_dataset(tmp_path)
    first = "images/train/a.jpg"
    assert boxes(data) == [
        (first, "cat", 10, 20, 40, 60),
        (first, "dog", 5, 10, 25, 20),
        (first, "dog", 10, 10, 60, 70),
    ]
    assert data.class_names == ("dog", "cat", "bird")
    assert dict(data.images.select("path", "split").rows()) == {first: "train", "images/val/sub/b.jpg": "val"}
    assert data.objects.select("crowd", "occlusion", "area").rows()[2] == (False, None, 200)
    assert data.objects["area"][1] == pytest.approx(1400, rel=0.05)  # of the outline, not of its box
    assert data.objects["crowd"].to_list() == [False, True, False]
    assert [(f.code, f.message) for f in data.findings] == [
        ("label-unsupported-shape", "a label has no area that can be read"),
    ]


def test_datumaro_subsets_may_have_pictures_of_one_name(tmp_path: Path) -> None:
    for subset in ("train", "val"):
        (tmp_path / "images" / subset).mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(tmp_path / f"images/{subset}/1.png")
        parts = [{"type": "bbox", "label_id": 0, "bbox": [x, 1, 9, 9], "group": 7} for x in (1, 20)]
        item = {"id": "1", "image": {"path": "1.png", "size": [48, 64]}, "annotations": parts}
        names = {"label": {"labels": [{"name": "cat"}]}}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/{subset}.json").write_text(json.dumps({"categories": names, "items": [item]}))
    data = read_dataset(tmp_path)
    assert dict(data.images.select("path", "split").rows()) == {
        "images/train/1.png": "train",
        "images/val/1.png": "val",
    }
    assert [f.code for f in data.findings] == ["label-unsupported-shape"] * 2
    assert "in several parts" in data.findings[0].message


def test_a_bitmap_of_supervisely_may_be_the_transparency() -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[..., :3], picture[1:3, 1:3, 3] = 200, 255
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    data = base64.b64encode(zlib.compress(file.getvalue())).decode()
    assert rle.area(_bitmap({"data": data, "origin": [2, 3]}, (20, 20))) == 4


def test_supervisely(tmp_path: Path) -> None:
    supervisely(tmp_path)
    data = read_dataset(tmp_path)
    assert [b[1:] for b in boxes(data)] == [
        ("cat", 10, 20, 40, 60), ("dog", 10, 20, 40, 60), ("dog", 100, 50, 104, 54), ("cat", 10, 20, 40, 60),
    ]  # fmt: skip
    assert sorted(data.objects["area"].to_list()) == [4, 1100, 1200, 1200]  # a diagonal, and a square with a hole
    assert (data.class_names, data.splits) == (("dog", "cat", "bird"), ["val"])
    assert [f.code for f in data.findings] == ["label-unsupported-shape"]
    (tmp_path / "first/ann/b.jpg.json").unlink()
    picture(tmp_path / "first/img/c.jpg")
    data = read_dataset(tmp_path / "first")
    assert (len(data), [f.code for f in data.findings][1:]) == (3, ["label-missing-file"] * 2)


def test_cityscapes(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    data = read_dataset(tmp_path)
    assert data.objects.select("crowd", "ignore").rows()[:3] == [(False, False), (True, False), (False, True)]
    assert (data.class_names, sorted(data.splits)) == (("car", "ego vehicle"), ["train", "val"])
    for file in tmp_path.rglob("*_polygons.json"):
        ids = np.full((HEIGHT, WIDTH), 7, np.uint8)  # road
        ids[:10], ids[10:30] = 0, 26  # unlabelled, car
        Image.fromarray(ids).save(file.with_name(file.name.replace("polygons.json", "labelIds.png")))
        Image.fromarray(ids * 3).save(file.with_name(file.name.replace("polygons.json", "color.png")))
    data = read_dataset(tmp_path)
    assert (data.task, len(data), len(data.class_names), data.left_out) == ("semantic", 3, 19, ())
    ids = read_class_mask(data.image_path(data.images["mask_path"][0]), data)
    assert ids[[0, 15, 60], 0].tolist() == [255, data.class_names.index("car"), 0]


def test_csv(tmp_path: Path) -> None:
    for name, expected in (
        ("csv-head", [("images/a.jpg", "cat", 10.0, 20.0, 40.0, 60.0)]),
        ("csv-headless", [("images/a.jpg", "cat", 10.0, 20.0, 40.0, 60.0)]),
        ("open-images", [("a.jpg", "Person", 20.0, 30.0, 40.0, 50.0)]),
    ):
        WRITERS[name][1](tmp_path / name)
        data = read_dataset(tmp_path / name)
        assert boxes(data) == expected
        assert len(data) == (2 if name == "csv-headless" else 1)
        assert data.objects["crowd"].to_list() == [name == "open-images"]


@pytest.mark.parametrize("name", WRITERS)
def test_one_bad_entry_is_reported_and_the_others_read(tmp_path: Path, name: str) -> None:
    WRITERS[name][1](tmp_path)
    whole = read_dataset(tmp_path)
    labels = sorted(p for p in tmp_path.rglob("*") if p.suffix in {".txt", ".json", ".csv"} and "descr" not in p.name)
    text = labels[0].read_text()
    for old in ("60", "40", "0.5", "30"):
        if old in text:
            damage = "nan" if labels[0].suffix != ".json" else '"x"'
            labels[0].write_text(damage.join(text.rsplit(old, 1)))  # the last: Label Studio's first is superseded
            break
    damaged = read_dataset(tmp_path)
    assert damaged.objects.height >= whole.objects.height - 1
    assert len(damaged) == len(whole)
    assert damaged.objects.height < whole.objects.height
    assert "label-malformed" in {f.code for f in damaged.findings}


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_are_read_in_part_or_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    format_name, write = WRITERS[name]
    write(tmp_path)
    labels = sorted(p for p in tmp_path.rglob("*") if p.suffix in {".txt", ".json", ".csv"})
    original = {p: p.read_bytes() for p in labels}
    for _ in range(60):
        for path, data in original.items():
            path.write_bytes(data)
        path = rng.choice(labels)
        data = bytearray(original[path])
        kind = rng.randrange(4)
        if kind == 0:
            data = data[: rng.randrange(len(data))]
        elif kind == 1:
            data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 2:
            place = rng.randrange(len(data))
            data[place:place] = rng.choice([b"\x00", b"\xff", b"null", b"1e999", b"[[[", b"-", b",,,", b"\xed\xa0\x80"])
        else:
            words = rng.choice([(b"[", b"{"), (b"0", b"null"), (b'"', b""), (b":", b",")])
            data = bytearray(bytes(data).replace(*words, 1))
        path.write_bytes(bytes(data))
        assert "\n" not in refusal(tmp_path, format_name)


IN_JSON = ["createml", "via", "via-csv", "bdd100k", "label-studio", "datumaro", "supervisely", "cityscapes"]


@pytest.mark.parametrize("name", IN_JSON)
def test_half_a_surrogate_pair_is_written_out(tmp_path: Path, name: str) -> None:
    WRITERS[name][1](tmp_path)
    for file in [p for p in tmp_path.rglob("*") if p.suffix in {".json", ".csv"}]:
        text = file.read_text()
        for word in ('"cat"', '"car"'):
            text = text.replace(word, '"c\\ud800"')
        file.write_text(text)
    assert "c\\ud800" in read_dataset(tmp_path).class_names


@pytest.mark.parametrize("name", [name for name in IN_JSON if name != "via-csv"])
def test_numbers_beyond_all_bounds_are_reported(tmp_path: Path, name: str) -> None:
    WRITERS[name][1](tmp_path)
    files = [p for p in tmp_path.rglob("*.json") if p.name != "meta.json"]
    original = [file.read_text() for file in files]
    for number in ("1e999", "1" + "0" * 400):
        for file, text in zip(files, original, strict=True):
            file.write_text(re.sub(r"(?<=[\[ ])\d+(?=[,\]}])", number, text))
        said = {f.code for f in read_dataset(tmp_path, format=WRITERS[name][0]).findings}
        assert said & {"label-malformed", "label-unknown-class"}


def refusal(root: Path, format_name: str) -> str:
    """The sentence of a refusal, nothing where the data set is read."""
    try:
        read_dataset(root, format=format_name)
    except DataError as error:
        return str(error)
    return ""


def test_names_that_leave_the_folder_find_nothing_above_it(tmp_path: Path) -> None:
    picture(tmp_path / "secret.jpg")
    inner = tmp_path / "set"
    picture(inner / "a.jpg")
    (inner / "boxes.csv").write_text("a.jpg,1,2,30,40,cat\n../secret.jpg,1,2,30,40,cat\n/etc/passwd,1,2,3,4,cat\n")
    data = read_dataset(inner)
    assert data.images["path"].to_list() == ["a.jpg"]
    assert [f.code for f in data.findings] == ["image-missing", "image-missing"]
