"""Prediction strips: which images and epochs they show, what is drawn, and that going on with them changes nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.predictions import Predictions, predictions_from_rows
from sightline.draw import JUDGED
from sightline.ops import rle
from sightline.train.strips import MAX_COLUMNS, PANEL_HW, draw_strips, strip_columns

SIZES_HW = [(40, 60), (700, 300), (60, 1500), (320, 480), (90, 90), (600, 800), (64, 64), (200, 300)]
EMPTY = (1, 4, 5)  # images without an object
BOX = (0.25, 0.25, 0.75, 0.75)  # of every other image, as shares of its width and height
CAPTION_PX = 2 * 22


def write_images(root: Path) -> list[dict]:
    rows = []
    for i, (height, width) in enumerate(SIZES_HW):
        Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(root / f"image{i}.png")
        rows.append({"image_id": i + 10, "path": f"image{i}.png", "width": width, "height": height})
    return rows


def box_of(row: dict) -> dict:
    shares = zip(("x1", "y1", "x2", "y2"), BOX, ("width", "height") * 2, strict=True)
    return {name: share * row[side] for name, share, side in shares}


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("boxes")
    images = write_images(root)
    objects = [{"image_id": r["image_id"], "class_id": 0, **box_of(r)} for i, r in enumerate(images) if i not in EMPTY]
    classes = [{"class_id": i, "name": name} for i, name in enumerate(("cell", "platelet"))]
    return dataset_from_rows(images, objects, classes, root=root, name="boxes", task="detect", format="made")


@pytest.fixture(scope="module", params=[2, 3])
def masks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("masks")
    images = write_images(root)
    for i, row in enumerate(images):
        mask = np.zeros((row["height"], row["width"]), np.uint8)
        if i not in EMPTY:
            mask[row["height"] // 2 :] = 1
            mask[:2] = 255
        Image.fromarray(mask).save(root / f"mask{i}.png")
        row["mask_path"] = f"mask{i}.png"
    classes = [
        {"class_id": i, "name": name} for i, name in enumerate(("background", "crack", "patch")[: request.param])
    ]
    return dataset_from_rows(
        images, [], classes, root=root, name="m", task="semantic", format="made", ignore_values=(255,)
    )


def found_in(dataset: Dataset, image: int, *, class_id: int = 0, shift: float = 0.0, score: float = 0.8) -> Predictions:
    box = box_of(dataset.images.row(image, named=True))
    box |= {"x1": box["x1"] + shift, "x2": box["x2"] + shift}
    return predictions_from_rows([{"image_id": image + 10, "class_id": class_id, "score": score, **box}], {})


def predicted_maps(dataset: Dataset, class_id: int) -> Predictions:
    """Every pixel of every image is of one class."""
    rows = []
    for image_id, height, width in dataset.images.select("image_id", "height", "width").iter_rows():
        counts = rle.encode(np.ones((height, width), bool))
        rows.append({"image_id": image_id, "class_id": class_id, "score": 1.0, "rle": counts})
        rows[-1] |= {"x1": 0.0, "y1": 0.0, "x2": float(width), "y2": float(height)}
    return predictions_from_rows(rows, {})


def coloured(picture: np.ndarray, kind: str) -> int:
    """How many pixels are about the colour of a kind, whatever JPEG made of it."""
    return int((np.abs(picture.astype(int) - JUDGED[kind]).max(axis=2) < 40).sum())


def panel(folder: Path, number: int, epoch: int) -> np.ndarray:
    return np.asarray(Image.open(folder / "panels" / f"{number}-{epoch:06d}.jpg"))[CAPTION_PX:]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@given(st.integers(1, 400), st.integers(1, 30))
def test_a_strip_shows_the_first_and_the_newest_epoch_and_never_too_many(epoch, every):
    columns = strip_columns(epoch, every)
    if epoch != 1 and epoch % every:
        assert columns == []
        return
    assert columns[0] == 1
    assert columns[-1] == epoch
    assert columns == sorted(set(columns))
    assert len(columns) < MAX_COLUMNS
    gaps = np.diff(columns[1:-1])
    assert len(set(gaps.tolist())) <= 1, "thinned evenly"


@given(st.integers(1, 9))
def test_an_epoch_that_was_dropped_never_comes_back(every):
    before: set[int] = set()
    for epoch in (1, *range(every, 60 * every, every)):
        columns = strip_columns(epoch, every)
        assert set(columns) <= before | {epoch}
        before = set(columns)


def test_nothing_is_drawn_where_pictures_are_off():
    assert all(strip_columns(epoch, 0) == [] for epoch in (1, 2, 10))


def test_images_with_objects_come_first(boxes, tmp_path):
    draw_strips(boxes, found_in(boxes, 0), tmp_path, [1], 0.25)
    names = sorted(p.name for p in tmp_path.glob("*.jpg"))
    filled = [i for i in range(len(SIZES_HW)) if i not in EMPTY]
    with_one_empty = sorted([*filled, EMPTY[0]])
    assert names == [f"strip-{n}-image{i}.jpg" for n, i in enumerate(with_one_empty, start=1)]


def test_detections_are_coloured_by_what_they_are(boxes, tmp_path):
    outcomes = {
        "right": found_in(boxes, 3),
        "wrong": found_in(boxes, 3, class_id=1),
        "missed": found_in(boxes, 3, score=0.1),
    }
    seen = {}
    for epoch, (kind, predictions) in enumerate(outcomes.items(), start=1):
        draw_strips(boxes, predictions, tmp_path, [epoch], 0.25)
        picture = panel(tmp_path, 4, epoch)  # of image3, the fourth shown
        seen[kind] = {other for other in JUDGED if coloured(picture, other) > 100}
    assert seen == {"right": {"right"}, "wrong": {"wrong", "missed"}, "missed": {"missed"}}


def test_no_detection_at_all_is_drawn_as_missed(boxes, tmp_path):
    nothing = Predictions(found_in(boxes, 0).table.clear(), {})
    draw_strips(boxes, nothing, tmp_path, [1], 0.25)
    picture = panel(tmp_path, 4, 1)
    assert coloured(picture, "missed") > 100
    assert coloured(picture, "right") == coloured(picture, "wrong") == 0
    assert len(list(tmp_path.glob("strip-*.jpg"))) == 6


def test_pixels_are_coloured_by_what_they_are(masks, tmp_path):
    for epoch, class_id in ((1, 0), (2, 1)):
        draw_strips(masks, predicted_maps(masks, class_id), tmp_path, [1, epoch], 0.25)
    nothing, everything = (panel(tmp_path, 4, epoch).astype(int) for epoch in (1, 2))  # of image3: 320 × 480
    assert nothing.shape == everything.shape == (320, 480, 3)
    upper, lower = slice(20, 140), slice(180, 300)  # rows without and with foreground, away from the edge
    if len(masks.class_names) > 2:
        assert nothing[lower].std() < 3, "the background is not tinted"
        assert abs(everything[lower].mean(axis=(0, 1)) - nothing[lower].mean(axis=(0, 1))).max() > 20
        return
    shade = {kind: 90 * 0.85 * 0.25 + np.array(JUDGED[kind]) * 0.75 for kind in ("right", "wrong", "missed")}
    np.testing.assert_allclose(nothing[lower].mean(axis=(0, 1)), shade["missed"], atol=3)
    np.testing.assert_allclose(nothing[upper].mean(axis=(0, 1)), 90 * 0.85, atol=3)
    np.testing.assert_allclose(everything[lower].mean(axis=(0, 1)), shade["right"], atol=3)
    np.testing.assert_allclose(everything[upper].mean(axis=(0, 1)), shade["wrong"], atol=3)


def test_panels_fit_their_place_and_small_images_stay_sharp(boxes, tmp_path):
    draw_strips(boxes, found_in(boxes, 0), tmp_path, [1], 0.25)
    shapes = [panel(tmp_path, n, 1).shape[:2] for n in range(1, 7)]
    assert all(height <= PANEL_HW[0] for height, _ in shapes)
    assert shapes[0] == (320, 480), "40 × 60 pixels, each shown as 8 × 8"
    assert shapes[2][0] == 19, "60 × 1500 pixels in 480"
    assert shapes[1][0] == 320
    captioned = np.asarray(Image.open(tmp_path / "panels" / "2-000001.jpg"))
    assert captioned.shape[1] > 137, "the caption of a narrow image has room"


def test_drawing_an_epoch_again_changes_nothing(boxes, tmp_path):
    """As when a run is killed between drawing and saving its state."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, epochs in ((whole, range(1, 15)), (cut, (*range(1, 13), 12, *range(13, 15)))):
        for epoch in epochs:
            draw_strips(boxes, found_in(boxes, 3, shift=14.0 - epoch), folder, strip_columns(epoch, 1), 0.25)
    assert files(whole) == files(cut)
    kept = sorted(int(p.stem.split("-")[1]) for p in (whole / "panels").glob("1-*.jpg"))
    assert kept == strip_columns(14, 1) == [1, 3, 5, 7, 9, 11, 13, 14]
