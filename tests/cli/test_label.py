"""`sightline label`: boxes become masks, and nothing is lost."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from sightline.data import read_dataset
from sightline.ops import rle
from sightline.ops.grabcut import grabcut_mask

SIZE = (120, 160)


@pytest.fixture
def scene():
    """A green picture with a red ellipse in the box (30, 20, 100, 90) and its mask."""
    rng = np.random.default_rng(0)
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (65, 55), (34, 34), 0, 0, 360, 1, -1)
    image = np.where(mask[..., None] == 1, (200, 40, 30), (30, 140, 60)) + rng.normal(0, 6, (*SIZE, 3))
    return image.clip(0, 255).astype(np.uint8), mask.astype(bool)


def test_the_mask_is_that_of_the_object_and_sure(scene):
    image, truth = scene
    crop, sure = grabcut_mask(image, (30, 20, 100, 90))
    found = np.zeros(SIZE, bool)
    found[crop.top : crop.top + crop.pixels.shape[0], crop.left : crop.left + crop.pixels.shape[1]] = crop.pixels
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    assert sure > 0.95
    assert grabcut_mask(image, (30, 20, 32, 90)) == (None, 0.0)
    assert grabcut_mask(image, (-50, -50, -20, -20)) == (None, 0.0)


def test_boxes_become_masks_and_none_is_lost(sightline, tmp_path, scene):
    image, truth = scene
    for part in ("images", "labels"):
        (tmp_path / "data" / part / "train").mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "data/images/train/a.png")
    height, width = SIZE
    rows = [(0, 30, 20, 100, 90), (1, 5, 5, 7, 60)]
    lines = [
        f"{c} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
        for c, x1, y1, x2, y2 in rows
    ]
    (tmp_path / "data/labels/train/a.txt").write_text("\n".join(lines))
    (tmp_path / "data/data.yaml").write_text("path: .\ntrain: images/train\nnames: [ball, stick]\n")
    before = {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    out = tmp_path / "out"
    done = sightline("label", str(tmp_path / "data"), str(out), "--boxes-to-masks", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["objects"]
    assert [(o["class"], o["outcome"]) for o in told] == [("stick", "below 4 pixels"), ("ball", "mask")]
    assert told == json.loads((out / "labels.json").read_text())["objects"]
    assert "below 4 pixels" in (out / "labels.html").read_text()
    made = read_dataset(out)
    ball, stick = made.objects.sort("class_id").iter_rows(named=True)
    found = rle.decode(ball["rle"], SIZE) if ball["rle"] else rle.decode(rle.from_polygons(ball["polygon"], SIZE), SIZE)
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    assert (stick["rle"], stick["polygon"]) == (None, None)
    assert stick["x1"] == pytest.approx(5)
    assert before == {p: p.read_bytes() for p in before}


def test_what_cannot_be_made_is_one_sentence(sightline, tmp_path):
    size = ("--height", "64", "--width", "64")
    assert sightline("synth", str(tmp_path / "maps"), "--scene", "cracks", "--images", "2", *size).returncode == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("x")
    for words, said in (
        ((str(tmp_path / "maps"), str(tmp_path / "o"), "--boxes-to-masks"), "must be of data of boxes"),
        ((str(tmp_path / "maps"), str(tmp_path / "o")), "add --boxes-to-masks"),
        ((str(tmp_path / "maps"), str(tmp_path / "full"), "--boxes-to-masks"), "full"),
        ((str(tmp_path / "maps"), str(tmp_path / "o"), "--boxes-to-masks", "--model", "sam9"), "grabcut"),
    ):
        done = sightline("label", *words)
        assert (done.returncode, said.lower() in done.stderr.lower()) == (2, True), done.stderr
