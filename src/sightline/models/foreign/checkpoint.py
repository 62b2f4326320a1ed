"""A PyTorch checkpoint: a zip of one pickle and the bytes of its tensors, read without running anything of it."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.core.errors import ModelError
from sightline.core.files import check_regular
from sightline.models.foreign.pickled import PickleError, StorageRef, TensorRef, read_pickle

__all__ = ["Checkpoint", "read_checkpoint"]

_MAX_PICKLE_BYTES = 64_000_000
_MAX_ENTRIES = 100_000
_DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.uint8,
}
_OLD = "the format of PyTorch before 1.6"
_SAVE_AGAIN = "open it where you trust it and save it again with torch.save"


@dataclass(frozen=True)
class Checkpoint:
    """What the pickle holds, tensors as `TensorRef`, and the file their bytes are in."""

    path: Path
    prefix: str
    values: Any

    def tensors(self, refs: dict[str, TensorRef]) -> dict[str, Tensor]:
        """The tensors of these descriptions: floating ones as float32, the others as they are stored."""
        read = {}
        try:
            with zipfile.ZipFile(self.path) as file:
                for name, ref in refs.items():
                    read[name] = _tensor(file.read(f"{self.prefix}data/{ref.storage.key}"), ref)
        except (OSError, zipfile.BadZipFile) as error:
            raise _unusable(self.path, f"tensors that cannot be read ({error})") from None
        return read


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint in a `.pt` or `.pth` file. Nothing of it is imported or called: what is no data stays a record.

    ModelError for a file that is no checkpoint, of a format before 1.6, TorchScript, compressed, damaged or hostile.
    """
    where = Path(path)
    try:
        check_regular(where)
        with where.open("rb") as file:
            start = file.read(512)
        with zipfile.ZipFile(where) as zipped:
            return _read(zipped, where)
    except FileNotFoundError:
        raise ModelError("no such file", where=str(path)) from None
    except PickleError as error:
        raise _unusable(where, str(error)) from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        if start[257:262] == b"ustar" or start[:1] == b"\x80":
            got = _OLD + (", a tar archive" if start[257:262] == b"ustar" else "")
            raise _unusable(where, got, do=_SAVE_AGAIN) from None
        raise _unusable(where, f"another file ({error})") from None
    except OSError as error:
        raise ModelError(f"cannot read the file ({error.strerror or error})", where=str(path)) from None


def _unusable(path: Path, got: str, do: str = "nothing of it was run") -> ModelError:
    return ModelError(f"must be a sound checkpoint of PyTorch, got {got}", where=str(path), do=do)


def _read(zipped: zipfile.ZipFile, path: Path) -> Checkpoint:
    entries = {entry.filename: entry for entry in zipped.infolist()}
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if any(name.rpartition("/")[2] == "constants.pkl" for name in entries):
        do = "give the checkpoint it was made from, or the model exported to ONNX"
        raise _unusable(path, "a TorchScript program", do=do)
    if len(pickles) != 1 or not 1 <= len(entries) <= _MAX_ENTRIES or len(entries) != len(zipped.infolist()):
        raise _unusable(path, "a zip archive of other things")
    # PyTorch stores without compression: nothing in the file can be larger than the file.
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries.values()):
        raise _unusable(path, "a compressed or encrypted archive", do=_SAVE_AGAIN)
    if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
        raise _unusable(path, "entries that lie over each other")
    if entries[pickles[0]].file_size > _MAX_PICKLE_BYTES:
        raise _unusable(path, f"a pickle of more than {_MAX_PICKLE_BYTES} bytes")
    prefix = pickles[0].removesuffix("data.pkl")
    if (order := entries.get(f"{prefix}byteorder")) is not None and zipped.read(order) != b"little":
        raise _unusable(path, "numbers of another byte order", do=_SAVE_AGAIN)

    def storage(kind: str, key: str, count: int) -> StorageRef:
        entry = entries.get(f"{prefix}data/{key}")
        if kind not in _DTYPES:
            raise PickleError(f"a storage of the type {kind[:80]}")
        if entry is None or entry.file_size != count * _DTYPES[kind].itemsize:
            raise PickleError(f"a storage '{key[:80]}' of {count} elements that the file does not hold")
        return StorageRef(key, kind, count)

    return Checkpoint(path, prefix, read_pickle(zipped.read(pickles[0]), storage))


def _tensor(data: bytes, ref: TensorRef) -> Tensor:
    dtype = _DTYPES[ref.storage.kind]
    if not data:
        return torch.zeros(ref.shape, dtype=torch.float32 if dtype.is_floating_point else dtype)
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    placed = flat.as_strided(ref.shape, ref.stride, ref.offset)
    return placed.float().clone() if dtype.is_floating_point else placed.clone()
