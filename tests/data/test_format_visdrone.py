"""VisDrone-DET: its categories, steps and ignored regions, defects with their lines, and what is lost in writing."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline.core.errors import DataError
from sightline.data import detect_format, read_dataset, write_dataset

SAID = ("x1", "y1", "x2", "y2", "ignore", "occlusion", "truncation")


@pytest.fixture
def folder(tmp_path: Path, save_image) -> Path:
    for split, name in (("train", "a"), ("val", "b")):
        save_image(f"VisDrone2019-DET-{split}/images/{name}.jpg")
        (tmp_path / f"VisDrone2019-DET-{split}/annotations").mkdir()
    rows = "1,2,8,9,1,4,0,0\n10,2,5,6,1,1,1,2,\n0,0,9,4,0,0,0,0\n20,3,4,4,1,11,0,1\n"
    (tmp_path / "VisDrone2019-DET-train/annotations/a.txt").write_text(rows)
    (tmp_path / "VisDrone2019-DET-val/annotations/b.txt").write_text("3,3,4,5,0,9,-1,-1\n")
    return tmp_path


def test_rows(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert (dataset.format, dataset.task, dataset.findings) == ("visdrone", "detect", ())
    assert dataset.class_names[:10] == (
        *("pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor"),
    )
    assert dataset.class_names[10:] == ("ignored regions", "others")
    assert dataset.classes["source_id"].to_list() == [*range(1, 11), 0, 11]
    assert dataset.images["split"].to_list() == ["train", "val"]
    columns = ("class_id", "x1", "y1", "x2", "y2", "ignore", "truncation", "occlusion")
    assert dataset.objects.select(columns).rows() == [
        (3, 1, 2, 9, 11, False, 0, 0),
        (0, 10, 2, 15, 8, False, 0.25, 0.75),
        (10, 0, 0, 9, 4, True, 0, 0),
        (11, 20, 3, 24, 7, True, 0, 0.25),
        (8, 3, 3, 7, 8, True, None, None),
    ]


def test_each_defect_is_found_with_its_line(folder: Path, save_image, judged) -> None:
    a = "VisDrone2019-DET-train/annotations/a.txt"
    rows = [
        "1,2,8,9,1,4,0,0",
        "1,2,8,9,1,4,0",
        "1,2,x,9,1,4,0,0",
        "1,2,8,9,1,12,0,0",
        "1,2,0,9,1,4,0,0",
        "",
        "30,2,8,9,1,4,0,0",
    ]
    (folder / a).write_text("\n".join(rows))
    (folder / "VisDrone2019-DET-train/annotations/gone.txt").write_text("")
    save_image("VisDrone2019-DET-train/images/new.jpg")
    (folder / "VisDrone2019-DET-val/annotations/b.txt").write_text("\n")
    found = {(f.code, f.path, f.line) for f in judged(read_dataset(folder)).findings}
    assert found == {
        ("label-malformed", a, 2),
        ("label-malformed", a, 3),
        ("label-unknown-class", a, 4),
        ("label-degenerate-box", a, 5),
        ("label-out-of-bounds", a, 7),
        ("label-orphan", "VisDrone2019-DET-train/annotations/gone.txt", None),
        ("label-missing-file", "VisDrone2019-DET-train/images/new.jpg", None),
        ("label-empty-file", "VisDrone2019-DET-val/annotations/b.txt", None),
    }


def test_it_is_told_from_the_other_text_formats(folder: Path, tmp_path: Path, save_image) -> None:
    assert detect_format(folder / "VisDrone2019-DET-train") == "visdrone"
    save_image("video/images/a.jpg")
    (tmp_path / "video/annotations").mkdir()
    (tmp_path / "video/annotations/a.txt").write_text("1,0,593,43,174,190,0,0,0,0\n")  # VisDrone-VID has ten numbers
    assert detect_format(tmp_path / "video") is None
    save_image("yolo/images/a.jpg")
    (tmp_path / "yolo/labels").mkdir()
    (tmp_path / "yolo/labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert detect_format(tmp_path / "yolo") == "yolo"


share = st.sampled_from([None, 0.0, 0.25])
side, place = st.integers(1, 40), st.integers(-20, 60)


def boxes(names: tuple[str, ...]) -> st.SearchStrategy[list[dict[str, object]]]:
    def make(x: int, y: int, w: int, h: int, image: int, label: int, ignore: bool, **said: object) -> dict[str, object]:
        corners = {"x1": float(x), "y1": float(y), "x2": float(x + w), "y2": float(y + h)}
        never = names[label] in {"ignored regions", "others"}
        return {"image_id": image, "class_id": label, **corners, "ignore": ignore or never, **said}

    row = st.builds(
        make,
        *(place, place, side, side, st.integers(0, 1), st.integers(0, len(names) - 1), st.booleans()),
        occlusion=st.one_of(share, st.just(0.75)),
        truncation=share,
    )
    return st.lists(row, max_size=8)


OWN = ("car", "ignored regions", "motor", "others")
OTHER = ("cell", "a, b", "car")


@pytest.mark.parametrize("names", [OWN, OTHER])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whole_pixels_read_back_exactly(tmp_path: Path, made_dataset, object_rows, names, data) -> None:
    dataset = made_dataset(data.draw(boxes(names)), names)
    assert write_dataset(dataset, tmp_path / "-".join(names), "visdrone") == []
    again = read_dataset(tmp_path / "-".join(names), format="visdrone")
    assert object_rows(again, *SAID) == object_rows(dataset, *SAID)
    assert set(names) <= set(again.class_names)
    assert again.class_names == names or names == OWN


def test_what_is_written_for_others_to_read(tmp_path: Path, made_dataset) -> None:
    car = {"image_id": 0, "class_id": 0, "x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 12.0, "occlusion": 0.75}
    write_dataset(made_dataset([car], OWN), tmp_path / "own", "visdrone")
    assert (tmp_path / "own/VisDrone2019-DET-train/annotations/a.txt").read_text() == "1,2,10,10,1,4,-1,2\n"
    assert (tmp_path / "own/VisDrone2019-DET-val/annotations/b.txt").read_text() == ""
    assert not (tmp_path / "own/classes.txt").exists()
    write_dataset(made_dataset([car], OTHER), tmp_path / "other", "visdrone")
    assert (tmp_path / "other/train/annotations/a.txt").read_text() == "1,2,10,10,1,1,-1,2\n"
    assert (tmp_path / "other/classes.txt").read_text() == "cell\na, b\ncar\n"


def test_what_visdrone_cannot_hold_is_counted(tmp_path: Path, made_dataset) -> None:
    square = {"image_id": 0, "class_id": 0, "x1": 1.0, "y1": 2.0, "x2": 11.0, "y2": 12.0}
    objects = [
        square | {"crowd": True},
        square | {"x1": 1.25},
        square | {"x1": 10.9},
        square | {"occlusion": 0.4, "truncation": 0.9},
        square | {"class_id": 1},
        square | {"polygon": [[1.0, 2.0, 11.0, 2.0, 11.0, 12.0]]},
    ]
    losses = write_dataset(made_dataset(objects, ("car", "others"), task="instance"), tmp_path / "out", "visdrone")
    assert [(f.code, f.count) for f in losses] == [
        ("loss-attributes", 1),
        ("loss-crowd", 1),
        ("loss-masks", 1),
        ("loss-rounding", 2),
        ("loss-to-ignored", 1),
    ]
    again = read_dataset(tmp_path / "out").objects
    assert again["ignore"].to_list() == [True, False, False, False, True, False]
    assert again.select("x1", "x2").rows()[:3] == [(1, 11), (1, 11), (11, 12)]
    assert again.row(3, named=True)["truncation"] == 0.25
    with pytest.raises(DataError, match="VisDrone needs objects"):
        write_dataset(made_dataset([], task="semantic"), tmp_path / "masks", "visdrone")


def test_data_without_any_object_and_late_rows_are_recognised(tmp_path: Path, save_image) -> None:
    for number in range(12):
        save_image(f"images/{number:02d}.png")
        text = "\ufeff1,2,10,10,1,4,0,0\r\n" if number == 11 else ""
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/{number:02d}.txt").write_text(text, encoding="utf-8")
    assert read_dataset(tmp_path).objects.height == 1
    (tmp_path / "annotations/11.txt").write_text("")
    assert (read_dataset(tmp_path).format, read_dataset(tmp_path).objects.height) == ("visdrone", 0)
