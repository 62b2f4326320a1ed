"""Settings: unknown keys and wrong values are refused with the place and the nearest name."""

import pydantic
import pytest

from sightline.core.config import Config, read_yaml
from sightline.core.errors import ConfigError


class Optimiser(Config):
    learning_rate: float = pydantic.Field(0.01, gt=0)
    momentum: float = 0.9


class Settings(Config):
    epochs: int = 10
    optimiser: Optimiser = Optimiser()
    name: str


def sentence(call, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_and_given_values():
    settings = Settings.load({"name": "a", "optimiser": {"momentum": 0.5}})
    assert settings.epochs == 10
    assert settings.optimiser == Optimiser(momentum=0.5)


def test_settings_are_frozen():
    settings = Settings(name="a")
    with pytest.raises(pydantic.ValidationError):
        settings.epochs = 3


def test_unknown_key_names_the_nearest_and_the_file():
    text = sentence(Settings.load, {"name": "a", "epoch": 3}, "train.yaml")
    assert text == "train.yaml: unknown key 'epoch' (nearest: epochs)."


def test_unknown_nested_key_names_the_nearest_with_its_path():
    text = sentence(Settings.load, {"name": "a", "optimiser": {"learning-rate": 0.1}}, "train.yaml")
    assert text == "train.yaml: unknown key 'learning-rate' under 'optimiser' (nearest: learning_rate)."


def test_unknown_key_unlike_all_lists_them():
    assert "(known: epochs, name, optimiser)" in sentence(Settings.load, {"name": "a", "zzz": 1})


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({}, ["'name' is missing and has no default"]),
        ({"name": "a", "epochs": "many"}, ["'epochs'", "got 'many'"]),
        ({"name": "a", "epochs": 1.5}, ["'epochs'", "got 1.5"]),
        ({"name": "a", "optimiser": {"learning_rate": 0}}, ["'optimiser.learning_rate'", "greater than 0", "got 0"]),
        ({"name": "a", "optimiser": {"momentum": float("nan")}}, ["'optimiser.momentum'", "got nan"]),
    ],
)
def test_wrong_values_say_key_and_value(values, parts):
    text = sentence(Settings.load, values)
    assert all(part in text for part in parts), text


def test_saved_settings_read_back(tmp_path):
    settings = Settings(name="größe: #1", epochs=3)
    settings.save(tmp_path / "config.yaml")
    assert Settings.read(tmp_path / "config.yaml") == settings
    assert "momentum: 0.9" in (tmp_path / "config.yaml").read_text(encoding="utf-8"), "defaults are written out"


def test_yaml_errors_name_file_and_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: 1\nb: [1, 2\nc: 3\n")
    assert sentence(read_yaml, path).startswith(f"{path}:3: must be valid YAML, got: ")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"- 1\n- 2\n", "must be a mapping of keys to values, got a list"),
        (b"just text", "must be a mapping of keys to values, got a str"),
        (b"a: \xff\xfe", "must be UTF-8 text"),
        (b"a: \x00", "must be valid YAML"),
        (b"a: !!python/object/apply:os.system ['true']", "must be valid YAML"),
    ],
)
def test_files_that_hold_no_settings(tmp_path, data, part):
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    text = sentence(read_yaml, path)
    assert part in text
    assert str(path) in text


def test_empty_and_absent_files(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == {}
    assert "cannot read the file (No such file or directory)" in sentence(read_yaml, tmp_path / "absent.yaml")
