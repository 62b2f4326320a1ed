"""Preprocess and Geometry: every map has an exact inverse, and boxes, points, masks and pixels agree."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import ConfigError
from sightline.core.preprocess import Geometry, Preprocess

POLICIES = ["letterbox", "stretch", "shortest_side", "crop", "none"]
CASE = st.tuples(
    st.sampled_from(POLICIES),
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
)
SMALL_CASE = st.tuples(
    st.sampled_from(POLICIES),
    st.tuples(st.integers(8, 90), st.integers(8, 90)),
    st.tuples(st.integers(8, 90), st.integers(8, 90)),
)


def geometry_of(case: tuple[str, tuple[int, int], tuple[int, int]]) -> Geometry:
    policy, source_hw, size_hw = case
    return Preprocess(size_hw=size_hw, policy=policy).geometry(source_hw)


def boxes_inside(rng: np.random.Generator, size_hw: tuple[int, int], count: int = 20) -> np.ndarray:
    limits = np.array([size_hw[1], size_hw[0]])
    corners = np.sort(rng.random((count, 2, 2)) * limits, axis=1)
    return corners.reshape(count, 4)


@settings(deadline=None)
@given(CASE, st.integers(0, 2**32 - 1))
def test_boxes_and_points_round_trip(case, seed):
    geometry = geometry_of(case)
    boxes_xyxy = boxes_inside(np.random.default_rng(seed), geometry.source_hw)
    there = geometry.boxes_to_network(boxes_xyxy)
    np.testing.assert_allclose(geometry.boxes_to_image(there, clip=False), boxes_xyxy, rtol=0, atol=1e-9)
    np.testing.assert_allclose(geometry.boxes_to_image(there, clip=True), boxes_xyxy, rtol=0, atol=1e-9)
    points_xy = boxes_xyxy.reshape(-1, 2, 2)
    np.testing.assert_allclose(
        geometry.points_to_image(geometry.points_to_network(points_xy)), points_xy, rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(geometry.points_to_network(points_xy).reshape(-1, 4), there, rtol=0, atol=0)


@settings(deadline=None)
@given(CASE)
def test_whole_image_lands_where_the_policy_says(case):
    policy, source_hw, size_hw = case
    geometry = geometry_of(case)
    height, width = source_hw
    x1, y1, x2, y2 = geometry.boxes_to_network([[0, 0, width, height]])[0].round(9)
    target_h, target_w = geometry.target_hw
    assert (x2 - x1, y2 - y1) == pytest.approx(geometry.resized_hw[::-1], abs=1e-9)
    if policy == "none":
        assert geometry.target_hw == source_hw
    elif policy == "stretch":
        assert (target_h, target_w) == size_hw
    elif policy == "shortest_side":
        assert min(geometry.target_hw) == min(size_hw)
    elif policy == "letterbox":
        assert geometry.target_hw == size_hw
        assert x1 >= 0
        assert y1 >= 0
        assert x2 <= target_w
        assert y2 <= target_h
        assert target_w == x2 - x1 or target_h == y2 - y1
        assert abs(x1 - (target_w - x2)) <= 1
        assert abs(y1 - (target_h - y2)) <= 1
    else:
        assert geometry.target_hw == size_hw
        assert x1 <= 0
        assert y1 <= 0
        assert x2 >= target_w
        assert y2 >= target_h


@settings(deadline=None)
@given(CASE, st.integers(0, 2**32 - 1))
def test_clip_keeps_boxes_inside_the_image(case, seed):
    geometry = geometry_of(case)
    rng = np.random.default_rng(seed)
    wild = np.sort(rng.uniform(-2000, 2000, (20, 2, 2)), axis=1).reshape(-1, 4)
    clipped = geometry.boxes_to_image(wild)
    height, width = geometry.source_hw
    assert clipped.min() >= 0
    assert clipped[:, [0, 2]].max() <= width
    assert clipped[:, [1, 3]].max() <= height
    free = geometry.boxes_to_image(wild, clip=False)
    inside = (free >= 0).all(1) & (free <= (width, height, width, height)).all(1)
    np.testing.assert_array_equal(clipped[inside], free[inside])


def test_no_boxes_stay_no_boxes():
    geometry = geometry_of(("letterbox", (40, 60), (32, 32)))
    assert geometry.boxes_to_network([]).shape == (0, 4)
    assert geometry.boxes_to_image(np.empty((0, 4))).shape == (0, 4)


def nearest_index(count: int, source: int) -> np.ndarray:
    """Which source pixel's area holds the centre of each of `count` equal cells: nearest resampling, written out."""
    return np.minimum(((np.arange(count) + 0.5) * source / count).astype(int), source - 1)


def centre_is_near_an_edge(count: int, source: int) -> np.ndarray:
    """Cells whose centre lies so close to a border between source pixels that fixed-point rounding may pick either."""
    position = (np.arange(count) + 0.5) * source / count
    return np.abs(position - np.round(position)) < 1e-3


def expected_network_mask(mask: np.ndarray, geometry: Geometry, fill: int) -> tuple[np.ndarray, np.ndarray]:
    """The mask at network size by direct lookup, and where the lookup is unambiguous."""
    (h, w), (rh, rw), (ox, oy) = geometry.source_hw, geometry.resized_hw, geometry.offset_xy
    out = np.full(geometry.target_hw, fill, mask.dtype)
    sure = np.ones(geometry.target_hw, bool)
    rows, columns = nearest_index(rh, h), nearest_index(rw, w)
    vague_rows, vague_columns = centre_is_near_an_edge(rh, h), centre_is_near_an_edge(rw, w)
    for y in range(geometry.target_hw[0]):
        for x in range(geometry.target_hw[1]):
            r, c = y - oy, x - ox
            if 0 <= r < rh and 0 <= c < rw:
                out[y, x] = mask[rows[r], columns[c]]
                sure[y, x] = not (vague_rows[r] or vague_columns[c])
    return out, sure


@settings(deadline=None, max_examples=40)
@given(SMALL_CASE, st.sampled_from([np.uint8, np.uint16, np.int32, np.int64]), st.integers(0, 2**32 - 1))
def test_mask_to_network_is_nearest_resampling(case, dtype, seed):
    geometry = geometry_of(case)
    mask = np.random.default_rng(seed).integers(0, 200, geometry.source_hw).astype(dtype)
    made = geometry.mask_to_network(mask, fill=255)
    assert made.dtype == dtype
    assert made.shape == geometry.target_hw
    expected, sure = expected_network_mask(mask, geometry, 255)
    np.testing.assert_array_equal(made[sure], expected[sure])


@settings(deadline=None, max_examples=40)
@given(SMALL_CASE, st.integers(0, 2**32 - 1))
def test_mask_to_image_undoes_enlarging(case, seed):
    """Where every image pixel is seen by the network, the label map comes back unchanged."""
    policy, source_hw, size_hw = case
    geometry = geometry_of((policy, source_hw, size_hw))
    whole = geometry.resized_hw[0] >= source_hw[0] and geometry.resized_hw[1] >= source_hw[1]
    mask = np.random.default_rng(seed).integers(0, 5, source_hw).astype(np.uint8)
    there = geometry.mask_to_network(mask, fill=255)
    back = geometry.mask_to_image(there)
    assert back.shape == source_hw
    # Pixels whose centre the network keeps; the rest of a crop repeats the edge.
    xs = geometry.points_to_network(np.stack([np.arange(source_hw[1]) + 0.5, np.zeros(source_hw[1])], 1))[:, 0]
    ys = geometry.points_to_network(np.stack([np.zeros(source_hw[0]), np.arange(source_hw[0]) + 0.5], 1))[:, 1]
    seen_x = (xs > 1) & (xs < geometry.target_hw[1] - 1)
    seen_y = (ys > 1) & (ys < geometry.target_hw[0] - 1)
    if whole:
        np.testing.assert_array_equal(back[np.ix_(seen_y, seen_x)], mask[np.ix_(seen_y, seen_x)])
    assert 255 not in back, "padding must never come back as a label"


@settings(deadline=None, max_examples=60)
@given(SMALL_CASE, st.integers(0, 2**32 - 1))
def test_rectangle_in_pixels_lands_on_its_mapped_box(case, seed):
    """Image, mask and box agree within one network pixel (plus half a source pixel's width when enlarging)."""
    policy, source_hw, size_hw = case
    preprocess = Preprocess(size_hw=size_hw, policy=policy, pad_value=0, interpolation="nearest")
    geometry = preprocess.geometry(source_hw)
    rng = np.random.default_rng(seed)
    x1, x2 = np.sort(rng.choice(source_hw[1] + 1, 2, replace=False))
    y1, y2 = np.sort(rng.choice(source_hw[0] + 1, 2, replace=False))
    image = np.zeros((*source_hw, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    warped = preprocess.warp(image, geometry)[..., 0] > 127
    mask = geometry.mask_to_network((image[..., 0] > 0).astype(np.uint8), fill=0) > 0
    np.testing.assert_array_equal(warped, mask)
    box = geometry.boxes_to_network([[x1, y1, x2, y2]])[0]
    limits = np.array([*geometry.target_hw[::-1], *geometry.target_hw[::-1]])
    visible = box.clip(0, limits)
    if not mask.any():
        assert min(visible[2] - visible[0], visible[3] - visible[1]) <= 1
        return
    ys, xs = np.nonzero(mask)
    drawn = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    np.testing.assert_allclose(drawn, visible, rtol=0, atol=1.0)


@pytest.mark.parametrize("interpolation", ["linear", "area", "cubic", "nearest"])
@pytest.mark.parametrize("policy", POLICIES)
def test_smooth_interpolation_does_not_shift_the_picture(policy, interpolation):
    """The centre of mass of a blob follows its box: no half-pixel shift in any interpolation."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[30:60, 40:80] = 255
    preprocess = Preprocess(size_hw=(72, 72), policy=policy, interpolation=interpolation, pad_value=0)
    geometry = preprocess.geometry((96, 128))
    weight = preprocess.warp(image, geometry)[..., 0].astype(np.float64)
    height, width = geometry.target_hw
    centre = (
        (weight.sum(0) * (np.arange(width) + 0.5)).sum() / weight.sum(),
        (weight.sum(1) * (np.arange(height) + 0.5)).sum() / weight.sum(),
    )
    x1, y1, x2, y2 = geometry.boxes_to_network([[40, 30, 80, 60]])[0]
    assert centre == pytest.approx(((x1 + x2) / 2, (y1 + y2) / 2), abs=0.3)


def test_probabilities_come_back_linear_and_channelwise():
    geometry = geometry_of(("letterbox", (60, 90), (32, 32)))
    planes = np.random.default_rng(0).random((3, 32, 32)).astype(np.float32)
    back = geometry.mask_to_image(planes, interpolation="linear")
    assert back.shape == (3, 60, 90)
    assert back.dtype == np.float32
    for plane, made in zip(planes, back, strict=True):
        np.testing.assert_array_equal(made, geometry.mask_to_image(plane, interpolation="linear"))
        inner = plane[5:26]  # 60/90 * 32 = 21 rows, (32 - 21) // 2 = 5 rows of padding above
        np.testing.assert_allclose(made, cv2.resize(inner, (90, 60), interpolation=cv2.INTER_LINEAR), atol=1e-6)


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_values_are_scaled_by_the_bit_depth(dtype, full):
    preprocess = Preprocess(size_hw=(4, 4), policy="none")
    image = np.zeros((4, 4, 3), dtype)
    image[0, 0] = full
    image[1, 1] = full // 5
    chw, _ = preprocess.apply(image)
    assert chw.dtype == np.float32
    assert chw.shape == (3, 4, 4)
    assert chw.flags.c_contiguous
    assert chw[:, 0, 0] == pytest.approx([1.0] * 3)
    assert chw[:, 1, 1] == pytest.approx([0.2] * 3)
    assert chw[:, 3, 3] == pytest.approx([0.0] * 3)


@pytest.mark.parametrize(("dtype", "pad"), [(np.uint8, 114), (np.uint16, 114 * 257)])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
def test_letterbox_pads_with_the_same_grey_at_every_depth(dtype, pad, channels):
    preprocess = Preprocess(size_hw=(32, 64), channels=channels)
    image = np.full((32, 32, 3), np.iinfo(dtype).max, dtype)
    warped = preprocess.warp(image, preprocess.geometry((32, 32)))
    assert warped.shape == (32, 64, preprocess.channel_count)
    assert (warped[:, :16] == pad).all()
    assert (warped[:, 48:] == pad).all()
    assert (warped[:, 16:48] == np.iinfo(dtype).max).all()
    assert preprocess.apply(image)[0][:, 0, 0] == pytest.approx(114 / 255, abs=1e-6)


def test_channel_orders():
    image = np.zeros((6, 5, 3), np.uint8)
    image[...] = (200, 100, 50)
    gray = np.full((6, 5), 77, np.uint8)

    def first_pixel(pixels: np.ndarray, channels: str) -> list[int]:
        preprocess = Preprocess(size_hw=(6, 5), policy="none", channels=channels)
        return preprocess.warp(pixels, preprocess.geometry((6, 5)))[0, 0].tolist()

    assert first_pixel(image, "rgb") == [200, 100, 50]
    assert first_pixel(image, "bgr") == [50, 100, 200]
    assert first_pixel(image, "gray") == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]  # ITU-R BT.601 luma
    assert first_pixel(gray, "rgb") == [77, 77, 77]
    assert first_pixel(gray, "gray") == [77]
    assert first_pixel(gray[..., None], "rgb") == [77, 77, 77]


def test_mean_and_std_per_channel():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocess = Preprocess(size_hw=(3, 3), policy="none", mean=mean, std=std)
    image = np.random.default_rng(1).integers(0, 256, (3, 3, 3)).astype(np.uint8)
    chw, _ = preprocess.apply(image)
    expected = ((image / 255.0 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(chw, expected, rtol=0, atol=1e-5)
    assert image.dtype == np.uint8


def test_apply_leaves_the_image_alone():
    preprocess = Preprocess(size_hw=(8, 8), policy="none", mean=(0.5,), std=(0.5,))
    image = np.random.default_rng(2).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    before = image.copy()
    preprocess.apply(image)
    np.testing.assert_array_equal(image, before)


def test_spec_travels_as_json():
    preprocess = Preprocess(
        size_hw=(320, 480), policy="crop", channels="bgr", mean=(0.4, 0.5, 0.6), std=(0.2,), pad_value=0
    )
    assert Preprocess.model_validate_json(preprocess.model_dump_json()) == preprocess


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"size_hw": [0, 32]}, "size_hw must be at least 1"),
        ({"size_hw": [32, 32], "std": [0.0]}, "std must be above 0"),
        ({"size_hw": [32, 32], "mean": [0.1, 0.2]}, "mean and std must have 1 or 3 values"),
        ({"size_hw": [32, 32], "channels": "gray", "mean": [0, 0], "std": [1]}, "mean and std must have 1 value"),
        ({"size_hw": [32, 32], "pad_value": 256}, "pad_value"),
        ({"size_hw": [32, 32], "polcy": "crop"}, "nearest: policy"),
    ],
)
def test_bad_spec_is_refused_in_one_sentence(values, part):
    with pytest.raises(ConfigError, match=part.replace(".", r"\.")):
        Preprocess.load(values)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)],
)
def test_wrong_arrays_are_refused(image):
    preprocess = Preprocess(size_hw=(4, 4), policy="none")
    with pytest.raises(ValueError, match="must be"):
        preprocess.apply(image)


def test_masks_of_another_size_are_refused():
    geometry = geometry_of(("letterbox", (40, 60), (32, 32)))
    with pytest.raises(ValueError, match=r"mask must be \(40, 60\)"):
        geometry.mask_to_network(np.zeros((32, 32), np.uint8), fill=0)
    with pytest.raises(ValueError, match=r"map must be \(32, 32\)"):
        geometry.mask_to_image(np.zeros((40, 60), np.uint8))
