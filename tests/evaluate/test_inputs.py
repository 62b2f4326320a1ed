"""Predictions find their images by name and content, whatever ids they carry; what cannot be matched is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import PREDICTED_IMAGES_SCHEMA, Predictions, predictions_from_rows
from sightline.data import read_dataset
from sightline.evaluate import evaluate_detection, fit_predictions

SIZE = 64


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def val(tmp_path: Path) -> Dataset:
    """Four training images come first, so that ids from 0 are other images' ids in the validation part."""
    for split, count in (("train", 4), ("val", 6)):
        for i in range(count):
            picture(tmp_path / f"images/{split}/{split}_{i:03d}.png", i + (100 if split == "val" else 0))
            label = tmp_path / f"labels/{split}/{split}_{i:03d}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"0 {0.3 + i / 20} 0.5 0.25 0.25\n")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: cat}\n")
    return read_dataset(tmp_path).split("val")


def as_run(dataset: Dataset, name, *, digests: bool = True) -> Predictions:
    """Perfect predictions numbered from 0 in the order of the files, as a run over a folder numbers its frames."""
    digest_of = dataset.file_digests(dataset.images["path"].to_list())
    ids = dataset.images["image_id"].to_list()
    rows = dataset.objects.select("class_id", "x1", "y1", "x2", "y2", "image_id").with_columns(
        score=pl.lit(0.01), image_id=pl.col("image_id").replace_strict(ids, range(len(ids)))
    )
    images = [
        {"image_id": i, "path": name(path), "sha256": digest_of[path] if digests else None}
        for i, path in enumerate(dataset.images["path"])
    ]
    table = pl.DataFrame(images, schema=PREDICTED_IMAGES_SCHEMA)
    return replace(predictions_from_rows(rows, {"images": len(ids)}), images=table)


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize(
    "name", [lambda p: p, lambda p: Path(p).name, lambda p: f"/elsewhere/{p}", lambda p: Path(p).stem]
)
def test_a_run_s_own_numbers_do_not_matter(val, name, digests):
    result = evaluate_detection(val, as_run(val, name, digests=digests))
    assert result["AP"] == pytest.approx(1.0)
    assert result.conventions["limits"] == []


def test_ids_that_happen_to_be_valid_are_not_taken_for_the_data_set_s(val, tmp_path):
    whole = read_dataset(tmp_path)
    found = as_run(val, lambda p: Path(p).name)
    assert set(found.table["image_id"]) <= set(whole.images["image_id"])
    assert set(fit_predictions(whole, found).table["image_id"]) == set(val.images["image_id"])


def test_renamed_pictures_are_found_by_their_content(val):
    names = iter(range(100, 200))
    result = evaluate_detection(val, as_run(val, lambda _: f"upload-{next(names)}.png"))
    assert result["AP"] == pytest.approx(1.0)


def test_other_pictures_of_the_same_names_are_refused(val, tmp_path):
    found = as_run(val, lambda p: Path(p).name)
    picture(tmp_path / val.images["path"][2], 999)
    with pytest.raises(DataError, match="other pictures of the same name"):
        evaluate_detection(val, found)


def test_strangers_are_refused_and_some_of_them_left_out_and_said(val, tmp_path):
    with pytest.raises(DataError, match="neither by name nor by content"):
        evaluate_detection(val, as_run(val, lambda p: f"x-{Path(p).name}", digests=False))
    whole = read_dataset(tmp_path)
    result = evaluate_detection(val, as_run(whole, lambda p: p))
    assert result["AP"] == pytest.approx(1.0)
    assert result.conventions["limits"] == ["PREDICTIONS FOR 4 OTHER IMAGES LEFT OUT"]


def test_predictions_of_part_of_the_images_say_so_in_the_title(val):
    part = val.select(val.images["image_id"].head(4))
    result = evaluate_detection(val, as_run(part, lambda p: p))
    assert "2 OF 6 IMAGES WERE NOT PREDICTED" in result.title


def test_a_name_that_fits_two_images_is_refused_unless_the_content_decides(val, tmp_path):
    for sub in ("a", "b"):
        picture(tmp_path / f"two/images/val/{sub}/x.png", ord(sub))
        label = tmp_path / f"two/labels/val/{sub}/x.txt"
        label.parent.mkdir(parents=True)
        label.write_text(f"0 {0.3 if sub == 'a' else 0.6} 0.5 0.25 0.25\n")
    (tmp_path / "two/data.yaml").write_text("path: .\ntrain: images/val\nval: images/val\nnames: {0: cat}\n")
    two = read_dataset(tmp_path / "two")
    assert len(two) == 2
    assert evaluate_detection(two, as_run(two, lambda p: Path(p).name))["AP"] == pytest.approx(1.0)
    with pytest.raises(DataError, match="must fit one image"):
        evaluate_detection(two, as_run(two, lambda p: Path(p).name, digests=False))


def test_one_image_predicted_twice_is_refused(val):
    found = as_run(val, lambda p: p)
    assert found.images is not None
    twice = found.images.with_columns(path=pl.lit("x/") + pl.col("path").first(), sha256=pl.lit(None, pl.String))
    twice = pl.concat([found.images.head(1), twice.slice(1, 1)])
    with pytest.raises(DataError, match="must be predicted once"):
        fit_predictions(val, replace(found, images=twice, table=found.table.head(2)))
