"""Files are written whole or not at all."""

import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from sightline.core.errors import ConfigError
from sightline.core.files import (
    atomic_folder,
    atomic_path,
    plain,
    write_bytes_atomic,
    write_json_atomic,
    write_text_atomic,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def overwrite_and_fail(path: Path, error: type[BaseException]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half of the ne")
        assert path.read_text() == "old"
        raise error


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    write_bytes_atomic(path, b"one")
    assert path.read_bytes() == b"one"
    write_bytes_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert names_in(path.parent) == ["a.bin"]


def test_text_is_utf8_without_translated_newlines(tmp_path):
    write_text_atomic(tmp_path / "a.txt", "größe\n")
    assert (tmp_path / "a.txt").read_bytes() == b"gr\xc3\xb6\xc3\x9fe\n"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        overwrite_and_fail(path, error)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_an_interruption_of_the_first_write_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt"):
        raise RuntimeError
    assert names_in(tmp_path) == []


def test_the_temporary_file_is_beside_the_target_with_its_suffix(tmp_path):
    with atomic_path(tmp_path / "video.mp4") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".mp4"
        assert temporary.name.startswith("."), "hidden, so that a reader listing the folder passes it by"
        temporary.write_bytes(b"x")


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_text_atomic(tmp_path / "taken", "text")
    assert names_in(tmp_path) == ["taken"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_honour_the_umask(tmp_path, mask, expected):
    before = os.umask(mask)
    try:
        write_text_atomic(tmp_path / "a.txt", "text")
        inside = os.umask(mask)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == expected
    assert inside == mask, "the process's umask is as before"


def test_json_is_strict(tmp_path):
    write_json_atomic(
        tmp_path / "a.json",
        {
            "nan": math.nan,
            "list": [np.float32(0.5), -math.inf, np.int64(3), np.bool_(True)],
            "array": np.arange(4).reshape(2, 2),
            "path": Path("a") / "b",
            3: ("x", None),
            "name": "größe",
        },
    )
    text = (tmp_path / "a.json").read_text(encoding="utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(text, parse_constant=refuse) == {
        "nan": None,
        "list": [0.5, None, 3, True],
        "array": [[0, 1], [2, 3]],
        "path": "a/b",
        "3": ["x", None],
        "name": "größe",
    }
    assert text.endswith("}\n")
    assert "größe" in text


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    write_json_atomic(tmp_path / "a.json", {"ok": 1})
    with pytest.raises(TypeError):
        write_json_atomic(tmp_path / "a.json", {"bad": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"ok": 1}
    assert names_in(tmp_path) == ["a.json"]


def test_sets_are_written_in_a_fixed_order():
    assert plain({"delta", "alpha", "charlie", "bravo"}) == ["alpha", "bravo", "charlie", "delta"]
    assert plain(frozenset({3, 1, 2})) == [1, 2, 3]


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ConfigError, match="must be a folder that exists or can be made") as caught:
        write_bytes_atomic(tmp_path / "taken" / "a.bin", b"one")
    assert caught.value.where == str(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_that_was_filled_meanwhile_is_left_as_it_is(tmp_path):
    def write_while_another_writes():
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "mine").write_text("1")
            (tmp_path / "out").mkdir()
            (tmp_path / "out/theirs").write_text("2")

    with pytest.raises(ConfigError, match="must be a new or empty folder, got one with files in it"):
        write_while_another_writes()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["out", "theirs"]
