"""Tiny data sets and a silent watcher for training tests."""

from pathlib import Path

import pytest

from sightline.synth import generate


class Silent:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.epochs: list[dict[str, float]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def phase(self, name: str, total: int) -> None:
        pass

    def advance(self, done: int) -> None:
        pass

    def epoch(self, row: dict[str, float], best: bool) -> None:
        self.epochs.append(row)


@pytest.fixture
def watcher() -> Silent:
    return Silent()


@pytest.fixture(scope="session")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "traffic"
    generate("traffic", out, images=8, val_fraction=0.25, size_hw=(96, 96), seed=3)
    return out


@pytest.fixture(scope="session")
def cracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "cracks"
    generate("cracks", out, images=8, val_fraction=0.25, size_hw=(64, 96), seed=3)
    return out
