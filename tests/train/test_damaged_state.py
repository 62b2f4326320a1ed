"""`last.ckpt`, `run.json` and `config.yaml` of a cut run, damaged or edited: one sentence, and never their code."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sightline.core.errors import ConfigError, InputError
from sightline.core.runs import RunFolder
from sightline.train.config import TrainConfig
from sightline.train.run import resume, train
from sightline.train.state import read_state


class Stopping:
    """A watcher that cuts the run behind its first batch."""

    def note(self, text: str) -> None: ...

    def phase(self, name: str, total: int) -> None:
        self.learns = name.startswith("epoch")

    def epoch(self, row: dict[str, float], best: bool) -> None: ...

    def advance(self, done: int) -> None:
        if self.learns:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cut_run(cracks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted behind its first batch."""
    root = tmp_path_factory.mktemp("cut")
    settings = {"model": {"name": "unet-small"}, "data": {"path": str(cracks), "workers": 0}, "batch": 2}
    config = TrainConfig.load({**settings, "device": "cpu", "schedule": {"epochs": 3}})
    run = RunFolder.create(root, "semantic", "cut")

    with pytest.raises(KeyboardInterrupt):
        train(config, run, Stopping())
    assert (run.path / "weights/last.ckpt").is_file()
    return run.path


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this code must not run",))


def _state(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def harm(file: Path) -> None:
        state = torch.load(file, weights_only=True)
        change(state)
        torch.save(state, file)

    return harm


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 7 :])


def _all_shapes(state: dict[str, Any]) -> None:
    state["learner"]["weights"] = {k: torch.zeros(3) for k in state["learner"]["weights"]}


HARMS: dict[str, Callable[[Path], Any]] = {
    "cut": lambda f: f.write_bytes(f.read_bytes()[:-3000]),
    "empty": lambda f: f.write_bytes(b""),
    "flipped": _flip,
    "pickle": lambda f: f.write_bytes(pickle.dumps(_Code())),
    "code": lambda f: torch.save({"format": "sightline run 3", "learner": _Code()}, f),
    "a list": lambda f: torch.save([1], f),
    "other version": _state(lambda s: s.update(format="sightline run 1")),
    "no learner": _state(lambda s: s.pop("learner")),
    "no place": _state(lambda s: s["learner"].pop("place")),
    "no weights": _state(lambda s: s["learner"].pop("weights")),
    "shapes": _state(_all_shapes),
    "no rows": _state(lambda s: s["record"].pop("rows")),
    "rows": _state(lambda s: s["record"].update(rows=[{"a": "b"}])),
    "best": _state(lambda s: s["record"].update(best_epoch="x")),
    "random": _state(lambda s: s["random"].update(torch=torch.zeros(3))),
    "place": _state(lambda s: s["learner"]["place"].pop("epoch")),
    "epoch": _state(lambda s: s["learner"]["place"].update(epoch="x")),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_state_that_cannot_be_gone_on_with(
    cut_run: Path, tmp_path: Path, watcher: Any, capsys: Any, harm: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(cut_run, run)
    HARMS[harm](run / "weights/last.ckpt")
    with pytest.raises(ConfigError, match=r"last\.ckpt: must be the state of this run, got") as error:
        resume(run, watcher)
    assert "weights_only" not in str(error.value)  # torch's advice to switch its own safety off
    assert "this code" not in capsys.readouterr().out


@pytest.mark.parametrize("seed", [torch.zeros(3), "x", None])
def test_settings_of_a_state_that_are_none(cut_run: Path, tmp_path: Path, watcher: Any, seed: Any) -> None:
    run = tmp_path / "run"
    shutil.copytree(cut_run, run)
    _state(lambda s: s["settings"].update(seed=seed))(run / "weights/last.ckpt")
    with pytest.raises(ConfigError, match=r"last\.ckpt: 'seed'"):
        resume(run, watcher)


def test_a_number_of_a_state_that_was_flipped_is_noticed(cut_run: Path, tmp_path: Path) -> None:
    data = bytearray((cut_run / "weights/last.ckpt").read_bytes())
    data[len(data) // 2] ^= 1  # in the middle of the weights, where torch reads whatever there is
    (tmp_path / "last.ckpt").write_bytes(data)
    with pytest.raises(ConfigError, match=r"last\.ckpt: must be the state of this run, got a damaged file"):
        read_state(tmp_path / "last.ckpt")


def test_a_state_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(ConfigError, match="must be the state of this run"):
        read_state(tmp_path / "last.ckpt")


def _edit(run: Path, section: str | None, key: str, value: Any) -> None:
    values = yaml.safe_load((run / "config.yaml").read_text())
    (values[section] if section else values)[key] = value
    (run / "config.yaml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize(
    ("section", "key", "value"), [("schedule", "epochs", 4), (None, "seed", 9), (None, "batch", 4)]
)
def test_settings_that_were_changed_are_refused(
    cut_run: Path, tmp_path: Path, watcher: Any, section, key, value
) -> None:
    run = tmp_path / "run"
    shutil.copytree(cut_run, run)
    _edit(run, section, key, value)
    with pytest.raises(ConfigError, match=rf"config\.yaml: '[a-z.]*{key}' must be what the run began with"):
        resume(run, watcher)


def test_settings_of_the_machine_may_change(cut_run: Path, tmp_path: Path, watcher: Any) -> None:
    run = tmp_path / "run"
    shutil.copytree(cut_run, run)
    _edit(run, "checkpoint", "save_every_s", 0)
    assert resume(run, watcher).epochs == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"chosen": 3}',
        '{"chosen": {"workers": 3}}',
        '{"resumed": "x"}',
        '{"status": 1}',
        "[" * 9**6,
    ],
)
def test_a_record_of_other_things(cut_run: Path, tmp_path: Path, watcher: Any, text: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(cut_run, run)
    (run / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        resume(run, watcher)


def test_a_record_that_is_no_file(cut_run: Path, tmp_path: Path, watcher: Any) -> None:
    run = tmp_path / "run"
    shutil.copytree(cut_run, run)
    (run / "run.json").unlink()
    (run / "run.json").mkdir()
    with pytest.raises(ConfigError, match=r"run\.json: cannot read the file \(is a folder\)"):
        resume(run, watcher)
