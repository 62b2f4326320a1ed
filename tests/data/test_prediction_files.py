"""Predictions as other tools write them find their images by name, or are refused with the names looked for."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit import rank_label_errors
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import LEFT_OUT
from sightline.data import read_dataset, read_predictions
from sightline.evaluate import evaluate_detection, evaluate_semantic

SIZE_HW = (120, 160)


@pytest.fixture
def val(tmp_path: Path) -> Dataset:
    """YOLO, two classes, a training image before six validation images, so that no id from 0 is right by itself."""
    rng = np.random.default_rng(5)
    for split, names in (("train", ["t1"]), ("val", [f"img_{i:03d}" for i in range(1, 7)])):
        for folder in ("images", "labels"):
            (tmp_path / f"set/{folder}/{split}").mkdir(parents=True)
        for name in names:
            Image.fromarray(np.zeros((*SIZE_HW, 3), np.uint8)).save(tmp_path / f"set/images/{split}/{name}.png")
            boxes = [(k % 2, *rng.uniform(0.3, 0.7, 2), *rng.uniform(0.1, 0.3, 2)) for k in range(3)]
            lines = [" ".join(map(str, box)) for box in boxes]
            (tmp_path / f"set/labels/{split}/{name}.txt").write_text("\n".join(lines) + "\n")
    yaml = "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"
    (tmp_path / "set/data.yaml").write_text(yaml)
    return read_dataset(tmp_path / "set").split("val")


def found(val: Dataset) -> list[dict]:
    """Perfect predictions as plain rows: stem, class, box."""
    stems = {i: Path(p).stem for i, p in val.images.select("image_id", "path").iter_rows()}
    columns = ("image_id", "class_id", "x1", "y1", "x2", "y2")
    return [{"stem": stems[i], "class": c, "box": box} for i, c, *box in val.objects.select(columns).iter_rows()]


def results(val: Dataset, image_of, *, first_class: int = 0) -> list[dict]:
    rows = []
    for row in found(val):
        x1, y1, x2, y2 = row["box"]
        entry = {"category_id": row["class"] + first_class, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.01}
        rows.append(entry | image_of(row["stem"]))
    return rows


def ap(val: Dataset, path: Path) -> float:
    return evaluate_detection(val, read_predictions(path, val))["AP"]


@pytest.mark.parametrize(
    ("image_of", "first_class"),
    [
        (lambda stem: {"image_id": stem}, 0),
        (lambda stem: {"image_id": stem, "file_name": f"{stem}.png"}, 1),
        (lambda stem: {"image_id": 99, "file_name": f"some/where/val/{stem}.png"}, 0),
        (lambda stem: {"image_id": int(stem[-3:])}, 0),
        (lambda stem: {"image_id": float(stem[-3:])}, 0),
        (lambda stem: {"image_id": stem, "file_name": f"C:\\data\\val\\{stem}.png"}, 0),
    ],
    ids=["stem", "trainer, classes from 1", "name beside a number", "number in the name", "float", "backslashes"],
)
def test_json_results_are_found(val, tmp_path, image_of, first_class):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(results(val, image_of, first_class=first_class)))
    assert ap(val, path) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("image_of", "said"),
    [
        (
            lambda stem: {"image_id": int(stem[-3:]) - 1},
            r"must be a number in the name of an image.*'img_001.png'.*got 0",
        ),
        (lambda stem: {}, r"must name its image \(image_id, file_name"),
        (lambda stem: {"image_id": 1.5}, "image_id must be a whole number, got 1.5"),
        (lambda stem: {"image_id": f"other-{stem}"}, "must name images of data set.*got none of them"),
        (lambda stem: {"image_id": None}, "must name its image"),
        (lambda stem: {"image_id": True}, "image_id must be a whole number"),
    ],
)
def test_results_that_name_no_image_are_refused(val, tmp_path, image_of, said):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(results(val, image_of)))
    with pytest.raises(DataError, match=said) as caught:
        read_predictions(path, val)
    assert str(path) in str(caught.value)


def test_results_for_a_coco_set_go_by_its_own_ids(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "width": 160, "height": 120} for i in (70, 71)]
    for image in images:
        Image.fromarray(np.zeros((*SIZE_HW, 3), np.uint8)).save(tmp_path / image["file_name"])
    boxes = [{"id": 1, "image_id": 71, "category_id": 9, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 9, "name": "cat"}]}
    (tmp_path / "labels.json").write_text(json.dumps(document))
    data = read_dataset(tmp_path / "labels.json")
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"image_id": 71, "category_id": 9, "bbox": [10, 10, 50, 50], "score": 0.01}]))
    assert ap(data, path) == pytest.approx(1.0)
    path.write_text(json.dumps([{"image_id": 1, "category_id": 9, "bbox": [10, 10, 50, 50], "score": 0.01}]))
    with pytest.raises(DataError, match="image_id must be one of the data set's, got 1"):
        read_predictions(path, data)


@pytest.mark.parametrize("columns", [("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2")])
def test_csv_is_read_by_its_columns(val, tmp_path, columns):
    path = tmp_path / "p.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "class_id", "confidence", "tracker_id", "file"])
        writer.writerows([*row["box"], row["class"], 0.01, "", f"{row['stem']}.png"] for row in found(val))
    assert ap(val, path) == pytest.approx(1.0)
    path.write_text("x1,y1,x2,y2,class_id,score\n1,2,3,4,0,0.5\n")
    with pytest.raises(DataError, match="must have a column with the name of the image"):
        read_predictions(path, val)
    path.write_text("x1,y1,x2,y2,class_id,score,file\n1,2,3,4,0,high,img_001.png\n")
    with pytest.raises(DataError, match=r"p.csv:2: boxes, scores and ids must be numbers"):
        read_predictions(path, val)


def test_supervision_s_json_says_no_image_and_is_refused(val, tmp_path):
    path = tmp_path / "p.json"
    path.write_text('[{"x_min": 1, "y_min": 2, "x_max": 30, "y_max": 40, "class_id": 0, "confidence": 0.9}]')
    with pytest.raises(DataError, match="must name its image"):
        read_predictions(path, val)


def test_text_with_keypoints_is_no_outline(val, tmp_path):
    """A box with four keypoints has as many numbers as an outline of eight corners."""
    folder = tmp_path / "poses"
    folder.mkdir()
    line = "0 0.5 0.5 0.2 0.2 " + "0.4 0.4 0.9 " * 4 + "0.8\n"
    (folder / "img_001.txt").write_text(line * 2)
    with pytest.raises(
        DataError, match="every line has 18 numbers, as a box with 4 keypoints has; the labels have none"
    ):
        read_predictions(folder, val)
    outline = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.3 0.6 0.1 0.5 0.7\n"  # of another number of corners: outlines all
    (folder / "img_001.txt").write_text(line + outline)
    assert len(read_predictions(folder, val)) == 2


def test_a_folder_of_yolo_text_is_read(val, tmp_path):
    folder = tmp_path / "labels-out"
    folder.mkdir()
    source = tmp_path / "set/labels/val"
    for label in source.iterdir():
        (folder / label.name).write_text("".join(f"{line} 0.01\n" for line in label.read_text().splitlines()))
    assert ap(val, folder) == pytest.approx(1.0)
    (folder / "t1.txt").write_text("0 0.5 0.5 0.2 0.2 0.9\n")
    with_another = read_predictions(folder, val)
    for measured in (evaluate_detection(val, with_another), rank_label_errors(val, with_another)):
        assert measured.conventions[LEFT_OUT] == 1
    (folder / "img_001.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"img_001.txt:1: must be class, box or outline, and confidence.*save_conf"):
        read_predictions(folder, val)
    (folder / "img_001.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5 0.75\n")
    outline = read_predictions(folder, val).table.filter(score=0.75)
    assert outline.select("x1", "y1", "x2", "y2").row(0) == pytest.approx((16, 12, 80, 60))
    assert outline["rle"].null_count() == 0
    with pytest.raises(DataError, match=r"must hold \.txt files"):
        read_predictions(tmp_path / "set/images", val)


def test_our_json_lines_are_read(val, tmp_path):
    path = tmp_path / "p.jsonl"
    by_stem: dict[str, list] = {Path(p).stem: [] for p in val.images["path"]}
    for row in found(val):
        detection = {"class_id": row["class"], "class_name": ("cat", "dog")[row["class"]], "score": 0.01}
        by_stem[row["stem"]].append(detection | {"box_xyxy": row["box"], "track_id": None})
    frames = [{"frame": i, "source": f"{s}.png", "detections": d} for i, (s, d) in enumerate(by_stem.items())]
    path.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
    assert ap(val, path) == pytest.approx(1.0)
    path.write_text('{"frame": 0}\n')
    with pytest.raises(DataError, match=r"p.jsonl:1: must be a frame's result"):
        read_predictions(path, val)


@pytest.mark.parametrize(
    "wrong",
    [{"box_xyxy": [1, 2, 3]}, {"box_xyxy": {}}, {"class_name": [[1]]}, {"class_name": 1.5}, {"class_id": 1e400}],
)
def test_json_lines_of_another_shape_are_refused_by_their_line(val, tmp_path, wrong):
    sound = {"class_id": 0, "class_name": "", "score": 0.5, "box_xyxy": [1, 2, 3, 4], "track_id": None}
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"source": val.images["path"][0], "detections": [sound | wrong]}))
    with pytest.raises(DataError, match=r"p.jsonl:1: must be a frame's result"):
        read_predictions(path, val)


@pytest.mark.parametrize(
    "row", ["img,0,0.5,1,2,3", "img,0,0.5,1,2,3,4,5", "img,0,0.5,1,2,3,1e400,7", f"img,0,0.5,1,2,3,{'9' * 200_000}"]
)
def test_rows_of_csv_that_do_not_fit_their_header_are_refused(val, tmp_path, row):
    path = tmp_path / "p.csv"
    path.write_text(f"image,class_id,score,x1,y1,x2,y2\n{row}\n")
    with pytest.raises(DataError, match=r"p\.csv"):
        read_predictions(path, val)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_predictions_are_not_waited_for_from_a_pipe(val, tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file"):
        read_predictions(path, val)


def test_a_folder_of_masks_is_evaluated(tmp_path):
    rng = np.random.default_rng(2)
    for folder in ("images", "masks", "pred"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        mask = rng.integers(0, 2, SIZE_HW, dtype=np.uint8)
        Image.fromarray(np.zeros((*SIZE_HW, 3), np.uint8)).save(tmp_path / f"images/x{i}.jpg")
        Image.fromarray(mask).save(tmp_path / f"masks/x{i}.png")
        Image.fromarray(mask).save(tmp_path / f"pred/x{i}.png")
    yaml = "format: masks\nimages: images\nmasks: masks\nclasses: {0: bg, 1: fg}\nignore_values: [255]\n"
    (tmp_path / "sightline.yaml").write_text(yaml)
    data = read_dataset(tmp_path)
    assert evaluate_semantic(data, read_predictions(tmp_path / "pred", data))["mean_iou"] == 1.0
    Image.fromarray(np.full(SIZE_HW, 255, np.uint8)).save(tmp_path / "pred/x0.png")
    with pytest.raises(DataError, match="must give each pixel a class"):
        read_predictions(tmp_path / "pred", data)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "pred/x0.png")
    with pytest.raises(DataError, match="must have the size"):
        read_predictions(tmp_path / "pred", data)


def test_nothing_there_is_said(val, tmp_path):
    with pytest.raises(DataError, match="got nothing there"):
        read_predictions(tmp_path / "absent.json", val)
