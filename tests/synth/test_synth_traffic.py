"""Traffic stills and moving traffic: reproducible, never overlapping, entering and leaving outside the picture."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from sightline.synth import TRAFFIC_CLASS_NAMES, render_traffic, render_traffic_sequence
from sightline.synth.placement import fill_lanes, overlap
from sightline.synth.plane import View
from sightline.synth.roads import LAYOUT_KINDS, build_layout
from sightline.synth.simulation import simulate
from sightline.synth.stage import PX_PER_M
from sightline.synth.vehicles import sample_vehicle

SIZE = (128, 160)
VIEW = View((320, 480), 8.4, 1.0, (1.0, 0.0))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_picture():
    first, again = (render_traffic(np.random.default_rng(5), SIZE) for _ in range(2))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.objects == again.objects
    other = render_traffic(np.random.default_rng(6), SIZE)
    assert np.mean(first.image != other.image) > 0.5


def test_pictures_are_rgb_bytes_of_the_asked_size_with_a_sensible_exposure():
    for seed in range(4):
        image = render_traffic(np.random.default_rng([1, seed]), (120, 200)).image
        assert image.dtype == np.uint8
        assert image.shape == (120, 200, 3)
        assert 50 < image.mean() < 190
        assert image.std() > 15


def test_cars_have_the_documented_size_and_classes_differ_in_length():
    rng = np.random.default_rng(0)
    lengths = {}
    for class_id, name in enumerate(TRAFFIC_CLASS_NAMES):
        shares = tuple(np.eye(len(TRAFFIC_CLASS_NAMES))[class_id])
        lengths[name] = [sample_vehicle(rng, shares).length_m for _ in range(40)]
    assert 31 < min(lengths["car"]) * PX_PER_M[0] < max(lengths["car"]) * PX_PER_M[1] < 43.5
    for shorter, longer in pairwise(TRAFFIC_CLASS_NAMES):
        assert max(lengths[shorter]) < min(lengths[longer])


@pytest.mark.parametrize("kind", LAYOUT_KINDS)
def test_vehicles_of_a_still_never_overlap_and_queue_before_the_line(kind):
    for seed in range(5):
        rng = np.random.default_rng([3, seed])
        layout = build_layout(kind, VIEW.reach_m + 3, rng)
        drivers = fill_lanes(layout.lanes, VIEW, 8.0, 5.0, 0, rng)
        assert len(drivers) >= 3
        places = [driver.place() for driver in drivers]
        assert not any(overlap(a, b) for a, b in combinations(places, 2))
        for driver in drivers:
            if driver.lane.signal == 1:
                assert driver.speed_mps == 0.0
                assert driver.arc_m + driver.vehicle.length_m / 2 <= driver.lane.stop_m


@pytest.mark.parametrize("kind", LAYOUT_KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_moving_traffic_is_smooth_and_never_collides(kind, seed):
    rng = np.random.default_rng([11, seed])
    layout = build_layout(kind, VIEW.reach_m + 3, rng)
    fps, before = 12.5, {}
    for moment in simulate(layout.lanes, VIEW, 60, fps, 12.0, rng):
        numbers = [number for number, _ in moment]
        assert len(set(numbers)) == len(numbers)
        places = dict(moment)
        assert not any(overlap(a, b) for a, b in combinations(places.values(), 2))
        for number in before.keys() & places.keys():
            old, new = before[number], places[number]
            step = np.hypot(*(new.xy_m - old.xy_m))
            assert step == pytest.approx((old.speed_mps + new.speed_mps) / 2 / fps, abs=0.06)
            assert abs(new.speed_mps - old.speed_mps) * fps <= 7.01
            turn = (new.heading_rad - old.heading_rad + np.pi) % (2 * np.pi) - np.pi
            assert abs(turn) <= step / 4.0 + 1e-9
            assert new.vehicle == old.vehicle
        if before:
            come_or_gone = [places.get(n) or before[n] for n in before.keys() ^ places.keys()]
            assert all(outside(place) for place in come_or_gone)
        before = places
    assert before


def outside(place):
    corners = VIEW.to_canvas(place.corners_m())
    height, width = VIEW.canvas_hw
    low, high = corners.min(axis=0), corners.max(axis=0)
    return high[0] <= 0 or high[1] <= 0 or low[0] >= width or low[1] >= height


@pytest.fixture(scope="module")
def clip():
    return list(render_traffic_sequence(np.random.default_rng(3), (160, 240), frames=40, fps=5.0))


def test_a_clip_has_its_frames_times_and_ids(clip):
    assert [frame.index for frame in clip] == list(range(40))
    assert [frame.time_s for frame in clip] == [k / 5.0 for k in range(40)]
    order = list(dict.fromkeys(item.track_id for frame in clip for item in frame.objects))
    assert order == list(range(1, len(order) + 1))
    assert len(order) >= 5


def test_tracks_are_unbroken_and_keep_their_class(clip):
    frames, classes = {}, {}
    for frame in clip:
        for item in frame.objects:
            frames.setdefault(item.track_id, []).append(frame.index)
            assert classes.setdefault(item.track_id, item.class_id) == item.class_id
    for seen in frames.values():
        assert seen == list(range(seen[0], seen[-1] + 1))


def test_tracks_are_interrupted_below_the_bridge(clip):
    lowest = {}
    for frame in clip:
        for item in frame.objects:
            lowest.setdefault(item.track_id, []).append(item.occlusion)
    passing = [track for track, values in lowest.items() if max(values) > 0.6 and values[-1] < 0.3]
    assert passing
    hidden = [item for frame in clip for item in frame.objects if item.visible_area == 0]
    assert all(item.ignore and item.visibility == 0 for item in hidden)


def test_boxes_move_without_jumps(clip):
    before = {}
    for frame in clip:
        boxes = {item.track_id: np.array(item.full_box_xyxy) for item in frame.objects if item.truncation < 0.01}
        for track in before.keys() & boxes.keys():
            assert np.abs(boxes[track] - before[track]).max() < 14.0 * PX_PER_M[1] / 5.0 + 2
        before = boxes


def test_the_background_of_a_clip_stands_still(clip):
    moving = np.zeros((160, 240), dtype=bool)
    for frame in clip[:6]:
        for item in frame.objects:
            x1, y1, x2, y2 = (int(v) for v in item.full_box_xyxy)
            moving[max(y1 - 40, 0) : y2 + 40, max(x1 - 40, 0) : x2 + 40] = True
    still = np.stack([frame.image[~moving].astype(int) for frame in clip[:6]])
    assert still.shape[1] > 200
    assert np.abs(still.mean(axis=1) - still[0].mean(axis=0)).max() < 0.8


def test_threads_do_not_change_a_byte(clip):
    again = render_traffic_sequence(np.random.default_rng(3), (160, 240), frames=12, fps=5.0, workers=3)
    for one, other in zip(clip, again, strict=False):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.objects == other.objects
