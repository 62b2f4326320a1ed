"""The digest of a file inside itself: every changed byte is noticed, and files without one are let be."""

import json

import pytest

from sightline.core.errors import DataError
from sightline.core.files import write_sealed_json
from sightline.core.seal import SEAL_KEY, UNSEALED, check_seal, seal_bytes, seal_file


def is_sealed(data: bytes) -> bool:
    return check_seal(data, "file", DataError, "make it again")


def test_every_changed_byte_is_noticed(tmp_path) -> None:
    write_sealed_json(tmp_path / "a.json", {"AP50": 0.5, "name": "ü"})
    data = (tmp_path / "a.json").read_bytes()
    assert is_sealed(data)
    assert list(json.loads(data)) == ["AP50", "name", SEAL_KEY]
    mark = data.index(b"sightline-file")
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        if mark <= place < mark + len("sightline-file-sha256:"):
            assert not is_sealed(changed)  # what says that there is a seal was hit, and nothing else
        else:
            with pytest.raises(DataError, match=r"file: must be .* damaged or edited .* Make it again"):
                is_sealed(changed)


def test_a_file_is_sealed_as_its_bytes_are(tmp_path) -> None:
    data = b"\0\1 any format " + UNSEALED.encode() + b"\xff" * 100_000
    (tmp_path / "file").write_bytes(data)
    seal_file(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == seal_bytes(data) != data
    assert is_sealed(seal_bytes(data))
    (tmp_path / "bare").write_bytes(b"no place")
    for sealing in (lambda: seal_file(tmp_path / "bare"), lambda: seal_bytes(b"no place")):
        with pytest.raises(ValueError):
            sealing()


def test_line_ends_that_an_editor_changed_are_no_edit() -> None:
    sealed = seal_bytes(b'{\n "a": 1,\n "seal": "' + UNSEALED.encode() + b'"\n}\n')
    for changed in (sealed.replace(b"\n", b"\r\n"), sealed + b"\n", sealed.rstrip()):
        assert check_seal(changed, "f", DataError, "again")
    with pytest.raises(DataError, match="damaged or edited"):
        check_seal(sealed.replace(b"1,", b"1 ,").replace(b"\n", b"\r\n"), "f", DataError, "again")


def test_what_carries_no_seal_is_not_judged() -> None:
    assert not is_sealed(b'{"AP50": 0.5}')
