"""Image and mask folders: layouts, values, colours, and `sightline.yaml`."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sightline.audit import audit_dataset
from sightline.core.errors import ConfigError, DataError
from sightline.data import read_class_mask, read_dataset, write_dataset

CRACK = np.zeros((24, 32), np.uint8)
CRACK[10:12, 3:20] = 255


@pytest.fixture
def folder(tmp_path: Path, save_image, save_mask):
    for name in ("001", "002", "003", "004", "005"):
        save_image(f"image/{name}.png")
        save_mask(f"derived_masks_png/{name}.png", CRACK)
    return tmp_path


def describe(folder: Path, **values: object) -> Path:
    file = folder / "sightline.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def test_binary_masks_have_background_first(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert (dataset.format, dataset.task) == ("masks", "semantic")
    assert dataset.class_names == ("background", "foreground")
    assert dataset.classes["source_id"].to_list() == [0, 255]
    assert dataset.images["mask_path"][0] == "derived_masks_png/001.png"
    assert not dataset.findings
    mask = read_class_mask(dataset.image_path(dataset.images["mask_path"][0]), dataset)
    assert np.array_equal(mask, CRACK // 255)


def test_description_names_excludes_and_splits(folder: Path, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("described")
    file = describe(
        elsewhere,
        path=str(folder),
        format="masks",
        images="image",
        masks="derived_masks_png",
        classes={0: "background", 255: "crack"},
        exclude=["003"],
        split={"val": 0.25, "seed": 0},
    )
    dataset = read_dataset(file)
    assert dataset.class_names == ("background", "crack")
    assert "image/003.png" not in dataset.images["path"]
    assert sorted(dataset.images["split"]) == ["train", "train", "train", "val"]
    assert [(f.code, f.count) for f in dataset.findings] == [("layout-excluded", 1)]
    with pytest.raises(ConfigError, match="must stay inside it, got "):
        read_dataset(elsewhere)  # who names a folder means what is in it
    assert read_dataset(file).images.equals(read_dataset(file).images)


def test_splits_may_be_lists_and_files(folder: Path) -> None:
    (folder / "held_out.txt").write_text("004\nimage/005.png\n")
    describe(folder, split={"val": "held_out.txt", "test": ["00[1]"]})
    dataset = read_dataset(folder)
    assert dataset.images["split"].to_list() == ["test", "train", "train", "val", "val"]


def test_groups_from_a_pattern_are_never_divided(folder: Path) -> None:
    describe(folder, group=r"00(\d)", split={"val": 0.4, "seed": 3})
    assert read_dataset(folder).images["group"].to_list() == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imags": "image"}, "unknown key 'imags' (nearest: images"),
        ({"images": "image", "masks": "gone"}, "'masks' must be a folder"),
        ({"path": "gone"}, "'path' must exist relative to the file, got 'gone'"),
        ({"format": "mask"}, "unknown format 'mask' (nearest: masks"),
        ({"format": "coco", "masks": "x"}, "'masks' belongs to masks, not to format 'coco'"),
        ({"exclude": [42]}, "write names in quotes"),
        ({"exclude": ["042"]}, "'exclude' must name images of the data set, got '042' which is none"),
        ({"split": {"val": 1.5}}, "split fractions must be at least 0 and sum to 1"),
        ({"split": {"val": 0.2, "test": ["001"]}}, "fractions for all splits or lists for all"),
        ({"split": {"val": ["001"], "test": ["001"]}}, "must put an image into one split"),
        ({"split": {"val": 0.2, "seed": 0.5}}, "'split.seed' must be an integer"),
        ({"group": "("}, "'group' must be a regular expression"),
        ({"group": "00"}, "'group' must have a group in parentheses"),
        ({"classes": {0: "a"}, "palette": {"a": [0, 0, 0]}}, "not both"),
        ({"classes": {0: "a", 1: "a"}}, "class names must differ"),
        ({"palette": {"a": [0, 0, 300]}}, "'palette.a.2'"),
        ({"task": "detect", "images": "image"}, "task must fit the labels (semantic), got 'detect'"),
    ],
)
def test_wrong_description_is_one_sentence(folder: Path, values: dict[str, object], message: str) -> None:
    describe(folder, **values)
    with pytest.raises((ConfigError, DataError)) as raised:
        read_dataset(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_values_are_numbered_and_255_is_ignored(folder: Path, save_mask) -> None:
    save_mask("derived_masks_png/001.png", np.where(CRACK > 0, 7, 2))
    dataset = read_dataset(folder)
    assert dataset.class_names == ("class_0", "class_2", "class_7")
    assert dataset.ignore_values == (255,)
    assert {f.code for f in dataset.findings} == {"class-names-missing", "mask-ignored-value"}
    ignored = read_class_mask(dataset.image_path("derived_masks_png/002.png"), dataset)
    assert np.array_equal(ignored == 255, CRACK == 255)


def test_value_of_no_class_is_refused_when_read(folder: Path) -> None:
    describe(folder, classes={0: "background"})
    dataset = read_dataset(folder)
    with pytest.raises(DataError, match=r"or ignored \(0\), got 255"):
        read_class_mask(dataset.image_path("derived_masks_png/001.png"), dataset)
    describe(folder, classes={0: "background"}, ignore_values=[255])
    dataset = read_dataset(folder)
    assert read_class_mask(dataset.image_path("derived_masks_png/001.png"), dataset).max() == 255


def test_unusable_pairs_are_left_out_and_reported(folder: Path, save_image, save_mask) -> None:
    save_image("image/lonely.png")
    save_mask("derived_masks_png/orphan.png", CRACK)
    save_mask("derived_masks_png/002.png", CRACK[:10])
    (folder / "derived_masks_png/003.png").write_bytes(b"nothing")
    whole = (folder / "derived_masks_png/004.png").read_bytes()
    (folder / "derived_masks_png/004.png").write_bytes(whole[:-30])
    dataset = read_dataset(folder)
    assert {(f.code, f.path) for f in dataset.findings} == {
        ("label-missing-file", "image/lonely.png"),
        ("label-orphan", "derived_masks_png/orphan.png"),
        ("mask-size-mismatch", "derived_masks_png/002.png"),
        ("mask-unreadable", "derived_masks_png/003.png"),
        ("mask-unreadable", "derived_masks_png/004.png"),
    }
    assert [p[6:9] for p in dataset.images["path"]] == ["001", "004", "005"]


def test_colour_masks(folder: Path, save_mask) -> None:
    colours = np.zeros((24, 32, 3), np.uint8)
    colours[CRACK > 0] = (0, 0, 200)
    for name in ("001", "002", "003", "004", "005"):
        save_mask(f"derived_masks_png/{name}.png", colours)
    plain = read_dataset(folder)
    assert plain.class_names == ("background", "foreground")
    told = [f.message for f in plain.findings if f.code == "class-names-missing"]
    assert told == [
        "the masks are RGB pictures without a palette; their 2 colours are the classes: "
        "background = [0, 0, 0], foreground = [0, 0, 200]"
    ]
    assert np.array_equal(read_class_mask(folder / "derived_masks_png/001.png", plain), CRACK // 255)
    describe(folder, palette={"background": [0, 0, 0], "crack": [0, 0, 200]})
    dataset = read_dataset(folder)
    assert dataset.class_names == ("background", "crack")
    assert np.array_equal(read_class_mask(folder / "derived_masks_png/001.png", dataset), CRACK // 255)
    colours[0, 0] = (1, 2, 3)
    save_mask("derived_masks_png/002.png", colours)
    with pytest.raises(DataError, match=r"must be in the palette, got \(1, 2, 3\)"):
        read_class_mask(folder / "derived_masks_png/002.png", dataset)


def test_camvid_layout_and_parts_of_a_description(tmp_path: Path, save_image, save_mask) -> None:
    for split in ("train", "val"):
        save_image(f"data/{split}/{split}.png")
        save_mask(f"data/{split}annot/{split}.png", CRACK)
    dataset = read_dataset(tmp_path / "data")
    assert dataset.images.select("path", "split", "mask_path").rows() == [
        ("train/train.png", "train", "trainannot/train.png"),
        ("val/val.png", "val", "valannot/val.png"),
    ]
    file = tmp_path / "parts.yaml"
    parts = {split: {"images": f"data/{split}", "masks": f"data/{split}annot"} for split in ("train", "val")}
    file.write_text(yaml.safe_dump(parts | {"classes": {0: "rest", 255: "crack"}}))
    described = read_dataset(file)
    assert described.images["path"].to_list() == ["data/train/train.png", "data/val/val.png"]
    assert described.class_names == ("rest", "crack")


def test_masks_named_by_a_suffix(tmp_path: Path, save_image, save_mask) -> None:
    for name in ("Image_1L", "Image_1", "Image_10"):
        save_image(f"{name}.jpg")
        save_mask(f"{name}_1stHO.png", CRACK // 255)
        save_mask(f"{name}_2ndHO.png", 1 - CRACK // 255)
    dataset = read_dataset(tmp_path)
    assert dataset.images["mask_path"].to_list() == ["Image_1_1stHO.png", "Image_10_1stHO.png", "Image_1L_1stHO.png"]
    assert [(f.code, f.count) for f in dataset.findings] == [("mask-several-sets", 2)]
    describe(tmp_path, mask_suffix="_2ndHO", classes=["background", "vessel"])
    second = read_dataset(tmp_path)
    assert set(second.images["mask_path"]) == {f"{n}_2ndHO.png" for n in ("Image_1L", "Image_1", "Image_10")}


def test_more_values_than_classes_can_be(folder: Path, save_mask) -> None:
    save_mask("derived_masks_png/001.png", np.arange(24 * 32).reshape(24, 32) % 256)
    assert len(read_dataset(folder).class_names) == 255  # 255 itself is ignored
    wide = (np.arange(24 * 32).reshape(24, 32)).astype(np.uint16)
    Image.fromarray(wide).save(folder / "derived_masks_png/001.png")
    with pytest.raises(DataError, match="at most 255 classes"):
        read_dataset(folder)


def test_a_folder_for_each_class(tmp_path: Path, save_image, save_mask) -> None:
    road, car = np.zeros((24, 32), np.uint8), np.zeros((24, 32), np.uint8)
    road[12:], car[10:20, 4:10] = 1, 255
    for name in "abc":
        save_image(f"set/images/{name}.png")
        save_mask(f"set/masks/road/{name}.png", road)
    save_mask("set/masks/car/a.png", car)
    save_mask("set/masks/car/z.png", car)
    data = read_dataset(tmp_path / "set")
    assert data.class_names == ("background", "car", "road")
    assert data.images["mask_path"].to_list() == [f"masks/*/{name}.png" for name in "abc"]
    ids = read_class_mask(data.image_path("masks/*/a.png"), data)
    assert [int((ids == i).sum()) for i in range(3)] == [372, 60, 336]  # the car, being smaller, lies on the road
    assert [(f.code, f.path, f.count) for f in data.findings] == [
        ("label-orphan", "masks/car/z.png", 1), ("mask-overlap", "masks/*/a.png", 1),
    ]  # fmt: skip
    assert data.left_out == ()
    write_dataset(data, tmp_path / "out", "masks")
    again = read_dataset(tmp_path / "out")
    assert again.class_names == data.class_names
    assert np.array_equal(read_class_mask(again.image_path(again.images["mask_path"][0]), again), ids)
    before = data.digest()
    save_mask("set/masks/car/b.png", car[:, :30])
    assert read_dataset(tmp_path / "set").digest() != before
    found = [(f.code, f.path) for f in audit_dataset(read_dataset(tmp_path / "set")).findings]
    assert ("mask-size-mismatch", "masks/*/b.png") in found
    (tmp_path / "set/masks/car/b.png").unlink()
    before = read_dataset(tmp_path / "set").digest()
    (tmp_path / "set/masks/car/z.png").rename(tmp_path / "set/masks/car/c.png")
    (tmp_path / "set/masks/road/c.png").unlink()
    with_car = read_dataset(tmp_path / "set").digest()
    (tmp_path / "set/masks/car/c.png").rename(tmp_path / "set/masks/road/c.png")
    assert len({before, with_car, read_dataset(tmp_path / "set").digest()}) == 3, "the class is in the folder alone"
    save_mask("set/masks/car/a.png", np.maximum(car, road))  # 1 would be left out beside 255
    with pytest.raises(DataError, match="must have two values, got 0, 1, 255"):
        read_class_mask(data.image_path("masks/*/a.png"), data)
    assert "pair-order-differs" not in {code for code, _ in found}
    (tmp_path / "set/sightline.yaml").write_text("format: masks\nimages: images\nmasks: masks\nthreshold: 9\n")
    with pytest.raises(DataError, match="Leave 'threshold' out"):
        read_dataset(tmp_path / "set")


def test_the_masks_of_two_people_are_no_classes(tmp_path: Path, save_image, save_mask) -> None:
    for name in "abc":
        save_image(f"images/{name}.png")
        save_mask(f"masks/ann/{name}.png", CRACK)
        save_mask(f"masks/bob/{name}.png", np.roll(CRACK, 1, axis=1))
    with pytest.raises(DataError, match="must be of different things, got nearly the same in ann, bob"):
        read_dataset(tmp_path)
    describe(tmp_path, format="masks", images="images", masks="masks/bob")
    assert len(read_dataset(tmp_path)) == 3
