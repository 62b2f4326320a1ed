"""HOTA, CLEAR and Identity equal TrackEval 1.3.0 in every number, on real sequences and on random ones."""

import contextlib
import io
from importlib.metadata import version

import numpy as np
import pytest
from trackeval.datasets import MotChallenge2DBox
from trackeval.metrics import CLEAR, HOTA, Identity

from sightline.core.errors import DataError
from sightline.evaluate.tracking import evaluate_mot_files, evaluate_sequences, match_sequence, track_rows

TUD = ("TUD-Campus", "TUD-Stadtmitte")
# Numbers published with the CEM tracker and re-measured: (sequence, metric) -> value.
KNOWN = {
    "TUD-Campus": {"HOTA": 0.391397438, "DetA": 0.418047030, "AssA": 0.369120681, "MOTA": 0.526462396,
                   "IDF1": 0.557659208, "CLR_FP": 13, "CLR_FN": 150, "IDSW": 7},
    "TUD-Stadtmitte": {"HOTA": 0.397849017, "DetA": 0.392267572, "AssA": 0.408840752, "MOTA": 0.564013841,
                       "IDF1": 0.644619423, "CLR_FP": 45, "CLR_FN": 452, "IDSW": 7},
    "COMBINED": {"HOTA": 0.399957091, "DetA": 0.397683291, "AssA": 0.412449530, "MOTA": 0.555115512,
                 "MOTP": 0.669822946, "IDF1": 0.624296058, "CLR_FP": 58, "CLR_FN": 602, "IDSW": 14, "Frag": 13},
}  # fmt: skip


def reference_dataset(benchmark, folder=None):
    """TrackEval's MOTChallenge reader, of a folder or bare, for its preprocessing alone."""
    if folder is None:
        dataset = object.__new__(MotChallenge2DBox)
        dataset.benchmark, dataset.do_preproc = benchmark, True
        names = "pedestrian person_on_vehicle car bicycle motorbike non_mot_vehicle static_person distractor occluder "
        names += "occluder_on_ground occluder_full reflection crowd"
        dataset.class_name_to_class_id = {name: i for i, name in enumerate(names.split(), start=1)}
        dataset.valid_class_numbers = list(range(1, 14))
        return dataset
    config = {
        "GT_FOLDER": str(folder / "gt"),
        "TRACKERS_FOLDER": str(folder / "trackers"),
        "BENCHMARK": benchmark,
        "SKIP_SPLIT_FOL": True,
        "SEQ_INFO": dict.fromkeys(TUD),
        "PRINT_CONFIG": False,
    }
    return MotChallenge2DBox(config)


def reference_numbers(data_by_name):
    """Every number of TrackEval for each sequence and for all combined."""
    quiet = {"PRINT_CONFIG": False}
    result = {name: ({}, {}) for name in (*data_by_name, "COMBINED")}
    for metric in (HOTA(), CLEAR(quiet), Identity(quiet)):
        parts = {name: metric.eval_sequence(data) for name, data in data_by_name.items()}
        for name, values in (*parts.items(), ("COMBINED", metric.combine_sequences(parts))):
            for key, value in values.items():
                result[name][0][key] = np.mean(value)
                result[name][1][key] = value
    return result


def assert_equals_reference(result, reference):
    for scores in (*result.sequences, result.combined):
        expected, expected_by_alpha = reference[scores.name]
        for metric, value in scores.metrics.items():
            assert value == pytest.approx(expected[metric], abs=1e-9), (scores.name, metric)
        for metric, values in scores.by_alpha.items():
            np.testing.assert_allclose(values, expected_by_alpha[metric], atol=1e-9, err_msg=metric)


def random_side(rng, frames, tracks, *, drop=0.3, jump=0.1, jitter=6.0):
    """Rows of noisy, interrupted, id-switching tracks; some frames stay empty."""
    rows = []
    base = np.cumsum(np.random.default_rng(7).normal(0, 4, (tracks, frames, 2)), axis=1) + 80
    names = rng.permutation(tracks * 3)[:tracks]
    for t in range(frames):
        if rng.random() < 0.1:
            continue
        if rng.random() < jump:
            names[: tracks // 2] = rng.permutation(names[: tracks // 2])
        for k in np.flatnonzero(rng.random(tracks) > drop):
            corner = base[k, t] + rng.normal(0, jitter, 2)
            rows.append([t, names[k], *corner, *(corner + rng.normal(30, 2, 2).clip(1))])
    return np.array(rows).reshape(-1, 6)


def to_rows(table, classes=None, ignored=None):
    return track_rows(table[:, 0], table[:, 1], table[:, 2:6], classes, ignored)


def to_raw(frames, truth, predicted, classes, ignored):
    """The same sequence as TrackEval's raw data, similarities computed by TrackEval."""
    raw = {key: [] for key in ("gt_ids", "gt_dets", "gt_classes", "gt_extras", "tracker_ids", "tracker_dets")}
    raw |= {"tracker_classes": [], "tracker_confidences": [], "similarity_scores": []}
    for t in range(frames):
        g, p = truth[:, 0] == t, predicted[:, 0] == t
        raw["gt_ids"].append(truth[g, 1].astype(int))
        raw["gt_dets"].append(truth[g, 2:6])
        raw["gt_classes"].append(classes[g])
        raw["gt_extras"].append({"zero_marked": (~ignored[g]).astype(int)})
        raw["tracker_ids"].append(predicted[p, 1].astype(int))
        raw["tracker_dets"].append(predicted[p, 2:6])
        raw["tracker_classes"].append(np.ones(p.sum(), int))
        raw["tracker_confidences"].append(np.ones(p.sum()))
        similarity = MotChallenge2DBox._calculate_box_ious(truth[g, 2:6], predicted[p, 2:6], box_format="x0y0x1y1")
        raw["similarity_scores"].append(similarity)
    return raw | {"num_timesteps": frames, "seq": "random"}


def test_the_oracle_is_the_version_named():
    assert version("trackeval") == "1.3.0"


@pytest.mark.real_data
def test_tud_with_cem_equals_trackeval_and_the_published_numbers(data_root, tmp_path):
    source = data_root / "track_mot15"
    for name in TUD:
        (tmp_path / "gt" / name / "gt").mkdir(parents=True)
        (tmp_path / "gt" / name / "gt" / "gt.txt").write_bytes((source / name / "gt" / "gt.txt").read_bytes())
        (tmp_path / "gt" / name / "seqinfo.ini").write_bytes((source / name / "seqinfo.ini").read_bytes())
        (tmp_path / "trackers" / "cem" / "data").mkdir(parents=True, exist_ok=True)
        found = (source / "cem_tracker_results" / f"{name}.txt").read_bytes()
        (tmp_path / "trackers" / "cem" / "data" / f"{name}.txt").write_bytes(found)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = reference_dataset("MOT15", tmp_path)
        raw = {name: dataset.get_raw_seq_data("cem", name) for name in TUD}
        data = {name: dataset.get_preprocessed_seq_data(raw[name], "pedestrian") for name in TUD}
    result = evaluate_mot_files(
        {name: source / name / "gt" / "gt.txt" for name in TUD},
        {name: source / "cem_tracker_results" / f"{name}.txt" for name in TUD},
    )
    assert_equals_reference(result, reference_numbers(data))
    for scores in (*result.sequences, result.combined):
        for metric, value in KNOWN[scores.name].items():
            assert scores[metric] == pytest.approx(value, abs=1e-9), (scores.name, metric)
    assert result.to_frame()["sequence"].to_list() == [*TUD, "COMBINED"]
    assert "preprocessing: mot15" in result.to_markdown()
    assert result.to_dict()["combined"]["metrics"]["HOTA"] == result["HOTA"]


@pytest.mark.parametrize("preprocessing", ["none", "mot15", "mot17", "mot20"])
@pytest.mark.parametrize("seed", range(6))
def test_random_sequences_equal_trackeval(preprocessing, seed):
    rng = np.random.default_rng(seed)
    frames, data, sequences = 40, {}, []
    dataset = reference_dataset({"none": "MOT15"}.get(preprocessing, preprocessing.upper()))
    for name in ("a", "b", "c"):
        tracks = int(rng.integers(1, 14))
        truth, predicted = random_side(rng, frames, tracks), random_side(rng, frames, tracks, jitter=rng.uniform(1, 12))
        classes, ignored = rng.integers(1, 13, len(truth)), rng.random(len(truth)) < 0.2
        classes[rng.random(len(truth)) < 0.5] = 1
        counted = np.zeros(len(truth), bool) if preprocessing == "none" else ignored
        raw = to_raw(frames, truth, predicted, classes, counted)
        data[name] = dataset.get_preprocessed_seq_data(raw, "pedestrian")
        sides = to_rows(truth, classes, ignored), to_rows(predicted)
        sequences.append(match_sequence(name, *sides, preprocessing=preprocessing, frame_count=frames))
    assert_equals_reference(evaluate_sequences(sequences, {}, preprocessing), reference_numbers(data))
    removed = sum(s.removed_predicted for s in sequences)
    assert removed == (0 if preprocessing in {"none", "mot15"} else removed)
    assert preprocessing in {"none", "mot15"} or removed > 0


@pytest.mark.parametrize(("with_truth", "with_predictions"), [(True, False), (False, True), (False, False)])
def test_empty_sides_equal_trackeval(with_truth, with_predictions):
    rng = np.random.default_rng(3)
    full, nothing = random_side(rng, 10, 4), np.zeros((0, 6))
    truth, predicted = full if with_truth else nothing, full if with_predictions else nothing
    raw = to_raw(10, truth, predicted, np.ones(len(truth), int), np.zeros(len(truth), bool))
    data = {"only": reference_dataset("MOT15").get_preprocessed_seq_data(raw, "pedestrian")}
    reference = reference_numbers(data)
    if not with_truth:
        # Over all sequences together the reference divides by 1 where no ground truth is at all; we stay with its 0.
        reference["COMBINED"][0].update(dict.fromkeys(("MOTA", "MODA", "sMOTA", "MOTAL"), 0.0))
    sequence = match_sequence("only", to_rows(truth), to_rows(predicted), frame_count=10)
    assert_equals_reference(evaluate_sequences([sequence], {}, "mot15"), reference)


def test_perfect_tracking_scores_one_and_a_swap_of_ids_costs_association_only():
    frames = np.repeat(np.arange(10), 2)
    ids = np.tile([1, 2], 10)
    boxes = np.array([[100.0 * i, 0, 100 * i + 50, 50] for i in ids])
    truth = track_rows(frames, ids, boxes)
    perfect = evaluate_sequences([match_sequence("s", truth, truth)], {}, "mot15")
    for metric in ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1"):
        assert perfect[metric] == 1.0
    swapped = track_rows(frames, np.where(frames < 5, ids, 3 - ids), boxes)
    result = evaluate_sequences([match_sequence("s", truth, swapped)], {}, "mot15")
    assert result["DetA"] == 1.0
    assert result["AssA"] == pytest.approx(1 / 3)
    assert (result["IDSW"], result["MOTA"], result["IDF1"]) == (2, 0.9, 0.5)


def test_an_id_twice_in_a_frame_is_refused():
    once = track_rows([0], [1], [[0, 0, 5, 5]])
    twice = track_rows([0, 3, 3], [1, 4, 4], [[0, 0, 5, 5]] * 3)
    with pytest.raises(DataError, match="id 4 twice in the predictions of frame 3"):
        match_sequence("s", once, twice)
    with pytest.raises(DataError, match="id 4 twice in the ground truth of frame 3"):
        match_sequence("s", twice, once)


def test_bad_sequences_are_refused():
    rows = track_rows([0, 5], [1, 1], [[0, 0, 5, 5]] * 2)
    with pytest.raises(DataError, match="must end with frame 4"):
        match_sequence("s", rows, rows, frame_count=5)
    with pytest.raises(DataError, match="one length"):
        track_rows([0, 1], [1], [[0, 0, 5, 5]] * 2)
    with pytest.raises(DataError, match="at least 0"):
        track_rows([-1], [1], [[0, 0, 5, 5]])
    with pytest.raises(DataError, match="preprocessing must be one of"):
        match_sequence("s", rows, rows, preprocessing="mot16")
    with pytest.raises(DataError, match="at least one"):
        evaluate_sequences([], {}, "mot15")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,0,0,5,5,1\n1,2,0,0,x,5,1\n", r"gt.txt:2: a row must be numbers"),
        ("1,1,0,0,5\n", r"gt.txt:1: a row must be numbers"),
        ("1,1,0,0,5,5,1\n1,2,0,0,nan,5,1\n", r"gt.txt:2: a row must be numbers"),
        ("1,1,0,0,5,5,1\n0,2,0,0,5,5,1\n", r"gt.txt:2: frame numbers must be at least 1"),
        ("1,1,0,0,5,5,1\n2,1,0,0,5,5\n", r"gt.txt:2: a row must be numbers"),
    ],
)
def test_unusable_text_names_the_line(tmp_path, text, message):
    path = tmp_path / "gt.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        evaluate_mot_files({"s": path}, {"s": path})


def test_text_with_spaces_and_blank_lines_is_read_and_zero_marked_rows_do_not_count(tmp_path):
    truth, found, empty = tmp_path / "gt.txt", tmp_path / "found.txt", tmp_path / "empty.txt"
    truth.write_text("1, 1, 10, 10, 20, 20, 1, -1\n\n1, 2, 90, 90, 20, 20, 0, -1\n")
    found.write_text("1 7 10 10 20 20\n")
    empty.write_text("")
    result = evaluate_mot_files({"s": truth}, {"s": found})
    assert (result["CLR_TP"], result["CLR_FN"], result["HOTA"]) == (1, 0, 1.0)
    assert result.conventions["removed_truth_boxes"] == 1
    assert evaluate_mot_files({"s": truth}, {"s": empty})["CLR_FN"] == 1
    with pytest.raises(DataError, match="only one side of other"):
        evaluate_mot_files({"s": truth}, {"s": found, "other": found})
    with pytest.raises(DataError, match="cannot read"):
        evaluate_mot_files({"s": truth}, {"s": tmp_path / "absent.txt"})
