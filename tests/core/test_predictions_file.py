"""Predictions: what comes back from a file is what went in, and foreign or damaged files are refused."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.predictions import PREDICTIONS_SCHEMA, Predictions, predictions_from_rows

META = {
    "task": "detect",
    "class_names": ["cat", "größe <b>"],
    "data_digest": "ab" * 32,
    "preprocess": {"size_hw": [320, 320], "policy": "letterbox"},
    "conf": 0.001,
    "iou": 0.7,
    "max_det": 300,
}
ROW = {"image_id": 1, "class_id": 0, "x1": 0.0, "y1": 1.0, "x2": 10.5, "y2": 20.25, "score": 0.5}


def data() -> Dataset:
    rows = [{"image_id": i, "path": f"{i}.png", "width": 100, "height": 100} for i in range(1, 9)]
    return dataset_from_rows(
        rows, [], [{"class_id": 0, "name": "cat"}], root=".", name="d", task="detect", format="made"
    )


def some_predictions(count: int = 50) -> Predictions:
    rng = np.random.default_rng(3)
    corners = np.sort(rng.random((count, 2, 2)) * 100, axis=1).reshape(-1, 4)
    rows = [
        {
            "image_id": int(rng.integers(1, 9)),
            "class_id": int(rng.integers(0, 2)),
            **dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True)),
            "score": float(rng.random()),
            "rle": bytes(rng.integers(48, 96, 12).astype(np.uint8)) if i % 3 == 0 else None,
            "track_id": i if i % 2 else None,
        }
        for i, box in enumerate(corners)
    ]
    return predictions_from_rows(rows, META).of(data())


def test_round_trip_is_exact(tmp_path):
    predictions = some_predictions()
    predictions.save(tmp_path / "deep" / "p.parquet")
    back = Predictions.load(tmp_path / "deep" / "p.parquet")
    assert back.table.equals(predictions.table)
    assert back.table.schema == pl.Schema(PREDICTIONS_SCHEMA)
    assert back.meta == META
    assert back.digest() == predictions.digest()
    assert back.images is not None
    assert back.images.equals(predictions.images)


def test_predictions_that_name_no_images_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="must name their images"):
        predictions_from_rows([ROW], META).save(tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4), max_size=20))
def test_every_float_survives_to_the_last_bit(tmp_path_factory, boxes):
    path = tmp_path_factory.mktemp("floats") / "p.parquet"
    rows = [{**ROW, **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))} for box in boxes]
    predictions_from_rows(rows, {}).of(data()).save(path)
    assert [row[2:6] for row in Predictions.load(path).table.iter_rows()] == boxes


def test_no_predictions_are_predictions(tmp_path):
    empty = predictions_from_rows([], META).of(data())
    assert len(empty) == 0
    empty.save(tmp_path / "p.parquet")
    assert Predictions.load(tmp_path / "p.parquet").table.schema == pl.Schema(PREDICTIONS_SCHEMA)


def test_a_column_that_first_appears_late_is_kept():
    rows = [dict(ROW) for _ in range(300)]
    rows[-1]["track_id"] = 42
    assert predictions_from_rows(rows, {}).table["track_id"].to_list()[-1] == 42


def test_digest_sees_rows_and_meta():
    predictions = some_predictions()
    other_rows = Predictions(predictions.table.head(49), predictions.meta)
    other_meta = Predictions(predictions.table, {**META, "conf": 0.01})
    assert len({p.digest() for p in (predictions, other_rows, other_meta)}) == 3


def test_numpy_values_in_meta_become_plain(tmp_path):
    predictions = predictions_from_rows([ROW], {"conf": np.float32(0.25), "size_hw": (3, np.int64(4))})
    predictions.of(data()).save(tmp_path / "p.parquet")
    assert Predictions.load(tmp_path / "p.parquet").meta == {"conf": 0.25, "size_hw": [3, 4]}


@pytest.mark.parametrize("column", ["x1", "y2", "score"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_values_that_are_no_numbers_are_refused(column, value):
    with pytest.raises(DataError, match="must be finite numbers in every row"):
        predictions_from_rows([ROW, {**ROW, column: value}], {}, where="p.parquet")


@pytest.mark.parametrize(
    "row",
    [
        {k: v for k, v in ROW.items() if k != "score"},
        {**ROW, "x1": "left"},
        {**ROW, "colour": "red"},
        {**ROW, "image_id": 1.5},
    ],
    ids=["missing column", "text", "unknown column", "fractional id"],
)
def test_rows_that_do_not_fit_the_schema_are_refused(row):
    with pytest.raises(DataError, match="predictions must fit the schema") as caught:
        predictions_from_rows([row], {})
    assert "\n" not in str(caught.value)


IMAGES = json.dumps({"image_id": list(range(1, 9)), "path": [f"{i}.png" for i in range(1, 9)], "sha256": [None] * 8})


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        Predictions.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_foreign_parquet_file_is_refused(tmp_path):
    path = tmp_path / "foreign.parquet"
    some_predictions().table.write_parquet(path)
    assert "must carry Sightline's metadata" in refused(path)


def test_a_parquet_file_with_foreign_metadata_is_refused(tmp_path):
    path = tmp_path / "foreign.parquet"
    some_predictions().table.write_parquet(path, metadata={"sightline": "{not json"})
    assert "metadata" in refused(path)
    some_predictions().table.write_parquet(path, metadata={"sightline": json.dumps([1, 2])})
    assert "metadata" in refused(path)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (None, "must name the images"),
        ({}, "must name each image"),
        ({"image_id": [1], "path": ["a"], "sha256": []}, "must name each image"),
        ({"image_id": [1, 1], "path": ["a", "b"], "sha256": [None, None]}, "must name each image once"),
        ({"image_id": [1], "path": [None], "sha256": [None]}, "must name each image once"),
        ({"image_id": ["x"], "path": ["a"], "sha256": [None]}, "must fit the schema"),
        ({"image_id": [99], "path": ["a"], "sha256": [None]}, "must name every predicted image"),
    ],
)
def test_names_of_images_that_are_none_are_refused(tmp_path, images, said):
    path = tmp_path / "names.parquet"
    metadata = {"sightline": "{}"} | ({} if images is None else {"sightline_images": json.dumps(images)})
    some_predictions().table.write_parquet(path, metadata=metadata)
    assert said in refused(path)


def test_our_metadata_on_other_columns_is_refused(tmp_path):
    path = tmp_path / "columns.parquet"
    some_predictions().table.drop("score").write_parquet(path, metadata={"sightline": "{}", "sightline_images": IMAGES})
    assert "must fit the schema" in refused(path)


def test_damaged_files_are_refused(tmp_path):
    whole = tmp_path / "whole.parquet"
    some_predictions(2000).save(whole)
    data = whole.read_bytes()
    path = tmp_path / "damaged.parquet"
    for size in (0, 3, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        assert re.search("must be a predictions file in Parquet|a file that was damaged", refused(path))
    mark = data.index(b"sightline-file")
    places = {*range(0, len(data), len(data) // 50)} - {*range(mark, mark + 30)}
    for place in places:  # of the values themselves, too, which Parquet does not check
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert "must be as it was written, got a file that was damaged or edited since. Predict again" in refused(path)
    path.write_text("image_id,class_id\n1,2\n")
    assert "must be a predictions file in Parquet" in refused(path)


def test_absent_files_and_folders_are_refused(tmp_path):
    assert "must be a predictions file in Parquet" in refused(tmp_path / "absent.parquet")
    assert "must be a predictions file in Parquet" in refused(tmp_path)
