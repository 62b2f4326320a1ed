"""`last.ckpt`, all that a run needs to go on: written whole and durably, or not at all."""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from sightline.core.errors import DataError, SightlineError
from sightline.core.files import atomic_path

__all__ = ["StateFile"]


class StateFile(TorchCheckpointIO):
    """How Lightning writes and reads a run's state; every failure leaves the earlier file as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the state; SightlineError where the disk does not take it."""
        try:
            with atomic_path(path, durable=True) as temporary, temporary.open("wb") as handle:
                sink = _Sink(handle)
                try:
                    torch.save(checkpoint, sink)
                except Exception:
                    # torch wraps what the disk said in an error about its own archive.
                    if sink.error is not None:
                        raise sink.error from None
                    raise
        except OSError as error:
            raise SightlineError(
                f"cannot write the run's state ({error.strerror})",
                where=str(path),
                do="make room and continue with 'sightline train --resume': the state before this one is whole",
            ) from None

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
        """Read the state; DataError for a file that is none."""
        try:
            state: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"must be the state of an interrupted run, got a file that cannot be read ({first})",
                where=str(path),
                do="start a new run from weights/best.safetensors with --weights",
            ) from None
        return state


class _Sink:
    """A file for torch to write into, which remembers what the system said when it failed."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._handle.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._handle.flush()
