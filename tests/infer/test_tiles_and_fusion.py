"""Large images in tiles, and several models as one, with a network that finds bright rectangles."""

import cv2
import numpy as np
import pytest

from sightline.core.errors import ConfigError
from sightline.core.metadata import TYPICAL_OBJECT, OperatingPoint
from sightline.infer import FusedPredictor, NetworkPredictor, TiledPredictor, Tiling
from sightline.testing import check_predictor

from .artefacts import metadata

SLOTS, LEAST_PX = 32, 5


class Bright:
    """Boxes of the white parts of at least `LEAST_PX` pixels a side, scored by how much of their box they fill."""

    backend = "test"

    def __init__(self, score: float = 0.9) -> None:
        self.score = score

    def __call__(self, pixels):
        boxes, scores = np.zeros((len(pixels), SLOTS, 4), np.float32), np.zeros((len(pixels), SLOTS, 2), np.float32)
        for i, image in enumerate(pixels):
            _, _, found, _ = cv2.connectedComponentsWithStats((image.mean(axis=0) > 0.7).astype(np.uint8))
            found = found[1:][(found[1:, 2] >= LEAST_PX) & (found[1:, 3] >= LEAST_PX)][:SLOTS]
            boxes[i, : len(found)] = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)[:, :4]
            scores[i, : len(found), 0] = self.score
        return boxes, scores


def bright(score: float = 0.9, **training) -> NetworkPredictor:
    meta = metadata(training=training)
    return NetworkPredictor(Bright(score), meta, OperatingPoint(conf=0.2), where="bright.onnx")


class Masked(Bright):
    """The same with the masks of the white parts, less their first or last column."""

    def __init__(self, score: float, cut: int) -> None:
        super().__init__(score)
        self.cut = cut

    def __call__(self, pixels):
        boxes, scores = super().__call__(pixels)
        white = pixels.mean(axis=1, keepdims=True) > 0.7
        maps = np.where(white & np.roll(white, self.cut, axis=3), 20, -20).astype(np.float32)
        return boxes, scores, np.ones((len(pixels), SLOTS, 1), np.float32), maps


def masked(score: float = 0.9, cut: int = 1) -> NetworkPredictor:
    return NetworkPredictor(Masked(score, cut), metadata("instance"), OperatingPoint(conf=0.2), where="masked.onnx")


@pytest.fixture
def scene():
    """An image far larger than the network, with small objects, two of them on the seams, and a large one."""
    image = np.zeros((260, 420, 3), np.uint8)
    boxes = [[5, 7, 15, 17], [60, 30, 72, 42], [125, 120, 137, 134], [300, 200, 311, 212], [150, 30, 290, 110]]
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 255
    return image, np.array(boxes, float)


def test_tiles_find_what_the_whole_is_too_coarse_for(scene):
    image, boxes = scene
    assert len(bright()([image])[0]) == 1, "in one piece only the large object has enough pixels"
    tiled = TiledPredictor(bright(), Tiling(tile_hw=(64, 64), overlap=0.3))
    (found,) = tiled(image)
    got, expected = (b[np.lexsort(b.T)] for b in (found.xyxy, boxes))
    assert got.shape == expected.shape
    large = expected[:, 2] - expected[:, 0] > 100
    np.testing.assert_allclose(got[~large], expected[~large], atol=0.5)
    np.testing.assert_allclose(got[large], expected[large], atol=2)  # a pixel of the network is four of the image
    assert set(found.data["class_name"]) == {tiled.class_names[0]}
    check_predictor(tiled, [image, image[:50, :60]])
    assert tiled.notes[0].startswith("2 images are no larger than a tile")
    assert tiled.meta["tiles"]["tile_hw"] == [64, 64]


def test_auto_takes_the_size_of_what_was_learnt(scene):
    with pytest.raises(ConfigError, match="Give --tile with a size"):
        TiledPredictor(bright(), Tiling())
    network_h, network_w = bright().preprocess.size_hw
    assert TiledPredictor(bright(**{TYPICAL_OBJECT: 64.0}), Tiling()).tile_hw == (2 * network_h, 2 * network_w)
    assert TiledPredictor(bright(**{TYPICAL_OBJECT: 10.0}), Tiling()).tile_hw == (network_h, network_w)
    with pytest.raises(ConfigError, match="at least 32 pixels"):
        Tiling.load({"tile_hw": (8, 64)})


def test_models_that_agree_keep_their_score(scene):
    image, _ = scene
    fused = FusedPredictor([bright(0.9), bright(0.5)])
    (found,) = fused(image)
    np.testing.assert_allclose(found.confidence, [0.7])
    np.testing.assert_allclose(found.xyxy, bright()([image])[0].xyxy)
    check_predictor(fused, [image])
    assert fused.meta["fused"]["models"][1]["architecture"] == bright().meta["architecture"]
    with pytest.raises(ConfigError, match="all find boxes, or all boxes with masks, got detect and instance"):
        FusedPredictor([bright(), masked()])
    other = NetworkPredictor(Bright(), metadata(class_names=("a", "b")), OperatingPoint(), where="other.onnx")
    with pytest.raises(ConfigError, match="the same classes"):
        FusedPredictor([bright(), other])


def test_of_fused_models_an_object_has_the_mask_of_its_best_member():
    image = np.zeros((64, 96, 3), np.uint8)
    image[10:30, 20:60] = image[40:60, 5:15] = 255
    surer, less = masked(0.9, 1), masked(0.5, -1)
    fused = FusedPredictor([less, surer])
    (found,), (expected,), (others,) = fused(image), surer(image), less(image)
    np.testing.assert_allclose(found.confidence, [0.7, 0.7])
    np.testing.assert_array_equal(np.asarray(found.mask), np.asarray(expected.mask))
    assert (np.asarray(found.mask) != np.asarray(others.mask)).any(axis=(1, 2)).all()
    check_predictor(fused, [image, image[:8, :8]])
