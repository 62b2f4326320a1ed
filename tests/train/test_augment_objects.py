"""Objects of augmented images: masks on few maps, shares that are counted, tiles and pastes that know content."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import ConfigError, DataError
from sightline.core.preprocess import Preprocess
from sightline.data import read_dataset
from sightline.ops.rle import decode, from_polygons
from sightline.train import Augmentation, TrainConfig
from sightline.train.augment.augmenter import Augmenter
from sightline.train.augment.geometry import affine, map_points
from sightline.train.augment.sample import Draw, Layers
from sightline.train.data.images import NetworkImages
from sightline.train.data.store import ImageStore, Keeping
from sightline.train.studies.ablation import augment_study

SIZE = (72, 96)
GEOMETRY = {"flip_lr": 0.5, "flip_ud": 0.5, "scale": 0.5, "translate": 0.3, "rotate": 45.0, "shear": 15.0, "crop": 0.5}


def off(**values):
    return Augmentation.none().model_copy(update=values)


def scene(seed, content=(0, 0, SIZE[1], SIZE[0]), count=4, with_masks=True):
    """White content on black padding, with grey ellipses that may overlap and reach beyond the content's edge."""
    rng = np.random.default_rng(seed)
    x1, y1, x2, y2 = content
    image = np.zeros((*SIZE, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    masks = []
    while len(masks) < count:
        centre, axes = rng.uniform((x1, y1), (x2, y2)), rng.uniform(3, 16, 2)
        drawn = cv2.ellipse(np.zeros(SIZE, np.uint8), (tuple(centre), tuple(2 * axes), rng.uniform(0, 180)), 1, -1)
        inside = np.zeros_like(drawn)
        inside[y1:y2, x1:x2] = drawn[y1:y2, x1:x2]
        if inside.any():
            masks.append(inside > 0)
            image[inside > 0] = 128
    layers = Layers.draw([np.flatnonzero(m.T) for m in masks], SIZE, [True] * count)
    made = {
        "image": image, "labels": np.arange(count), "objects": np.arange(count) + 100 * seed,
        "boxes": layers.boxes(), "masks": layers,
    }  # fmt: skip
    return made if with_masks else {key: value for key, value in made.items() if key != "masks"}


contents = st.tuples(
    st.integers(0, SIZE[1] // 4),
    st.integers(0, SIZE[0] // 4),
    st.integers(0, SIZE[1] // 4),
    st.integers(0, SIZE[0] // 4),
).map(lambda cut: (cut[0], cut[1], SIZE[1] - cut[2], SIZE[0] - cut[3]))
"""Rectangles that span at least half of both sides."""


@given(st.integers(0, 300), st.integers(1, 8))
def test_layers_give_every_mask_back_and_joined_ones_too(seed, count):
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 20, 30), bool)
    for mask in masks:
        top, left = rng.integers(0, 15, 2)
        mask[top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)] = True
    parts = [
        Layers.draw([np.flatnonzero(m.T) for m in half], (20, 30), [True] * len(half))
        for half in (masks[: count // 2], masks[count // 2 :])
    ]
    for layers in (*parts, Layers.join(parts)):
        expected = masks if len(layers) == count else masks[: count // 2] if layers is parts[0] else masks[count // 2 :]
        assert layers.maps.dtype == np.uint16
        for i, mask in enumerate(expected):
            assert np.array_equal(layers.mask(i), mask)
        assert np.array_equal(layers.sizes(), expected.sum((1, 2)))
        assert np.array_equal(layers.covered(), expected.any(0))
    whole, kept = Layers.join(parts), rng.random(count) < 0.5
    assert np.array_equal(whole[kept].boxes(), whole.boxes()[kept])
    assert np.array_equal(whole[kept].covered(), masks[kept].any(0) if kept.any() else np.zeros((20, 30), bool))


def test_objects_that_do_not_overlap_share_one_map():
    pixels = [np.array([i]) for i in range(600)]
    layers = Layers.draw(pixels, (20, 30), [True] * 600)
    assert layers.maps.shape == (1, 20, 30)
    assert Layers.draw([*pixels, np.array([7, 8])], (20, 30), [True] * 601).maps.shape == (2, 20, 30)
    halves = [layers[np.arange(600) < 300], layers[np.arange(600) >= 300]]
    assert Layers.join(halves).maps.shape == (1, 20, 30)


@given(st.integers(0, 400))
def test_the_visible_share_is_that_of_mask_pixels_whose_centre_stays_inside(seed):
    """Centres within a thirtieth of a pixel of the edge may count or not: OpenCV rounds there."""
    source, policy = scene(seed), off(**GEOMETRY)
    made = augmenter(policy, lambda _: source)
    matrix = made._geometry(SIZE, np.random.default_rng(seed))
    moved = made._moved(source, matrix, SIZE)
    for i in range(len(source["masks"])):
        rows, columns = np.nonzero(source["masks"].mask(i))
        places = map_points(np.stack([columns, rows], -1) + 0.5, matrix)
        inside = [((places > gap) & (places < np.array(SIZE[::-1]) - gap)).all(1).sum() for gap in (0.034, -0.034)]
        assert inside[0] <= moved["left"][i] <= inside[1]
        assert moved["whole"][i] == len(rows)


def augmenter(policy, load, content=(0, 0, SIZE[1], SIZE[0]), count=4):
    return Augmenter(policy, load, count, 0, [content] * count)


@given(st.integers(0, 400), st.floats(0.05, 1.0))
def test_objects_are_kept_by_the_share_of_their_mask(seed, least):
    source = scene(seed)
    kept, every = (
        augmenter(off(**GEOMETRY, min_visible=least, min_side_px=1.0, below_visible=rule), lambda _: source).sample(
            Draw(0, seed)
        )
        for rule in ("drop", "keep")
    )
    policy = off(**GEOMETRY, min_visible=least)
    made = augmenter(policy, lambda _: source)
    rng = np.random.default_rng(seed)
    rng.random(3)
    rng.integers(2**63)
    moved = made._moved(source, made._geometry(SIZE, rng), SIZE)
    share = dict(zip(source["objects"].tolist(), (moved["left"] / moved["whole"]).tolist(), strict=True))
    assert kept["objects"].tolist() == [name for name in every["objects"].tolist() if share[name] >= least - 1e-6]


@given(st.integers(0, 400), contents, st.booleans())
def test_no_box_leaves_the_image_whatever_is_done(seed, content, with_masks):
    policy = off(**GEOMETRY, mosaic=0.5, mixup=0.3, copy_paste=0.5 * with_masks, min_visible=0.0)
    done = augmenter(policy, lambda row: scene(row, content, with_masks=with_masks), content).sample(Draw(0, seed))
    boxes = done["boxes"]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= (SIZE[1], SIZE[0])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert {"content", "whole", "left"}.isdisjoint(done)


@pytest.mark.parametrize("angle", [30.0, 45.0])
def test_the_box_of_a_turned_disc_stays_its_diameter(angle, monkeypatch):
    inside = cv2.circle(np.zeros(SIZE, np.uint8), (48, 36), 15, 1, -1) > 0
    layers = Layers.draw([np.flatnonzero(inside.T)] * 2, SIZE, [True, False])
    source = {"image": np.zeros((*SIZE, 3), np.uint8), "labels": np.zeros(2, int), "objects": np.arange(2)}
    source |= {"boxes": layers.boxes(), "masks": layers}
    monkeypatch.setattr(Augmenter, "_geometry", lambda *_: affine(SIZE, 1.0, angle, (0, 0)))
    outlined, boxed = augmenter(off(rotate=angle), lambda _: source).sample(Draw(0, 0))["boxes"]
    assert np.abs(outlined - source["boxes"][0]).max() <= 1.5
    wide = 31 * (np.cos(np.radians(angle)) + np.sin(np.radians(angle)))
    assert boxed[2] - boxed[0] == pytest.approx(wide, abs=1e-3)  # no outline: the box around the turned box


@given(st.integers(0, 300), contents)
def test_a_mosaic_of_padded_images_shows_no_padding(seed, content):
    done = augmenter(off(mosaic=1.0), lambda row: scene(row, content, 0), content).sample(Draw(0, seed))
    assert (done["image"] == 255).all()


@given(st.integers(0, 300))
def test_a_mosaic_that_is_scaled_and_shifted_shows_no_padding_either(seed):
    policy = off(mosaic=1.0, scale=0.45, translate=0.3, flip_lr=0.5)
    done = augmenter(policy, lambda row: scene(row, count=0)).sample(Draw(0, seed))
    assert (done["image"] == 255).all()


@given(st.integers(0, 300))
def test_small_tiles_of_a_mosaic_lie_side_by_side(seed):
    rng = np.random.default_rng(seed)
    rectangles = [(*rng.integers(0, 20, 2), *rng.integers(24, (SIZE[1] // 2, SIZE[0] // 2))) for _ in range(4)]
    made = Augmenter(off(mosaic=1.0), lambda row: scene(row, rectangles[row], 0), 4, 0, rectangles)
    bright = made.sample(Draw(0, seed))["image"][..., 0] > 0
    for lines in (bright, bright.T):
        changes = np.abs(np.diff(lines.astype(int), axis=1, prepend=0, append=0)).sum(1)
        assert changes.max() == 2  # nothing dark between bright pixels of a row or column


@given(st.integers(0, 300), contents)
def test_labels_of_a_mosaic_lie_on_their_objects(seed, content):
    policy = off(mosaic=1.0, min_visible=0.0)
    done = augmenter(policy, lambda row: scene(row, content), content).sample(Draw(0, seed))
    assert np.abs(done["masks"].boxes() - done["boxes"]).max(initial=0) <= 1.5
    covered = done["masks"].covered()
    assert (np.abs(done["image"][covered].astype(int) - 128) < 60).mean() > 0.8 if covered.any() else True


@given(st.integers(0, 300), contents)
def test_tiles_keep_their_labels_to_themselves(seed, content):
    """Boxes of whole inputs, padding and all, are cut to the tiles, which fill the picture without overlap."""
    whole = np.array([[0, 0, SIZE[1], SIZE[0]]], np.float32)
    points = np.array([[[0.5, 0.5, 2], [SIZE[1] / 2, SIZE[0] / 2, 2]]], np.float32)

    def load(row):
        sample = scene(row, content, 0, with_masks=False)
        return sample | {"boxes": whole, "labels": np.zeros(1, int), "objects": np.array([row]), "keypoints": points}

    done = augmenter(off(mosaic=1.0, min_side_px=1.0, below_visible="keep"), load, content).sample(Draw(0, seed))
    covered = np.prod(done["boxes"][:, 2:] - done["boxes"][:, :2], axis=1).sum()
    assert covered == pytest.approx(SIZE[0] * SIZE[1], abs=sum(SIZE) + 4)  # tiles below a pixel are no object
    in_padding = content[0] > 0 or content[1] > 0
    assert not in_padding or (done["keypoints"][:, 0] == 0).all()


@given(st.integers(0, 300), contents, contents)
def test_pastes_lie_on_content_and_are_not_cut_by_padding(seed, target_content, source_content):
    rectangles = [target_content, *[source_content] * 3]
    policy = off(copy_paste=1.0, min_visible=0.3)
    made = Augmenter(policy, lambda row: scene(row, rectangles[row]), 4, 0, rectangles)
    done = made.sample(Draw(0, seed))
    x1, y1, x2, y2 = target_content
    padding = np.ones(SIZE, bool)
    padding[y1:y2, x1:x2] = False
    assert (done["image"][padding] == 0).all()
    assert not (done["masks"].covered() & padding).any()
    for place, name in enumerate(done["objects"].tolist()):
        row, number = divmod(name, 100)
        given_mask = scene(row, rectangles[row])["masks"].mask(number)
        left = done["masks"].mask(place).sum()
        assert left >= 0.3 * given_mask.sum()
        if row:  # pasted: it touches no edge of its content, unless that is the canvas's
            a1, b1, a2, b2 = source_content
            inner = np.zeros(SIZE, bool)
            inner[b1 + (b1 > 0) : b2 - (b2 < SIZE[0]), a1 + (a1 > 0) : a2 - (a2 < SIZE[1])] = True
            assert not (given_mask & ~inner).any()


def test_keypoints_under_a_paste_are_hidden_and_those_off_content_gone():
    target, source = scene(0, count=1), scene(1, (0, 0, 96, 72), count=1)
    inside = np.zeros(SIZE, bool)
    inside[20:60, 20:60] = True
    layers = Layers.draw([np.flatnonzero(inside.T)], SIZE, [True])
    points = np.array([[[30, 30, 2], [5, 5, 2]]], np.float32)
    source |= {"masks": layers, "boxes": layers.boxes(), "keypoints": points}
    target["keypoints"] = points
    made = Augmenter(
        off(copy_paste=1.0, min_visible=0.0), lambda row: source if row else target, 4, 0, [(10, 10, 96, 72)] * 4
    )
    pasted = {}
    for seed in range(20):
        done = made.sample(Draw(0, seed))
        by_name = dict(zip(done["objects"].tolist(), done["keypoints"].tolist(), strict=True))
        pasted |= by_name if 100 in by_name else {}
    assert pasted[100] == [[30, 30, 2], [0, 0, 0]]
    assert pasted.get(0, [[30, 30, 1]])[0] == [30, 30, 1]


def test_masks_of_a_data_set_are_those_of_its_outlines(traffic: Path) -> None:
    dataset, preprocess = read_dataset(traffic), Preprocess(size_hw=(64, 96))
    store = ImageStore(dataset, preprocess, Keeping(), with_masks=True)
    objects = 0
    for row in range(len(store)):
        masks, geometry = store.load(row)["masks"], store.geometries[row]
        x1, y1, x2, y2 = geometry.content_xyxy
        own = dataset.usable_objects.filter(image_id=dataset.images["image_id"][row]).sort("object_id")
        outlines = own.select("rle", "polygon").rows()
        for i, (counts, rings) in enumerate(outlines):
            drawn = decode(counts or from_polygons(rings, geometry.source_hw), geometry.source_hw)
            assert np.array_equal(masks.mask(i), geometry.mask_to_network(drawn.astype(np.uint8), 0) > 0)
            objects += 1
        assert not masks.covered()[:, :x1].any()
        assert not masks.covered()[:, x2:].any()
        assert (y1, y2) == (0, 64)
    assert objects == len(dataset.usable_objects)


def test_objects_without_an_outline_have_their_box_and_too_many_are_refused(traffic: Path, monkeypatch) -> None:
    dataset = read_dataset(traffic)
    nothing = {name: pl.lit(None, dataset.objects.schema[name]) for name in ("rle", "polygon")}
    plain = replace(dataset, objects=dataset.objects.with_columns(**nothing))
    store = ImageStore(plain, Preprocess(size_hw=(96, 96)), Keeping(), with_masks=True)
    row = plain.images["image_id"].to_list().index(plain.usable_objects["image_id"][0])
    sample = store.load(row)
    assert not sample["masks"].outlined.any()
    apart = np.abs(sample["masks"].boxes() - sample["boxes"].clip(0, 96))
    assert apart.max() <= 0.5
    monkeypatch.setattr("sightline.train.data.objects._MOST_OBJECTS", 0)
    with pytest.raises(DataError, match="at most 0 objects"):
        store.load(row)


def test_a_forked_loader_makes_masks(traffic: Path) -> None:
    """It has none of the threads that polars would wait for, for ever."""
    images = NetworkImages(read_dataset(traffic), Preprocess(size_hw=(96, 96)), Augmentation(rotate=5))
    here = images[0, 1]["masks"]
    receiver, sender = multiprocessing.Pipe(duplex=False)
    loader = multiprocessing.get_context("fork").Process(target=lambda: sender.send(images[0, 1]["masks"].maps.sum()))
    loader.start()
    try:
        assert receiver.poll(20), "the loader waits"
        assert receiver.recv() == here.maps.sum()
    finally:
        loader.kill()


def test_masks_are_made_where_the_policy_uses_them(traffic: Path) -> None:
    dataset = read_dataset(traffic)
    for policy, expected in ((Augmentation(), False), (Augmentation(rotate=5), True), (Augmentation(shear=5), True)):
        sample = NetworkImages(dataset, Preprocess(size_hw=(96, 96)), policy)[0, 1]
        assert ("masks" in sample) == expected


def test_a_strength_of_an_operation_that_is_off_is_refused(tmp_path: Path) -> None:
    def load(**augment):
        return TrainConfig.load({"data": "x", "model": "yolo11n", "augment": augment}).augment

    for given_values in ({"noise_std": 6}, {"blur_sigma": 3, "blur": 0}, {"jpeg_quality": 30}, {"crop_min": 0.7}):
        with pytest.raises(ConfigError, match=f"{next(iter(given_values))} belongs to .*, which is off"):
            load(**given_values)
    assert load(noise_std=6, noise=0.1).noise_std == 6
    load(noise_std=12, blur_sigma=2.0).save(tmp_path / "augment.yaml")
    assert Augmentation.read(tmp_path / "augment.yaml") == Augmentation()
    config = TrainConfig.load({"data": "x", "model": "yolo11n", "augment": {"noise_std": 6, "noise": 0.1}})
    assert {c.augment.noise_std for c in augment_study(config, seeds=1).configs({}, "here").values()} == {6, 12}
