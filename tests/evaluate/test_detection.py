"""Detection and instance segmentation equal pycocotools 2.0.11 and COCO's published example results."""

import contextlib
import io
import json
from importlib.metadata import version

import numpy as np
import polars as pl
import pycocotools.mask as coco_mask
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import ConfigError, DataError
from sightline.core.predictions import predictions_from_rows
from sightline.evaluate import average_precision, evaluate_detection, match_detections
from sightline.evaluate.coco import coco_scores, detection_arrays
from sightline.ops import rle

METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
# val2014_fake_eval_res.txt prints three decimals; the longer ones were measured with pycocotools.
PUBLISHED = {
    "bbox": [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564],
    "segm": [0.320, 0.562, 0.299, 0.387, 0.310, 0.327, 0.268, 0.415, 0.417, 0.469, 0.377, 0.381],
}
EXACT = {
    "bbox": {"AP": 0.5045806987249628, "AP50": 0.6969727247299577, "AP75": 0.5729816669904824},
    "segm": {"AP": 0.3195452758576433},
}


def counts_of(segmentation, height, width):
    if isinstance(segmentation, list):
        return rle.from_polygons(segmentation, (height, width))
    if isinstance(segmentation["counts"], list):
        return rle.runs_to_counts(segmentation["counts"], (height, width))
    return segmentation["counts"].encode()


def from_coco(document, results):
    """The tables of a COCO document and of its results."""
    images = [{"image_id": i["id"], "path": i["file_name"], "width": i["width"], "height": i["height"]}
              for i in document["images"]]  # fmt: skip
    sizes = {i["id"]: (i["height"], i["width"]) for i in document["images"]}
    ids = sorted(c["id"] for c in document["categories"])
    names = {c["id"]: c["name"] for c in document["categories"]}
    classes = [{"class_id": k, "name": names[i], "source_id": i} for k, i in enumerate(ids)]
    objects = []
    for a in document["annotations"]:
        x, y, w, h = a["bbox"]
        row = {"object_id": a["id"], "image_id": a["image_id"], "class_id": ids.index(a["category_id"])}
        row |= {"x1": x, "y1": y, "x2": x + w, "y2": y + h, "area": a["area"], "crowd": bool(a["iscrowd"])}
        if "segmentation" in a:
            row["rle"] = counts_of(a["segmentation"], *sizes[a["image_id"]])
        objects.append(row)
    found = []
    for r in results:
        row = {"image_id": r["image_id"], "class_id": ids.index(r["category_id"]), "score": r["score"]}
        if "segmentation" in r:
            row["rle"] = counts_of(r["segmentation"], *sizes[r["image_id"]])
            row |= dict(zip(("x1", "y1", "x2", "y2"), rle.to_box(row["rle"], sizes[r["image_id"]]), strict=True))
        else:
            x, y, w, h = r["bbox"]
            row |= {"x1": x, "y1": y, "x2": x + w, "y2": y + h}
        found.append(row)
    dataset = dataset_from_rows(images, objects, classes, root=".", name="coco", task="instance", format="coco")
    return dataset, predictions_from_rows(found, {})


def reference(document, results, iou_type):
    """pycocotools after `summarize`."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(document))
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(results))), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def synthetic(seed, images=12, categories=3):
    """A COCO document with crowd regions, empty images, a class without objects, and results with tied scores."""
    rng = np.random.default_rng(seed)
    document = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": 7 * k + 3, "name": f"class {k}"} for k in range(categories + 1)]
    results = []
    for image_id in rng.permutation(images):
        height, width = rng.integers(150, 300, 2).tolist()
        image = {"id": int(image_id), "file_name": f"{image_id}.jpg", "height": height, "width": width}
        document["images"].append(image)
        shared = {"image_id": int(image_id)}
        for _ in range(int(rng.integers(0, 7))):
            side = rng.choice([12, 50, 110], 2) * rng.uniform(0.7, 1.2, 2)
            corner = rng.uniform(0, np.array([width, height]) - side.clip(max=130))
            category = int(rng.integers(categories))
            box = (*corner, *(corner + side))
            rle_dict, tight = drawn(box, height, width)
            annotation = shared | {"category_id": 7 * category + 3, "bbox": tight, "segmentation": rle_dict}
            annotation |= {"id": len(document["annotations"]) + 1, "iscrowd": int(rng.random() < 0.15)}
            document["annotations"].append(annotation | {"area": float(coco_mask.area(rle_dict))})
            for _ in range(int(rng.integers(0, 4))):
                moved = np.array(box) + rng.normal(0, 0.12, 4) * np.tile(side, 2)
                category = category if rng.random() < 0.8 else int(rng.integers(categories + 1))
                detection, tight = drawn(moved, height, width)
                if coco_mask.area(detection):
                    score = float(rng.integers(1, 20) / 20)
                    results.append(shared | {"category_id": 7 * category + 3, "score": score, "bbox": tight})
                    results[-1]["segmentation"] = detection
    return document, results


def drawn(box, height, width):
    mask = np.zeros((height, width), dtype=np.uint8, order="F")
    x1, y1, x2, y2 = np.maximum(np.round(box), 0).astype(int)
    mask[y1:y2, x1:x2] = 1
    made = coco_mask.encode(mask)
    return {"size": [height, width], "counts": made["counts"].decode()}, coco_mask.toBbox(made).tolist()


def kind(results, iou_type):
    """The results as one kind: boxes, or masks alone, whose area is then the mask's."""
    leave = {"bbox": "segmentation", "segm": "bbox"}[iou_type]
    return [{k: v for k, v in r.items() if k != leave} for r in results]


def test_the_oracle_is_the_version_named():
    assert version("pycocotools") == "2.0.11"


@pytest.mark.real_data
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_published_example_is_reproduced(data_root, iou_type):
    folder = data_root / "fixtures" / "coco_fake100"
    document = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_fake{iou_type}100_results.json").read_text())
    dataset, predictions = from_coco(document, results)
    got = evaluate_detection(dataset, predictions, iou_type=iou_type)
    assert list(got.metrics) == METRICS
    expected = reference(document, results, iou_type).stats
    np.testing.assert_allclose(list(got.metrics.values()), expected, rtol=0, atol=1e-9)
    assert [round(v, 3) for v in got.metrics.values()] == PUBLISHED[iou_type]
    for metric, value in EXACT[iou_type].items():
        assert got[metric] == pytest.approx(value, abs=1e-9)
    assert got.per_class["objects"].sum() + got.per_class["crowd"].sum() == 839
    assert got.per_class["crowd"].sum() == 9
    assert got.per_class["detections"].sum() == len(results)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(5))
def test_random_data_equals_pycocotools(seed, iou_type):
    document, results = synthetic(seed)
    results = kind(results, iou_type)
    dataset, predictions = from_coco(document, results)
    oracle = reference(document, results, iou_type)
    got = evaluate_detection(dataset, predictions, iou_type=iou_type)
    expected = np.where(oracle.stats == -1, np.nan, oracle.stats)
    np.testing.assert_allclose(list(got.metrics.values()), expected, rtol=0, atol=1e-12)
    arrays = detection_arrays(dataset, predictions, iou_type)
    scores = coco_scores(arrays, dataset.class_names, iou_type, (1, 10, 100))
    for ours, theirs in ((scores.precision, "precision"), (scores.recall, "recall"), (scores.scores, "scores")):
        table = oracle.eval[theirs]
        np.testing.assert_allclose(ours, np.where(table == -1, np.nan, table), rtol=0, atol=1e-12)
    count = len(dataset.class_names)
    matching = match_detections(arrays, count, 100)
    ap50 = []
    for c in range(count):
        mine = np.flatnonzero((matching.true | matching.false) & (arrays.detection_classes == c))
        order = mine[np.argsort(-arrays.detection_scores[mine], kind="stable")]
        objects = (arrays.truth_classes == c) & ~arrays.truth_crowd
        ap50.append(average_precision(matching.true[order], int(objects.sum())))
    by_class = oracle.eval["precision"][0, :, :, 0, -1].mean(axis=0)
    np.testing.assert_allclose(ap50, np.where(by_class == -1, np.nan, by_class), rtol=0, atol=1e-12)
    by_class = oracle.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    np.testing.assert_allclose(got.per_class["AP"], np.where(by_class == -1, np.nan, by_class), atol=1e-12)


def reference_counts(oracle, conf):
    """True and false positives, misses and detections on crowd by category id, from the matches of pycocotools."""
    counts = {}
    for e in oracle.evalImgs:
        if e is None or e["aRng"] != oracle.params.areaRng[0]:
            continue
        chosen = np.array(e["dtScores"]) >= conf
        matched, ignored = e["dtMatches"][0] > 0, e["dtIgnore"][0].astype(bool)
        tp, fp = (chosen & matched & ~ignored).sum(), (chosen & ~matched & ~ignored).sum()
        objects = (~np.asarray(e["gtIgnore"], dtype=bool)).sum()
        row = np.array([tp, fp, objects - tp, (chosen & ignored).sum()])
        counts[e["category_id"]] = counts.get(e["category_id"], 0) + row
    return counts


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("conf", [0.0, 0.35, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_the_operating_point_equals_the_matches_of_pycocotools(seed, conf, iou_type):
    document, results = synthetic(seed, images=20)
    results = kind(results, iou_type)
    dataset, predictions = from_coco(document, results)
    got = evaluate_detection(dataset, predictions, iou_type=iou_type, conf=conf)
    expected = reference_counts(reference(document, results, iou_type), conf)
    for row in got.per_class.iter_rows(named=True):
        tp, fp, fn, _ = expected.get(7 * row["class_id"] + 3, np.zeros(4, int))
        assert (row["tp"], row["fp"], row["fn"]) == (tp, fp, fn)
    tp, fp, fn, on_crowd = sum(expected.values())
    point = got.operating_point
    assert (point.true_positives, point.false_positives, point.false_negatives) == (tp, fp, fn)
    assert (point.on_crowd, point.conf, point.origin) == (on_crowd, conf, "given")
    assert point.precision == pytest.approx(tp / (tp + fp))
    assert point.f1 == pytest.approx(2 / (1 / point.precision + 1 / point.recall))
    at = round(conf * 100)
    assert got.curves.pooled_f1[at] == pytest.approx(point.f1)
    np.testing.assert_allclose(got.curves.f1[:, at], got.per_class["f1"])


@pytest.mark.parametrize("seed", range(5))
def test_the_confusion_matrix_reconciles_with_the_counts(seed):
    dataset, predictions = from_coco(*synthetic(seed, images=20))
    got = evaluate_detection(dataset, predictions)
    confusion, table = got.confusion, got.per_class
    assert confusion[-1, -1] == 0
    np.testing.assert_array_equal(confusion[:-1].sum(axis=1), table["objects"])
    np.testing.assert_array_equal(np.diag(confusion)[:-1], table["tp"])
    chosen = predictions.table.filter(pl.col("score") >= got.operating_point.conf).height
    assert confusion[:, :-1].sum() == chosen - got.operating_point.on_crowd
    assert np.triu(confusion[:-1, :-1], 1).sum() + np.tril(confusion[:-1, :-1], -1).sum() > 0


def test_the_chosen_operating_point_is_the_best_threshold():
    dataset, predictions = from_coco(*synthetic(1, images=20))
    chosen = evaluate_detection(dataset, predictions, conf="best").operating_point
    assert chosen.origin == "best pooled F1 on these very images, and so flattering"
    others = predictions.table["score"].unique().to_list()
    f1 = {c: evaluate_detection(dataset, predictions, conf=c).operating_point.f1 for c in others}
    assert chosen.f1 == max(f1.values())
    assert chosen.conf == max(c for c, value in f1.items() if value == chosen.f1)


def test_the_operating_point_is_the_model_s_own_and_else_the_usual_one():
    dataset, predictions = from_coco(*synthetic(1, images=20))
    own = predictions_from_rows(predictions.table, {"operating_point": {"conf": 0.4, "iou": 0.7, "max_det": 300}})
    point = evaluate_detection(dataset, own).operating_point
    assert (point.conf, point.origin) == (0.4, "the model's own, chosen on its validation images")
    usual = evaluate_detection(dataset, predictions).operating_point
    assert (usual.conf, usual.origin) == (0.25, "for want of the model's own")
    assert evaluate_detection(dataset, own, conf=0.9).operating_point.origin == "given"


def small(found, objects=(("cat", 10, 10, 50, 50),), images=2):
    names = ["cat", "dog"]
    rows = [{"image_id": i, "path": f"{i}.png", "width": 200, "height": 200} for i in range(images)]
    boxes = [dict(zip(("x1", "y1", "x2", "y2"), map(float, b), strict=True)) for _, *b in objects]
    truth = [{"image_id": 0, "class_id": names.index(o[0])} | b for o, b in zip(objects, boxes, strict=True)]
    classes = [{"class_id": k, "name": n} for k, n in enumerate(names)]
    dataset = dataset_from_rows(rows, truth, classes, root=".", name="small", task="detect", format="made")
    keys = ("image_id", "class_id", "score", "x1", "y1", "x2", "y2")
    return dataset, predictions_from_rows([dict(zip(keys, f, strict=True)) for f in found], {"class_names": names})


def test_confusions_are_across_classes_and_images_without_objects_count():
    truth = (("cat", 10, 10, 50, 50), ("dog", 100, 100, 150, 150))
    found = [
        (0, 1, 0.9, 10.0, 10.0, 50.0, 50.0),  # calls the cat a dog
        (0, 0, 0.8, 0.0, 150.0, 20.0, 190.0),  # background
        (1, 0, 0.7, 0.0, 0.0, 20.0, 20.0),  # image without objects
        (0, 1, 0.2, 100.0, 100.0, 150.0, 150.0),  # right, but below the threshold
    ]
    got = evaluate_detection(*small(found, truth), conf=0.5)
    assert got.confusion.tolist() == [[0, 1, 0], [0, 0, 1], [2, 0, 0]]
    assert got.operating_point.false_positives == 3
    assert got["AP50"] == pytest.approx((0 + 0.504950495049505) / 2, abs=0.01)


def test_no_detections_score_zero_and_no_objects_score_nothing():
    got = evaluate_detection(*small([]))
    assert (got["AP"], got["AR100"], got.operating_point.recall) == (0, 0, 0)
    assert np.isnan(got.operating_point.precision)
    assert np.isnan(got["APl"])
    assert got.confusion.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    nothing = evaluate_detection(*small([(0, 0, 0.9, 1.0, 1.0, 5.0, 5.0)], ()), conf="best")
    assert np.isnan(nothing["AP"])
    assert nothing.operating_point.false_positives == 1
    assert nothing.operating_point.conf == 0
    assert np.isnan(nothing.curves.mean_precision).all()


def test_the_limit_of_detections_is_applied_and_counted():
    found = [(0, 0, 1 - k / 10, 10.0, 10.0, 50.0 + (3 - k) * 60, 50.0) for k in range(4)]
    dataset, predictions = small(found)
    assert evaluate_detection(dataset, predictions, max_dets=(1, 2, 4))["AP50"] == pytest.approx(0.25)
    limited = evaluate_detection(dataset, predictions, max_dets=(1, 2, 3))
    assert limited["AP50"] == 0
    assert limited.conventions["detections_beyond_max_dets"] == 1
    assert limited.confusion[-1, 0] == 3
    assert list(limited.metrics)[6:9] == ["AR1", "AR2", "AR3"]


def test_ignored_objects_without_area_do_not_disturb():
    dataset, predictions = small([(0, 0, 0.9, 10.0, 10.0, 50.0, 50.0)])
    flat = dataset.objects.with_columns(x2=pl.col("x1"), ignore=pl.lit(True), object_id=pl.lit(9, dtype=pl.Int64))
    both = pl.concat([dataset.objects, flat.with_columns(x2=pl.col("x1") - 5)])
    more = dataset_from_rows(
        dataset.images, both, dataset.classes, root=".", name="small", task="detect", format="made"
    )
    got = evaluate_detection(more, predictions)
    assert got["AP"] == pytest.approx(1.0)
    assert got.per_class["crowd"].to_list() == [1, 0]


def test_the_result_states_its_conventions_and_serialises():
    dataset, predictions = small([(0, 0, 0.9, 10.0, 10.0, 50.0, 50.0)])
    predictions = predictions_from_rows(predictions.table, {"conf": 0.25})
    got = evaluate_detection(dataset, predictions)
    assert got.conventions["max_dets"] == [1, 10, 100]
    assert got.conventions["label_digest"] == dataset.label_digest()
    assert got.conventions["prediction_digest"] == predictions.digest()
    assert got.conventions["limits"] == ["CUT AT CONFIDENCE 0.25: AP AND AR ARE LOWER BOUNDS"]
    assert got.title == "COCO boxes, 2 images · CUT AT CONFIDENCE 0.25: AP AND AR ARE LOWER BOUNDS"
    plain = json.loads(json.dumps(got.to_dict()))
    assert plain["metrics"]["AP"] == pytest.approx(1.0)
    assert plain["metrics"]["APl"] is None
    assert plain["per_class"][1]["AP"] is None
    assert "| AP50 | 1.0000 |" in got.to_markdown()
    assert "<table>" in got._repr_html_()


def test_unusable_input_is_refused():
    dataset, predictions = small([(0, 0, 0.9, 10.0, 10.0, 50.0, 50.0)])
    with pytest.raises(DataError, match="other images"):
        evaluate_detection(dataset.select([1]), predictions)
    renamed = predictions_from_rows(predictions.table, {"class_names": ["cat", "cow"]})
    with pytest.raises(DataError, match="must have the 2 classes"):
        evaluate_detection(dataset, renamed)
    with pytest.raises(DataError, match="mask for every object"):
        evaluate_detection(dataset, predictions, iou_type="segm")
    with pytest.raises(ConfigError, match="iou_type"):
        evaluate_detection(dataset, predictions, iou_type="oks")
    with pytest.raises(ConfigError, match="max_dets"):
        evaluate_detection(dataset, predictions, max_dets=(100, 10, 1))
    with pytest.raises(ConfigError, match="conf must be"):
        evaluate_detection(dataset, predictions, conf=25)


def test_a_malformed_mask_is_refused_before_anything_reads_it():
    document, results = synthetic(0)
    dataset, predictions = from_coco(document, kind(results, "segm"))
    broken = predictions_from_rows(predictions.table.with_columns(rle=pl.lit(b"garbage")), {})
    with pytest.raises(DataError, match="mask"):
        evaluate_detection(dataset, broken, iou_type="segm")
    without = predictions_from_rows(predictions.table.drop("rle"), {})
    with pytest.raises(DataError, match="mask for every detection"):
        evaluate_detection(dataset, without, iou_type="segm")
