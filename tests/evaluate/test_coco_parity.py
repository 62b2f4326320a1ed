"""From JSON on disk to COCO's twelve numbers: equal to pycocotools on sets made to differ; `benchmarks/` has more."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sightline.core.predictions import Predictions
from sightline.data import read_dataset, read_predictions, write_dataset
from sightline.evaluate import evaluate_detection
from sightline.ops import rle

SCRIPT = importlib.util.spec_from_file_location(
    "coco_parity", Path(__file__).parents[2] / "benchmarks" / "coco_parity.py"
)
PARITY = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(PARITY)


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_the_twelve_numbers_are_the_reference_s(first, tmp_path):
    measured = 0
    for seed in range(first, first + 20):
        for iou_type, gap in PARITY.differences(seed, tmp_path).items():
            assert gap.max() <= 1e-12, (seed, iou_type, gap)
            measured += 1
    assert measured > 20


def written(folder, objects, results, categories=({"id": 1, "name": "cat"},), images=None):
    images = images or [{"id": 1, "file_name": "1.jpg", "width": 300, "height": 300}]
    annotations = [{"id": n, "image_id": 1, "iscrowd": 0, **o} for n, o in enumerate(objects, start=1)]
    document = {"images": images, "annotations": annotations, "categories": list(categories)}
    (folder / "truth.json").write_text(json.dumps(document))
    (folder / "found.json").write_text(json.dumps([{"image_id": 1, "score": 0.9, **r} for r in results]))
    dataset = read_dataset(folder / "truth.json")
    return dataset, read_predictions(folder / "found.json", dataset)


# x + width - x is not the width: 2.3 + 10.24 - 2.3 < 10.24, so the area 1024 would be that of a small object.
LOST = [2.3, 2.3, 10.24, 100]


def test_a_width_that_corners_lose_decides_the_size_and_survives_a_file(tmp_path):
    assert (LOST[0] + LOST[2] - LOST[0]) * 100 != 1024
    dataset, found = written(tmp_path, [{"category_id": 1, "bbox": LOST}], [{"category_id": 1, "bbox": LOST}])
    assert dataset.objects["area"].to_list() == [1024.0]
    assert dataset.objects["given_width"].to_list() == [10.24]
    found.save(tmp_path / "p.parquet")
    for predictions in (found, Predictions.load(tmp_path / "p.parquet")):
        result = evaluate_detection(dataset, predictions)
        assert result["APs"] == result["APm"] == pytest.approx(1.0)


def test_a_width_that_corners_lose_is_written_as_it_was_given(tmp_path):
    boxes = [LOST, [2.3, 2.3, 100 / 3, 10.24]]
    dataset, _ = written(tmp_path, [{"category_id": 1, "bbox": b} for b in boxes], [])
    write_dataset(dataset, tmp_path / "out", "coco", copy_images=False)
    document = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    assert [entry["bbox"] for entry in document["annotations"]] == boxes


def test_a_width_that_belongs_to_other_corners_is_not_taken(tmp_path):
    dataset, found = written(tmp_path, [{"category_id": 1, "bbox": LOST}], [{"category_id": 1, "bbox": LOST}])
    moved = Predictions(found.table.with_columns(x2=pl.lit(60.1)), found.meta, found.images)
    assert evaluate_detection(dataset, moved)["AP50"] == 0


def test_labels_read_and_written_keep_their_digest_and_corners_alone_have_none_of_this(tmp_path):
    dataset, found = written(tmp_path, [{"category_id": 1, "bbox": LOST}], [{"category_id": 1, "bbox": LOST}])
    plain = Predictions(found.table.with_columns(given_width=None, given_height=None), found.meta, found.images)
    assert plain.digest() != found.digest()
    columns = ["given_width", "given_height"]
    assert dataset.label_digest() == read_dataset(tmp_path / "truth.json").label_digest()
    whole = [{"category_id": 1, "bbox": [3, 4, 50, 60]}]
    dataset, found = written(tmp_path, whole, whole)
    assert dataset.objects.select(columns).null_count().row(0) == (1, 1)
    assert found.table.select(columns).null_count().row(0) == (1, 1)


@pytest.mark.parametrize("with_box", [True, False])
def test_the_first_entry_decides_what_sizes_the_results(tmp_path, with_box):
    mask = np.zeros((300, 300), bool)
    mask[10:50, 10:34] = True  # 960 pixels, small; its box as given is of medium size
    code = {"size": [300, 300], "counts": rle.encode(mask).decode()}
    box = {"bbox": [10, 10, 40, 40]} if with_box else {}
    far = [{"category_id": 1, "bbox": [200, 200, 40, 40], "segmentation": [[200, 200, 240, 200, 240, 240]]}]
    _, found = written(tmp_path, far, [{"category_id": 1, "segmentation": code, **box}])
    assert found.table["area"].to_list() == [1600.0 if with_box else 960.0]


def test_two_categories_of_one_name_are_two_classes_where_both_have_objects(tmp_path):
    names = [{"id": 0, "name": "person"}, {"id": 4, "name": "person"}]
    objects = [{"category_id": c, "bbox": [10 + 100 * c / 4, 10, 50, 80]} for c in (0, 4)]
    dataset, found = written(tmp_path, objects, [{"category_id": 4, "bbox": [110, 10, 50, 80]}], names)
    assert dataset.class_names == ("person", "person (id 4)")
    assert evaluate_detection(dataset, found)["AP"] == pytest.approx(0.5)
    (duplicate,) = [f for f in dataset.findings if f.code == "class-duplicate-name"]
    assert duplicate.facts["ids"] == [0, 4]


def test_a_category_of_the_same_name_without_objects_is_no_class(tmp_path):
    names = [{"id": 0, "name": "person"}, {"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    results = [{"category_id": c, "bbox": [10, 10, 50, 80]} for c in (0, 1)]
    dataset, found = written(tmp_path, [{"category_id": 1, "bbox": [10, 10, 50, 80]}], results, names)
    assert dataset.class_names == ("person", "dog")
    assert dataset.classes["source_id"].to_list() == [1, 2]
    assert dataset.counts_by_class() == {"person": 1, "dog": 0}
    assert len(found) == 1
    result = evaluate_detection(dataset, found)
    assert result["AP"] == pytest.approx(1.0)
    assert result.conventions["predictions_of_unused_categories_left_out"] == 1


def test_images_without_a_size_are_as_large_as_their_labels_reach(tmp_path):
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg", "width": 0, "height": None}]
    dataset, found = written(
        tmp_path,
        [{"category_id": 1, "bbox": [10, 20, 30.5, 40]}],
        [{"category_id": 1, "bbox": [10, 20, 30.5, 40]}],
        images=images,
    )
    assert dataset.images.select("width", "height").rows() == [(41, 60), (1, 1)]
    assert "2 without width and height" in dataset.findings[0].message
    assert evaluate_detection(dataset, found)["AP"] == pytest.approx(1.0)


def test_more_than_a_hundred_detections_count_at_the_operating_point_and_by_max_dets(tmp_path):
    objects = [{"category_id": 1, "bbox": [2 * k, 1, 2, 200]} for k in range(150)]
    results = [{"category_id": 1, "bbox": o["bbox"], "score": 1 - k / 1000} for k, o in enumerate(objects)]
    dataset, found = written(tmp_path, objects, results)
    usual = evaluate_detection(dataset, found)
    assert usual.operating_point.true_positives == usual.confusion[0, 0] == 150
    assert usual.curves.pooled_recall[0] == 1
    assert usual["AR100"] == pytest.approx(100 / 150)
    assert usual.conventions["detections_beyond_max_dets"] == 50
    assert evaluate_detection(dataset, found, max_dets=(1, 10, 150))["AR150"] == pytest.approx(1.0)


def test_lvis_labels_measured_as_coco_say_so_in_the_title(tmp_path):
    images = [{"id": 1, "file_name": "1.jpg", "width": 300, "height": 300, "neg_category_ids": [1]}]
    box = [{"category_id": 1, "bbox": [10, 10, 50, 50]}]
    dataset, found = written(tmp_path, box, box, images=images)
    assert "FEDERATED LABELS (LVIS) MEASURED AS COCO" in evaluate_detection(dataset, found).title
    dataset, found = written(tmp_path, box, box)
    assert "LVIS" not in evaluate_detection(dataset, found).title
