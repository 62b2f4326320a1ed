"""A small generated data set and a way to call the command as a user does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.data.synth import generate

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "traffic"
    generate(
        "traffic", out, images=8, val_fraction=0.25, size_hw=(96, 96), seed=1, video_frames=6, video_size_hw=(96, 128)
    )
    return out


@pytest.fixture
def sightline(tmp_path: Path) -> Run:
    """Runs `sightline ...` in an empty folder of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sightline", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240, check=False)

    return run
