"""Audit, training, evaluation and drawing see the same class ids in every kind of mask file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.audit.scan.masks import examine_mask
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.frames import IGNORE_INDEX, SemanticMap
from sightline.core.preprocess import Preprocess
from sightline.core.runs import RunFolder
from sightline.data import read_class_mask, read_dataset
from sightline.draw import View, scenes
from sightline.draw.scenes import Scenes
from sightline.draw.truth import TruthStyle
from sightline.evaluate import evaluate_semantic_maps
from sightline.media import COLOUR_BASE
from sightline.train import TrainConfig, train
from sightline.train.data.store import ImageStore, Keeping

SIZE_HW = (16, 20)
NAMES = ("background", "road", "car")
COLOURS = ((0, 0, 0), (128, 64, 0), (0, 0, 142))
VOID = (255, 255, 255)


def packed(colour: tuple[int, int, int]) -> int:
    return COLOUR_BASE + (colour[0] << 16) + (colour[1] << 8) + colour[2]


def coloured(ids: np.ndarray) -> np.ndarray:
    table = np.full((256, 3), VOID, np.uint8)
    table[: len(COLOURS)] = COLOURS
    return table[ids]


def gray(values: dict[int, int], dtype: Any = np.uint8) -> Callable[[np.ndarray, Path], None]:
    def save(ids: np.ndarray, path: Path) -> None:
        table = np.zeros(256, dtype)
        for class_id, value in values.items():
            table[class_id] = value
        Image.fromarray(table[ids]).save(path)

    return save


def save_palette_indices(ids: np.ndarray, path: Path) -> None:
    image = Image.fromarray(ids).convert("P")
    image.putdata(ids.ravel().tolist())
    image.putpalette([c for i in range(256) for c in (i, 255 - i, 7)])
    image.save(path)


def save_with_alpha(ids: np.ndarray, path: Path) -> None:
    Image.merge("LA", (Image.fromarray(ids), Image.new("L", ids.shape[::-1], 9))).save(path)


def save_one_bit(ids: np.ndarray, path: Path) -> None:
    Image.fromarray(ids.astype(bool)).save(path)


def save_colours(ids: np.ndarray, path: Path) -> None:
    Image.fromarray(coloured(ids)).save(path)


def save_colours_with_alpha(ids: np.ndarray, path: Path) -> None:
    alpha = np.full((*ids.shape, 1), 3, np.uint8)
    Image.fromarray(np.concatenate([coloured(ids), alpha], axis=2)).save(path)


def save_indexed_colours(ids: np.ndarray, path: Path) -> None:
    Image.fromarray(coloured(ids)).quantize(8).save(path)


def save_in_class_folders(ids: np.ndarray, path: Path) -> None:
    for class_id in (1, 2):
        file = path.parent.parent / NAMES[class_id] / path.name
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((ids == class_id).astype(np.uint8) * 255).save(file)


COLOUR_IDS = (tuple(packed(c) for c in COLOURS), (packed(VOID),))
KINDS: dict[str, tuple[Callable[[np.ndarray, Path], None], tuple[int | None, ...], tuple[int, ...]]] = {
    # how a mask is saved, each class's value in the file, the values that are ignored
    "gray ids": (gray({0: 0, 1: 1, 2: 2, 255: 255}), (None, None, None), (255,)),
    "gray values": (gray({0: 7, 1: 90, 2: 200, 255: 3}), (7, 90, 200), (3,)),
    "two ignored values": (gray({0: 0, 1: 1, 2: 2, 255: 254}), (0, 1, 2), (254, 255)),
    "16 bit": (gray({0: 0, 1: 1000, 2: 40000, 255: 65535}, np.uint16), (0, 1000, 40000), (65535,)),
    "palette indices": (save_palette_indices, (0, 1, 2), (255,)),
    "gray with alpha": (save_with_alpha, (0, 1, 2), (255,)),
    "RGB": (save_colours, *COLOUR_IDS),
    "RGB with alpha": (save_colours_with_alpha, *COLOUR_IDS),
    "indexed colours": (save_indexed_colours, *COLOUR_IDS),
    "1 bit": (save_one_bit, (0, 1), ()),
    "0 and 255": (gray({0: 0, 1: 255}), (0, 255), ()),
    "a folder for each class": (save_in_class_folders, (0, 1, 2), ()),
}
PLACES = {"a folder for each class": "*/a_mask.png"}


def masked(folder: Path, kind: str, ids: np.ndarray) -> Dataset:
    """A data set of one image whose mask is `ids`, saved as `kind`."""
    save, sources, ignored = KINDS[kind]
    Image.fromarray(np.full((*SIZE_HW, 3), 90, np.uint8)).save(folder / "a.png")
    place = PLACES.get(kind, "a_mask.png")
    save(ids, folder / place)
    images = [{"image_id": 0, "path": "a.png", "width": SIZE_HW[1], "height": SIZE_HW[0], "mask_path": place}]
    classes = [{"class_id": i, "name": NAMES[i], "source_id": v} for i, v in enumerate(sources)]
    described = dataset_from_rows(images, [], classes, task="semantic", format="masks", root=folder, name="made")
    return replace(described, ignore_values=ignored)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masks")


def trained_on(dataset: Dataset) -> np.ndarray:
    return ImageStore(dataset, Preprocess(size_hw=SIZE_HW), Keeping()).load(0)["mask"]


def drawn(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    seen: list[np.ndarray] = []

    def note(pixels: np.ndarray, view: View, ids: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        seen.append(ids)
        return pixels

    with monkeypatch.context() as patch:
        patch.setattr(scenes, "draw_class_map", note)
        Scenes(dataset).whole(0, SIZE_HW, TruthStyle())
    (ids,) = seen
    return ids


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=12)
def test_all_four_see_the_ids_that_were_saved(kind, folder, data):
    _, sources, ignored = KINDS[kind]
    allowed = [*range(len(sources)), *([IGNORE_INDEX] if ignored else [])]
    seed = data.draw(st.integers(0, 2**32 - 1))
    ids = np.random.default_rng(seed).choice(allowed, SIZE_HW).astype(np.uint8)
    ids[0, : len(allowed)] = allowed  # an indexed file keeps a colour only if it occurs
    dataset = masked(folder, kind, ids)

    place = PLACES.get(kind, "a_mask.png")
    assert np.array_equal(read_class_mask(folder / place, dataset), ids)
    assert np.array_equal(trained_on(dataset), ids)
    report = examine_mask(dataset, 0, "a.png", place, SIZE_HW)
    counts = np.bincount(ids.ravel(), minlength=256)[: len(sources)]
    assert report.pixels is not None
    assert report.pixels.tolist() == counts.tolist()
    guess = SemanticMap(np.where(ids == IGNORE_INDEX, 0, ids), dataset.class_names)
    result = evaluate_semantic_maps(dataset, [(0, guess)])
    assert np.array_equal(result.confusion, np.diag(counts))
    with pytest.MonkeyPatch.context() as patch:
        assert np.array_equal(drawn(dataset, patch), ids)


def test_more_classes_than_ids_are_refused(tmp_path):
    dataset = masked(tmp_path, "16 bit", np.zeros(SIZE_HW, np.uint8))
    many = [{"class_id": i, "name": f"c{i}", "source_id": i} for i in range(256)]
    images = dataset.images.rows(named=True)
    wide = dataset_from_rows(images, [], many, task="semantic", format="masks", root=tmp_path, name="wide")
    with pytest.raises(DataError, match="at most 255 classes, got 256"):
        read_class_mask(tmp_path / "a_mask.png", wide)


def test_a_set_of_rgb_masks_trains_to_its_end(tmp_path, watcher):
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for part in ("images", "masks"):
            (tmp_path / "data" / part / split).mkdir(parents=True)
        for i in range(count):
            ids = np.zeros((64, 64), np.uint8)
            ids[8:40, 8 + 4 * i : 40 + 4 * i], ids[50:60] = 1, 2
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / f"data/images/{split}/{i}.png")
            Image.fromarray(coloured(ids)).save(tmp_path / f"data/masks/{split}/{i}.png")
    assert read_dataset(tmp_path / "data").task == "semantic"
    given = {"data": str(tmp_path / "data"), "model": "unet-small", "imgsz": 64, "batch": 2, "epochs": 1}
    config = TrainConfig.load({**given, "precision": "fp32"})
    result = train(config, RunFolder.create(tmp_path / "runs", "semantic"), watcher)
    assert result.epochs == 1
    assert result.evaluation.metrics["pixel_accuracy"] > 0
