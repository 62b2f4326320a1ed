"""Small data sets written by hand, so that each test says what is on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
