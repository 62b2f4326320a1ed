"""Every setting is used: a run that has all of them asks for each, so that none is taken and silently ignored."""

import sys
from collections.abc import Iterator

from sightline.core.config import Config
from sightline.core.runs import RunFolder
from sightline.train import TrainConfig, train

ALL_OPERATIONS = {
    "rotate": 10, "shear": 5, "flip_ud": 0.5, "crop": 1, "mosaic": 1, "mixup": 1, "copy_paste": 1, "multi_scale": 0.5,
    "hue": 0.1, "gray": 0.5, "blur": 1, "noise": 1, "jpeg": 1,
}  # fmt: skip
CHECKS = {"_check", "active", "only", "check_policy"}
"""Functions that look at settings to judge them, or at all of a kind: no use of any one."""


def settings_of(kind: type[Config]) -> Iterator[tuple[type[Config], str]]:
    """Class and name of every setting, those of sections included."""
    for name, field in kind.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Config):
            yield from settings_of(section)
        else:
            yield kind, name


def test_a_run_asks_for_every_setting(traffic, tmp_path, watcher, monkeypatch):
    config = TrainConfig.load(
        {"data": str(traffic), "model": "yolo11n", "imgsz": 64, "batch": 4, "epochs": 1, "precision": "fp32"}
        | {"cache": "disk", "cache_dir": str(tmp_path / "cache"), "workers": 0, "augment": ALL_OPERATIONS}
    )
    known = set(settings_of(TrainConfig))
    asked = set()

    def ask(settings, name):
        reader = sys._getframe(1)
        if reader.f_globals["__name__"].startswith("sightline.") and reader.f_code.co_name not in CHECKS:
            asked.add((type(settings), name))
        return object.__getattribute__(settings, name)

    assert len(known) > 50
    with monkeypatch.context() as patch:
        patch.setattr(Config, "__getattribute__", ask, raising=False)
        train(config, RunFolder.create(tmp_path, "detect"), watcher)
    assert {(kind.__name__, name) for kind, name in known - asked} == set()
