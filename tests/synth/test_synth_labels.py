"""Labels against independent measurements: point sampling of the outline, and the pictures themselves."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from sightline.ops import rle
from sightline.synth import MIN_VISIBILITY, MIN_VISIBLE_PX, render_traffic
from sightline.synth.labels import label, label_all, masks_of, trace
from sightline.synth.placement import Placed
from sightline.synth.plane import View
from sightline.synth.sprites import Sprite, lit_sprite
from sightline.synth.stage import _draw_vehicle, build_stage, draw
from sightline.synth.vehicles import CLASS_NAMES, Vehicle, sample_vehicle

SIZE = (128, 160)
VIEW = View(SIZE, 8.4, 0.4, (1.0, -2.0))


def clear(view=VIEW):
    return np.ones(view.canvas_hw, dtype=np.float32)


def vehicle_of(class_name, seed=0):
    shares = tuple(float(name == class_name) for name in CLASS_NAMES)
    return sample_vehicle(np.random.default_rng(seed), shares)


def at_pixel(x, y, heading=0.5, class_name="car", seed=0):
    """A vehicle whose middle is at a place of the final picture."""
    return Placed(vehicle_of(class_name, seed), VIEW.to_world([2.0 * x, 2.0 * y]), heading, 0.0)


def sampled_coverage(placed, samples=10):
    """Covered share of each final pixel, by testing a grid of points against the outline's half-planes."""
    outlines = [VIEW.to_canvas(placed.to_world(outline)) / 2 for outline, _ in placed.vehicle.outlines]
    left, top = np.floor(np.concatenate(outlines).min(axis=0)).astype(int)
    right, bottom = np.ceil(np.concatenate(outlines).max(axis=0)).astype(int)
    offsets = (np.arange(samples) + 0.5) / samples
    x = (np.arange(left, right)[:, None] + offsets).ravel()
    y = (np.arange(top, bottom)[:, None] + offsets).ravel()
    grid_x, grid_y = np.meshgrid(x, y)
    covered = np.zeros(grid_x.shape, dtype=bool)
    for points in outlines:
        sides = [
            (b[0] - a[0]) * (grid_y - a[1]) - (b[1] - a[1]) * (grid_x - a[0]) for a, b in pairwise([*points, points[0]])
        ]
        covered |= np.all([s >= 0 for s in sides], axis=0) | np.all([s <= 0 for s in sides], axis=0)
    shares = np.zeros(SIZE)
    blocks = covered.reshape(bottom - top, samples, right - left, samples)
    shares[top:bottom, left:right] = blocks.mean(axis=(1, 3))
    return shares


@pytest.mark.parametrize("class_name", CLASS_NAMES)
@pytest.mark.parametrize("heading", [0.0, 0.5, 1.3, -2.2])
def test_the_mask_is_the_pixels_covered_by_more_than_half(class_name, heading):
    placed = at_pixel(80.3, 63.8, heading, class_name, seed=3)
    item = label(VIEW, placed, clear())
    mask = rle.decode(item.mask_rle, SIZE)
    coverage = sampled_coverage(placed)
    undecided = np.abs(coverage - 0.5) < 0.06  # both are measured with finitely many samples
    np.testing.assert_array_equal(mask[~undecided], (coverage > 0.5)[~undecided])
    assert undecided.sum() < 0.05 * mask.sum() + 12
    assert item.occlusion == 0.0
    assert item.truncation == pytest.approx(0.0, abs=0.02)
    assert not item.ignore


def test_a_half_plane_above_hides_exactly_what_it_covers():
    placed = at_pixel(80.0, 64.0, heading=-0.4)  # level in the picture
    passing = clear()
    passing[:, 160:] = 0.0  # the right half of the canvas
    free, hidden = label(VIEW, placed, clear()), label(VIEW, placed, passing)
    full, seen = rle.decode(free.mask_rle, SIZE), rle.decode(hidden.mask_rle, SIZE)
    np.testing.assert_array_equal(seen[:, :80], full[:, :80])
    assert not seen[:, 80:].any()
    assert hidden.full_area == free.visible_area == full.sum()
    assert hidden.occlusion == 1.0 - seen.sum() / full.sum()
    assert hidden.full_box_xyxy == free.box_xyxy
    assert hidden.box_xyxy[2] == 80.0


def test_truncation_is_the_share_outside():
    inside = label(VIEW, at_pixel(80, 64, heading=-0.4, class_name="bus"), clear())
    half = label(VIEW, at_pixel(0, 64, heading=-0.4, class_name="bus"), clear())
    assert half.truncation == pytest.approx(0.5, abs=0.01)
    assert half.box_xyxy[0] == 0.0
    assert half.full_area == pytest.approx(inside.full_area / 2, rel=0.03)
    assert label(VIEW, at_pixel(-200, 64), clear()) is None


@pytest.mark.parametrize(("share", "ignored"), [(0.32, False), (0.18, True)])
def test_barely_visible_objects_are_ignored(share, ignored):
    placed = at_pixel(80.0, 64.0, heading=-0.4, class_name="truck")
    x1, _, x2, _ = label(VIEW, placed, clear()).box_xyxy
    passing = clear()
    passing[:, round(2 * (x1 + share * (x2 - x1))) :] = 0.0
    item = label(VIEW, placed, passing)
    assert item.ignore is ignored
    assert (item.visibility < MIN_VISIBILITY) is ignored
    assert item.visible_area > MIN_VISIBLE_PX


def test_a_hidden_object_keeps_its_full_box_and_is_ignored():
    placed = at_pixel(80.0, 64.0)
    free, hidden = label(VIEW, placed, clear()), label(VIEW, placed, 0 * clear())
    assert (hidden.visible_area, hidden.occlusion, hidden.visibility) == (0, 1.0, 0.0)
    assert hidden.ignore
    assert hidden.box_xyxy == hidden.full_box_xyxy == free.box_xyxy
    assert rle.area(hidden.mask_rle) == 0


@pytest.mark.parametrize("seed", range(6))
def test_every_label_of_a_scene_is_consistent(seed):
    objects = render_traffic(np.random.default_rng([77, seed]), SIZE).objects
    taken = np.zeros(SIZE, dtype=int)
    for item in objects:
        mask = rle.decode(item.mask_rle, SIZE)
        taken += mask
        assert mask.sum() == item.visible_area <= item.full_area
        assert item.occlusion == 1.0 - item.visible_area / item.full_area
        assert item.ignore == (item.visibility < MIN_VISIBILITY or item.visible_area < MIN_VISIBLE_PX)
        assert 0.0 <= item.truncation < 1.0
        x1, y1, x2, y2 = item.full_box_xyxy
        assert 0 <= x1 < x2 <= SIZE[1]
        assert 0 <= y1 < y2 <= SIZE[0]
        if item.visible_area:
            assert item.box_xyxy == tuple(rle.to_box(item.mask_rle, SIZE))
            bx1, by1, bx2, by2 = item.box_xyxy
            assert x1 <= bx1 < bx2 <= x2
            assert y1 <= by1 < by2 <= y2
    assert taken.max() <= 1


def test_visible_masks_lie_inside_full_masks():
    stage = build_stage("straight", SIZE, "footbridge", np.random.default_rng(8))
    middle = stage.view.to_world([SIZE[1], SIZE[0]])
    for heading in np.linspace(0, 3, 7):
        placed = Placed(vehicle_of("bus", 2), middle, float(heading), 0.0)
        full, visible, _ = masks_of(trace(stage.view, placed), stage.transmittances[0])
        assert not (visible & ~full).any()


@pytest.fixture(scope="module")
def bare_stage():
    """A scene without anything above the road, evenly lit, its camera free of noise, blur and vignetting."""
    stage = build_stage("straight", SIZE, None, np.random.default_rng(4))
    light = replace(stage.light, sun_rgb=0 * stage.light.sun_rgb, sky_rgb=1.3 + 0 * stage.light.sky_rgb)
    camera = replace(stage.camera, read_noise=0.0, shot_noise=0.0, blur_px=0.0, shake=None, vignette=0.0)
    canopy = 0 * stage.canopy
    return replace(stage, light=light, camera=camera, canopy=canopy, transmittances=(clear(stage.view),))


def white(class_name):
    """A vehicle brighter than any road."""
    model = vehicle_of(class_name, 5)
    style = {"truck": "box", "bus": "coach"}.get(class_name, model.style)
    return Vehicle(model.class_id, style, model.length_m, model.width_m, model.height_m, (246,) * 3, (246,) * 3, 1)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
@pytest.mark.parametrize("speed", [0.0, 25.0])
def test_the_picture_shows_the_vehicle_where_the_label_says(bare_stage, class_name, speed):
    view = bare_stage.view
    placed = Placed(white(class_name), view.to_world([161.0, 127.0]), 0.35, speed)
    stage = replace(bare_stage, shutter_s=1 / 100)
    empty = draw(stage, [], np.random.default_rng(0)).astype(int).sum(axis=2)
    full = draw(stage, [placed], np.random.default_rng(0)).astype(int).sum(axis=2)
    item = label(view, placed, stage.transmittances[0])
    mask = rle.decode(item.mask_rle, SIZE)
    # Shade around the vehicle only darkens, so what became brighter is the vehicle (all but its glass and gaps).
    brighter = full - empty > 60
    assert (brighter & ~_grown(mask)).sum() == 0 if speed == 0 else (brighter & ~mask).sum() < 0.15 * mask.sum()
    assert brighter[mask].mean() > 0.6
    rows, columns = np.flatnonzero(brighter.any(axis=1)), np.flatnonzero(brighter.any(axis=0))
    seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    slack = 1.5 + speed * stage.shutter_s * view.px_per_m / 2
    assert np.abs(seen - item.box_xyxy).max() <= slack
    # Movement blurs both ends alike: the middle stays.
    drawn_middle, labelled_middle = (seen[:2] + seen[2:]) / 2, np.add(item.box_xyxy[:2], item.box_xyxy[2:]) / 2
    assert np.abs(drawn_middle - labelled_middle).max() <= 1.0


def _grown(mask):
    padded = np.pad(mask, 1)
    return np.max([padded[1 + dy : -1 + dy or None, 1 + dx : -1 + dx or None]
                   for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=0)  # fmt: skip


@pytest.mark.parametrize("heading", [0.0, 0.35, 2.0])
@pytest.mark.parametrize("at", [(161.0, 127.0), (160.5, 127.5), (9.2, 40.8)])
def test_the_drawn_outline_is_the_labelled_one_to_a_tenth_of_a_pixel(bare_stage, monkeypatch, heading, at):
    def flat(*arguments):
        sprite = lit_sprite(*arguments)
        return Sprite(np.repeat(sprite.albedo[..., 3:], 4, axis=2), sprite.direct)

    monkeypatch.setattr("sightline.synth.stage.lit_sprite", flat)
    view, ones = bare_stage.view, np.ones(3, dtype=np.float32)
    stage = replace(bare_stage, light=replace(bare_stage.light, sun_rgb=0 * ones, sky_rgb=ones))
    level = replace(stage.levels[0], shadow=0 * stage.levels[0].shadow)
    placed = Placed(vehicle_of("truck", 1), view.to_world(at), heading, 0.0)
    drawn = np.zeros((*view.canvas_hw, 3), dtype=np.float32)
    _draw_vehicle(drawn, stage, level, placed)
    footprint = trace(view, placed)
    labelled = np.zeros(view.canvas_hw, dtype=np.float32)
    height, width = footprint.coverage.shape
    labelled[footprint.top : footprint.top + height, footprint.left : footprint.left + width] = footprint.coverage
    assert drawn[..., 0].sum() == pytest.approx(labelled.sum(), rel=0.01)
    for axis in (0, 1):
        places = np.arange(drawn.shape[1 - axis])
        middles = [(image.sum(axis=axis) * places).sum() / image.sum() for image in (drawn[..., 0], labelled)]
        assert middles[0] == pytest.approx(middles[1], abs=0.1)  # canvas pixels are half pixels of the picture
    assert np.abs(drawn[..., 0] - labelled).mean() < 0.004


def test_labels_keep_the_order_and_ids_of_the_vehicles():
    pair = [at_pixel(40, 64), at_pixel(-300, 0), at_pixel(120, 64, class_name="van")]
    labels = label_all(VIEW, pair, (clear(),), [7, 8, 9])
    assert [(item.track_id, CLASS_NAMES[item.class_id]) for item in labels] == [(7, "car"), (9, "van")]
