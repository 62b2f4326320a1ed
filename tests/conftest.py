"""Shared fixtures: the folder of real data sets, where there is one, and small data sets written by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from sightline.core.dataset import Dataset, dataset_from_rows

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# The first call of a kernel compiles it, which no deadline per example can tell from a slow test.
settings.register_profile("sightline", deadline=None)
settings.load_profile("sightline")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets beside the repository; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip("the folder of real data sets is absent")
    return REAL_DATA


SaveImage = Callable[..., Path]


@pytest.fixture
def save_image(tmp_path: Path) -> SaveImage:
    """Write a noisy picture of (height, width) below the test's folder; keywords go to Pillow's `save`."""

    def save(name: str, size_hw: tuple[int, int] = (24, 32), mode: str = "RGB", **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(name.encode())
        pixels = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return save


@pytest.fixture
def save_mask(tmp_path: Path) -> SaveImage:
    """Write an array as a PNG mask below the test's folder."""

    def save(name: str, values: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
        return path

    return save


def _unsigned_zero(value: Any) -> Any:
    return 0.0 if isinstance(value, float) and value == 0 else value  # which sorts apart from -0.0


@pytest.fixture
def object_rows() -> Callable[..., list[tuple[Any, ...]]]:
    """Every object as image name, split, class name and the given columns, whatever the order of the files."""

    def rows(dataset: Dataset, *columns: str) -> list[tuple[Any, ...]]:
        names = dataset.class_names
        table = dataset.objects.join(dataset.images.select("image_id", "path", "split"), on="image_id")
        found = [
            (Path(row["path"]).name, row["split"], names[row["class_id"]], *(_unsigned_zero(row[c]) for c in columns))
            for row in table.iter_rows(named=True)
        ]
        return sorted(found, key=repr)

    return rows


@pytest.fixture
def made_dataset(tmp_path: Path, save_image: SaveImage) -> Callable[..., Dataset]:
    """A data set of two pictures of 24 × 32, `a.png` in train and `b.png` in val, from rows of objects."""

    def make(objects: list[dict[str, Any]], names: tuple[str, ...] = ("dog", "cat"), **options: Any) -> Dataset:
        for name in ("a", "b"):
            if not (tmp_path / f"{name}.png").is_file():
                save_image(f"{name}.png")
        images = [
            {"image_id": i, "path": f"{name}.png", "width": 32, "height": 24, "split": split}
            for i, (name, split) in enumerate((("a", "train"), ("b", "val")))
        ]
        classes = [{"class_id": i, "name": name} for i, name in enumerate(names)]
        settings = {"task": "detect", "format": "coco", "root": tmp_path, "name": "made"} | options
        return dataset_from_rows(images, objects, classes, **settings)

    return make
