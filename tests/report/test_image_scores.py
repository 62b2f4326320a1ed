"""Scores of single images: they add up to the evaluation's, and the ranking is what it says."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.frames import IGNORE_INDEX
from sightline.core.predictions import Predictions
from sightline.draw import JUDGED, JudgedBox, draw_judged, error_parts, judge, tint_judged, view_whole
from sightline.evaluate.image_scores import best_and_worst, score_detection_images
from sightline.report.blocks import jpeg_uri


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


def test_an_image_is_judged_as_it_is_scored(scored, detect_run):
    images, _ = scored
    for image in images:
        truth, found = judge(image, detect_run.dataset.class_names)
        tp, fp, fn = image.counts
        assert [b.kind for b in truth].count("missed") == fn
        assert [b.kind for b in found].count("right") == tp
        assert [b.kind for b in found].count("wrong") == fp
        assert all(b.label for b in (*truth, *found) if b.kind != "truth")


def drawn(boxes, value=0, size_hw=(100, 200)):
    blank = np.full((*size_hw, 3), value, np.uint8)
    return draw_judged(blank, view_whole(size_hw, size_hw), [JudgedBox(k, np.array(b, float), n) for k, b, n in boxes])


def test_boxes_are_drawn_where_they_are():
    scene = drawn([("right", (20, 40, 120, 80), "")])
    is_blue = (scene == JUDGED["right"]).all(axis=2)
    ys, xs = np.nonzero(is_blue)
    np.testing.assert_allclose([xs.min(), ys.min(), xs.max(), ys.max()], [20, 40, 120, 80], atol=1)
    assert not is_blue[50:70, 30:110].any(), "the inside stays visible"


def test_truth_is_dashed_and_detections_are_solid():
    top = slice(26, 114)
    lines = {kind: drawn([(kind, (20, 40, 120, 80), "")], 90)[40, top] == JUDGED[kind] for kind in ("wrong", "missed")}
    assert lines["wrong"].all()
    assert 0.3 < lines["missed"].all(axis=1).mean() < 0.8


def test_a_miss_lies_above_what_covers_it():
    both = [("missed", (20, 40, 120, 80), ""), ("wrong", (20, 40, 120, 80), "")]
    assert (drawn(both)[40, 26:114] == JUDGED["missed"]).all(axis=1).any()


def test_labels_stay_inside_whatever_the_text():
    for label in ("größe", "日本語", "<script>" * 9, "\n", ""):
        scene = drawn([("right", (70, 0, 89, 20), label), ("missed", (-5, 50, 10, 59), label)], 0, (60, 90))
        assert scene.shape == (60, 90, 3)


def test_pixel_errors_have_three_colours():
    truth = np.array([[1, 0, 1], [0, IGNORE_INDEX, IGNORE_INDEX]])
    predicted = np.array([[1, 1, 0], [0, 1, 0]])
    blank = np.zeros((2, 3, 3), np.uint8)
    tinted = tint_judged(blank, view_whole((2, 3), (2, 3)), error_parts(truth, predicted))
    expected = [[JUDGED["right"], JUDGED["wrong"], JUDGED["missed"]], [(0, 0, 0)] * 3]
    np.testing.assert_allclose(tinted, np.array(expected) * 0.75, atol=1)


def test_data_uri_is_a_jpeg():
    assert jpeg_uri(np.zeros((8, 8, 3), np.uint8)).startswith("data:image/jpeg;base64,/9j/")
