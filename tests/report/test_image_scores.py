"""Scores of single images: they add up to the evaluation's, and the ranking is what it says."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.predictions import Predictions
from sightline.draw.detections import JUDGED
from sightline.evaluate.image_scores import best_and_worst, score_detection_images
from sightline.report.overlays import DrawnBox, draw_boxes, jpeg_uri, thumbnail, tint_errors


@pytest.fixture(scope="module")
def scored(detect_run):
    evaluation = json.loads((detect_run.folder / "evaluation.json").read_text(encoding="utf-8"))
    predictions = Predictions.load(detect_run.folder / "predictions.parquet")
    point = evaluation["operating_point"]
    images = score_detection_images(detect_run.dataset.split("val"), predictions, conf=point["conf"], max_det=100)
    return images, point


def test_counts_add_up_to_the_operating_point(scored):
    images, point = scored
    sums = np.sum([image.counts for image in images], axis=0).tolist()
    assert sums == [point["true_positives"], point["false_positives"], point["false_negatives"]]
    assert sum(sums) > 30


def test_f1_of_an_image(scored):
    images, _ = scored
    for image in images:
        tp, fp, fn = image.counts
        if tp + fp + fn == 0:
            assert image.f1 is None
        else:
            assert image.f1 == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert (image.scores >= 0).all()
        assert image.truth_xyxy.shape == (len(image.missed), 4)


SCORES = st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), max_size=40)


@given(SCORES, st.integers(1, 8))
def test_best_and_worst(scores, count):
    sizes = [(7 * i) % 5 for i in range(len(scores))]
    best, worst = best_and_worst(scores, sizes, count)
    ranked = [i for i, score in enumerate(scores) if score is not None]
    assert not set(best) & set(worst)
    assert set(best) | set(worst) <= set(ranked)
    assert len(best) == min(count, len(ranked) // 2) or len(ranked) == len(best) == 1
    assert [scores[i] for i in best] == sorted((scores[i] for i in best), reverse=True)
    assert [scores[i] for i in worst] == sorted(scores[i] for i in worst)
    others = [scores[i] for i in ranked if i not in best]
    assert not best or not others or min(scores[i] for i in best) >= max(others)


def test_fuller_images_come_first_among_equals():
    assert best_and_worst([1.0, 1.0, 0.0, 0.0], [1, 5, 2, 9], 1) == ([1], [3])


@pytest.mark.parametrize(("size_hw", "dtype"), [((40, 60), np.uint8), ((3000, 20), np.uint8), ((700, 900), np.uint16)])
def test_thumbnails_have_a_bounded_size(size_hw, dtype):
    image = np.full((*size_hw, 3), np.iinfo(dtype).max, dtype)
    pixels, scale = thumbnail(image)
    assert 480 <= max(pixels.shape[:2]) <= 560
    assert pixels.dtype == np.uint8
    assert pixels.min() == 255
    assert max(size_hw) * scale == pytest.approx(max(pixels.shape[:2]), abs=1)
    assert thumbnail(image[..., 0])[0].shape == pixels.shape


def test_boxes_are_drawn_where_they_are():
    blank = np.zeros((100, 200, 3), np.uint8)
    scene = draw_boxes(blank, [DrawnBox((20, 40, 120, 80), "right")])
    is_blue = (scene == JUDGED["right"]).all(axis=2)
    ys, xs = np.nonzero(is_blue)
    np.testing.assert_allclose([xs.min(), ys.min(), xs.max(), ys.max()], [20, 40, 120, 80], atol=1)
    assert not is_blue[50:70, 30:110].any(), "the inside stays visible"


def test_truth_is_dashed_and_detections_are_solid():
    blank = np.full((100, 200, 3), 90, np.uint8)
    solid = draw_boxes(blank, [DrawnBox((20, 40, 120, 80), "wrong")])
    dashed = draw_boxes(blank, [DrawnBox((20, 40, 120, 80), "missed")])
    top = slice(26, 114)
    assert (solid[40, top] == JUDGED["wrong"]).all(axis=1).all()
    share = (dashed[40, top] == JUDGED["missed"]).all(axis=1).mean()
    assert 0.3 < share < 0.8


def test_labels_stay_inside_whatever_the_text():
    blank = np.zeros((60, 90, 3), np.uint8)
    for label in ("größe", "日本語", "<script>" * 9, "\n", ""):
        scene = draw_boxes(
            blank, [DrawnBox((70, 0, 89, 20), "right", label), DrawnBox((-5, 50, 10, 59), "missed", label)]
        )
        assert scene.shape == blank.shape


def test_pixel_errors_have_three_colours():
    pixels = np.zeros((2, 3, 3), np.uint8)
    truth = np.array([[1, 0, 1], [0, -1, -1]])
    predicted = np.array([[1, 1, 0], [0, 1, 0]])
    tinted = tint_errors(pixels, truth, predicted)
    expected = [[JUDGED["right"], JUDGED["wrong"], JUDGED["missed"]], [(0, 0, 0)] * 3]
    np.testing.assert_allclose(tinted, np.array(expected) * 0.75, atol=1)


def test_data_uri_is_a_jpeg():
    assert jpeg_uri(np.zeros((8, 8, 3), np.uint8)).startswith("data:image/jpeg;base64,/9j/")
