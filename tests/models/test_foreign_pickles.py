"""Checkpoints of strangers: nothing of the file runs, nothing it asks for is larger than it, one sentence says why."""

import io
import os
import pickle
import struct
import tarfile
import zipfile

import pytest
import torch

from sightline.core.errors import ModelError
from sightline.models.foreign.adopt import adopt_checkpoint
from sightline.models.foreign.checkpoint import read_checkpoint
from sightline.models.foreign.pickled import PickleError, Record, read_pickle

FLOATS = struct.pack("<4f", 1, 2, 3, 4)


def archive(path, data, storages=None, *, compress=zipfile.ZIP_STORED, name="archive/data.pkl"):
    with zipfile.ZipFile(path, "w", compress) as file:
        file.writestr(name, data)
        for key, content in (storages or {"0": FLOATS}).items():
            file.writestr(f"archive/data/{key}", content)
    return path


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def storage(kind=b"torch\nFloatStorage\n", key=b"0", count=4):
    return b"(" + text(b"storage") + b"c" + kind + text(key) + text(b"cpu") + b"J" + struct.pack("<i", count) + b"tQ"


def tensor(offset=0, size=(2, 2), stride=(2, 1), **given):
    def ints(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    start = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(**given) + b"J" + struct.pack("<i", offset)
    return b"\x80\x02}" + text(b"w") + start + ints(size) + ints(stride) + b"\x89}tRs."


def test_a_tensor_is_read_as_it_lies(tmp_path):
    torch.save({"w": torch.arange(12.0).reshape(3, 4).t()[1:, :2].half(), "n": 3}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    assert found.values["n"] == 3
    read = found.tensors({"w": found.values["w"]})["w"]
    assert read.dtype == torch.float32
    assert read.tolist() == torch.arange(12.0).reshape(3, 4).t()[1:, :2].tolist()
    by_hand = read_checkpoint(archive(tmp_path / "b.pt", tensor()))
    assert by_hand.tensors(by_hand.values)["w"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_of_the_file_is_called(tmp_path, protocol):
    mark = tmp_path / "ran"
    command = f"touch {mark}"
    held = [
        Calls(os.system, command),
        Calls(eval, f"open({str(mark)!r}, 'w')"),
        {"model": [Calls(exec, f"open({str(mark)!r}, 'w')")]},
        Calls(os.system, Calls(os.system, command)),
        Calls(type, "x", (), {}, state={"__setstate__": Calls(os.system, command)}),
    ]
    path = archive(tmp_path / "bad.pt", pickle.dumps({"model": held, "epoch": 1}, protocol))
    values = read_checkpoint(path).values
    assert all(isinstance(v, Record) for v in (values["model"][0], values["model"][1], values["model"][3]))
    with pytest.raises(ModelError, match="must hold a model or its tensors by name, got neither"):
        adopt_checkpoint(path)
    assert not mark.exists()


def test_old_ways_of_calling_are_records_too(tmp_path):
    mark = str(tmp_path / "ran").encode()
    for data in (
        b"(S'touch " + mark + b"'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch " + mark + b"'\no.",
        b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85\x81}b.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01a\x85}\x92.",
    ):
        found = read_pickle(data, None)
        assert isinstance(found, Record)
        assert found.name == "os.system"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02R.", "never put there"),
        (b"\x80\x020.", "a mark is used"),
        (b"\x80\x02tt.", "a mark is used"),
        (b"\x80\x02K\x01K\x02.", "more or less than one value"),
        (b"\x80\x02(K\x01.", "more or less than one value"),
        (b"\x80\x02h\x07.", "fetched that was never kept"),
        (b"\x80\x02K\x01q\x00K\x02a.", "added to a int"),
        (b"\x80\x02K\x01}b.", "state is set on a int"),
        (b"\x80\x02]K\x01K\x02s.", "entries are set in a list"),
        (b"\x80\x02}]K\x02s.", "a key that is a list"),
        (b"\x80\x02}" + b"(" * 50_000 + b"t" * 50_000 + b"K\x01s.", "a key that is a tuple"),
        (b"\x80\x02K\x01)R.", "an object of a kind that is a int"),
        (b"\x80\x02cos\nsystem\nK\x01R.", "arguments that are a int"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"Pabc\n.", "PERSID"),
        (b"\x80\x02X\x06\x00\x00\x00modelsQ.", "no storage of a tensor"),
        (b"\x80\x02" + storage(key=b"../../etc/passwd") + b".", "that the file does not hold"),
        (b"\x80\x02" + storage(kind=b"os\nsystem\n") + b".", "a storage of the type os.system"),
        (b"\x80\x02" + storage(count=5) + b".", "of 5 elements that the file does not hold"),
        (b"\x80\x02" + storage(count=-4) + b".", "that the file does not hold"),
        (b"L" + b"9" * 10_000 + b"L\n.", "4300"),
        (b"\x80\x02\x8b\xff\xff\xff\x7fabc.", "not enough data"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "expected"),
        (b"\x80\x02K\x01", "exhausted before seeing STOP"),
        (b"\xde\xad\xbe\xef", "unknown"),
        (b"\x80\x04\x8c\x01a\x93.", "never put there"),
        (b"\x80\x04K\x01K\x02\x93.", "a name that is no text"),
        (tensor(size=(3, 3)), "9 elements"),
        (tensor(size=(10**9, 1), stride=(0, 1)), "1000000000 elements"),
        (tensor(offset=3), "up to the 7th in a storage of 4"),
        (tensor(size=(-1, 2)), "sizes that are no numbers"),
        (tensor(size=(2,)), "a tensor that is none"),
        (tensor(size=(1,) * 9, stride=(1,) * 9), "a tensor that is none"),
    ],
)
def test_a_damaged_or_hostile_pickle_is_one_sentence(tmp_path, data, message):
    with pytest.raises(ModelError, match=message) as caught:
        read_checkpoint(archive(tmp_path / "bad.pt", data))
    assert "Nothing of it was run" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_steps_are_bounded(monkeypatch):
    monkeypatch.setattr("sightline.models.foreign.pickled._MAX_OPERATIONS", 1000)
    with pytest.raises(PickleError, match="more than 1000 steps"):
        read_pickle(b"N0" * 600 + b"N.", None)


def test_values_nested_without_end_are_walked_without_recursion(tmp_path):
    deep = b"]" * 100_000 + b"a" * 99_999
    found = read_checkpoint(archive(tmp_path / "deep.pt", b"\x80\x02" + deep + b".")).values
    assert isinstance(found, list)
    module = b"ctorch.nn\nModule\n)\x81q\x00}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00ssb."
    with pytest.raises(ModelError, match="64 in each other"):
        adopt_checkpoint(archive(tmp_path / "loop.pt", b"\x80\x02" + module))


def legacy_tar(path):
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            file.addfile(tarfile.TarInfo(name), io.BytesIO())


def legacy_stream(path):
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)


def zip_bomb(path):
    archive(path, b"\x80\x02" + b"N0" * 5_000_000 + b"N.", compress=zipfile.ZIP_DEFLATED)


def overlapping(path):
    archive(path, b"\x80\x02N.", {"0": FLOATS * 4000, "1": FLOATS})
    data = path.read_bytes()
    # The directory's entry of the second storage is made to name the first one's bytes.
    entry = data.rfind(b"archive/data/1") - 46
    first = data.rfind(b"archive/data/0") - 46
    path.write_bytes(data[: entry + 16] + data[first + 16 : first + 28] + data[entry + 28 :])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (legacy_tar, "before 1.6, a tar archive"),
        (legacy_stream, "before 1.6"),
        (zip_bomb, "a compressed or encrypted archive"),
        (overlapping, "entries that lie over each other"),
        (lambda p: archive(p, b"N.", name="archive/other.pkl"), "a zip archive of other things"),
        (lambda p: archive(p, b"N.", {"0": b""}).write_bytes(p.read_bytes()[:-40]), "another file"),
        (lambda p: p.write_bytes(b"not a model"), "another file"),
        (lambda p: p.write_bytes(b""), "another file"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: None, "no such file"),
    ],
)
def test_other_files_are_one_sentence(tmp_path, write, message):
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(ModelError, match=message):
        read_checkpoint(path)


def test_torchscript_is_refused(tmp_path):
    path = archive(tmp_path / "s.pt", b"N.")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/constants.pkl", b"N.")
    with pytest.raises(ModelError, match="a TorchScript program"):
        read_checkpoint(path)
