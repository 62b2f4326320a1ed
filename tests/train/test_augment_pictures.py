"""`look --augment`: the pictures are those of the training path, at network size, the same for the same seed."""

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.cli.main import main
from sightline.core.preprocess import Preprocess
from sightline.data import read_dataset
from sightline.train import Augmentation
from sightline.train.augment.sample import Layers
from sightline.train.data.images import NetworkImages
from sightline.train.studies.augment_pictures import augmented_sheets, draw_sample


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def test_draws_are_made_by_the_path_of_training(traffic: Path) -> None:
    dataset, preprocess = read_dataset(traffic), Preprocess(size_hw=(64, 96))
    policy = Augmentation(rotate=20)
    (sheet,) = augmented_sheets(dataset, preprocess, policy, images=1, draws=2, seed=5)
    rng = np.random.default_rng([5, 0])
    (row,) = rng.choice(len(dataset), 1, replace=False).tolist()
    seeds = rng.integers(0, 2**31, 2).tolist()
    images = NetworkImages(dataset, preprocess, policy)
    expected = [draw_sample(images[row, seed], dataset.class_names) for seed in seeds]
    for cell, picture in zip(sheet.cells[1:], expected, strict=True):
        assert cell.picture.shape == (64, 96, 3)
        np.testing.assert_array_equal(cell.picture, picture)
    assert not np.array_equal(sheet.cells[1].picture, sheet.cells[2].picture)


def test_boxes_are_drawn_where_the_sample_has_them() -> None:
    sample = {
        "image": np.full((3, 32, 32), 90, np.uint8),
        "boxes": np.array([[8, 10, 20, 24]], np.float32),
        "labels": np.array([0]),
    }
    changed = (draw_sample(sample, ("car",)) != 90).any(axis=2)
    y, x = np.nonzero(changed)
    assert (x.min(), y.min(), x.max(), y.max()) == (7, 9, 21, 25)  # a line on the edges, a rim around
    assert not changed[12:22, 10:18].any()
    assert (sample["image"] == 90).all()  # the sample is left as it was


def test_keypoints_and_masks_of_objects_are_drawn_where_there_are_such() -> None:
    points = np.array([[[12, 12, 2], [26, 26, 1], [3, 3, 0]]], np.float32)
    inside = (np.arange(14, 20)[:, None] * 32 + np.arange(14, 20)).ravel()
    sample = {
        "image": np.full((32, 32, 3), 90, np.uint8),
        "boxes": np.array([[8, 8, 30, 30]], np.float32),
        "labels": np.array([0]),
        "keypoints": points,
        "masks": Layers.draw([inside], (32, 32), [True]),
    }
    changed = (draw_sample(sample, ("car",)) != 90).any(axis=2)
    assert changed[11:13, 11:13].all()
    assert changed[24:28, 24:28].any()
    assert changed[14:20, 14:20].all()
    assert not changed[:6, :6].any()  # a point that is not labelled


def test_masks_are_tinted_and_what_never_counts_is_hatched() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[4:12, 4:12], mask[20:30, 20:30] = 1, 255
    sample = {"image": np.full((3, 32, 32), 90, np.uint8), "mask": mask}
    changed = (draw_sample(sample, ("background", "crack")) != 90).any(axis=2)
    assert changed[4:12, 4:12].all()
    assert 0 < changed[20:30, 20:30].mean() < 1
    assert not changed[14:19, :].any()


@pytest.mark.parametrize("data", ["traffic", "cracks"])
def test_the_verb_writes_a_sheet(data: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source = request.getfixturevalue(data)
    chosen = ["imgsz=64", "augment.flip_lr=1"]
    code = _run(
        "look", str(source), *chosen, "--augment", "--images", "2", "--draws", "3", "--out", str(tmp_path / "o")
    )
    assert code == 0
    (sheet,) = json.loads((tmp_path / "o" / "look.json").read_text())["sheets"]
    assert (sheet["name"], len(sheet["cells"])) == ("augment", 2 * 4)
    assert "Augmentation" in (tmp_path / "o" / "look.html").read_text()


def test_settings_without_augment_and_augment_with_findings_are_refused(
    traffic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "o"))
    assert _run("look", str(traffic), "imgsz=64", *out) == 2
    assert "belong to --augment" in capsys.readouterr().err
    assert _run("look", str(traffic), "--augment", "--finding", "all", *out) == 2
    assert "--augment" in capsys.readouterr().err
    assert _run("look", str(traffic), "--augment", "augment.rotat=3", *out) == 2
    assert "rotate" in capsys.readouterr().err
