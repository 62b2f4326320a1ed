"""YOLO: data YAMLs, lists and plain folders; defects with their lines; a round trip within the printed precision."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import ConfigError, DataError
from sightline.core.findings import Finding
from sightline.data import read_dataset, write_dataset
from sightline.ops import rle


@pytest.fixture
def folder(tmp_path: Path, save_image):
    """Two images of 32 × 24 in train, one in val, labels for each, and a data YAML."""
    for name in ("train/a", "train/b", "val/c"):
        save_image(f"images/{name}.png")
        label = tmp_path / f"labels/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.25 0.5\n")
    write_yaml(tmp_path, train="images/train", val="images/val", names=["cat", "dog"])
    return tmp_path


def write_yaml(folder: Path, **values: object) -> Path:
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def codes(findings: tuple[Finding, ...]) -> list[tuple[str, str | None, int | None]]:
    return [(f.code, f.path, f.line) for f in findings]


def test_data_yaml(folder: Path) -> None:
    for path in (folder, folder / "data.yaml"):
        dataset = read_dataset(path)
        assert dataset.format == "yolo"
        assert dataset.task == "detect"
        assert dataset.class_names == ("cat", "dog")
        assert dataset.images["path"].to_list() == ["images/train/a.png", "images/train/b.png", "images/val/c.png"]
        assert dataset.images["split"].to_list() == ["train", "train", "val"]
        assert dataset.objects.select("x1", "y1", "x2", "y2").rows() == [(12, 6, 20, 18)] * 3
        assert dataset.objects["area"].to_list() == [96] * 3
        assert dataset.findings == ()


def test_names_may_be_a_sparse_mapping(folder: Path) -> None:
    write_yaml(folder, train="images/train", names={2: "cat", 0: "dog"})
    (folder / "labels/train/a.txt").write_text("2 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.2 0.2\n")
    dataset = read_dataset(folder)
    assert dataset.class_names == ("dog", "cat")
    assert dataset.classes["source_id"].to_list() == [0, 2]
    assert dataset.objects["class_id"].to_list() == [1, 0]
    assert codes(dataset.findings) == [
        ("label-unknown-class", "labels/train/a.txt", 2),
        ("image-unlisted", "images/val/c.png", None),
    ]


def test_polygons_and_boxes_may_be_mixed(folder: Path) -> None:
    (folder / "labels/train/a.txt").write_text("1 0.25 0.25 0.5 0.25 0.5 0.75\n0 0.5 0.5 0.25 0.5\n")
    dataset = read_dataset(folder)
    assert dataset.task == "instance"
    first, second = dataset.objects.rows(named=True)[:2]
    assert first["polygon"] == [[8, 6, 16, 6, 16, 18]]
    assert (first["x1"], first["y1"], first["x2"], first["y2"], first["area"]) == (8, 6, 16, 18, 48)
    assert second["polygon"] is None


def test_each_defect_is_found_with_its_line(folder: Path, save_image, judged) -> None:
    (folder / "labels/train/a.txt").write_text(
        "0 0.5 0.5 0.25 0.5\n"
        "\n"
        "0 0.5 0.5 0 0.5\n"  # 3: no area
        "0 0.9 0.5 0.5 0.5\n"  # 4: outside
        "0 0.5 0.5\n"  # 5: too short
        "0 0.5 0.5 nan 0.5\n"  # 6: not finite
        "9 0.5 0.5 0.25 0.5\n"  # 7: unknown class
        "0 16 12 8 12\n"  # 8: pixels
        "0 0.5 0.5 0.25 0.5\n"  # 9: twice
        "0.5 0.5 0.5 0.25 0.5\n"  # 10: no class id
        "1 0.5 0.5 0.05 0.1\n"  # 11: tiny
        "0 0.5 x 0.25 0.5\n"  # 12: no number
        "1 0.5 0.5 0.2 0.2 0.9\n"  # 13: six numbers
    )
    (folder / "labels/train/b.txt").write_text("")
    (folder / "labels/val/c.txt").unlink()
    (folder / "labels/val/orphan.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (folder / "images/train/broken.png").write_bytes(b"nothing")
    dataset = judged(read_dataset(folder))
    a = "labels/train/a.txt"
    assert sorted(codes(dataset.findings), key=str) == sorted(
        [
            ("label-degenerate-box", a, 3),
            ("label-out-of-bounds", a, 4),
            ("label-malformed", a, 5),
            ("label-malformed", a, 6),
            ("label-unknown-class", a, 7),
            ("label-mixed-coordinates", a, 8),
            ("label-not-normalised", a, 8),
            ("label-duplicate", a, 9),
            ("label-unknown-class", a, 10),
            ("label-tiny", a, 11),
            ("label-malformed", a, 12),
            ("label-malformed", a, 13),
            ("label-empty-file", "labels/train/b.txt", None),
            ("label-missing-file", "images/val/c.png", None),
            ("label-orphan", "labels/val/orphan.txt", None),
            ("image-unreadable", "images/train/broken.png", None),
        ],
        key=str,
    )
    # 12 rows: 6 are no objects, 6 are there, of which two are ignored.
    assert dataset.objects.height == 6
    assert dataset.objects["ignore"].sum() == 2
    assert len(dataset) == 3


def test_label_that_is_no_text_is_reported(folder: Path) -> None:
    (folder / "labels/train/a.txt").write_bytes(b"\xff\xfe\x00")
    assert [(f.code, f.path) for f in read_dataset(folder).findings] == [("label-malformed", "labels/train/a.txt")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vall": "images/val"}, "unknown key 'vall' (nearest: val)"),
        ({"valid": "images/val"}, "unknown key 'valid' (nearest: val)"),
        ({"name": ["x"]}, "unknown key 'name' (nearest: names)"),
        ({"train": "images/trian"}, "'train' must be a folder or list that exists, got 'images/trian'"),
        ({"train": 5}, "'train' must be a path or a list of paths, got 5"),
        ({"path": "nowhere"}, "'path' must be a folder relative to the file that names it, got 'nowhere'"),
        ({"nc": 3}, "'nc' must be the number of names (2), got 3"),
        ({"names": {"a": "cat"}}, "the keys of 'names' must be integers"),
        ({"names": 4}, "'names' must be a list or an id: name mapping"),
    ],
)
def test_wrong_yaml_is_one_sentence(folder: Path, changes: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"train": "images/train", "val": "images/val", "names": ["cat", "dog"]}
    if "name" in changes:
        del values["names"]
    file = write_yaml(folder, **(values | changes))
    with pytest.raises((ConfigError, DataError)) as raised:
        read_dataset(folder)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(file))


def test_yaml_with_python_tags_is_refused(folder: Path) -> None:
    (folder / "data.yaml").write_text("train: !!python/object/apply:os.getcwd []\nnames: [a]\n")
    with pytest.raises(ConfigError, match="must be valid YAML"):
        read_dataset(folder / "data.yaml")


def test_keys_of_other_tools_are_accepted_and_unknown_ones_noted(folder: Path) -> None:
    values = {"nc": 1, "roboflow": {"url": "x"}, "colour_space": "rgb"}
    write_yaml(folder, train="images/train", val="images/val", names=["cat"], **values)
    assert [(f.code, f.message) for f in read_dataset(folder).findings] == [
        ("layout-unknown-key", "the key 'colour_space' is not used")
    ]


def test_paths_written_relative_to_another_folder_are_found_and_noted(folder: Path) -> None:
    write_yaml(folder, train="../images/train", val="images/val", names=["cat", "dog"])
    dataset = read_dataset(folder)
    assert len(dataset) == 3
    assert [f.code for f in dataset.findings] == ["layout-elsewhere"]


def test_image_lists(folder: Path) -> None:
    (folder / "train.txt").write_text("./images/train/a.png\n\nimages/val/c.png\nimages/train/gone.png\n")
    write_yaml(folder, train="train.txt", names=["cat", "dog"])
    dataset = read_dataset(folder)
    assert dataset.images["path"].to_list() == ["images/train/a.png", "images/val/c.png"]
    assert ("image-missing", "train.txt", 4) in codes(dataset.findings)
    assert dataset.objects.height == 2


@pytest.mark.parametrize("line", ["../outside.png", "/etc/passwd", "images/../../x.png"])
def test_lists_may_not_leave_the_root(folder: Path, line: str) -> None:
    (folder / "train.txt").write_text(f"./images/train/a.png\n{line}\n")
    write_yaml(folder, train="train.txt", names=["cat", "dog"])
    with pytest.raises(DataError, match=r"train.txt:2: a path in a label file must stay inside"):
        read_dataset(folder)


def test_folders_without_a_yaml(folder: Path) -> None:
    (folder / "data.yaml").unlink()
    dataset = read_dataset(folder)
    assert dataset.splits == ["train", "val"]
    assert dataset.class_names == ("class_0",)
    assert [f.code for f in dataset.findings] == ["class-names-missing"]
    (folder / "classes.txt").write_text("cat\ndog\n")
    assert read_dataset(folder).class_names == ("cat", "dog")


def test_images_and_labels_side_by_side(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (tmp_path / "things.names").write_text("cat\ndog\n")
    dataset = read_dataset(tmp_path)
    assert dataset.counts_by_class() == {"cat": 0, "dog": 1}
    assert dataset.findings == ()


def test_folders_of_an_export_service(tmp_path: Path, save_image) -> None:
    for split in ("train", "valid"):
        save_image(f"{split}/images/{split}.png")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / f"{split}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert read_dataset(tmp_path).splits == ["train", "val"]


def test_no_label_at_all_is_refused(folder: Path) -> None:
    for file in (folder / "labels").rglob("*.txt"):
        file.unlink()
    with pytest.raises(DataError, match="at least one image must have a label file, got none for 3 images"):
        read_dataset(folder)


def test_train_and_val_at_the_same_images(folder: Path) -> None:
    write_yaml(folder, train="images/train", val="images/train", names=["cat", "dog"])
    dataset = read_dataset(folder)
    assert [(f.code, f.count, f.severity) for f in dataset.findings] == [
        ("split-overlap-path", 2, "error"),
        ("image-unlisted", 1, "warning"),
    ]
    assert len(dataset) == 2


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip_within_the_printed_precision(tmp_path: Path, data: st.DataObject) -> None:
    size_wh = data.draw(st.tuples(st.integers(8, 64), st.integers(8, 64)))
    Image.new("RGB", size_wh).save(tmp_path / "a.png")
    unit = st.floats(0, 1, allow_subnormal=False)
    rows = []
    for corners in data.draw(st.lists(st.tuples(unit, unit, unit, unit), max_size=5)):
        x, y = np.sort(np.array(corners[:2])) * size_wh[0], np.sort(np.array(corners[2:])) * size_wh[1]
        flat = x[1] - x[0] < 1e-5 or y[1] - y[0] < 1e-5
        box = {"x1": x[0], "y1": y[0], "x2": x[1] + flat, "y2": y[1] + flat}
        polygon = [[box["x1"], box["y1"], box["x2"], box["y1"], box["x2"], box["y2"]]]
        rows.append({"image_id": 0, "class_id": 0, **box, "polygon": data.draw(st.sampled_from([polygon, None]))})
    before = dataset_from_rows(
        [{"image_id": 0, "path": "a.png", "width": size_wh[0], "height": size_wh[1], "split": "train"}],
        rows,
        [{"class_id": 0, "name": "x"}],
        root=tmp_path,
        name="x",
        task="instance",
        format="none",
    )
    outside = sum(row["x2"] > size_wh[0] or row["y2"] > size_wh[1] for row in rows)  # the flat ones, made wider
    losses = write_dataset(before, tmp_path / "out", "yolo")
    assert [(f.code, f.count) for f in losses] == ([("loss-outside", outside)] if outside else [])
    after = read_dataset(tmp_path / "out")
    columns = ["x1", "y1", "x2", "y2"]
    assert np.allclose(before.objects.select(columns), after.objects.select(columns), rtol=0, atol=64 * 2e-8)
    for old, new in zip(before.objects["polygon"].to_list(), after.objects["polygon"].to_list(), strict=True):
        assert (old is None) == (new is None)
        assert old is None or np.allclose(old[0], new[0], rtol=0, atol=64 * 2e-8)


def test_losses_are_counted(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    box = {"image_id": 0, "class_id": 0, "x1": 1, "y1": 1, "x2": 9, "y2": 9}
    parts = [[1, 1, 5, 1, 5, 5], [6, 6, 9, 6, 9, 9, 6, 9]]
    mask = np.zeros((24, 32), bool)
    mask[2:9, 3:12] = True
    rows = [
        box,
        box | {"x1": 2, "crowd": True},
        box | {"x1": 3, "ignore": True},
        box | {"x1": 4, "polygon": parts},
        box | {"x1": 3, "y1": 2, "x2": 12, "rle": rle.encode(mask)},
        box | {"x1": 5, "occlusion": 0.5},
    ]
    dataset = dataset_from_rows(
        [{"image_id": 0, "path": "a.png", "width": 32, "height": 24}],
        rows,
        [{"class_id": 0, "name": "x"}],
        root=tmp_path,
        name="x",
        task="instance",
        format="none",
    )
    losses = write_dataset(dataset, tmp_path / "out", "yolo")
    expected = ["loss-attributes", "loss-boxes", "loss-crowd", "loss-ignore", "loss-parts", "loss-splits"]
    assert {f.code: f.count for f in losses} == dict.fromkeys(expected, 1)
    after = read_dataset(tmp_path / "out")
    assert after.objects.height == 4
    assert np.allclose(after.objects["polygon"][1][0].to_list(), parts[1], atol=1e-6)  # the larger part
    outline = after.objects.row(2, named=True)
    assert (outline["x1"], outline["y1"], outline["x2"], outline["y2"]) == pytest.approx((3, 2, 12, 9))


def test_writing_labels_only_needs_the_images_in_place(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)
    with pytest.raises(DataError, match="images must lie below"):
        write_dataset(dataset, tmp_path / "elsewhere", "yolo", copy_images=False)
    write_dataset(dataset, folder, "yolo", copy_images=False)
    assert read_dataset(folder).objects.height == 3


def _images_only(root: Path, *paths: str) -> Dataset:
    images = [{"image_id": i, "path": p, "width": 32, "height": 24} for i, p in enumerate(paths)]
    classes = [{"class_id": 0, "name": "x"}]
    return dataset_from_rows(images, [], classes, root=root, name="x", task="detect", format="none")


@pytest.mark.parametrize("format_name", ["coco", "yolo"])
def test_a_missing_image_is_refused_before_anything_is_written(tmp_path: Path, save_image, format_name: str) -> None:
    save_image("a.png")
    with pytest.raises(DataError, match="got 1 of 2 missing"):
        write_dataset(_images_only(tmp_path, "a.png", "gone.png"), tmp_path / "out", format_name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("other", ["a.jpg", "images/a.png"])
def test_images_that_would_share_a_label_file_are_refused(tmp_path: Path, save_image, other: str) -> None:
    save_image("a.png")
    save_image(other)
    with pytest.raises(DataError, match="every image must have a label file of its own"):
        write_dataset(_images_only(tmp_path, "a.png", other), tmp_path / "out", "yolo")
    assert not (tmp_path / "out").exists()


def test_oriented_boxes_are_read_as_outlines_and_named(folder: Path) -> None:
    turned = "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n"  # at 32 x 24 pixels the sides are equal, the diagonals are not
    square = "1 0.5 0.16666667 0.75 0.5 0.5 0.83333333 0.25 0.5\n"
    (folder / "labels/train/a.txt").write_text(square)
    (folder / "labels/train/b.txt").write_text("0 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n")
    (folder / "labels/val/c.txt").write_text("")
    dataset = read_dataset(folder)
    assert dataset.task == "instance"
    assert dataset.objects["polygon"][0].to_list() == [pytest.approx([16, 4, 24, 12, 16, 20, 8, 12], abs=1e-6)]
    assert dataset.objects["area"][0] == pytest.approx(128, abs=1e-4)
    told = [f for f in dataset.findings if f.code == "label-oriented-box"]
    assert [(f.severity, f.count, f.message) for f in told] == [
        ("info", 2, "all 2 rows are rectangles by their corners, 1 of them turned")
    ]
    for other in (turned, "0 0.5 0.5 0.25 0.25\n", "0 0.1 0.1 0.5 0.1 0.5 0.5\n"):
        (folder / "labels/train/b.txt").write_text(other)
        assert "label-oriented-box" not in {f.code for f in read_dataset(folder).findings}


def test_upright_rectangles_are_no_oriented_boxes(folder: Path) -> None:
    for name in ("train/a", "train/b", "val/c"):
        (folder / f"labels/{name}.txt").write_text("0 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n")
    assert "label-oriented-box" not in {f.code for f in read_dataset(folder).findings}


def posed(folder: Path, shape: str, rows: str) -> Dataset:
    file = folder / "data.yaml"
    file.write_text(f"train: images/train\nval: images/val\nnames: [person, dog]\nkpt_shape: {shape}\n")
    (folder / "labels/train/a.txt").write_text(rows)
    (folder / "labels/train/b.txt").write_text("")
    (folder / "labels/val/c.txt").write_text("")
    return read_dataset(folder)


def test_keypoints(folder: Path) -> None:
    rows = "0 0.5 0.5 0.5 0.5 0.25 0.5 2 0.5 0.25 1\n0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.2 0.5 0.5 0.5 0 0 0 0\n"
    dataset = posed(folder, "[2, 3]", rows)
    assert dataset.task == "detect"
    assert dataset.objects["keypoints"].to_list() == [[8, 12, 2, 16, 6, 1], None, None]
    assert dataset.objects.select("x1", "y1", "x2", "y2").row(0) == (8, 6, 24, 18)
    dataset = posed(folder, "[2, 2]", "0 0.5 0.5 0.5 0.5 0.25 0.5 0 0\n")
    assert dataset.objects["keypoints"].to_list() == [[8, 12, 2, 0, 0, 0]]


def test_faults_in_keypoints(folder: Path) -> None:
    rows = "0 0.5 0.5 0.5 0.5 0.25 0.5 3 0.5 0.25 1\n0 0.5 0.5 0.5 0.5 0.25 0.5\n"
    found = [f for f in posed(folder, "[2, 3]", rows).findings if f.code == "label-malformed"]
    assert [f.line for f in found] == [2, 1]
    assert "a row must have 5 numbers (box) or 11 (with keypoints), got 7" in found[0].message
    assert "visibility must be 0, 1 or 2" in found[1].message
    for shape in ("[17]", "[0, 3]", "[17, 4]", "many"):
        with pytest.raises(ConfigError, match="'kpt_shape' must be the number of keypoints and 2 or 3"):
            posed(folder, shape, "")


def test_names_of_keypoints(folder: Path) -> None:
    dataset = posed(folder, "[2, 3]\nkpt_names: {0: [nose, tail]}", "")
    assert dataset.classes["keypoint_names"].to_list() == [["nose", "tail"], None]
    dataset = posed(folder, "[2, 3]\nkpt_names: {0: [nose]}", "")
    assert dataset.classes["keypoint_names"].to_list() == [None, None]
    assert "layout-unknown-key" in {f.code for f in dataset.findings}


def test_keypoints_beside_masks_or_of_several_numbers_are_lost(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    row = {"image_id": 0, "class_id": 0, "x1": 1, "y1": 1, "x2": 9, "y2": 9, "keypoints": [1.0, 2.0, 2.0]}
    outline = {"polygon": [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0]]}
    images = [{"image_id": 0, "path": "a.png", "width": 32, "height": 24, "split": "train"}]

    def losses(task: str, *rows: dict) -> dict[str, int]:
        names = [{"class_id": 0, "name": "x"}]
        dataset = dataset_from_rows(images, rows, names, root=tmp_path, name="x", task=task, format="none")
        return {f.code: f.count for f in write_dataset(dataset, tmp_path / "out", "yolo")}

    assert losses("instance", row | outline) == {"loss-keypoints": 1}
    assert losses("detect", row | outline) == {"loss-masks": 1}
    assert losses("detect", row) == {}
    assert losses("detect", row, row | {"x1": 2, "keypoints": [1.0, 2.0, 2.0] * 2}) == {"loss-keypoints": 2}


def test_masks_read_back_pixel_by_pixel_but_for_parts_and_holes(tmp_path: Path, save_image) -> None:
    save_image("a.png")
    disc = np.hypot(*(np.mgrid[:24, :32] - np.array([12, 14])[:, None, None])) < 9
    holed = disc & ~(np.hypot(*(np.mgrid[:24, :32] - np.array([12, 14])[:, None, None])) < 4)
    parts = disc.copy()
    parts[:, 14:16] = False
    objects = []
    for mask in (disc, holed, parts):
        corners = dict(zip(("x1", "y1", "x2", "y2"), rle.to_box(rle.encode(mask), mask.shape).tolist(), strict=True))
        objects.append({"image_id": 0, "class_id": 0, "rle": rle.encode(mask), **corners})
    images = [{"image_id": 0, "path": "a.png", "width": 32, "height": 24, "split": "train"}]
    names = [{"class_id": 0, "name": "x"}]
    dataset = dataset_from_rows(images, objects, names, root=tmp_path, name="x", task="instance", format="none")
    losses = {f.code: f.count for f in write_dataset(dataset, tmp_path / "out", "yolo")}
    assert losses == {"loss-parts": 2, "loss-boxes": 1}
    rings = read_dataset(tmp_path / "out").objects["polygon"].to_list()
    first, second = (rle.decode(rle.from_polygons(ring, disc.shape), disc.shape) for ring in rings[:2])
    assert np.array_equal(first, disc)
    assert np.array_equal(second, disc)  # the hole is filled


def test_what_a_reader_would_ignore_is_a_stated_loss(tmp_path: Path, made_dataset) -> None:
    far = {"image_id": 0, "class_id": 0, "x1": 1e7, "y1": 1e7, "x2": 2e7, "y2": 2e7}
    thin = {"image_id": 0, "class_id": 0, "x1": 1.0, "y1": 2.0, "x2": 1.0 + 1e-9, "y2": 9.0}
    losses = write_dataset(made_dataset([far, thin, far | {"x1": 1, "y1": 2}]), tmp_path / "out", "yolo")
    assert sorted((f.code, f.count) for f in losses) == [("loss-outside", 2), ("loss-to-ignored", 3)]
    assert read_dataset(tmp_path / "out").objects["ignore"].to_list() == [True] * 3


def test_folders_called_images_do_not_mislead(tmp_path: Path, save_image) -> None:
    paths = ("cam/images/0.png", "images/1.png", "x/Images/y/2.png")
    for path in paths:
        save_image(path)
    images = [
        {"image_id": i, "path": p, "width": 32, "height": 24, "split": s}
        for i, (p, s) in enumerate(zip(paths, ("train", "val", "val"), strict=True))
    ]
    objects = [{"image_id": i, "class_id": 0, "x1": 1, "y1": 2, "x2": 9, "y2": 8} for i in range(3)]
    dataset = dataset_from_rows(
        images, objects, [{"class_id": 0, "name": " a"}], root=tmp_path, name="x", task="detect", format="hand"
    )
    assert write_dataset(dataset, tmp_path / "out", "yolo") == []
    after = read_dataset(tmp_path / "out")
    assert (after.objects.height, after.class_names, sorted(after.images["split"])) == (
        3,
        (" a",),
        ["train", "val", "val"],
    )


def test_paths_of_windows_in_the_data_yaml(tmp_path: Path, save_image) -> None:
    save_image("images/train/0.png")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/0.txt").write_bytes(b"\xef\xbb\xbf0 5e-1 .5 0.2 2E-1 \r\n")
    (tmp_path / "data.yaml").write_text("path: .\\\ntrain: images\\train\nnames: [a]\n")
    assert read_dataset(tmp_path).objects.height == 1


@pytest.mark.parametrize("name", ["no", "~", "[1, 2]"])
def test_names_that_yaml_reads_as_something_else_are_refused(tmp_path: Path, save_image, name: str) -> None:
    save_image("images/0.png")
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: [a, {name}]\n")
    with pytest.raises(ConfigError, match=r"data\.yaml: 'names' must hold text, got .*in quotes"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("place", ["data.yaml", "labels/classes.txt"])
def test_two_classes_of_one_name_are_told_apart(tmp_path: Path, save_image, place: str) -> None:
    for number in range(3):
        save_image(f"images/{number}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{number}.txt").write_text(f"{number} 0.5 0.5 0.2 0.2\n")
    text = "train: images\nnames: [cat, dog, cat]\n" if place == "data.yaml" else "cat\ndog\ncat\n"
    (tmp_path / place).write_text(text)
    data = read_dataset(tmp_path)
    assert data.class_names == ("cat", "dog", "cat (id 2)")
    assert data.objects["class_id"].to_list() == [0, 1, 2]
    assert [(f.code, f.path) for f in data.findings] == [("class-duplicate-name", place)]
