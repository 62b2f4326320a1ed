"""CVAT XML: every kind of shape, groups, tracks of a video, defects with their lines, and round trips."""

from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sightline.core.errors import DataError
from sightline.data import detect_format, read_dataset, write_dataset
from sightline.ops import rle

SAID = ("x1", "y1", "x2", "y2", "crowd", "ignore", "occlusion", "truncation", "track_id", "polygon", "rle")
SIZE = (24, 32)
META = "<meta><task><name>t</name><size>3</size><labels>{}</labels><source>walk.mp4</source></task></meta>\n"


def labels(*names: str) -> str:
    return META.format("".join(f"<label><name>{name}</name><attributes/></label>" for name in names))


def image(shapes: str, name: str = "a.png", **more: object) -> str:
    extra = "".join(f' {k}="{v}"' for k, v in more.items())
    return f'<image id="0" name="{name}" width="32" height="24"{extra}>\n{shapes}\n</image>\n'


def write_xml(folder: Path, body: str, meta: str = "") -> Path:
    file = folder / "annotations.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"<annotations>\n<version>1.1</version>\n{meta}{body}</annotations>\n"
    file.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}')
    return file


def line_of(file: Path, text: str) -> int:
    return next(i for i, line in enumerate(file.read_text().splitlines(), start=1) if text in line)


BOX = '<box label="{}" occluded="0" xtl="{}" ytl="{}" xbr="{}" ybr="{}" z_order="0"{}></box>'


def test_every_kind_of_shape(tmp_path: Path, save_image) -> None:
    save_image("images/a.png")
    shapes = [
        BOX.format("box", 1.5, 2, 11.25, 9, ""),
        BOX.format("turned", 10, 10, 20, 14, ' rotation="90.0"'),
        '<polygon label="poly" occluded="0" points="2.5,3.0;12.0,3.0;12.0,13.25"/>',
        '<ellipse label="disc" occluded="0" cx="10" cy="12" rx="5" ry="3" rotation="90"/>',
        '<mask label="mask" occluded="0" rle="1, 2, 3" left="4" top="5" width="3" height="2"/>',
    ]
    file = write_xml(tmp_path, image("\n".join(shapes), subset="Validation"), labels("poly", "box", "none"))
    dataset = read_dataset(tmp_path)
    assert (dataset.format, dataset.task) == ("cvat", "instance")
    assert dataset.images.select("path", "split").row(0) == ("images/a.png", "val")
    assert dataset.class_names == ("poly", "box", "none", "disc", "mask", "turned")
    found = [(f.code, f.path, f.line) for f in dataset.findings if f.severity != "info"]
    assert found == [("label-unknown-class", file.name, line_of(file, f'"{n}"')) for n in ("disc", "mask", "turned")]
    rows = {dataset.class_names[r["class_id"]]: r for r in dataset.objects.iter_rows(named=True)}
    box = {name: tuple(row[c] for c in ("x1", "y1", "x2", "y2")) for name, row in rows.items()}
    assert box["box"] == (1.5, 2, 11.25, 9)
    assert box["turned"] == pytest.approx((13, 7, 17, 17))
    assert rows["poly"]["polygon"] == [[2.5, 3, 12, 3, 12, 13.25]]
    assert box["disc"] == pytest.approx((7, 7, 13, 17))
    assert np.argwhere(rle.decode(rows["mask"]["rle"], SIZE)).tolist() == [[5, 5], [5, 6]]
    assert rows["box"]["occlusion"] is None  # a flag that nobody has set says nothing


def test_a_turn_is_clockwise(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    write_xml(tmp_path, image(BOX.format("x", 10, 10, 20, 10.5, ' rotation="10"')))
    (ring,) = read_dataset(tmp_path).objects["polygon"].to_list()[0]
    assert ring[3] > ring[1]  # on the picture, where y grows downwards, the right end goes down


def test_groups_flags_and_attributes(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    said = [("truncated", "true"), ("is_crowd", "1"), ("track_id", "12"), ("pose", "left"), ("ignore", "maybe")]
    inner = "".join(f'<attribute name="{k}">{v}</attribute>' for k, v in said)
    corner = "1,1;5,1;5,5"
    shapes = [
        f'<polygon label="dog" occluded="1" group_id="1" points="{corner}">{inner}</polygon>',
        '<polygon label="dog" occluded="0" group_id="1" points="8,8;12,8;12,12"/>',
        f'<polygon label="cat" occluded="0" group_id="1" points="{corner}"/>',
        f'<polygon label="cat" occluded="0" group_id="0" points="{corner}"/>',
        BOX.format("dog", 1, 1, 5, 5, ' group_id="1"'),
    ]
    write_xml(tmp_path, image("\n".join(shapes)))
    dataset = read_dataset(tmp_path)
    assert dataset.counts_by_class() == {"cat": 2, "dog": 2}
    dog = dataset.objects.row(0, named=True)
    assert [len(ring) for ring in dog["polygon"]] == [6, 6]
    assert (dog["occlusion"], dog["truncation"], dog["crowd"], dog["track_id"]) == (1, 1, True, 12)
    assert dataset.objects["occlusion"].to_list()[1:] == [0, 0, 0]
    assert [(f.code, f.message) for f in dataset.findings if f.code == "layout-unknown-key"] == [
        ("layout-unknown-key", "the attribute 'ignore' of 1 shapes is not used"),
        ("layout-unknown-key", "the attribute 'pose' of 1 shapes is not used"),
    ]


def test_each_defect_is_found_with_its_line(tmp_path: Path, save_image, judged) -> None:
    save_image("a.png")
    save_image("b.png")
    wrapping = f"{2**62}, {2**62}, {2**62}, {2**62}, 6"  # 6 in 64 bits
    shapes = [
        '<points label="p" occluded="0" points="1,1"/>',
        '<points label="q" occluded="0" points="1,1"/>',
        '<polyline label="l" occluded="0" points="1,1;2,2"/>',
        '<tag label="t" source="manual"/>',
        '<skeleton label="s"><points label="part" points="1,1"/></skeleton>',
        '<polygon label="short" occluded="0" points="1,1;2,2"/>',
        '<polygon label="huge" occluded="0" points="1,1;2e9,2;3,3"/>',
        BOX.format("nan", "NaN", 1, 2, 3, ""),
        BOX.format("", 1, 1, 2, 3, ""),
        BOX.format("flat", 5, 1, 5, 3, ""),
        '<mask label="m1" occluded="0" rle="1,x" left="4" top="5" width="3" height="2"/>',
        '<mask label="m2" occluded="0" rle="1, 4" left="8" top="5" width="3" height="2"/>',
        '<mask label="m3" occluded="0" rle="0, 6" left="30" top="5" width="3" height="2"/>',
        f'<mask label="m4" occluded="0" rle="{wrapping}" left="1" top="5" width="3" height="2"/>',
    ]
    body = image("\n".join(shapes)) + image("", "gone.png") + image("", "../secret.png")
    file = write_xml(tmp_path, body + '<image id="3" name="b.png" width="9" height="9">\n</image>\n')
    dataset = judged(read_dataset(tmp_path))
    found = Counter((f.code, f.line, f.count) for f in dataset.findings)
    assert found == Counter(
        [
            ("label-unsupported-shape", line_of(file, '"p"'), 2),
            ("label-unsupported-shape", line_of(file, '"l"'), 1),
            ("label-unsupported-shape", line_of(file, '"t"'), 1),
            ("label-unsupported-shape", line_of(file, '"s"'), 1),
            ("label-malformed", line_of(file, '"short"'), 1),
            ("label-malformed", line_of(file, '"huge"'), 1),
            ("label-malformed", line_of(file, '"nan"'), 1),
            ("label-malformed", line_of(file, '<box label=""'), 1),
            ("label-degenerate-box", line_of(file, '"flat"'), 1),
            *(("label-bad-segmentation", line_of(file, f'"m{i}"'), 1) for i in (1, 2, 3, 4)),
            ("image-missing", line_of(file, "gone.png"), 1),
            ("image-missing", line_of(file, "secret.png"), 1),
            ("image-size-mismatch", line_of(file, "b.png"), 1),
        ]
    )
    assert {f.path for f in dataset.findings} == {"annotations.xml"}
    assert dataset.counts_by_class() == {"flat": 1, "m1": 1, "m2": 1, "m3": 1, "m4": 1}  # the masks' boxes are kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<!DOCTYPE a [<!ENTITY x "xxxx"><!ENTITY y "&x;&x;">]><annotations>&y;</annotations>', "entities"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>', "entities"),
        ("<annotations>" * 3000, "nested"),
        ("<annotations>" + "x" * 2**21, "text in an annotation must be shorter"),
    ],
)
def test_bombs_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    (found,) = read_dataset(tmp_path).findings
    assert (found.code, found.path) == ("label-malformed", "annotations.xml")
    assert said in found.message
    assert found.line is not None


def test_what_stands_before_the_damage_is_read(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    file = write_xml(tmp_path, image(BOX.format("dog", 1, 1, 9, 9, "")) + image("<box <"))
    dataset = read_dataset(tmp_path)
    assert dataset.objects.height == 1
    assert [(f.code, f.line) for f in dataset.findings if f.code == "label-malformed"] == [
        ("label-malformed", line_of(file, "<box <"))
    ]


def test_labels_without_pictures_can_be_compared_with(tmp_path: Path) -> None:
    write_xml(tmp_path, image(BOX.format("dog", 1, 1, 9, 9, "")) + image("", "b.png"))
    dataset = read_dataset(tmp_path / "annotations.xml")
    assert dataset.images.select("path", "width", "height").rows() == [("a.png", 32, 24), ("b.png", 32, 24)]
    assert [(f.code, f.count) for f in dataset.findings] == [("image-missing", 2)]


def test_labels_of_a_skeletons_parts_are_no_classes(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    parts = "<label><name>elbow</name><parent>body</parent></label>"
    write_xml(tmp_path, image(""), META.format(f"<label><name>body</name></label>{parts}"))
    assert read_dataset(tmp_path).class_names == ("body",)


TRACKS = """<track id="3" label="car" source="manual">
<box frame="0" keyframe="1" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9" z_order="0"/>
<box frame="1" keyframe="0" outside="0" occluded="1" xtl="2.5" ytl="1" xbr="10.5" ybr="9" z_order="0"/>
<box frame="2" keyframe="1" outside="1" occluded="0" xtl="3" ytl="1" xbr="11" ybr="9" z_order="0"/>
</track>
<track id="4" label="dog" source="manual">
<polygon frame="1" keyframe="1" outside="0" occluded="0" points="1,1;5,1;5,5"/>
<box frame="7" keyframe="1" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
<box frame="x" keyframe="1" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
</track>
"""


@pytest.mark.parametrize(
    "names", [("frame_000000.PNG", "frame_000001.PNG", "frame_000002.PNG"), ("x.png", "y.png", "z.png")]
)
def test_tracks_of_a_video(tmp_path: Path, save_image, names: tuple[str, ...]) -> None:
    for name in names:
        save_image(f"images/{name}")
    file = write_xml(tmp_path, TRACKS, labels("car", "dog"))
    dataset = read_dataset(tmp_path)
    assert dataset.task == "track"
    images = [(f"images/{name}", "walk.mp4", frame) for frame, name in enumerate(names)]
    assert dataset.images.select("path", "group", "frame").rows() == images
    columns = ("image_id", "class_id", "x1", "x2", "occlusion", "track_id")
    assert dataset.objects.select(columns).rows() == [(0, 0, 1, 9, 0, 3), (1, 0, 2.5, 10.5, 1, 3), (1, 1, 1, 5, 0, 4)]
    assert [(f.code, f.line) for f in dataset.findings] == [
        ("track-frame-range", line_of(file, 'frame="7"')),
        ("label-malformed", line_of(file, 'frame="x"')),
    ]


def test_tracks_without_frames_are_refused(tmp_path: Path, save_image) -> None:
    write_xml(tmp_path, TRACKS, labels("car", "dog"))
    with pytest.raises(DataError, match=r"tracks need the frames of one task as pictures .*, got 0 other pictures"):
        read_dataset(tmp_path)
    save_image("a.png")
    with pytest.raises(DataError, match="got 1 other pictures"):
        read_dataset(tmp_path)


def test_it_is_told_from_voc(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    write_xml(tmp_path, image(""))
    assert detect_format(tmp_path) == detect_format(tmp_path / "annotations.xml") == "cvat"
    (tmp_path / "annotations.xml").unlink()
    (tmp_path / "a.xml").write_text("<annotation><filename>a.png</filename></annotation>")
    assert detect_format(tmp_path) == "voc"


number = st.floats(-40, 80, allow_nan=False).map(lambda v: v + 0.0)
share = st.sampled_from([None, 0.0, 1.0, 0.3])


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["box", "polygon", "mask"]))
    row: dict[str, Any] = {"image_id": draw(st.integers(0, 1)), "class_id": draw(st.integers(0, 1))}
    row |= {"crowd": draw(st.booleans()), "ignore": draw(st.booleans())}
    row |= {"occlusion": draw(share), "truncation": draw(share)}
    row["track_id"] = draw(st.one_of(st.none(), st.integers(0, 2**40)))
    if kind == "box":
        x, y, w, h = draw(number), draw(number), draw(st.floats(0.5, 50)), draw(st.floats(0.5, 50))
        corners = (x, y, x + w, y + h)
    elif kind == "polygon":
        base = [0.5, 0.5, 20.25, 1.5, 3.0, 17.125]
        row["polygon"] = [base, *draw(st.lists(st.lists(number, min_size=6, max_size=6), max_size=2))]
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
    names = ('fox; "x" & y', "a <b>", "unused")
    dataset = made_dataset(objects, names, task="instance")
    assert write_dataset(dataset, tmp_path / "out", "cvat") == []
    again = read_dataset(tmp_path / "out")
    assert again.class_names == names
    assert again.images.equals(dataset.images)
    assert object_rows(again, *SAID, "area") == object_rows(dataset, *SAID, "area")


def test_written_file_declares_what_it_uses(tmp_path: Path, made_dataset) -> None:
    square = {"image_id": 0, "class_id": 0, "x1": 1.0, "y1": 2.0, "x2": 11.5, "y2": 12.0, "ignore": True}
    write_dataset(made_dataset([square | {"occlusion": 1.0, "track_id": 5}]), tmp_path / "out", "cvat")
    root = ET.parse(tmp_path / "out/annotations.xml").getroot()
    declared = {
        a.findtext("name"): a.findtext("input_type") for a in root.iter("attribute") if a.find("name") is not None
    }
    assert declared == {"ignore": "checkbox", "track_id": "text"}
    first = root.find("image")
    assert first is not None
    assert (first.get("name"), first.get("subset"), first.get("width")) == ("a.png", "train", "32")
    (box,) = first.findall("box")
    assert [box.get(k) for k in ("label", "occluded", "xtl", "ytl", "xbr", "ybr")] == [
        "dog",
        "1",
        "1",
        "2",
        "11.5",
        "12",
    ]


def test_what_cvat_cannot_hold_is_counted(tmp_path: Path, made_dataset) -> None:
    square = {"image_id": 0, "class_id": 0, "x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 12.0}
    ring = [[1.0, 2.0, 11.0, 2.0, 11.0, 12.5]]
    objects = [
        square | {"keypoints": [1.0, 2.0, 2.0]},
        square | {"polygon": ring},
        square | {"polygon": ring, "x2": 20.0},
        square | {"rle": rle.encode(np.zeros(SIZE))},
    ]
    losses = write_dataset(made_dataset(objects, task="instance"), tmp_path / "out", "cvat")
    assert [(f.code, f.count) for f in losses] == [
        ("loss-masks", 1),
        ("loss-rounding", 1),
        ("loss-boxes", 1),
        ("loss-keypoints", 1),
    ]
    with pytest.raises(DataError, match="CVAT needs objects"):
        write_dataset(made_dataset([], task="semantic"), tmp_path / "masks", "cvat")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["cvat", "labelme"])
def test_real_polygons_survive_the_formats_of_label_tools(
    data_root: Path, tmp_path: Path, object_rows, name: str
) -> None:
    dataset = read_dataset(data_root / "coco_nuts")
    losses = write_dataset(dataset, tmp_path, name)
    again = read_dataset(tmp_path)
    assert {f.code for f in losses} <= {"loss-rounding", "loss-boxes"}
    assert object_rows(again, "polygon", "crowd") == object_rows(dataset, "polygon", "crowd")


@pytest.mark.parametrize("subset", ["a/../../../evil", "..", "x\\y"])
def test_a_subset_that_no_file_can_be_named_after_is_no_split(tmp_path: Path, save_image, subset: str) -> None:
    save_image("a.png")
    box = '<box label="x" xtl="1" ytl="2" xbr="10" ybr="9"/>'
    image = f'<image id="0" name="a.png" width="32" height="24" subset="{subset}">{box}</image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>\n{image}\n</annotations>")
    dataset = read_dataset(tmp_path)
    assert (dataset.splits, dataset.objects.height) == ([], 1)
    (found,) = [f for f in dataset.findings if f.code == "layout-unknown-key"]
    assert (found.line, "is no name that a split can have" in found.message) == (2, True)
