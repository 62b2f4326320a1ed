"""Panoptic quality against a plain reading of panopticapi's rules, and hotcoco's; files, refusals, merging."""

import json
from collections import defaultdict

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval
from PIL import Image

from sightline.cli.main import main
from sightline.core.errors import DataError
from sightline.core.files import write_sealed_json
from sightline.core.predictions import Predictions
from sightline.data import read_dataset, read_predictions
from sightline.evaluate import PanopticAccumulator, Segments, evaluate_panoptic
from sightline.report import write_report

THINGS = (True, True, False, False)
SIZE = (40, 52)


def random_map(rng, classes=4):
    """Rectangles over each other, ids as of colours, some of no segment."""
    ids = np.zeros(SIZE, np.int64)
    numbers = rng.choice(np.arange(1, 1 << 20), 9, replace=False)
    for number in numbers:
        y, x = rng.integers(0, SIZE[0] - 6), rng.integers(0, SIZE[1] - 6)
        ids[y : y + rng.integers(4, 24), x : x + rng.integers(4, 24)] = number
    shown = np.unique(ids[ids > 0])
    return ids, shown, rng.integers(0, classes, len(shown))


def scene(rng):
    """Truth and a guess that moves it, forgets, renames and splits segments; crowds among the truth."""
    ids, shown, classes = random_map(rng)
    crowd = rng.random(len(shown)) < 0.2
    guess = np.roll(ids, rng.integers(-2, 3, 2), (0, 1))
    of_class = dict(zip(shown.tolist(), classes.tolist(), strict=True))
    guess[:, : rng.integers(0, 20)] += 1 << 21
    for number in np.unique(guess[guess > 0]).tolist():
        if rng.random() < 0.15:
            guess[guess == number] = 0
        of_class.setdefault(number, of_class.get(number - (1 << 21), 0))
        if rng.random() < 0.15:
            of_class[number] = int(rng.integers(0, 4))
    guess[guess == 1 << 21] = 0
    listed = np.unique(guess[guess > 0])
    return ids, Segments(shown, classes, crowd), guess, Segments(listed, [of_class[n] for n in listed.tolist()])


def plain_counts(ids, truth, guess, predicted, totals):
    """One image's summed IoU, TP, FP, FN by class, pixel sets and loops: what panopticapi states, in our own words."""
    true = {n: (c, bool(k)) for n, c, k in zip(truth.ids, truth.class_ids, truth.crowd, strict=True)}
    found = dict(zip(predicted.ids.tolist(), predicted.class_ids, strict=True))
    met_true, met_found = set(), set()
    for n, (class_id, crowd) in true.items():
        for m, guessed in found.items():
            both = int(((ids == n) & (guess == m)).sum())
            if crowd or guessed != class_id or not both:
                continue
            void = int(((ids == 0) & (guess == m)).sum())
            iou = both / (int((guess == m).sum()) + int((ids == n).sum()) - both - void)
            if iou > 0.5:
                totals[class_id] += [iou, 1, 0, 0]
                met_true.add(n)
                met_found.add(m)
    crowds = {}
    for n, (class_id, crowd) in true.items():
        if crowd and n not in met_true:
            crowds[class_id] = n
        elif n not in met_true:
            totals[class_id] += [0, 0, 0, 1]
    for m, guessed in found.items():
        excused = (guess == m) & ((ids == 0) | (ids == crowds.get(guessed, 0)))
        if m not in met_found and excused.sum() / (guess == m).sum() <= 0.5:
            totals[guessed] += [0, 0, 1, 0]


def plain_average(totals, chosen):
    rows = [totals[c] for c in range(len(THINGS)) if chosen[c] and totals[c][1:].sum()]
    pq = [iou / (tp + fp / 2 + fn / 2) for iou, tp, fp, fn in rows]
    sq = [iou / tp if tp else 0 for iou, tp, fp, fn in rows]
    rq = [tp / (tp + fp / 2 + fn / 2) for iou, tp, fp, fn in rows]
    return [float(np.mean(values)) for values in (pq, sq, rq)]


def test_counts_and_qualities_are_those_of_the_reference():
    rng = np.random.default_rng(0)
    totals, ours = defaultdict(lambda: np.zeros(4)), PanopticAccumulator(THINGS)
    for _ in range(60):
        images = scene(rng)
        plain_counts(*images, totals)
        ours.update(*images)
    table = ours.per_class("abcd")
    counts = np.array([totals[c] for c in range(4)])
    assert np.array_equal(table.select("tp", "fp", "fn").to_numpy(), counts[:, 1:])
    assert (counts > 0).all()
    kinds = {"": (True,) * 4, "_things": THINGS, "_stuff": tuple(not t for t in THINGS)}
    for suffix, chosen in kinds.items():
        got = [ours.metrics()[name + suffix] for name in ("PQ", "SQ", "RQ")]
        assert got == pytest.approx(plain_average(totals, chosen), rel=1e-12)


def test_merging_is_adding_absent_classes_are_no_numbers_and_order_is_none():
    rng = np.random.default_rng(1)
    images = [scene(rng) for _ in range(6)]
    whole, first, second = (PanopticAccumulator(THINGS) for _ in range(3))
    for number, image in enumerate(images):
        whole.update(*image)
        (first if number < 2 else second).update(*image)
    first.merge(second)
    assert first.metrics() == whole.metrics()
    order = np.array([2, 0, 3, 1])
    renamed = PanopticAccumulator([THINGS[i] for i in np.argsort(order)])
    for ids, truth, guess, found in images:
        moved = [Segments(s.ids, order[np.asarray(s.class_ids)], s.crowd) for s in (truth, found)]
        renamed.update(ids, moved[0], guess, moved[1])
    assert renamed.metrics() == pytest.approx(whole.metrics())
    wider = PanopticAccumulator((*THINGS, True))
    for image in images:
        wider.update(*image)
    assert wider.metrics() == whole.metrics()
    assert np.isnan(wider.per_class("abcde")["PQ"][4])
    assert np.isnan(PanopticAccumulator(THINGS).metrics()["PQ"])
    with pytest.raises(ValueError, match="same classes"):
        whole.merge(wider)


def test_maps_and_lists_must_agree():
    ids = np.array([[1, 1, 2, 0]])
    one, both = Segments([1], [0]), Segments([1, 2], [0, 1])
    ours = PanopticAccumulator(THINGS)
    for message, images in {
        "got 1 pixels of others": (ids, both, ids, one),
        "got 1 without a pixel": (ids, both, ids, Segments([1, 2, 3], [0, 0, 0])),
        "one shape": (ids, both, ids.T, both),
        "above 0, below": (ids, Segments([1, 1], [0, 0]), ids, both),
        r"true classes must be in 0\.\.3": (ids, Segments([1, 2], [0, 4]), ids, both),
        "a class .* each, got 1 of 2": (ids, Segments([1, 2], [0]), ids, both),
    }.items():
        with pytest.raises(DataError, match=message):
            ours.update(*images)
    assert ours.images == []


def colours(ids):
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)


def written(folder, images, side, name, more=()):
    """`images` by id as a panoptic JSON with PNG files; the classes' ids are 10, 20, 30, 40."""
    maps = folder / name.removesuffix(".json")
    maps.mkdir(parents=True)
    entries = []
    for number, image in images.items():
        ids, segments = image[2 * side : 2 * side + 2]
        Image.fromarray(colours(ids)).save(maps / f"{number:03}.png")
        columns = segments.ids, segments.class_ids, segments.column(segments.crowd, bool, False)
        listed = [
            {"id": int(i), "category_id": 10 * int(c) + 10, "iscrowd": int(k), "area": int((ids == i).sum())}
            for i, c, k in zip(*columns, strict=True)
        ]
        entries.append({"image_id": number, "file_name": f"{number:03}.png", "segments_info": listed})
    content = {"annotations": entries} | dict(more)
    (folder / name).write_text(json.dumps(content))
    return folder / name


@pytest.fixture
def files(tmp_path):
    """Twelve pairs as files: labels with their pictures, and predictions of another folder; and the arrays."""
    rng = np.random.default_rng(2)
    images = {n: scene(rng) for n in range(1, 13)}
    for number in images:
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), number, np.uint8)).save(tmp_path / "data" / f"{number:03}.jpg")
    listed = [{"id": n, "file_name": f"{n:03}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in images]
    categories = [{"id": 10 * i + 10, "name": "abcd"[i], "isthing": int(t)} for i, t in enumerate(THINGS)]
    labels = written(tmp_path / "data", images, 0, "panoptic_val.json", {"images": listed, "categories": categories})
    return labels, written(tmp_path / "theirs", images, 1, "pan.json"), images


def test_files_give_the_numbers_of_the_arrays_and_of_hotcoco(files, tmp_path):
    labels, guesses, images = files
    dataset = read_dataset(labels)
    got = evaluate_panoptic(dataset, read_predictions(guesses, dataset), resamples=50)
    ours = PanopticAccumulator(THINGS)
    for number in sorted(images):
        ours.update(*images[number])
    assert got.metrics == pytest.approx(ours.metrics(), rel=1e-12)
    reference = PanopticEval(str(labels), str(guesses))
    reference.evaluate()
    assert list(got.metrics.values()) == pytest.approx(reference.stats, rel=1e-9)
    low, high = got.intervals["PQ"]
    assert low < got["PQ"] < high
    assert got.per_class["kind"].to_list() == ["thing", "thing", "stuff", "stuff"]
    found = read_predictions(guesses, dataset)
    found.save(tmp_path / "found.parquet")
    assert evaluate_panoptic(dataset, Predictions.load(tmp_path / "found.parquet")).metrics == got.metrics


def test_predictions_that_do_not_fit_are_refused(files):
    labels, guesses, _ = files
    dataset = read_dataset(labels)
    good = json.loads(guesses.read_text())

    def refused(message, change):
        content = json.loads(json.dumps(good))
        change(content["annotations"])
        guesses.write_text(json.dumps(content))
        with pytest.raises(DataError, match=message):
            evaluate_panoptic(dataset, read_predictions(guesses, dataset))

    refused(r"003\.jpg: every labelled image .* must have a prediction", lambda a: a.pop(2))
    refused(r"annotations\[0\]: .* got id \d+", lambda a: a[0]["segments_info"].pop())
    refused("show every segment once", lambda a: a[0]["segments_info"].append(a[0]["segments_info"][0]))
    refused("category_id must be one of", lambda a: a[0]["segments_info"][0].update(category_id=7))
    refused("got no such file", lambda a: a[4].update(file_name="nowhere.png"))
    refused("the name of another one", lambda a: a[0].update(image_id=2) or a.pop(1))
    refused("predicted once", lambda a: a.append(a[0]))
    refused("image_id must be one of the data set's", lambda a: a[0].update(image_id=77))
    refused("must be an object with segments_info", lambda a: a.append(5))


def test_only_panoptic_labels_are_measured(files):
    labels, guesses, _ = files
    dataset = read_dataset(labels)
    found = read_predictions(guesses, dataset)
    object.__setattr__(dataset, "format", "coco")
    for measure in (lambda: evaluate_panoptic(dataset, found), lambda: read_predictions(guesses, dataset)):
        with pytest.raises(DataError, match=r"panoptic labels .*got coco"):
            measure()


def ended(*arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def test_the_command_prints_writes_and_reports_it(files, tmp_path, capsys):
    labels, guesses, _ = files
    out = tmp_path / "run"
    call = ["eval", "--data", str(labels), "--predictions", str(guesses), "--split", "all", "--resamples", "20"]
    assert ended(*call, "--out", str(out)) == 0
    shown = capsys.readouterr()
    kept = json.loads((out / "evaluation.json").read_text())
    dataset = read_dataset(labels)
    assert kept["metrics"] == evaluate_panoptic(dataset, read_predictions(guesses, dataset)).metrics
    assert "PQ_stuff" in shown.out
    assert "as panopticapi" in shown.err
    assert ended(*call, "--conf", "0.5") == 2
    assert "--conf and --iou-type are for detections" in capsys.readouterr().err
    write_sealed_json(out / "run.json", {"task": "instance", "data": {"path": str(labels)}})
    page = write_report(out).path.read_text()
    assert f'data-value="{kept["metrics"]["PQ"]!r}"' in page
    assert "Panoptic quality of the countable classes" in page
    assert "segments are not drawn" in page
