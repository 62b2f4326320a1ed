"""Names and texts that a terminal, a table or a file cannot hold: escaped or one finding, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sightline.core.errors import ConfigError, InputError, ModelError
from sightline.core.metadata import ModelMetadata
from sightline.data import read_dataset

BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10]}


def run(*arguments: str | bytes, **options: object) -> subprocess.CompletedProcess[bytes]:
    options.setdefault("env", os.environ | {"COLUMNS": "300"})
    code = "from sightline.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False, **options)  # type: ignore[call-overload]
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done  # type: ignore[no-any-return]


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """YOLO with a sound picture, one whose name is not UTF-8, and one with a terminal's command in its name."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate((b"sound", b"b\xff", b"\x1b[31mred", "größe".encode())):
        Image.new("RGB", (32, 24 + number)).save(os.fsdecode(bytes(tmp_path / "images") + b"/" + name + b".png"))
        Path(os.fsdecode(bytes(tmp_path / "labels") + b"/" + name + b".txt")).write_text("0 0.5 0.5 0.5 0.5\n")
    return tmp_path


def test_a_name_that_is_not_utf8_is_one_finding(strange: Path) -> None:
    dataset = read_dataset(strange)
    assert len(dataset) == 3
    (found,) = (f for f in dataset.findings if f.severity == "error")
    assert (found.code, found.path) == ("image-unreadable", "images/b\\udcff.png")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_terminals_of_few_letters(strange: Path, encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = run("audit", str(strange), env=environment)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
    found = json.loads(run("audit", str(strange), "--json", env=environment).stdout.decode(encoding))
    assert found["worst"] == "error"


def test_a_closed_stdout(strange: Path) -> None:
    code = "import os, sys; sys.stdout = None; from sightline.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "audit", str(strange)], capture_output=True, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_errors_obey_no_terminal(tmp_path: Path) -> None:
    done = run("audit", str(tmp_path / "a\x1b]0;title\x07b"))
    assert done.returncode == 2
    assert not set(b"\x1b\x07") & set(done.stderr)
    assert run("audit", bytes(tmp_path) + b"/\xff").returncode == 2


@pytest.mark.parametrize("key", ["file_name", "name"])
@pytest.mark.parametrize("large", [False, True])
def test_half_a_pair_in_json(tmp_path: Path, key: str, large: bool) -> None:
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    images = [{"id": 1, "file_name": "a.png", "width": 32, "height": 24}]
    content = {"images": images, "annotations": [BOX], "categories": [{"id": 1, "name": "x"}]}
    text = json.dumps(content | ({"note": "x" * (1 << 20)} if large else {}))
    file = tmp_path / "labels.json"
    file.write_text(text.replace('"a.png"' if key == "file_name" else '"x"', '"\\ud800.png"'))
    done = run("audit", str(file), "--json")
    if done.returncode == 0:
        assert json.loads(done.stdout)["findings"]
    else:  # what is written out holds a backslash, which may be taken for a path that leaves the set
        assert (key, done.returncode, done.stderr.count(b"\n")) == ("file_name", 2, 1)


@pytest.mark.parametrize("name", ["data.yaml", "sightline.yaml"])
def test_half_a_pair_in_yaml(strange: Path, name: str) -> None:
    (strange / name).write_text('train: images\nnames: ["\\ud800"]\n')
    with pytest.raises(ConfigError, match="must be whole characters, got half a surrogate pair"):
        read_dataset(strange)


def test_a_key_given_twice_is_said(strange: Path) -> None:
    (strange / "data.yaml").write_text("train: images\nnames: [x]\nnames: [y]\n")
    with pytest.raises(ConfigError, match=r"data\.yaml:3: must be valid YAML, got: the key 'names' twice"):
        read_dataset(strange)
    (strange / "data.yaml").write_text("names: {0: x, 0: y}\ntrain: images\n")
    with pytest.raises(ConfigError, match="the key '0' twice"):
        read_dataset(strange)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"class_names": ["\\ud800"]}', "[1]"])
def test_metadata_of_models(text: str) -> None:
    with pytest.raises(ModelError) as error:
        ModelMetadata.from_json(text, "m.onnx")
    assert isinstance(error.value, InputError)
    str(error.value).encode()
