"""Tiles cover an image; small objects are whole in one of them; what two tiles see of one object is kept once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sightline.ops.tiles import keep_at_seams, tile_boxes, touches_inner_edge


@given(
    st.integers(1, 700), st.integers(1, 700), st.integers(32, 300), st.integers(32, 300), st.sampled_from([0, 0.2, 0.6])
)
def test_every_object_up_to_the_overlap_is_whole_in_a_tile(height, width, tile_h, tile_w, overlap):
    tiles = tile_boxes((height, width), (tile_h, tile_w), overlap)
    assert (tiles[:, :2] >= 0).all()
    assert (tiles[:, 2:] <= [width, height]).all()
    sizes = tiles[:, 2:] - tiles[:, :2]
    assert (sizes == [min(tile_w, width), min(tile_h, height)]).all()
    for axis, (length, tile) in enumerate(((width, tile_w), (height, tile_h))):
        size = max(1, min(int(tile * overlap), length))
        starts, ends = np.unique(tiles[:, axis]), np.unique(tiles[:, axis + 2])
        at = np.arange(length - size + 1)
        assert ((starts[:, None] <= at) & (at + size <= ends[:, None])).any(axis=0).all()


def test_tiles_are_those_of_a_plain_grid_where_it_fits():
    assert tile_boxes((64, 96), (32, 32), 0).tolist() == [[x, y, x + 32, y + 32] for y in (0, 32) for x in (0, 32, 64)]
    assert tile_boxes((10, 20), (32, 32), 0.5).tolist() == [[0, 0, 20, 10]]


def test_only_inner_edges_cut():
    tile, boxes = np.array([0, 50, 100, 150]), np.array([[0.0, 80, 30, 90], [60, 80, 99.5, 90], [10, 50, 20, 60]])
    assert touches_inner_edge(boxes, tile, (150, 300)).tolist() == [False, True, True]
    assert touches_inner_edge(boxes, tile, (150, 100)).tolist() == [False, False, True]


def test_an_object_seen_twice_is_kept_once_and_whole():
    boxes = [[10, 10, 50, 30], [10, 10, 34, 30], [200, 10, 240, 30], [12, 10, 48, 28]]
    kept = keep_at_seams(boxes, [0.5, 0.9, 0.8, 0.4], [0, 0, 0, 0], tiles=[1, 0, 0, 1], cut=[0, 1, 0, 0])
    assert kept.tolist() == [2, 0, 3], "the better score was of a part; what one tile gives stays as it is"
    apart = keep_at_seams(boxes, [0.5, 0.9, 0.8, 0.4], [0, 1, 0, 2], tiles=[1, 0, 0, 1], cut=[0, 1, 0, 0])
    assert apart.tolist() == [1, 2, 0, 3], "other classes are other objects"


@given(st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_what_is_kept_is_what_a_plain_loop_keeps(count, seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 25, (count, 2))], axis=1).astype(float)
    scores, classes = rng.random(count), rng.integers(0, 2, count)
    tiles, cut = rng.integers(0, 3, count), rng.random(count) < 0.3
    stays: list[int] = []
    for i in sorted(range(count), key=lambda i: (cut[i], -scores[i])):
        rivals = [j for j in stays if classes[j] == classes[i] and tiles[j] != tiles[i]]
        sides = (np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2]) for j in rivals)
        common = [max(side[0], 0) * max(side[1], 0) for side in sides]
        areas = [min(np.prod(boxes[k, 2:] - boxes[k, :2]) for k in (i, j)) for j in rivals]
        if all(c <= 0.5 * a for c, a in zip(common, areas, strict=True)):
            stays.append(i)
    kept = keep_at_seams(boxes, scores, classes, tiles=tiles, cut=cut)
    assert kept.tolist() == sorted(stays, key=lambda i: -scores[i])
