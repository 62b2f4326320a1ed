"""A small generated data set and a way to call the command as a user does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline.cli.main import main
from sightline.synth import generate


@dataclass
class Done:
    """What a call of the command left: exit code, results, log."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "traffic"
    generate(
        "traffic", out, images=8, val_fraction=0.25, size_hw=(96, 96), seed=1, video_frames=6, video_size_hw=(96, 128)
    )
    return out


@pytest.fixture
def sightline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `sightline ...` in an empty folder, in this process: importing torch anew for each call takes seconds."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        written = capsys.readouterr()
        return Done(int(ended.value.code or 0), written.out, written.err)

    return run
