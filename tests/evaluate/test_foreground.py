"""Curves over the least probability: torchmetrics' and scikit-learn's areas, plain counts, merging, what is refused."""

import numpy as np
import pytest

from sightline.core.errors import DataError
from sightline.evaluate import ForegroundCounts
from sightline.evaluate.foreground import BINS, declared_point

SIZE = (30, 41)


def images(seed, count=3, dtype=np.float32):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        truth = (rng.random(SIZE) < 0.2).astype(np.uint8)
        probabilities = rng.beta(0.5 + 2 * truth, 2.0).astype(dtype)
        truth[rng.random(SIZE) < 0.1] = 255
        yield truth, probabilities


def counted(pairs):
    counts = ForegroundCounts()
    for pair in pairs:
        counts.update(*pair)
    return counts


def flat(pairs):
    truth, values = (np.concatenate([np.ravel(one) for one in side]) for side in zip(*pairs, strict=True))
    return truth[truth < 2], np.floor(values[truth < 2].astype(np.float64) * BINS) / BINS


@pytest.mark.parametrize(("seed", "dtype"), [(0, np.float32), (1, np.float64), (2, np.float16)])
def test_areas_are_those_of_torchmetrics(seed, dtype):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    pairs = list(images(seed, dtype=dtype))
    got = counted(pairs).areas()
    truth, values = (torch.from_numpy(side) for side in flat(pairs))
    wanted = functional.binary_average_precision(values, truth.long()), functional.binary_auroc(values, truth.long())
    assert list(got.values()) == pytest.approx([float(v) for v in wanted], abs=1e-6)


def test_areas_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    pairs = list(images(3))
    truth, values = flat(pairs)
    got = counted(pairs).areas()
    assert got["average_precision"] == pytest.approx(metrics.average_precision_score(truth, values), abs=1e-12)
    assert got["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, values), abs=1e-12)


def test_curves_are_plain_counts_at_each_threshold_and_the_best_is_the_best_of_all():
    pairs = list(images(4))
    truth = np.concatenate([t[t < 2] for t, _ in pairs]) == 1
    values = np.concatenate([p[t < 2] for t, p in pairs])
    counts = counted(pairs)
    curves = counts.curves()
    assert (curves.threshold[0], curves.threshold[-1], len(curves.threshold)) == (0, 1, 129)
    for i, threshold in enumerate(curves.threshold):
        guess = values >= np.float32(threshold)
        tp, fp, fn, tn = (
            (truth & guess).sum(),
            (~truth & guess).sum(),
            (truth & ~guess).sum(),
            (~truth & ~guess).sum(),
        )
        assert curves.dice[i] == 2 * tp / (2 * tp + fp + fn)
        assert curves.iou[i] == tp / (tp + fp + fn)
        assert (curves.recall[i], curves.specificity[i]) == (tp / (tp + fn), tn / (tn + fp))
        np.testing.assert_equal(curves.precision[i], tp / (tp + fp) if tp + fp else np.nan)
    dice = [2 * (truth & (values >= k / BINS)).sum() / (truth.sum() + (values >= k / BINS).sum()) for k in range(BINS)]
    threshold, value = counts.best()
    assert (dice[round(threshold * BINS)], value) == (max(dice), max(dice))


def test_merging_is_adding_and_ignored_pixels_count_for_nothing():
    pairs = list(images(5, count=4))
    whole, first, second = counted(pairs), counted(pairs[:1]), counted(pairs[1:])
    first.merge(second)
    assert np.array_equal(first.pixels, whole.pixels)
    assert whole.pixels.sum() == sum((t < 2).sum() for t, _ in pairs)
    changed = [(t, np.where(t == 255, 0.5, p).astype(np.float32)) for t, p in pairs]
    assert counted(changed).areas() == whole.areas()


def test_what_is_perfect_what_is_never_right_and_what_is_refused():
    truth = np.array([[0, 1, 1, 0]])
    sure = counted([(truth, np.array([[0.25, 0.75, 0.75, 0.25]]))])
    assert sure.areas() == {"average_precision": 1.0, "roc_auc": 1.0}
    assert sure.best()[1] == 1.0
    assert sure.best()[0] == pytest.approx(0.5, abs=1e-3)  # the middle of all that separate
    nothing = counted([(np.zeros((2, 2), np.uint8), np.full((2, 2), 0.5))])
    assert nothing.best() is None
    assert np.isnan(nothing.areas()["roc_auc"])
    for message, pair in {
        "shape": (truth, np.zeros((2, 2))),
        "in 0..1": (truth, np.array([[0.5, 0.5, 1.5, 0.5]])),
        "0, 1 or ignored": (truth + 1, np.full((1, 4), 0.5)),
        "got others": (truth, np.full((1, 4), np.nan)),
    }.items():
        with pytest.raises(DataError, match=message):
            ForegroundCounts().update(*pair)


def test_predictions_say_where_their_threshold_comes_from():
    own = {"conf": 0.25}
    assert declared_point({"model_digest": "x"}, 3) is None
    assert declared_point({}, 2) is None
    assert declared_point({"model_digest": "x"}, 2).conf == 0.5
    assert "model's own" in declared_point({"foreground_conf": 0.25, "operating_point": own}, 2).origin
    assert declared_point({"foreground_conf": 0.3, "operating_point": own}, 2).origin == "given"
