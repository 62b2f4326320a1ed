"""Keypoints measured as pycocotools measures them: ten numbers, ignored objects, ties, and the matching beside them."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sightline.core.errors import ConfigError, DataError
from sightline.core.keypoints import COCO_SIGMAS
from sightline.core.predictions import predictions_from_rows
from sightline.data import read_dataset, read_predictions
from sightline.evaluate import evaluate_detection, evaluate_pose
from sightline.evaluate.coco import detection_arrays
from sightline.evaluate.detection_matching import match_detections
from sightline.evaluate.intervals import detection_measure

NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR@50", "AR@75", "ARm", "ARl")


def scene(seed, count=5):
    """Objects without visible points and crowds among them, near, far and doubled detections, tied scores."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for image in range(1, 9):
        for _ in range(rng.integers(0, 6)):
            box = np.concatenate([rng.uniform(0, 200, 2), rng.uniform(5, 150, 2)])
            points = np.zeros((count, 3))
            points[:, 2] = rng.integers(0, 3, count) * (rng.random() > 0.25)
            places = box[:2] + rng.random((count, 2)) * box[2:]
            points[:, :2] = places * (points[:, 2:] > 0)
            category = int(rng.integers(1, 3))
            entry = {"image_id": image, "category_id": category, "bbox": box.tolist()}
            area, crowd = float(box[2] * box[3] * rng.uniform(0.4, 1)), int(rng.random() < 0.15)
            own = {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
            truth.append({**entry, **own, "id": len(truth) + 1, "area": area, "iscrowd": crowd})
            for _ in range(rng.integers(0, 4)):
                moved = np.column_stack([places + rng.normal(0, rng.choice([0, 1, 4, 15]), (count, 2)), np.ones(count)])
                score = float(np.round(rng.random(), 1))
                found.append({**entry, "keypoints": moved.ravel().tolist(), "score": score})
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 400} for i in range(1, 9)]
    names = [f"p{i}" for i in range(count)]
    categories = [{"id": c, "name": f"c{c}", "keypoints": names} for c in (1, 2)]
    return {"images": images, "categories": categories, "annotations": truth}, found


def read(folder, document, found):
    (folder / "truth.json").write_text(json.dumps(document))
    (folder / "found.json").write_text(json.dumps(found))
    dataset = read_dataset(folder / "truth.json")
    return dataset, read_predictions(folder / "found.json", dataset)


def reference(document, found, sigmas):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(document)  # it writes into what it is given
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(found)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_the_ten_numbers_and_every_match_are_the_reference_s(first, tmp_path):
    sigmas = np.linspace(0.02, 0.12, 5)
    for seed in range(first, first + 20):
        document, found = scene(seed)
        if seed % 4 == 0:  # then sized by their keypoints
            found = [{key: value for key, value in entry.items() if key != "bbox"} for entry in found]
        theirs = reference(document, found, sigmas)
        dataset, predictions = read(tmp_path, document, found)
        ours = evaluate_detection(dataset, predictions, iou_type="keypoints", max_dets=(20,), sigmas=sigmas)
        numbers = np.array([ours[name] for name in NAMES])
        assert np.nan_to_num(numbers, nan=-1) == pytest.approx(theirs.stats, abs=1e-12), seed
        arrays = detection_arrays(dataset, predictions, "keypoints", sigmas)
        matching = match_detections(arrays, 2, 20)
        judged = {"true": 0, "aside": 0, "all": 0}
        for image in theirs.evalImgs[: len(theirs.params.imgIds)] + theirs.evalImgs[3 * 8 : 4 * 8]:
            if image is not None:  # of the area range "all", the two categories
                aside = image["dtIgnore"][0].astype(bool)
                judged["aside"] += int(aside.sum())
                judged["true"] += int(((image["dtMatches"][0] > 0) & ~aside).sum())
                judged["all"] += len(aside)
        counted = {"true": matching.true, "aside": matching.on_crowd, "all": ~matching.beyond}
        assert judged == {name: int(values.sum()) for name, values in counted.items()}, seed
        once = detection_measure(arrays, matching, 2, 20, 0.0)(np.ones(8, np.int64))
        assert [once[n] for n in NAMES[:3]] == pytest.approx([ours[n] for n in NAMES[:3]], nan_ok=True, abs=1e-12)


def test_boxes_stand_beside_and_what_was_taken_is_said(tmp_path):
    document, found = scene(3, count=17)
    theirs = reference(document, found, COCO_SIGMAS)
    dataset, predictions = read(tmp_path, document, found)
    assert predictions.meta["task"] == "pose"
    both = evaluate_pose(dataset, predictions)
    boxes = evaluate_detection(dataset, predictions)
    assert np.nan_to_num([both[name] for name in NAMES], nan=-1) == pytest.approx(theirs.stats, abs=1e-12)
    assert both["box_AP"] == boxes["AP"]
    assert both.conventions["oks_sigmas"] == list(COCO_SIGMAS)
    assert both.title == "COCO keypoints, 8 images"
    bare = sum(not entry["num_keypoints"] and not entry["iscrowd"] for entry in document["annotations"])
    assert f"{bare} without a labelled keypoint" in both.conventions["crowd"]


def test_nothing_found_is_an_average_precision_of_zero(tmp_path):
    dataset, _ = read(tmp_path, *scene(1))
    nothing = evaluate_pose(dataset, predictions_from_rows([], {"task": "pose"}).of(dataset))
    assert [nothing[name] for name in NAMES[:3]] == [0, 0, 0]
    assert nothing.conventions["max_dets"] == [20]
    assert evaluate_detection(dataset, read(tmp_path, *scene(1))[1], iou_type="keypoints").conventions["max_dets"] == [
        20
    ]


def test_what_cannot_be_measured_is_refused(tmp_path):
    document, found = scene(1)
    dataset, predictions = read(tmp_path, document, found)
    with pytest.raises(ConfigError, match="sigmas must be 5 numbers above 0"):
        evaluate_pose(dataset, predictions, sigmas=(0.1, 0.2))
    bare = [{key: value for key, value in entry.items() if key != "keypoints"} for entry in found]
    with pytest.raises(DataError, match="every detection must have the 5 keypoints of the labels, got 0"):
        evaluate_pose(*read(tmp_path, document, bare))
    with pytest.raises(DataError, match=r"found.json: entry 0: .*keypoints are three numbers each, not 4 together"):
        read(tmp_path, document, [{**found[0], "keypoints": [1, 2, 3, 4]}])
    for entry in document["annotations"]:
        del entry["keypoints"], entry["num_keypoints"]
    for category in document["categories"]:
        del category["keypoints"]
    with pytest.raises(DataError, match="needs labels with keypoints, got none"):
        evaluate_pose(*read(tmp_path, document, found))
