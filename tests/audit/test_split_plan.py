"""Splits as the verb makes them: units whole, choices kept, written beside the data and checked when read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import csr_array

from sightline.audit import audit_dataset
from sightline.audit.splits.file import read_previous, split_files, write_split
from sightline.audit.splits.plan import SplitOptions, plan_splits
from sightline.audit.splits.units import connect, find_units
from sightline.core.errors import ConfigError, DataError
from sightline.data import read_dataset
from sightline.data.splits.table import read_table

HALVES = {"train": 0.5, "val": 0.5}


def add_image(folder: Path, name: str, seed: int, classes: tuple[int, ...] = (0,)) -> None:
    """A picture of its own (smooth, so that its hash means something) with an object of each class."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = folder / f"images/{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(path)
    label = folder / f"labels/{name}.txt"
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text("".join(f"{c} {0.2 + 0.3 * i} 0.5 0.2 0.2\n" for i, c in enumerate(classes)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    for i in range(12):
        add_image(data, f"{'abc'[i % 3]}/{i * i + 7}", i, (i % 2,))
    (data / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    return data


def plan(folder: Path, previous: pl.DataFrame | None = None, **options):
    return plan_splits(read_dataset(folder), SplitOptions(**options), previous=previous)


def splits_of(table: pl.DataFrame) -> dict[str, str]:
    return dict(table.select("path", "split").iter_rows())


def test_written_beside_and_read_back(folder: Path, tmp_path: Path) -> None:
    made = plan(folder, fractions=HALVES)
    files = write_split(made, tmp_path / "out/splits.yaml", str(folder))
    assert [f.name for f in files] == ["splits.yaml", "splits.csv"]
    dataset = read_dataset(tmp_path / "out/splits.yaml")
    assert splits_of(dataset.images) == splits_of(made.table)
    assert dict(dataset.images.group_by("split").len().iter_rows()) == {"train": 6, "val": 6}
    assert not [f for f in dataset.findings if f.code.startswith("split")]
    assert yaml.safe_load((tmp_path / "out/splits.yaml").read_text())["path"] == "../data"
    # Each class is halved too.
    assert made.result.parts.select("class cat", "class dog").rows() == [(3, 3), (3, 3)]
    assert made.result.imbalance == 0
    assert made.result.imbalance_random > 0.05


def test_a_changed_label_or_image_is_told(folder: Path, tmp_path: Path) -> None:
    made = plan(folder, fractions=HALVES)
    out = tmp_path / "splits.yaml"
    write_split(made, out, str(folder))
    changed = made.table.filter(pl.col("split") == "val")["path"][0]
    (folder / changed.replace("images", "labels").replace("png", "txt")).write_text("0 0.5 0.5 0.3 0.2\n")
    told = [f for f in read_dataset(out).findings if f.code.startswith("split")]
    assert [(f.code, f.message) for f in told] == [
        ("split-changed", "images or labels of split 'val' differ from those recorded")
    ]
    (folder / changed).unlink()
    codes = {f.code for f in read_dataset(out).findings}
    assert {"split-unknown-image", "split-changed"} <= codes
    # A new division replaces what was said about the old one.
    (tmp_path / "other.yaml").write_text("path: splits.yaml\nsplit: {val: 0.5}\n")
    assert "split-changed" not in {f.code for f in read_dataset(tmp_path / "other.yaml").findings}


def test_groups_are_never_divided(folder: Path) -> None:
    for rule in ("parent", r"/([abc])/"):
        images = plan(folder, group_by=rule, fractions={"train": 0.7, "val": 0.3}).divided().images
        folders = images.with_columns(folder=pl.col("path").str.split("/").list.get(1))
        assert folders.group_by("folder").agg(pl.col("split").n_unique())["split"].max() == 1
        assert images["group"].n_unique() == 3
    with pytest.raises(DataError, match="got 3 units of images that belong together for 4 splits"):
        plan(folder, group_by="parent", folds=4)


def test_near_duplicates_stay_together(folder: Path) -> None:
    for i in range(8):  # mirrored and smaller copies under other names
        source = sorted(folder.rglob("*.png"))[i]
        copy = folder / f"images/copies/{9 * i + i % 4}x.png"
        copy.parent.mkdir(exist_ok=True)
        Image.open(source).resize((56, 42)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy)
        label = Path(str(copy).replace("images", "labels").replace("png", "txt"))
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 0.5 0.5 0.2 0.2\n")
    dataset = read_dataset(folder)
    made = plan_splits(dataset, SplitOptions(fractions=HALVES), compare_random=True)
    near = made.result.together["near-duplicates"]
    assert (near["count"], near["images"], near["divided"]) == (8, 16, 0)
    assert made.result.random_division is not None
    assert 2 < made.result.random_division["near-duplicates"]["divided"] < 6
    codes = {f.code for f in audit_dataset(made.divided()).findings}
    assert "split-overlap-near" not in codes
    careless = plan_splits(dataset, SplitOptions(fractions=HALVES, near_duplicates=False, sequences=False))
    assert careless.result.together["near-duplicates"]["divided"] > 0


def test_folds_hold_each_image_once(folder: Path, tmp_path: Path) -> None:
    files = write_split(plan(folder, folds=3), tmp_path / "cv.yaml", str(folder))
    assert [f.name for f in files] == ["cv-fold0.yaml", "cv-fold1.yaml", "cv-fold2.yaml", "cv.csv"]
    held: list[str] = []
    for file in files[:3]:
        images = read_dataset(file).images
        assert images.group_by("split").len().sort("split").rows() == [("train", 8), ("val", 4)]
        held += images.filter(pl.col("split") == "val")["path"].to_list()
    assert len(held) == len(set(held)) == 12
    table, record = read_previous(files[1])
    again = plan(folder, previous=table, folds=record.folds)
    assert again.table.equals(read_table(files[3]).select("path", pl.col("fold").cast(pl.String), "group"))


def test_what_is_assigned_stays_when_images_are_added(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "splits.yaml"
    before = plan(folder, fractions=HALVES)
    write_split(before, out, str(folder))
    for i in range(20, 30):
        add_image(folder, f"d/{i * i}", i)
    table, record = read_previous(out)
    after = plan(folder, previous=table, fractions=record.fractions)
    now = splits_of(after.table)
    assert {path: now[path] for path in splits_of(before.table)} == splits_of(before.table)
    assert (after.result.kept, after.result.added, after.result.moved) == (12, 10, 0)
    assert dict(after.table.group_by("split").len().iter_rows()) == {"train": 11, "val": 11}
    renamed = next((folder / "images/d").glob("*.png"))
    renamed.rename(renamed.with_name("renamed.png"))
    again = plan(folder, previous=after.table, fractions=record.fractions).result
    assert (again.kept, again.added, again.moved, again.gone) == (21, 1, 0, 1)


def test_units_that_new_images_join_are_not_divided(folder: Path) -> None:
    before = plan(folder, fractions=HALVES)
    joined = plan(folder, previous=before.table, fractions=HALVES, group_by="parent")
    images = joined.divided().images.with_columns(folder=pl.col("path").str.split("/").list.get(1))
    assert images.group_by("folder").agg(pl.col("split").n_unique())["split"].max() == 1
    moved = sum(splits_of(before.table)[p] != s for p, s in splits_of(joined.table).items())
    assert joined.result.moved == moved > 0


def test_previous_tables_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    table = plan(folder, fractions=HALVES).table
    with pytest.raises(ConfigError, match="must have the splits train, test, got also 'val'"):
        plan(folder, previous=table, fractions={"train": 0.5, "test": 0.5})
    with pytest.raises(ConfigError, match="must have a column 'fold', got path, split, group"):
        plan(folder, previous=table, folds=2)
    with pytest.raises(ConfigError, match="must name images of this data set, got none"):
        plan(folder, previous=table.with_columns(path=pl.col("path") + "x"), fractions=HALVES)
    (tmp_path / "hand.yaml").write_text("path: data\n")
    with pytest.raises(ConfigError, match="must be a file that `sightline split` wrote"):
        read_previous(tmp_path / "hand.yaml")
    with pytest.raises(ConfigError, match="must be a YAML file"):
        split_files(tmp_path / "splits.txt", None, "data")
    with pytest.raises(ConfigError, match="must not replace the description it builds on"):
        split_files(tmp_path / "cv.yaml", 2, str(tmp_path / "cv-fold1.yaml"))


def test_a_hostile_name_cannot_break_the_file(folder: Path, tmp_path: Path) -> None:
    data = folder.rename(tmp_path / "a b\n- x: 'y")
    out = tmp_path / "splits.yaml"
    made = plan(data, fractions=HALVES)
    write_split(made, out, str(data))
    assert splits_of(read_dataset(out).images) == splits_of(made.table)


@given(
    first=st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=1, max_size=30),
    data=st.data(),
)
def test_components_are_the_finest_that_join_all(first: list[int | None], data: st.DataObject) -> None:
    other = st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=len(first), max_size=len(first))
    second = data.draw(other)
    found = connect([pl.Series(first, dtype=pl.Int64), pl.Series(second, dtype=pl.Int64)], len(first)).tolist()
    parent = list(range(len(first)))

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for values in (first, second):
        for i, a in enumerate(values):
            for j in range(i):
                if a is not None and values[j] == a:
                    parent[root(i)] = root(j)
    expected = [root(i) for i in range(len(first))]
    pairs = {(i, j) for i in range(len(first)) for j in range(i)}
    assert all((found[i] == found[j]) == (expected[i] == expected[j]) for i, j in pairs)


@given(count=st.integers(1, 40), added=st.integers(0, 20), seed=st.integers(0, 20))
def test_units_keep_their_order_when_others_are_added(count: int, added: int, seed: int) -> None:
    paths = [f"{i * 37 % 101}.png" for i in range(count + added)]
    images = pl.DataFrame({"path": paths, "group": [None] * len(paths)}, schema_overrides={"group": pl.String})
    orders = []
    for table in (images, images.head(count)):
        units = find_units(table, [], csr_array((table.height, 0)), seed)
        orders.append(np.argsort(units.unit_of))
    assert [i for i in orders[0].tolist() if i < count] == orders[1].tolist()


def test_the_rows_of_the_table_have_no_say(folder: Path) -> None:
    dataset = read_dataset(folder)
    turned = replace(dataset, images=dataset.images.reverse())
    options = SplitOptions(fractions=HALVES)
    assert plan_splits(dataset, options).table.equals(plan_splits(turned, options).table)


@pytest.mark.real_data
def test_aerial_cars_leak_at_random_and_not_by_group(data_root: Path) -> None:
    dataset = read_dataset(data_root / "det_aerial_cars")
    options = SplitOptions(group_by=r"^(DJI.\d+|MOS|MunichStreet)")
    made = plan_splits(dataset, options, compare_random=True)
    assert made.result.random_division is not None
    for name, found in made.result.together.items():
        assert found["divided"] == 0
        if found["count"]:
            assert made.result.random_division[name]["divided"] > 0.5 * found["count"]
    assert made.result.together["sequences"]["images"] >= 65  # MOS and Munich: 45 and 20 consecutive frames
    assert made.result.imbalance < 0.5 * made.result.imbalance_random
    codes = {f.code for f in audit_dataset(made.divided()).findings}
    assert not codes & {"split-overlap-near", "split-overlap-bytes", "split-overlap-group"}
