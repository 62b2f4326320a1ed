"""Looking at data: labels are drawn where they are, sheets show what they say, nothing is written into the data."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.findings import Finding
from sightline.data import read_dataset
from sightline.data.codes import finding
from sightline.draw.lettering import fit_text, lay_out, text_width
from sightline.draw.look import Evidence, LookOptions, Scenes, look_at, paint_sheet
from sightline.draw.truth import TruthStyle, draw_objects, object_colour
from sightline.draw.view import View, show_tones, view_around, view_whole
from sightline.ops import rle

CLASSES = [
    {"class_id": 0, "name": "cell", "keypoint_names": ["a", "b", "c"], "skeleton": [[0, 1], [1, 2]]},
    {"class_id": 1, "name": "größe"},
]
TEAL, ORANGE = (46, 196, 182), (255, 159, 28)


def dataset_of(objects: list[dict], root: Path, task: str = "detect", sizes: tuple[int, int] = (60, 80)) -> Dataset:
    ids = sorted({o["image_id"] for o in objects} | {0})
    images = [{"image_id": i, "path": f"{i}.png", "height": sizes[0], "width": sizes[1]} for i in ids]
    return dataset_from_rows(images, objects, CLASSES, root=root, name="made", task=task, format="made")


def box(x1: float, y1: float, x2: float, y2: float, class_id: int = 0, **more: object) -> dict:
    return {"image_id": 0, "class_id": class_id, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **more}


def drawn(dataset: Dataset, scale: int = 4, style: TruthStyle | None = None) -> np.ndarray:
    view = View((0, 0, 80, 60), (60 * scale, 80 * scale))
    picture = np.full((60 * scale, 80 * scale, 3), 128, np.uint8)
    draw_objects(picture, view, dataset.objects, dataset, style or TruthStyle(names=False))
    return picture


def is_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(picture.astype(int) - colour) <= 2).all(axis=2)


def test_a_frame_lies_on_the_box_edges_to_the_pixel(tmp_path: Path) -> None:
    found = is_colour(drawn(dataset_of([box(10, 20, 30, 45)], tmp_path)), TEAL)
    rows, columns = np.nonzero(found.any(axis=1))[0], np.nonzero(found.any(axis=0))[0]
    # Two pixels wide, one on each side of the edge: x1 = 10 lies at 40, x2 = 30 (exclusive) at 120.
    assert (columns[0], columns[-1]) == (39, 120)
    assert (rows[0], rows[-1]) == (79, 180)
    assert found[100, 39:41].all()
    assert not found[100, 41:119].any()


def test_masks_are_tinted_in_their_pixels_alone_and_keep_their_holes(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:40, 10:50] = True
    mask[20:30, 20:30] = False
    counts = rle.encode(mask)
    picture = drawn(dataset_of([box(10, 10, 50, 40, rle=counts)], tmp_path, "instance"))
    changed = (picture != 128).any(axis=2)
    inside = np.kron(mask, np.ones((4, 4), bool))
    assert changed[inside].all()
    rim = np.zeros_like(inside)
    rim[39:161, 39:201] = True
    rim[84:116, 84:116] = False
    assert not changed[~(inside | rim)].any()
    assert not changed[100, 90:110].any()  # the hole


def test_polygons_of_several_rings_are_drawn_as_their_union(tmp_path: Path) -> None:
    rings = [[10, 10, 30, 10, 30, 30, 10, 30], [40, 40, 60, 40, 60, 55, 40, 55]]
    picture = drawn(dataset_of([box(10, 10, 60, 55, polygon=rings)], tmp_path, "instance"))
    changed = (picture != 128).any(axis=2)
    assert changed[80, 80]
    assert changed[190, 200]
    assert not changed[140, 140]


def test_ignored_objects_are_dashed_and_crowds_hatched(tmp_path: Path) -> None:
    def share(**flags: bool) -> tuple[float, float]:
        found = is_colour(drawn(dataset_of([box(10, 10, 60, 50, **flags)], tmp_path)), TEAL)
        return float(found[39:41, 44:236].any(axis=0).mean()), float(found[60:180, 60:220].mean())

    plain, ignored, crowd = share(), share(ignore=True), share(crowd=True)
    assert plain[0] == 1.0
    assert plain[1] == 0.0
    assert 0.4 < ignored[0] < 0.8
    assert ignored[1] == 0.0
    assert crowd[0] < 0.8
    hatched = drawn(dataset_of([box(10, 10, 60, 50, crowd=True)], tmp_path))
    assert 0.2 < (hatched[60:180, 60:220] != 128).any(axis=2).mean() < 0.6


def test_keypoints_that_are_there_are_marked_and_joined(tmp_path: Path) -> None:
    points = [20.0, 20.0, 2.0, 40.0, 20.0, 1.0, 0.0, 0.0, 0.0]
    plain = drawn(dataset_of([box(10, 10, 60, 50)], tmp_path))
    picture = drawn(dataset_of([box(10, 10, 60, 50, keypoints=points)], tmp_path))
    changed = (picture != plain).any(axis=2)
    assert is_colour(picture, TEAL)[80, 80]  # the visible point, filled
    assert changed[79:81, 90:150].any(axis=0).all()  # the line between the two
    assert not is_colour(picture, TEAL)[76:84, 156:164].all()  # the hidden one, hollow
    assert not changed[:8, :8].any()  # the third is not there


def test_colours_are_those_of_class_or_track(tmp_path: Path) -> None:
    objects = dataset_of([box(1, 1, 9, 9, track_id=1), box(1, 1, 9, 9, 1)], tmp_path).objects
    first, second = objects.iter_rows(named=True)
    assert object_colour(first, "class") == TEAL
    assert object_colour(first, "track") == ORANGE
    assert object_colour(second, "class") == object_colour(second, "track") == ORANGE


def test_names_hide_no_small_object(tmp_path: Path) -> None:
    objects = [box(10 + 5 * i, 30, 13 + 5 * i, 33, i % 2) for i in range(12)]
    dataset = dataset_of(objects, tmp_path)
    bare, named = drawn(dataset), drawn(dataset, style=TruthStyle())
    assert (bare != named).any()
    for x1, y1, x2, y2 in dataset.objects.select("x1", "y1", "x2", "y2").iter_rows():
        inside = np.s_[round(4 * y1) + 1 : round(4 * y2) - 1, round(4 * x1) + 1 : round(4 * x2) - 1]
        assert (bare[inside] == named[inside]).all(axis=2).mean() >= 0.8


@given(
    st.tuples(*[st.integers(-400, 400)] * 2),
    st.tuples(*[st.integers(0, 300)] * 2),
    st.tuples(*[st.integers(1, 300)] * 2),
)
def test_a_crop_holds_its_box_and_maps_edges_exactly(corner: tuple, extent: tuple, size_hw: tuple) -> None:
    x1, y1 = corner
    place = (x1, y1, x1 + extent[0], y1 + extent[1])
    view = view_around(place, size_hw, (120, 160), context=1.5, least_px=20)
    left, top, right, bottom = view.window_xyxy
    assert left <= place[0]
    assert top <= place[1]
    assert right >= place[2]
    assert bottom >= place[3]
    corners = view.place([[left, top], [right, bottom]])
    assert np.allclose(corners, [[0, 0], [view.size_hw[1], view.size_hw[0]]])
    assert view.size_hw[0] <= 120
    assert view.size_hw[1] <= 160
    assert view.show(np.zeros((*size_hw, 3), np.uint8)).shape == (*view.size_hw, 3)


def test_small_images_are_enlarged_and_16_bits_stretched() -> None:
    assert view_whole((10, 20), (100, 100)).size_hw == (50, 100)
    dim = np.linspace(100, 900, 400).astype(np.uint16).reshape(20, 20)
    shown = show_tones(dim)
    assert shown.shape == (20, 20, 3)
    assert shown.min() == 0
    assert shown.max() == 255


def test_text_is_shortened_to_its_room() -> None:
    assert fit_text("short", 200, 13) == "short"
    long = "a/very/long/path/to/some/image_000123.jpg"
    for keep_end in (False, True):
        text = fit_text(long, 120, 13, keep_end=keep_end)
        assert text_width(text, 13) <= 120
        assert long.endswith(text.removeprefix("…")) if keep_end else long.startswith(text.removesuffix("…"))
    assert "\x1b" not in fit_text("a\x1b[31m", 500, 13)
    page = lay_out([(np.zeros((40, 60, 3), np.uint8), ("t", "word " * 80))], title="x" * 900, columns=3)
    assert page.shape[1] < 700


@pytest.fixture
def boxes(tmp_path: Path, save_image) -> Dataset:
    lines = {"a": "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n", "b": "0 0.2 0.2 0.2 0.2\n", "c": ""}
    for name, text in lines.items():
        save_image(f"d/images/{name}.png", (60, 80))
        label = tmp_path / f"d/labels/{name}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text(text)
    return read_dataset(tmp_path / "d")


def test_a_look_has_images_and_classes_and_is_repeatable(boxes: Dataset) -> None:
    options = LookOptions(images=2, per_class=4, imgsz=96)
    sheets = list(look_at(boxes, options))
    assert [s.name for s in sheets] == ["images", "class-000", "class-001"]
    assert [len(s.cells) for s in sheets] == [2, 2, 1]
    again = list(look_at(boxes, options))
    assert all((paint_sheet(a) == paint_sheet(b)).all() for a, b in zip(sheets, again, strict=True))
    paths = {i: [c.title for c in next(look_at(boxes, LookOptions(images=1, seed=i))).cells] for i in range(12)}
    assert len({p[0] for p in paths.values()}) > 1


def test_crops_come_from_different_images_first(tmp_path: Path, save_image) -> None:
    for i in range(4):
        save_image(f"{i}.png", (60, 80))
    many = [box(1 + 4 * k, 1, 4 + 4 * k, 5) for k in range(15)]
    few = [{**box(5, 5, 20, 20), "image_id": i} for i in (1, 2, 3)]
    dataset = dataset_of(many + few, tmp_path)
    sheet = next(s for s in look_at(dataset, LookOptions(images=0, per_class=4)) if s.kind == "class")
    assert {c.title for c in sheet.cells} == {f"{i}.png" for i in range(4)}


def test_what_cannot_be_read_is_said(tmp_path: Path, save_image) -> None:
    dataset = dataset_of([box(1, 1, 20, 20)], tmp_path)
    picture = Scenes(dataset).whole(0, (100, 100), TruthStyle())
    assert picture.shape[1] == 100
    (cell,) = next(look_at(dataset, LookOptions())).cells
    assert cell.title == "0.png"


def cells_of(dataset: Dataset, *findings: Finding) -> dict[str, list]:
    evidence = Evidence(Scenes(dataset), findings, 120)
    return {f.code: evidence.cells(f.code, 9) for f in findings}


def test_findings_are_shown_where_they_are(boxes: Dataset) -> None:
    ids = dict(boxes.images.select("path", "image_id").iter_rows())
    first, second = "images/a.png", "images/b.png"
    found = cells_of(
        boxes,
        finding("label-tiny", "m", path="labels/a.txt", line=1, image_id=ids[first], box_xyxy=(32, 24, 48, 36)),
        finding("label-empty-file", "m", path="labels/c.txt", image_id=ids["images/c.png"]),
        finding("image-duplicate", "m", path=second, other=first),
        finding("image-unreadable", "m", path="images/gone.png"),
        finding("label-malformed", "m", path="../../etc/passwd.png"),
        finding("label-out-of-bounds", "m", image_id=ids[first], path="labels/a.txt", box_xyxy=(1e9, 0, 2e9, 4)),
        finding("class-unused", "m"),
    )
    assert {code: len(cells) for code, cells in found.items()} == {
        "label-tiny": 1,
        "label-empty-file": 1,
        "image-duplicate": 1,
        "image-unreadable": 1,
        "label-malformed": 1,
        "label-out-of-bounds": 1,
        "class-unused": 0,
    }
    (tiny,) = found["label-tiny"]
    assert tiny.title == "labels/a.txt:1"
    assert is_colour(tiny.picture, (255, 255, 255)).any()  # the corners
    (pair,) = found["image-duplicate"]
    assert pair.picture.shape[0] > 60 * 120 / 80  # two landscapes, one below the other


def test_one_file_does_not_take_all_the_places(boxes: Dataset) -> None:
    ids = boxes.images["image_id"].to_list()
    findings = [finding("label-tiny", f"{i}", image_id=ids[0], box_xyxy=(1, 1, 5, 5)) for i in range(30)]
    findings.append(finding("label-tiny", "other", image_id=ids[1], box_xyxy=(1, 1, 5, 5)))
    cells = Evidence(Scenes(boxes), findings, 96).cells("label-tiny", 2)
    assert [c.lines for c in cells] == [("0",), ("other",)]


def test_masks_are_shown_by_class(tmp_path: Path, save_image, save_mask) -> None:
    for i in range(3):
        save_image(f"d/images/{i}.png", (40, 60))
        mask = np.zeros((40, 60), np.uint8)
        mask[10:20, 10 + i : 30] = 255
        save_mask(f"d/masks/{i}.png", mask)
    dataset = read_dataset(tmp_path / "d")
    assert dataset.task == "semantic"
    sheets = {s.name: s for s in look_at(dataset, LookOptions(imgsz=96))}
    assert set(sheets) == {"images", "class-000", "class-001"}
    assert len(sheets["class-001"].cells) == 3
    assert sorted(c.lines[0] for c in sheets["class-001"].cells) == ["180 px", "190 px", "200 px"]


def test_tracks_have_frames_and_strips(tmp_path: Path, save_image) -> None:
    images, objects = [], []
    for i in range(12):
        save_image(f"s/{i:03d}.png", (60, 80))
        images.append({"image_id": i, "path": f"s/{i:03d}.png", "height": 60, "width": 80, "group": "s", "frame": i})
        objects += [
            {**box(5 + 3 * i, 10, 15 + 3 * i, 40), "image_id": i, "track_id": 7},
            *([{**box(50, 10, 60, 30), "image_id": i, "track_id": 9}] if i < 2 else []),
        ]
    dataset = dataset_from_rows(images, objects, CLASSES, root=tmp_path, name="t", task="track", format="made")
    sheets = {s.name: s for s in look_at(dataset, LookOptions(imgsz=96, images=0, per_class=0))}
    assert set(sheets) == {"frames-01-s", "tracks-01-s"}
    strips = sheets["tracks-01-s"].cells
    assert [c.title for c in strips] == ["track 7", "track 9"]
    assert strips[0].lines == ("cell · 12 boxes in frames 0 to 11",)
    assert strips[0].picture.shape[1] > 4 * strips[1].picture.shape[1]
    assert sheets["frames-01-s"].cells[0].lines[0] == "frame 0 · 2 tracks"


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["det_bccd", "coco_nuts", "inst_dsb2018"])
def test_real_data_can_be_looked_at(data_root: Path, name: str) -> None:
    dataset = read_dataset(data_root / name)
    sheets = list(look_at(dataset, LookOptions(images=3, per_class=2, imgsz=128)))
    assert sheets[0].kind == "images"
    used = sum(1 for n in dataset.counts_by_class().values() if n)
    assert len([s for s in sheets if s.kind == "class"]) == used
    assert all(paint_sheet(s).std() > 5 for s in sheets)
