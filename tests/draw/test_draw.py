"""Drawing: what must be on the picture; how it looks is judged by eye."""

import numpy as np
import pytest
import supervision as sv

from sightline.core.frames import SemanticMap
from sightline.draw import detections as drawn_detections
from sightline.draw import lettering
from sightline.draw.detections import Drawer, class_colours
from sightline.draw.sheets import Cell, Sheet, paint_sheet

GRAY = np.full((240, 320, 3), 90, np.uint8)


def detections(tracker_id: list[int] | None = None, left: float = 60.0) -> sv.Detections:
    return sv.Detections(
        xyxy=np.array([[left, 80.0, left + 80, 200.0], [200.0, 40.0, 300.0, 120.0]]),
        confidence=np.array([0.9, 0.6]),
        class_id=np.array([0, 1]),
        tracker_id=None if tracker_id is None else np.array(tracker_id),
    )


def near(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=2) < 12


@pytest.mark.parametrize(("tracks", "colours"), [(None, (0, 1)), ([4, 7], (4, 7))])
def test_boxes_have_the_colour_of_their_track_or_class(tracks: list[int] | None, colours: tuple[int, int]) -> None:
    palette = class_colours([str(i) for i in range(16)])
    picture = Drawer((240, 320), ("car", "bus")).draw(GRAY, detections(tracks))
    assert (GRAY == 90).all()
    for (x1, y1, x2, y2), colour in zip(detections().xyxy.astype(int), colours, strict=True):
        marked = near(picture, palette[colour])
        assert marked[y2 - 1 : y2 + 2, x1:x2].any(axis=0).mean() > 0.9  # the lower edge
        assert marked[max(0, y1 - 24) : y1, x1 : x1 + 40].sum() > 100  # the label above
        inside = picture[y1 + 6 : y2 - 6, x1 + 6 : x2 - 6]
        assert (inside == 90).all()


def test_traces_follow_tracks_and_start_afresh_with_a_new_drawer() -> None:
    drawer = Drawer((240, 320), ("car", "bus"))
    for step in range(20):
        picture = drawer.draw(GRAY, detections([1, 2], left=10.0 + 6 * step))
    fresh = Drawer((240, 320), ("car", "bus")).draw(GRAY, detections([1, 2], left=10.0 + 6 * 19))
    behind = (slice(195, 206), slice(55, 110))  # where the first object's foot point has been
    assert (picture[behind] != 90).any()
    assert (fresh[behind] == 90).all()


def test_label_maps_tint_all_but_the_background() -> None:
    ids = np.zeros((240, 320), np.uint8)
    ids[120:, 160:] = 1
    picture = Drawer((240, 320), ("background", "road")).draw(GRAY, None, SemanticMap(ids, ("background", "road")))
    assert (picture[60:110, 160:300] == 90).all()
    tinted = picture[130:230, 170:310].reshape(-1, 3)
    expected = 0.55 * 90 + 0.45 * class_colours(("background", "road"))[1]
    assert np.abs(tinted - expected).max() < 2
    assert (picture[:40, :60] != 90).any()  # the legend


def test_nothing_found_leaves_the_frame_as_it_is() -> None:
    drawer = Drawer((240, 320), ("car",))
    assert np.array_equal(drawer.draw(GRAY, sv.Detections.empty()), GRAY)
    assert np.array_equal(drawer.draw(GRAY), GRAY)


def test_pixels_of_no_class_are_no_part_of_the_legend() -> None:
    ids = np.full((240, 320), 255, np.uint8)
    ids[:120] = 1
    names = ("background", "road")
    drawn = Drawer((240, 320), names).draw(np.zeros((240, 320, 3), np.uint8), semantic=SemanticMap(ids, names))
    plain = Drawer((240, 320), names).draw(
        np.zeros((240, 320, 3), np.uint8), semantic=SemanticMap(ids, names), legend=False
    )
    changed = np.flatnonzero((drawn != plain).any(axis=(1, 2)))
    assert len(changed)
    assert changed[-1] < 40  # one line for the road


LONG = ("car", "a very long class name of a rare vehicle", "小汽车", "грузовик")


@pytest.mark.parametrize("size_hw", [(64, 64), (480, 640), (3000, 4000)])
def test_names_stay_inside_the_picture_and_apart_and_grow_with_it(monkeypatch, size_hw):
    places, sizes = [], set()

    def note(picture, text, place, colour, letter_px):
        places.append(place)
        sizes.add(letter_px)

    monkeypatch.setattr(lettering, "_write", note)
    height, width = size_hw
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 0.9, (30, 2)) * (width, height)
    boxes = np.concatenate([low, low + rng.uniform(0.02, 0.1, (30, 2)) * (width, height)], axis=1)
    boxes[0] = (0, 0, width / 5, height / 5)  # at the top edge
    boxes[1] = (width * 0.9, 1, width, height / 6)  # in the upper right corner
    count = 1 if height == 64 else 30  # thirty names have no room on 64 pixels
    boxes = boxes[:count]
    found = sv.Detections(boxes, class_id=np.arange(count) % 4, confidence=np.linspace(0.9, 0.3, count))
    Drawer(size_hw, LONG).draw(np.zeros((*size_hw, 3), np.uint8), found)
    assert len(places) >= min(count, 8)
    assert all(0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height for x1, y1, x2, y2 in places)
    apart = [
        a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        for place, a in enumerate(places)
        for b in places[:place]
    ]
    assert all(apart)
    assert sizes == {{64: 9, 480: 11, 3000: 71}[height]}


def test_a_legend_of_long_names_stays_inside_a_small_picture(monkeypatch):
    ends = []
    monkeypatch.setattr(
        drawn_detections,
        "write_text",
        lambda picture, text, at_xy, colour, size: ends.append(at_xy[0] + lettering.text_width(text, size)),
    )
    ids = np.repeat([[1], [2]], 32, axis=0).repeat(64, axis=1)
    Drawer((64, 64), LONG).draw(np.zeros((64, 64, 3), np.uint8), None, SemanticMap(ids, ("background", *LONG)))
    assert ends
    assert max(ends) <= 64


def test_a_sheet_of_tiny_pictures_is_enlarged():
    tiny = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    sheet = Sheet("a", "augment", "title", [Cell(tiny, "x")])
    painted = paint_sheet(sheet)
    # Each of its pixels is a square of 80.
    assert (painted == tiny[1, 1]).all(axis=2).sum() == 80 * 80
