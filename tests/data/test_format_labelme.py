"""LabelMe: every kind of shape, objects of several shapes, image paths, defects with their lines, and round trips."""

import base64
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from sightline.core.errors import DataError
from sightline.data import detect_format, read_dataset, write_dataset
from sightline.ops import rle

SAID = ("x1", "y1", "x2", "y2", "crowd", "ignore", "occlusion", "truncation", "polygon", "rle")
SIZE = (24, 32)


def shape(label: Any, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


def write_json(folder: Path, shapes: Any, name: str = "a", **more: Any) -> Path:
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": None}
    file = folder / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content | {"imageHeight": SIZE[0], "imageWidth": SIZE[1]} | more, indent=1))
    return file


def line_of(file: Path, label: str) -> int:
    """The line on which the shape with a label begins."""
    lines = file.read_text().splitlines()
    return next(i for i, line in enumerate(lines) if f'"label": "{label}"' in line)


def png(mask: np.ndarray[Any, Any]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


TRIANGLE = [[2.5, 3.0], [12.0, 3.0], [12.0, 13.25]]


def test_every_kind_of_shape(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    blob = np.zeros((4, 3), np.uint8)
    blob[1:, :2] = 1
    shapes = [
        shape("poly", TRIANGLE),
        shape("box", [[20, 15], [4.5, 2]], "rectangle"),
        shape("corners", [[1, 2], [9, 2], [9, 8], [1, 8]], "rectangle"),
        shape("disc", [[10, 12], [13, 16]], "circle"),
        shape("mask", [[5, 6], [7, 9]], "mask", mask=png(blob)),
        shape("turned", [[5, 5], [9, 7], [7, 11], [3, 9]], "rotation"),
    ]
    write_json(tmp_path, shapes)
    dataset = read_dataset(tmp_path)
    assert (dataset.format, dataset.task, dataset.findings) == ("labelme", "instance", ())
    rows = {dataset.class_names[r["class_id"]]: r for r in dataset.objects.iter_rows(named=True)}
    box = {name: tuple(row[c] for c in ("x1", "y1", "x2", "y2")) for name, row in rows.items()}
    assert box["poly"] == (2.5, 3, 12, 13.25)
    assert rows["poly"]["polygon"] == [[2.5, 3, 12, 3, 12, 13.25]]
    assert rows["poly"]["area"] == rle.area(rle.from_polygons(rows["poly"]["polygon"], SIZE))
    assert (box["box"], rows["box"]["polygon"]) == ((4.5, 2, 20, 15), None)
    assert (box["corners"], rows["corners"]["polygon"]) == ((1, 2, 9, 8), None)
    assert box["disc"] == (5, 7, 15, 17)
    assert rows["disc"]["area"] == pytest.approx(25 * math.pi, rel=0.03)
    assert box["mask"] == (5, 7, 7, 10)
    assert np.argwhere(rle.decode(rows["mask"]["rle"], SIZE)).tolist() == [[y, x] for y in (7, 8, 9) for x in (5, 6)]
    assert len(rows["turned"]["polygon"][0]) == 8


def test_shapes_of_one_group_and_label_are_one_object(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    far = [[20.0, 15.0], [30.0, 15.0], [30.0, 20.0]]
    blob = np.ones((2, 2), bool)
    shapes = [
        shape("dog", TRIANGLE, group_id=0),
        shape("cat", TRIANGLE, group_id=0),
        shape("dog", far, group_id=0, flags={"crowd": True}),
        shape("pig", [[1, 1], [4, 4]], "rectangle", group_id=1),
        shape("pig", [[6, 6], [7, 7]], "mask", group_id=1, mask=png(blob)),
        shape("dog", far),
    ]
    write_json(tmp_path, shapes)
    dataset = read_dataset(tmp_path)
    assert dataset.counts_by_class() == {"cat": 1, "dog": 2, "pig": 1}
    first, _, pig, _ = dataset.objects.sort("object_id").iter_rows(named=True)
    assert [len(ring) for ring in first["polygon"]] == [6, 6]
    assert first["crowd"]
    assert tuple(first[c] for c in ("x1", "y1", "x2", "y2")) == (2.5, 3, 30, 20)
    assert (pig["area"], pig["polygon"]) == (13, None)  # 3 × 3 pixels and 2 × 2 of the mask


def test_flags_and_special_labels(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    flags = {"difficult": True, "occluded": False, "truncated": True, "blurry": True, "odd": False}
    shapes = [shape("dog", TRIANGLE, flags=flags), shape("__ignore__", TRIANGLE), shape("dog", TRIANGLE[::-1])]
    write_json(tmp_path, shapes, flags={"indoor": True})
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nfox\ndog\n")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("fox", "dog", "__ignore__")
    assert dataset.objects["ignore"].to_list() == [True, True, False]
    assert dataset.objects.select("occlusion", "truncation").rows() == [(0, 1), (None, None), (None, None)]
    told = [(f.code, f.message) for f in dataset.findings if f.code == "layout-unknown-key"]
    assert told == [
        ("layout-unknown-key", "the flag 'blurry' is set 1 times and is not used"),
        ("layout-unknown-key", "the flag 'indoor' is set 1 times and is not used"),
    ]


def test_each_defect_is_found_with_its_line(tmp_path: Path, save_image, judged) -> None:
    save_image("a.png")
    shapes = [
        shape("point", [[1, 1]], "point"),
        shape("line", [[1, 1], [5, 5]], "line"),
        shape("short", [[1, 1], [5, 5]]),
        shape("nan", [[1, 1], [5, "x"], [3, 3]]),
        shape("far", [[1, 1], [5e9, 1], [3, 3]]),
        shape("mask", [[30, 20], [33, 23]], "mask", mask=png(np.ones((4, 4), bool))),
        shape("flat", [[4, 4], [4, 9]], "rectangle"),
        shape("strange", [[4, 4], [4, 9]], "spline"),
        shape("twin", [[4, 4], [9, 9]], "rectangle"),
        shape("twin", [[9, 9], [4, 4]], "rectangle"),
    ]
    file = write_json(tmp_path, shapes, imageWidth=99)
    file.write_text(file.read_text().replace('"shapes": [', '"shapes": [\n7,', 1))
    dataset = judged(read_dataset(tmp_path))
    found = Counter((f.code, f.line) for f in dataset.findings)
    at = {label: line_of(file, label) for label in ("point", "line", "short", "nan", "far", "mask", "flat", "strange")}
    assert found == Counter(
        [
            ("label-malformed", 5),
            ("label-unsupported-shape", at["point"]),
            ("label-unsupported-shape", at["line"]),
            ("label-malformed", at["short"]),
            ("label-malformed", at["nan"]),
            ("label-malformed", at["far"]),
            ("label-bad-segmentation", at["mask"]),
            ("label-out-of-bounds", at["mask"]),
            ("label-degenerate-box", at["flat"]),
            ("label-unsupported-shape", at["strange"]),
            ("label-duplicate", line_of(file, "twin") + 16),
            ("image-size-mismatch", None),
        ]
    )
    assert {f.path for f in dataset.findings} == {"a.json"}
    assert dataset.counts_by_class() == {"flat": 1, "mask": 1, "twin": 2}  # the mask's box is kept


def test_files_that_cannot_be_read(tmp_path: Path, save_image) -> None:
    for name in "abcd":
        save_image(f"{name}.png")
    write_json(tmp_path, [shape("dog", TRIANGLE)])
    (tmp_path / "b.json").write_text('{"shapes": [],\n"imagePath": oops}')
    (tmp_path / "c.json").write_text("[]")
    (tmp_path / "d.json").write_text('{"shapes": 3, "imagePath": "d.png"}')
    (tmp_path / "run.json").write_text('{"command": "x"}')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    data = read_dataset(tmp_path)
    assert len(data) == 4
    found = {(f.code, f.path, f.line) for f in data.findings}
    assert found == {  # and no advice to add a label file where there is one
        ("label-malformed", "b.json", 2),
        ("label-malformed", "c.json", None),
        ("label-malformed", "d.json", None),
        ("label-malformed", "deep.json", None),
        ("layout-unknown-key", "run.json", None),
    }


def test_image_paths_are_relative_to_the_file_and_stay_inside(tmp_path: Path, save_image) -> None:
    save_image("data/images/a.png")
    save_image("data/images/b.png")
    save_image("secret.png")
    labels = tmp_path / "data/labels"
    write_json(labels, [shape("dog", TRIANGLE)], "a", imagePath="../images/a.png")
    write_json(labels, [shape("dog", TRIANGLE)], "b", imagePath="C:\\Users\\me\\b.png")
    write_json(labels, [shape("dog", TRIANGLE)], "c", imagePath="../../secret.png")
    write_json(labels, [shape("dog", TRIANGLE)], "d", imagePath="/etc/passwd")
    dataset = read_dataset(tmp_path / "data")
    assert dataset.images["path"].to_list() == ["images/a.png", "images/b.png"]
    assert [(f.code, f.path) for f in dataset.findings] == [
        ("layout-elsewhere", "labels/b.json"),
        ("image-missing", "labels/c.json"),
        ("image-missing", "labels/d.json"),
    ]
    assert "must stay inside the data set's root" in dataset.findings[2].message


def test_embedded_pictures_are_named_and_not_used(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    write_json(tmp_path, [shape("dog", TRIANGLE)])
    write_json(tmp_path, [shape("dog", TRIANGLE)], "b", imageData="iVBORw0KGgo=")
    dataset = read_dataset(tmp_path)
    assert len(dataset) == dataset.objects.height == 1
    (found,) = dataset.findings
    assert (found.code, found.path) == ("image-missing", "b.json")
    assert "its picture is embedded in the label file" in found.message
    (tmp_path / "a.png").unlink()
    dataset = read_dataset(tmp_path)  # labels without any picture can still be compared with
    assert len(dataset) == dataset.objects.height == 2
    (found,) = dataset.findings
    assert (found.code, found.count) == ("image-missing", 2)
    assert "1 pictures are embedded" in found.message


def test_it_is_told_from_coco(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    coco = {"images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 24}], "annotations": [], "categories": []}
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    assert detect_format(tmp_path) == "coco"
    (tmp_path / "instances.json").unlink()
    write_json(tmp_path, [])
    assert detect_format(tmp_path) == "labelme"


number = st.floats(-40, 80, allow_nan=False).map(lambda v: v + 0.0)
flag = st.sampled_from([None, 0.0, 1.0])


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["box", "polygon", "mask"]))
    row: dict[str, Any] = {"image_id": draw(st.integers(0, 1)), "class_id": draw(st.integers(0, 1))}
    row |= {"crowd": draw(st.booleans()), "ignore": draw(st.booleans())}
    row |= {"occlusion": draw(flag), "truncation": draw(flag)}
    if kind == "box":
        x, y, w, h = draw(number), draw(number), draw(st.floats(0.5, 50)), draw(st.floats(0.5, 50))
        corners = (x, y, x + w, y + h)
    elif kind == "polygon":
        # The first three points span an area, so that the box has one.
        base = [0.5, 0.5, 20.25, 1.5, 3.0, 17.125]
        rings = draw(
            st.lists(st.lists(number, min_size=6, max_size=10).map(lambda r: r[: len(r) // 2 * 2]), max_size=2)
        )
        row["polygon"] = [base, *rings]
        xs, ys = [v for r in row["polygon"] for v in r[::2]], [v for r in row["polygon"] for v in r[1::2]]
        corners = (min(xs), min(ys), max(xs), max(ys))
        row["area"] = float(rle.area(rle.from_polygons(row["polygon"], SIZE)))
    else:
        mask = draw(arrays.arrays(np.bool_, SIZE))
        mask[3, 4] = True
        row["rle"] = rle.encode(mask)
        corners = tuple(rle.to_box(row["rle"], SIZE).tolist())
        row["area"] = float(mask.sum())
    return row | dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(objects=st.lists(drawn(), max_size=5))
def test_what_is_written_reads_back_exactly(tmp_path: Path, made_dataset, object_rows, objects) -> None:
    names = ("wolf; fox", "a <b>", "unused")
    dataset = made_dataset(objects, names, task="instance")
    assert write_dataset(dataset, tmp_path / "out", "labelme") == []
    again = read_dataset(tmp_path / "out")
    assert again.class_names == names
    assert object_rows(again, *SAID, "area") == object_rows(dataset, *SAID, "area")


def test_what_labelme_cannot_hold_is_counted(tmp_path: Path, made_dataset) -> None:
    square = {"image_id": 0, "class_id": 0, "x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 12.0}
    ring = [[1.0, 2.0, 11.0, 2.0, 11.0, 12.5]]
    objects = [
        square | {"occlusion": 0.4, "track_id": 3},
        square | {"polygon": ring},
        square | {"polygon": ring, "x2": 20.0},
        square | {"rle": rle.encode(np.zeros(SIZE))},
    ]
    losses = write_dataset(made_dataset(objects, task="instance"), tmp_path / "out", "labelme")
    assert [(f.code, f.count) for f in losses] == [
        ("loss-attributes", 1),
        ("loss-masks", 1),
        ("loss-rounding", 1),
        ("loss-boxes", 1),
        ("loss-attributes", 1),
    ]
    with pytest.raises(DataError, match="LabelMe needs objects"):
        write_dataset(made_dataset([], task="semantic"), tmp_path / "masks", "labelme")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "task", "counts"),
    [
        ("instance_segmentation", "instance", {"person": 6, "bottle": 1, "sofa": 1, "chair": 1, "bus": 2, "car": 1}),
        ("bbox_detection", "detect", {"person": 6, "bus": 2, "car": 1}),
        ("video_annotation", "instance", {"car": 5, "track": 10}),
    ],
)
def test_real_files(data_root: Path, tmp_path: Path, object_rows, name: str, task: str, counts: dict[str, int]) -> None:
    dataset = read_dataset(data_root / "format_samples/labelme" / name)
    assert (dataset.format, dataset.task, dataset.findings) == ("labelme", task, ())
    used = {k: v for k, v in dataset.counts_by_class().items() if v and k != "__ignore__"}
    assert used == counts
    if name == "instance_segmentation":  # the sofa is four outlines, one of the persons two
        parts = dataset.objects["polygon"].list.len().to_list()
        assert sorted(parts, reverse=True)[:3] == [4, 2, 1]
        assert dataset.objects.filter(dataset.objects["ignore"]).height == 2
    assert write_dataset(dataset, tmp_path, "labelme") == []
    again = read_dataset(tmp_path)
    assert object_rows(again, *SAID) == object_rows(dataset, *SAID)
    assert again.class_names == dataset.class_names


def test_a_class_that_labelme_ignores_is_a_stated_loss(tmp_path: Path, made_dataset) -> None:
    rows = [{"image_id": 0, "class_id": c, "x1": 1, "y1": 2, "x2": 9, "y2": 8} for c in (0, 1)]
    losses = write_dataset(made_dataset(rows, ("__ignore__", "cat")), tmp_path / "out", "labelme")
    assert [(f.code, f.count) for f in losses] == [("loss-to-ignored", 1)]
    assert read_dataset(tmp_path / "out").usable_objects.height == 1
