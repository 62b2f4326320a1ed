"""Pooled segmentation metrics equal torchmetrics 1.9.0 and the plain formulas; ignored pixels never count."""

import json
from importlib.metadata import version

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.frames import IGNORE_INDEX, SemanticMap
from sightline.core.predictions import predictions_from_rows
from sightline.evaluate import SemanticAccumulator, evaluate_semantic, evaluate_semantic_maps
from sightline.evaluate.pixels import class_ratios, image_ratios, summary
from sightline.ops import rle

SIZE = (12, 17)


def scene(tmp_path, values, seed=0, images=4, ignore=(255,), absent=(), dtype=np.uint8):
    """A semantic data set whose classes are stored as `values`, and maps that are right for four pixels in five."""
    rng = np.random.default_rng(seed)
    rows, maps = [], {}
    for k in range(images):
        truth = rng.choice([c for c in range(len(values)) if c not in absent], SIZE)
        guess = np.where(rng.random(SIZE) < 0.8, truth, rng.choice(len(values), SIZE))
        stored = np.array(values)[truth].astype(dtype)
        if ignore:
            stored[rng.random(SIZE) < 0.1] = ignore[0]
        Image.fromarray(stored).save(tmp_path / f"mask{k}.png")
        row = {"image_id": 5 * k + 2, "path": f"image{k}.png", "width": SIZE[1], "height": SIZE[0]}
        rows.append(row | {"mask_path": f"mask{k}.png"})
        maps[5 * k + 2] = guess.astype(np.uint8)
    names = ["background", "crack"] if len(values) == 2 else [f"class {k}" for k in range(len(values))]
    classes = [{"class_id": k, "name": n, "source_id": v} for k, (n, v) in enumerate(zip(names, values, strict=True))]
    dataset = dataset_from_rows(
        rows, [], classes, root=tmp_path, name="scene", task="semantic", format="masks", ignore_values=ignore
    )
    return dataset, maps


def saved(dataset, maps):
    rows = []
    for image_id, class_ids in maps.items():
        for class_id in np.unique(class_ids):
            counts = rle.encode(class_ids == class_id)
            box = dict(zip(("x1", "y1", "x2", "y2"), rle.to_box(counts, SIZE), strict=True))
            rows.append({"image_id": image_id, "class_id": int(class_id), "score": 1.0, "rle": counts} | box)
    return predictions_from_rows(rows, {"class_names": list(dataset.class_names)})


def plain_arrays(dataset, maps):
    """Class ids of both sides with ignored pixels cut out, read without any of our code."""
    sides = []
    lookup = {v: c for c, v in dataset.classes.select("class_id", "source_id").iter_rows()}
    for image_id, mask_path in dataset.images.select("image_id", "mask_path").iter_rows():
        stored = np.asarray(Image.open(dataset.root / mask_path))
        counted = ~np.isin(stored, dataset.ignore_values)
        sides.append((np.array([lookup[int(v)] for v in stored[counted]]), maps[image_id][counted]))
    return sides


def test_the_oracle_is_the_version_named():
    assert version("torchmetrics") == "1.9.0"


@pytest.mark.parametrize("seed", range(3))
def test_many_classes_equal_torchmetrics(tmp_path, seed):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    dataset, maps = scene(tmp_path, [0, 40, 9, 3, 77], seed, absent=(3,) if seed else ())
    got = evaluate_semantic(dataset, saved(dataset, maps))
    truth, guess = (torch.tensor(np.concatenate(side)) for side in zip(*plain_arrays(dataset, maps), strict=True))
    options = {"num_classes": 5, "average": "none"}
    for ours, theirs in {
        "iou": functional.multiclass_jaccard_index,
        "dice": functional.multiclass_f1_score,
        "sensitivity": functional.multiclass_recall,
        "specificity": functional.multiclass_specificity,
        "precision": functional.multiclass_precision,
    }.items():
        expected = theirs(guess, truth, **options).double().numpy()
        np.testing.assert_allclose(got.per_class[ours], expected, atol=1e-6)
        assert got[f"mean_{ours}"] == pytest.approx(expected.mean(), abs=1e-6)
    micro = functional.multiclass_accuracy(guess, truth, num_classes=5, average="micro")
    assert got["pixel_accuracy"] == pytest.approx(float(micro), abs=1e-6)
    correlation = functional.multiclass_matthews_corrcoef(guess, truth, num_classes=5)
    assert got["mcc"] == pytest.approx(float(correlation), abs=1e-6)
    weighted = functional.multiclass_jaccard_index(guess, truth, num_classes=5, average="weighted")
    assert got["frequency_weighted_iou"] == pytest.approx(float(weighted), abs=1e-6)
    matrix = functional.multiclass_confusion_matrix(guess, truth, num_classes=5).numpy()
    np.testing.assert_array_equal(got.confusion, matrix)


def test_two_classes_report_the_pooled_foreground_and_the_images_apart(tmp_path):
    dataset, maps = scene(tmp_path, [0, 255], ignore=(7,))
    got = evaluate_semantic(dataset, saved(dataset, maps))
    sides = plain_arrays(dataset, maps)
    truth, guess = (np.concatenate(side) == 1 for side in zip(*sides, strict=True))
    tp, fp, fn, tn = (truth & guess).sum(), (~truth & guess).sum(), (truth & ~guess).sum(), (~truth & ~guess).sum()
    assert got["foreground_dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert got["foreground_iou"] == pytest.approx(tp / (tp + fp + fn))
    assert got["foreground_sensitivity"] == pytest.approx(tp / (tp + fn))
    assert got["foreground_specificity"] == pytest.approx(tn / (tn + fp))
    assert got["foreground_precision"] == pytest.approx(tp / (tp + fp))
    assert got["foreground_iou"] == pytest.approx(got["foreground_dice"] / (2 - got["foreground_dice"]))
    own = [2 * ((t == 1) & (g == 1)).sum() / ((t == 1).sum() + (g == 1).sum()) for t, g in sides]
    np.testing.assert_allclose(got.per_image["image_dice"], own)
    assert got["foreground_dice_image_mean"] == pytest.approx(np.mean(own))
    assert got["foreground_dice_image_mean"] != got["foreground_dice"]
    assert got.per_image["counted_pixels"].to_list() == [len(t) for t, _ in sides]
    assert got.conventions["foreground"] == "crack"
    assert got.conventions["counted_pixels"] + got.conventions["ignored_pixels"] == 4 * SIZE[0] * SIZE[1]


def test_means_over_images_are_of_each_image_alone_and_say_where_there_is_nothing(tmp_path):
    dataset, maps = scene(tmp_path, [0, 255], ignore=(7,), images=5)
    ids = list(maps)
    maps[ids[0]][:] = 0  # nothing found
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "mask1.png")  # nothing there, something found
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "mask2.png")
    maps[ids[2]][:] = 0  # neither
    got = evaluate_semantic(dataset, saved(dataset, maps))
    alone = {name: [] for name in ("iou", "dice", "sensitivity", "specificity", "precision", "pixel_accuracy", "mcc")}
    for truth, guess in plain_arrays(dataset, maps):
        t, g = truth == 1, guess == 1
        tp, fp, fn, tn = (int(pair.sum()) for pair in (t & g, ~t & g, t & ~g, ~t & ~g))
        shares = [(tp, tp + fp + fn), (2 * tp, 2 * tp + fp + fn), (tp, tp + fn), (tn, tn + fp), (tp, tp + fp)]
        shares += [(tp + tn, len(t)), (tp * tn - fp * fn, ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5)]
        shares[3] = shares[3] if tp + fp + fn else (0, 0)
        for name, (part, whole) in zip(alone, shares, strict=True):
            alone[name].append(part / whole if whole else np.nan)
    undefined = {}
    for name, values in alone.items():
        key = name if name in ("pixel_accuracy", "mcc") else f"foreground_{name}"
        assert got[f"{key}_image_mean"] == pytest.approx(np.nanmean(values), abs=1e-12)
        np.testing.assert_allclose(got.per_image[f"image_{name}"].to_numpy(), values, atol=1e-12)
        undefined |= {key: int(np.isnan(values).sum())} if np.isnan(values).any() else {}
    assert got.conventions["images_undefined"] == undefined
    assert (undefined["foreground_dice"], undefined["foreground_precision"], undefined["mcc"]) == (1, 2, 3)
    assert got["foreground_sensitivity_image_mean"] != pytest.approx(got["foreground_sensitivity"])


def test_means_over_images_do_not_depend_on_the_order_of_classes_and_absent_ones():
    rng = np.random.default_rng(5)
    order = np.array([2, 0, 3, 1])

    def counts(truth, guess, classes):
        c = SemanticAccumulator(classes).update(truth, guess)
        return np.stack([np.diag(c), c.sum(axis=1), c.sum(axis=0)])

    pairs = [(rng.integers(0, 4, SIZE), rng.integers(0, 4, SIZE)) for _ in range(3)]
    plain = image_ratios(np.stack([counts(t, g, 4) for t, g in pairs]))
    renamed = image_ratios(np.stack([counts(order[t], order[g], 4) for t, g in pairs]))
    wider = image_ratios(np.stack([counts(t, g, 6) for t, g in pairs]))
    for name, values in plain.items():
        np.testing.assert_allclose(renamed[name], values, atol=1e-12)
        np.testing.assert_allclose(wider[name], values, atol=1e-12)


def test_means_over_images_are_those_of_scikit_learn(tmp_path):
    metrics = pytest.importorskip("sklearn.metrics")
    dataset, maps = scene(tmp_path, [0, 255], ignore=(7,), images=5)
    got = evaluate_semantic(dataset, saved(dataset, maps))
    sides = plain_arrays(dataset, maps)
    for name, measure in {
        "foreground_iou": metrics.jaccard_score,
        "foreground_dice": metrics.f1_score,
        "foreground_sensitivity": metrics.recall_score,
        "foreground_precision": metrics.precision_score,
        "pixel_accuracy": metrics.accuracy_score,
        "mcc": metrics.matthews_corrcoef,
    }.items():
        assert got[f"{name}_image_mean"] == pytest.approx(np.mean([measure(t, g) for t, g in sides]), abs=1e-12)
        pooled = measure(*(np.concatenate(side) for side in zip(*sides, strict=True)))
        assert got[name] == pytest.approx(pooled, abs=1e-12)


def test_maps_and_saved_predictions_give_the_same_numbers(tmp_path):
    dataset, maps = scene(tmp_path, [0, 300, 9], dtype=np.uint16)
    from_rows = evaluate_semantic(dataset, saved(dataset, maps))
    shuffled = [(i, SemanticMap(maps[i], dataset.class_names)) for i in sorted(maps, reverse=True)]
    from_maps = evaluate_semantic_maps(dataset, iter(shuffled))
    assert from_maps.metrics == from_rows.metrics
    assert from_maps.per_image.equals(from_rows.per_image)
    np.testing.assert_array_equal(from_maps.confusion, from_rows.confusion)


def test_a_class_that_never_occurs_is_left_out_and_one_that_is_missed_is_not():
    confusion = np.array([[8, 2, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    ratios = class_ratios(confusion)
    assert all(np.isnan(values[3]) for values in ratios.values())
    assert [ratios[name][1] for name in ("iou", "dice", "sensitivity", "precision")] == [0, 0, 0, 0]
    assert [ratios[name][2] for name in ("iou", "dice", "sensitivity", "precision")] == [0, 0, 0, 0]
    assert summary(confusion)["mean_iou"] == pytest.approx((8 / 13 + 0 + 0) / 3)
    everything = class_ratios(np.array([[5, 0], [0, 0]]))
    assert everything["iou"][0] == 1
    assert np.isnan(everything["specificity"][0])
    assert np.isnan(summary(np.zeros((3, 3), dtype=np.int64))["pixel_accuracy"])


def test_ignored_pixels_count_for_nothing_and_batches_do_not_matter():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 5, (6, 8, 8)), rng.integers(0, 4, (6, 8, 8))
    truth[truth == 4] = IGNORE_INDEX
    whole, parts = SemanticAccumulator(4), SemanticAccumulator(4)
    whole.update(truth, guess)
    for t, g in zip(truth, guess, strict=True):
        parts.update(t, g)
    np.testing.assert_array_equal(whole.confusion, parts.confusion)
    assert whole.confusion.sum() == (truth != IGNORE_INDEX).sum()
    guess[truth == IGNORE_INDEX] = 99
    again = SemanticAccumulator(4)
    again.update(truth, guess)
    np.testing.assert_array_equal(again.confusion, whole.confusion)


def test_stray_mask_values_and_sizes_name_the_file(tmp_path):
    dataset, maps = scene(tmp_path, [0, 1])
    predictions = saved(dataset, maps)
    odd = np.zeros(SIZE, dtype=np.uint8)
    odd[3, 4], odd[0, 0] = 128, 9
    Image.fromarray(odd).save(tmp_path / "mask1.png")
    with pytest.raises(DataError, match=r"mask1.png: mask values must be .* \(0, 1, 255\), got 9, 128"):
        evaluate_semantic(dataset, predictions)
    Image.fromarray(np.full(SIZE, 70000, dtype=np.int32)).save(tmp_path / "mask1.png", format="TIFF")
    with pytest.raises(DataError, match=r"mask1.png.*got 70000"):
        evaluate_semantic(dataset, predictions)
    Image.fromarray(odd[1:]).save(tmp_path / "mask1.png")
    with pytest.raises(DataError, match=r"mask1.png.*size"):
        evaluate_semantic(dataset, predictions)


def test_every_image_must_be_predicted_and_covered_once(tmp_path):
    dataset, maps = scene(tmp_path, [0, 1])
    table = saved(dataset, maps).table

    def evaluate(rows):
        return evaluate_semantic(dataset, predictions_from_rows(rows, {}))

    with pytest.raises(DataError, match=r"got none for image2\.png"):
        evaluate(table.filter(pl.col("image_id") != 12))
    with pytest.raises(DataError, match=r"image2\.png: .* pixels free and 0 covered again"):
        evaluate(table.filter((pl.col("image_id") != 12) | (pl.col("class_id") == 0)))
    with pytest.raises(DataError, match=r"image0\.png: .* got 0 pixels free"):
        evaluate(pl.concat([table, table.head(1)]))
    with pytest.raises(DataError, match="mask in every row"):
        evaluate(table.drop("rle"))
    with pytest.raises(DataError, match="other images"):
        evaluate(table.with_columns(image_id=pl.lit(77, dtype=pl.Int64)))


def test_unusable_maps_are_refused(tmp_path):
    dataset, maps = scene(tmp_path, [0, 1])
    names = dataset.class_names
    good = [(i, SemanticMap(m, names)) for i, m in maps.items()]
    cases = {
        "each once": [*good, good[0]],
        "must have the classes": [(2, SemanticMap(maps[2], ("a", "b")))],
        "size": [(2, SemanticMap(maps[2][1:], names))],
        "prediction labels must be in 0..1": [(2, SemanticMap(maps[2] + 1, names))],
        "must have a prediction": good[:-1],
    }
    for message, given in cases.items():
        with pytest.raises(DataError, match=message):
            evaluate_semantic_maps(dataset, given)


def test_the_result_serialises(tmp_path):
    dataset, maps = scene(tmp_path, [0, 1])
    got = evaluate_semantic(dataset, saved(dataset, maps))
    plain = json.loads(json.dumps(got.to_dict()))
    assert plain["metrics"]["foreground_dice"] == got["foreground_dice"]
    assert "| foreground_dice |" in got.to_markdown()
    assert got.conventions["prediction_digest"]
