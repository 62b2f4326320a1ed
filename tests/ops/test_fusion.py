"""Weighted boxes fusion equals a plain loop over lists, as its paper states it."""

import ensemble_boxes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import DataError
from sightline.ops import fuse_boxes, iou_matrix


def plain_fusion(boxes, scores, class_ids, models, weights, threshold):
    clusters = []
    weighted = scores * weights[models]
    for i in np.argsort(-weighted, kind="stable"):
        overlaps = [
            float(iou_matrix([c["box"]], [boxes[i]])[0, 0]) if c["class"] == class_ids[i] else -1 for c in clusters
        ]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best < 0 or overlaps[best] <= threshold:
            clusters.append({"class": class_ids[i], "members": []})
            best = len(clusters) - 1
        members = clusters[best]["members"]
        members.append(i)
        clusters[best]["box"] = np.average(boxes[members], axis=0, weights=weighted[members])
    means = [weighted[c["members"]].mean() * min(len(weights), len(c["members"])) / weights.sum() for c in clusters]
    return sorted(
        (round(float(m), 9), int(c["class"]), *np.round(c["box"], 6)) for m, c in zip(means, clusters, strict=True)
    )


@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 3), st.sampled_from([0.3, 0.55, 0.8]))
def test_equals_the_plain_loop(seed, count, model_count, threshold):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 20, (count, 2))], axis=1)
    scores, class_ids = rng.uniform(0.01, 1, count), rng.integers(0, 2, count)
    models, weights = rng.integers(0, model_count, count), rng.uniform(0.5, 2, model_count)
    got = fuse_boxes(boxes, scores, class_ids, weights=weights, models=models, iou_threshold=threshold)
    assert (np.diff(got.scores) <= 0).all()
    rows = zip(got.scores, got.class_ids, got.boxes_xyxy, strict=True)
    found = sorted((round(float(s), 9), int(c), *np.round(b, 6)) for s, c, b in rows)
    np.testing.assert_allclose(found, plain_fusion(boxes, scores, class_ids, models, weights, threshold), atol=2e-6)


def test_two_models_that_agree_keep_their_score_and_one_alone_half_of_it():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]]
    got = fuse_boxes(boxes, [0.8, 0.4, 0.8], [0, 0, 0], weights=[1, 1], models=[0, 1, 1])
    np.testing.assert_allclose(got.scores, [0.6, 0.4])
    np.testing.assert_allclose(got.boxes_xyxy[0], [0, 0, 10, 10 + 2 / 3])


def test_bad_input_is_refused():
    for weights, models, what in (
        ([], [0], "weights"),
        ([1, 0], [0], "weights"),
        ([1], [1], "models"),
        ([1], [], "one"),
    ):
        with pytest.raises(DataError, match=what):
            fuse_boxes([[0, 0, 1, 1]], [0.5], [0], weights=weights, models=models)


def test_equals_the_authors_package():
    rng = np.random.default_rng(0)
    per_model = [40, 0, 25]
    corner = rng.uniform(0, 0.6, (65, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.05, 0.35, (65, 2))], axis=1)
    scores, class_ids, weights = rng.random(65), rng.integers(0, 2, 65), [1.0, 3.0, 0.5]
    edges = np.cumsum(per_model)[:-1]
    parts = ([part.tolist() for part in np.split(values, edges)] for values in (boxes, scores, class_ids))
    theirs = ensemble_boxes.weighted_boxes_fusion(*parts, weights=weights, iou_thr=0.55)
    got = fuse_boxes(boxes, scores, class_ids, weights=weights, models=np.repeat(range(3), per_model))
    assert class_ids[got.best].tolist() == got.class_ids.tolist()
    for own, other in zip(got[:3], theirs, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-6)  # theirs are of 32 bits
