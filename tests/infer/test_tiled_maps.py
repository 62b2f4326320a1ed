"""Label maps in tiles: the same as of the whole image where that can be, without seams where not."""

import cv2
import numpy as np
import pytest

from sightline import models
from sightline.core.errors import ConfigError
from sightline.core.operating_point import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.infer import MapTiling, NetworkPredictor, TiledSegmenter, measure_reach
from sightline.infer.torch_predictor import predictor_from_model
from sightline.testing import check_predictor

from .artefacts import metadata

RADIUS = 3
TILE = (96, 128)


class Local:
    """The foreground's probability is a weighted mean around a pixel of how bright the image is: reach 3."""

    backend = "test"

    def __init__(self, far: bool = False) -> None:
        self.calls = 0
        self.far = far
        self.kernel = np.random.default_rng(0).random((2 * RADIUS + 1, 2 * RADIUS + 1), np.float32)

    def __call__(self, pixels):
        self.calls += 1
        bright = pixels.mean(axis=1)
        near = np.stack([cv2.filter2D(b, -1, self.kernel / self.kernel.sum()) for b in bright])
        if self.far:
            near = near * 0.9 + 0.1 * bright.mean(axis=(1, 2), keepdims=True)
        return (np.stack([1 - near, near], 1),)


def segmenter(network=None, size_hw=TILE, **changes) -> NetworkPredictor:
    meta = metadata("semantic", preprocess=Preprocess(size_hw=size_hw), operating_point=None)
    return NetworkPredictor(network or Local(), meta, OperatingPoint(), where="local.onnx", **changes)


def picture(size_hw, seed=0):
    rough = np.random.default_rng(seed).integers(0, 256, (size_hw[0] // 4 + 1, size_hw[1] // 4 + 1, 3), np.uint8)
    return cv2.resize(rough, size_hw[::-1], interpolation=cv2.INTER_LINEAR)


def untiled(image):
    """The network on the whole image with its mirror image around it."""
    around = cv2.copyMakeBorder(image, 32, 32, 32, 32, cv2.BORDER_REFLECT_101).astype(np.float32) / np.float32(255)
    return Local()(around.transpose(2, 0, 1)[None])[0][0, :, 32:-32, 32:-32].argmax(0)


def test_the_reach_is_measured():
    assert measure_reach(segmenter()) == (RADIUS, RADIUS)
    assert measure_reach(segmenter(Local(far=True))) is None


@pytest.mark.parametrize("size_hw", [(96, 128), (40, 50), (97, 131), (250, 300), (1, 200)])
@pytest.mark.parametrize("batch", [1, 4])
def test_centres_are_the_map_of_the_whole_image(size_hw, batch):
    image = picture(size_hw)
    tiled = TiledSegmenter(segmenter(), batch=batch)
    (found,) = tiled(image)
    assert tiled.margin_hw == (32, 32)
    assert np.array_equal(found.class_ids, untiled(image))


def test_a_network_without_an_end_is_joined_by_windows_without_seams():
    """A flat image with noise: the map of a network that looks at all its input must not show where tiles begin."""
    network = Local(far=True)
    tiled = TiledSegmenter(segmenter(network))
    assert tiled.margin_hw is None
    assert tiled.meta["tiles"]["join"] == "hann"
    ramp = np.linspace(0, 255, 400).round().astype(np.uint8)
    image = np.broadcast_to(ramp[None, :, None], (250, 400, 3))
    (found,) = tiled(image)
    edges = np.flatnonzero(np.diff(found.class_ids.astype(int), axis=1).any(axis=0))
    assert len(edges) == 1  # dark becomes bright once
    assert (found.class_ids == found.class_ids[0]).all()


def test_windows_of_a_local_network_are_nearly_the_whole():
    image = picture((250, 300))
    (found,) = TiledSegmenter(segmenter(), MapTiling(join="hann"))(image)
    assert (found.class_ids != untiled(image)).mean() < 0.01


def test_flips_are_averaged():
    network, image = Local(), picture(TILE)
    (found,) = TiledSegmenter(segmenter(network), MapTiling(flips="all", join="hann"))(image)
    assert network.calls == 4
    pixels = image.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    parts = [np.flip(Local()(np.flip(pixels, axes))[0], axes) for axes in ((), (-1,), (-2,), (-2, -1))]
    mean = sum(parts[1:], parts[0]) / 4
    clear = np.abs(mean[0, 1] - 0.5) > 1e-6
    assert np.array_equal(found.class_ids[clear], mean[0].argmax(0)[clear])
    # the same of the picture's mirror image, which one look alone is not
    (other,) = TiledSegmenter(segmenter(), MapTiling(flips="all", join="hann"))(image[:, ::-1])
    assert np.array_equal(other.class_ids[:, ::-1][clear], found.class_ids[clear])


def test_tiles_of_another_size_are_resized_and_a_fixed_batch_is_kept():
    image = np.zeros((250, 300, 3), np.uint8)
    image[40:180, 70:240] = 255
    network = Local()
    inner = segmenter(network, max_batch=1)
    (found,) = TiledSegmenter(inner, MapTiling(tile_hw=(192, 256), join="hann"))(image)
    assert network.calls == 4
    assert found.class_ids.shape == (250, 300)
    assert (found.class_ids != untiled(image)).mean() < 0.02


def test_the_least_probability_of_the_foreground_holds():
    image = picture((200, 300))
    (usual,) = TiledSegmenter(segmenter())(image)
    (strict,) = TiledSegmenter(segmenter().at_foreground(0.6))(image)
    assert 0 < strict.class_ids.sum() < usual.class_ids.sum()


def test_tiled_segmenters_are_predictors():
    check_predictor(TiledSegmenter(segmenter()))


@pytest.mark.parametrize(
    ("tiling", "far", "said"),
    [
        ({"join": "centre"}, True, "all of its input"),
        ({"tile_hw": (64, 64), "join": "centre"}, False, "the network's own size, a multiple of 32, got 64 x 64"),
        ({"tile_hw": (8, 64)}, False, "at least 32 pixels"),
    ],
)
def test_what_cannot_be_joined_is_refused(tiling, far, said):
    with pytest.raises(ConfigError) as error:
        TiledSegmenter(segmenter(Local(far=far)), MapTiling.load(tiling))
    assert said in error.value.sentence()


def test_a_real_network_in_tiles_is_itself():
    """A U-Net of two levels, whose reach leaves a centre of a tile of 160 pixels: to the bit of its probabilities."""
    import torch

    torch.manual_seed(0)
    whole = models.create("unet", class_names=("a", "b"), imgsz=(352, 416), levels=2, base_width=4).eval()
    cut = models.create("unet", class_names=("a", "b"), imgsz=160, levels=2, base_width=4).eval()
    cut.load_state_dict(whole.state_dict())
    tiled = TiledSegmenter(predictor_from_model(cut), batch=3)
    assert tiled.margin_hw == (32, 32)
    image = picture((288, 352), seed=3)
    (found,) = tiled(image)
    around = cv2.copyMakeBorder(image, 32, 32, 32, 32, cv2.BORDER_REFLECT_101)
    (expected,) = predictor_from_model(whole)([around])
    assert np.array_equal(found.class_ids, expected.class_ids[32:-32, 32:-32])
