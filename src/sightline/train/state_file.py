"""How the state of a run reaches its file."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

__all__ = ["StateFile"]


class StateFile(TorchCheckpointIO):
    """Writes a state straight to its path, for Lightning.

    Lightning's own way is a file in the system's temporary folder that is then moved: where that folder is another
    disk, it has to be large enough too, and an error names a file nobody knows.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a state that Lightning has gathered; OSError where it does not fit."""
        state = io.BytesIO()  # torch reports a full disk as an error of its own kind
        torch.save(checkpoint, state)
        Path(path).write_bytes(state.getbuffer())
