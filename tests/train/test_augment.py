"""Augmentation: pixels and labels move together, nothing is lost uncounted, and chance comes from the seed alone."""

import cv2
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as torchvision

from sightline.core.errors import ConfigError
from sightline.core.frames import IGNORE_INDEX
from sightline.core.preprocess import Preprocess
from sightline.data import read_dataset
from sightline.synth import generate
from sightline.train.augment.augmenter import Augmenter
from sightline.train.augment.composition import box_areas
from sightline.train.augment.geometry import affine, flip, invert, map_boxes, map_points, swap_sides, warp_sample
from sightline.train.augment.photometry import adjust_colour, change_pixels
from sightline.train.augment.policy import OPERATIONS, Augmentation, check_policy
from sightline.train.augment.sample import Draw, Layers
from sightline.train.data.images import NetworkImages, SeededBatches, build_loader, varied_sizes
from sightline.train.data.store import Keeping

SIZE = (96, 128)
GEOMETRY = {"flip_lr": 0.5, "flip_ud": 0.5, "scale": 0.4, "translate": 0.2, "rotate": 30.0, "shear": 10.0, "crop": 0.5}


def blocks(seed=0, count=3):
    """Bright blocks on black, each with box, mask, corner keypoints and track."""
    rng = np.random.default_rng(seed)
    image, pixels, boxes = np.zeros((*SIZE, 3), np.uint8), [], []
    for i in range(count):
        left = 4 + i * 40
        top, width, height = int(rng.integers(4, 50)), int(rng.integers(12, 32)), int(rng.integers(12, 40))
        image[top : top + height, left : left + width] = 255
        columns, rows = np.arange(left, left + width), np.arange(top, top + height)
        pixels.append((columns[:, None] * SIZE[0] + rows).ravel())
        boxes.append((left, top, left + width, top + height))
    boxes = np.array(boxes, np.float32)
    points = np.stack([boxes[:, :2], boxes[:, 2:]], 1)
    return {
        "image": image, "boxes": boxes, "labels": np.arange(count), "objects": np.arange(count) + 10 * seed,
        "masks": Layers.draw(pixels, SIZE, [True] * count), "tracks": np.arange(count) + 100,
        "keypoints": np.concatenate([points, np.full((count, 2, 1), 2.0)], -1).astype(np.float32),
    }  # fmt: skip


def augmenter(policy, load=blocks, count=4, **options):
    return Augmenter(policy, load, count, 0, [(0, 0, SIZE[1], SIZE[0])] * count, **options)


def off(**values):
    return Augmentation.none().model_copy(update=values)


matrices = st.builds(
    lambda zoom, turn, shear, mirror: flip(SIZE, *mirror) @ affine(SIZE, zoom, turn, shear),
    st.floats(0.3, 2),
    st.floats(-180, 180),
    st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    st.tuples(st.booleans(), st.booleans()),
)


@given(matrices, st.lists(st.tuples(st.floats(-200, 300), st.floats(-200, 300)), min_size=1, max_size=5))
def test_the_inverse_brings_points_back(matrix, points):
    there = map_points(np.array(points), matrix)
    assert np.abs(map_points(there, invert(matrix)) - points).max() < 1e-6


@given(st.booleans(), st.booleans())
def test_a_flip_twice_is_none(left_right, up_down):
    sample = blocks()
    once = warp_sample(sample, flip(SIZE, left_right, up_down), SIZE, 0, None)
    twice = warp_sample(once, flip(SIZE, left_right, up_down), SIZE, 0, None)
    for key in ("image", "boxes", "keypoints"):
        assert np.array_equal(twice[key], sample[key]), key
    assert np.array_equal(twice["masks"].maps, sample["masks"].maps)
    plain = sample["image"][:, ::-1] if left_right else sample["image"]
    assert np.array_equal(once["image"], plain[::-1] if up_down else plain)


@given(st.integers(0, 500))
def test_boxes_masks_and_pixels_of_an_object_agree_after_any_policy(seed):
    done = augmenter(off(**GEOMETRY)).sample(Draw(0, seed))
    seen = done["masks"].boxes()
    assert np.abs(seen - done["boxes"]).max(initial=0) <= 1.5
    inside = done["masks"].covered()
    # Objects that were dropped are still in the picture: only what is labelled must be bright.
    assert (done["image"][inside] > 60).mean() > 0.9 if inside.any() else True
    assert done["boxes"].min(initial=0) >= 0
    assert (done["boxes"].max(0, initial=0) <= (SIZE[1], SIZE[0], SIZE[1], SIZE[0])).all()


@given(st.integers(0, 200), st.floats(0, 0.6))
def test_boxes_without_masks_hold_their_object_and_follow_a_shift_exactly(seed, amount):
    sample = {key: value for key, value in blocks().items() if key != "masks"}
    done = augmenter(off(scale=0.4, translate=amount, flip_lr=0.5), lambda row: sample).sample(Draw(0, seed))
    whole = augmenter(off(scale=0.4, translate=amount, flip_lr=0.5)).sample(Draw(0, seed))
    by_object = dict(zip(whole["objects"].tolist(), whole["masks"].boxes(), strict=True))
    for name, box in zip(done["objects"].tolist(), done["boxes"], strict=True):
        assert name not in by_object or np.abs(box - by_object[name]).max() <= 1.5


def test_every_operation_off_changes_nothing():
    sample = blocks()
    done = augmenter(Augmentation.none()).sample(Draw(0, 7))
    assert done.keys() == sample.keys()
    for key, value in sample.items():
        if key != "masks":
            assert np.array_equal(done[key], value), key
    assert np.array_equal(done["masks"].maps, sample["masks"].maps)


def test_keypoints_stay_on_corners_and_change_sides_in_a_mirror_by_class():
    """The first class has sides, the second has none, the third has no names."""
    names = [["left_eye", "right_eye"], ["nose", "tail"], None]
    sides = swap_sides(pl.DataFrame({"mirror": [None] * 3, "keypoint_names": names}), 2)
    done = augmenter(off(flip_lr=1.0), sides=sides).sample(Draw(0, 1))
    boxes, places = done["boxes"], np.array([1, 0, 0])
    assert done["labels"].tolist() == [0, 1, 2]
    assert np.allclose(done["keypoints"][np.arange(3), places, :2], np.stack([boxes[:, 2], boxes[:, 1]], -1))
    by_name = pl.DataFrame({"mirror": [None], "keypoint_names": [["Right hip", "tail", "Left hip", "left ear"]]})
    assert swap_sides(by_name, 5).tolist() == [[2, 1, 0, 3, 4]]
    said = pl.DataFrame({"mirror": [[1, 0, 2]], "keypoint_names": [["left eye", "nose", "right eye"]]})
    assert swap_sides(said, 3).tolist() == [[1, 0, 2]], "the label's own order goes before names"
    unsaid = pl.DataFrame({"mirror": [None], "keypoint_names": [None]})
    assert swap_sides(unsaid, 17)[0, :5].tolist() == [0, 2, 1, 4, 3], "those of COCO's person"


def without_masks(row):
    return {key: value for key, value in blocks().items() if key != "masks"}


def test_the_visibility_rule_drops_or_keeps():
    counts = {}
    for rule in ("drop", "keep"):
        policy = off(translate=1.0, min_side_px=1.0, min_visible=0.5, below_visible=rule)
        made = [augmenter(policy, without_masks).sample(Draw(0, seed)) for seed in range(40)]
        whole = box_areas(blocks()["boxes"])
        shares = np.concatenate([box_areas(done["boxes"]) / whole[done["objects"]] for done in made])
        assert (shares.min() >= 0.5 - 1e-5) == (rule == "drop")
        counts[rule] = len(shares)
    assert 0 < counts["drop"] < counts["keep"]


def test_a_mosaic_holds_four_images_and_their_objects():
    policy = off(mosaic=1.0, min_visible=0.0, min_side_px=1.0)
    seen = set()
    for seed in range(10):
        done = augmenter(policy).sample(Draw(0, seed))
        seen.add(len({name // 10 for name in done["objects"].tolist()}))
        assert np.abs(done["masks"].boxes() - done["boxes"]).max(initial=0) <= 1.5
        assert (done["image"][done["masks"].covered()] > 60).mean() > 0.9
    assert max(seen) >= 2
    late = augmenter(policy).sample(Draw(0, 3, heavy=False))
    assert np.array_equal(late["image"], blocks()["image"])


def test_a_mosaic_of_masks_ignores_what_no_image_covers():
    sample = {"image": np.full((64, 64, 3), 9, np.uint8), "mask": np.ones((64, 64), np.uint8)}
    small = augmenter(off(mosaic=1.0, scale=0.8), lambda row: sample)
    done = [small.sample(Draw(0, seed)) for seed in range(20)]
    assert {v for d in done for v in np.unique(d["mask"]).tolist()} == {1, IGNORE_INDEX}
    for d in done:
        assert (
            np.mean((d["mask"] == IGNORE_INDEX) != (d["image"] == 0).all(-1)) < 0.05
        )  # edges are blended in the image


def test_mixup_blends_pixels_and_keeps_both_sets_of_objects():
    done = augmenter(off(mixup=1.0)).sample(Draw(0, 5))
    assert len(done["boxes"]) == 6
    assert 0 < done["image"].max() <= 255


def test_pasted_objects_cover_what_they_lie_on():
    for seed in range(20):
        done = augmenter(off(copy_paste=1.0)).sample(Draw(0, seed))
        masks = np.stack([done["masks"].mask(i) for i in range(len(done["masks"]))])
        assert (masks.sum(0) <= 1).all()
        assert np.array_equal(done["masks"].boxes(), done["boxes"])
        assert (done["image"][done["masks"].covered()] == 255).all()


def test_mean_grey_colour_and_saturation_are_torchvisions():
    """torchvision 0.29 v2 on floats; ours rounds once at the end."""
    image = np.random.default_rng(0).integers(60, 190, (20, 30, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    for brightness, contrast, saturation in ((1.2, 1, 1), (1, 0.7, 1), (1, 1, 0.3), (1.1, 0.8, 1.2)):
        theirs = torchvision.adjust_brightness(tensor, brightness)
        theirs = torchvision.adjust_contrast(theirs, contrast)
        theirs = torchvision.adjust_saturation(theirs, saturation)
        ours = adjust_colour(image, brightness, contrast, saturation)
        assert np.abs(ours - theirs.permute(1, 2, 0).numpy() * 255).max() <= 1.0


def test_blur_noise_jpeg_gray_and_hue_do_what_they_say():
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), (0, 0), 1.0)

    def made(**values):
        return change_pixels(image, off(**values), np.random.default_rng(1)).astype(float)

    def roughness(pixels):
        return np.abs(np.diff(pixels, axis=0)).mean()

    assert roughness(made(blur=1.0, blur_sigma=3.0)) < 0.8 * roughness(image.astype(float))
    assert 0.4 < np.std(made(noise=1.0, noise_std=20.0) - image) < 20
    assert 0.2 < np.abs(made(jpeg=1.0, jpeg_quality=5) - image).mean() < 40
    gray = made(gray=1.0)
    assert np.ptp(gray, axis=-1).max() == 0
    assert not np.array_equal(made(hue=0.5), image)
    assert np.array_equal(made(), image)


def test_one_setting_does_not_change_what_others_draw():
    first = augmenter(off(scale=0.4, flip_lr=0.5)).sample(Draw(0, 4))
    second = augmenter(off(scale=0.4, flip_lr=0.5, brightness=0.4, noise=1.0)).sample(Draw(0, 4))
    assert np.array_equal(first["boxes"], second["boxes"])


def test_a_sample_depends_on_its_seed_alone(cracks):
    images = NetworkImages(
        read_dataset(cracks), Preprocess(size_hw=(64, 96)), Augmentation(rotate=10, blur=0.5, noise=0.5)
    )
    np.random.seed(5)  # noqa: NPY002 - what must be left alone
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    one, two, other = (images[0, seed] for seed in (1, 1, 2))
    assert np.random.rand() == expected  # noqa: NPY002
    assert np.array_equal(one["image"], two["image"])
    assert np.array_equal(one["mask"], two["mask"])
    assert not np.array_equal(one["image"], other["image"])
    assert set(np.unique(one["mask"])) <= {0, 1, IGNORE_INDEX}


def test_loader_processes_make_the_same_batches(traffic):
    policy = Augmentation(mosaic=0.5, noise=0.5)
    images = NetworkImages(read_dataset(traffic), Preprocess(size_hw=(64, 64)), policy, Keeping(True))
    batches = SeededBatches(len(images), 4, 0, shuffle=True)
    ours, theirs = (list(build_loader(images, batches, workers)) for workers in (0, 2))
    for a, b in zip(ours, theirs, strict=True):
        assert a.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.targets["boxes"], b.targets["boxes"])
        assert a.rows == b.rows


def test_photometry_is_one_for_each_sequence_and_epoch(tmp_path):
    generate("traffic", tmp_path / "made", images=4, val_fraction=0.25, size_hw=(96, 96), seed=3, video_frames=6)
    (sequence,) = (path.parent.parent for path in (tmp_path / "made").rglob("gt.txt"))
    dataset = read_dataset(sequence)
    policy = off(brightness=0.5, photometry="sequence")
    check_policy(policy, dataset)
    images = NetworkImages(dataset, Preprocess(size_hw=(96, 96)), policy)
    plain = NetworkImages(dataset, Preprocess(size_hw=(96, 96)))
    ratios = [images[Draw(row, row, 8)]["image"].mean() / plain[row, 0]["image"].mean() for row in range(4)]
    assert np.ptp(ratios) < 0.02
    later = images[Draw(0, 0, 9)]["image"].mean() / plain[0, 0]["image"].mean()
    assert abs(later - ratios[0]) > 0.02


def test_the_size_varies_per_batch_in_steps_of_32(traffic):
    assert varied_sizes((96, 192), 0.3) == [(64, 160), (96, 192), (128, 224)]
    assert varied_sizes((96, 128), 0.0) == []
    images = NetworkImages(read_dataset(traffic), Preprocess(size_hw=(96, 96)), off(flip_lr=0.5))
    batches = SeededBatches(len(images), 2, 0, shuffle=True, sizes=varied_sizes((96, 96), 0.4))
    shapes = set()
    for batch in build_loader(images, batches, 0):
        shapes.add(tuple(batch.images.shape[2:]))
        assert batch.targets["boxes"].numpy().max(initial=0) <= max(batch.images.shape[2:])
    assert len(shapes) > 1


def test_operations_name_every_setting_and_switch_alone():
    known = {field for fields in OPERATIONS.values() for field in fields}
    rest = {"photometry", "min_side_px", "min_visible", "below_visible", "heavy_until"}
    assert known | rest == set(Augmentation.model_fields)
    assert Augmentation.none().active() == ()
    assert Augmentation().active() == ("affine", "flip", "colour")
    for name in Augmentation().active():
        assert Augmentation().only(name).active() == (name,)
    with pytest.raises(ConfigError, match=r"'flipp'.*flip"):
        Augmentation().only("flipp")


def test_what_the_data_cannot_take_is_refused(cracks, traffic):
    for policy, data, words in (
        (Augmentation(mixup=0.5), cracks, "augment.mixup"),
        (Augmentation(copy_paste=0.5), cracks, "augment.copy_paste"),
        (Augmentation(photometry="sequence"), cracks, "sequences"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_policy(policy, read_dataset(data))
    check_policy(Augmentation(mosaic=1.0), read_dataset(traffic))


def test_boxes_of_a_matrix_hold_all_four_corners():
    turned = map_boxes(np.array([[10.0, 20, 30, 40]]), affine((100, 100), 1.0, 45.0, (0, 0)))
    assert turned[0, 2] - turned[0, 0] == pytest.approx(20 * np.sqrt(2))
