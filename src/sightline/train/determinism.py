"""What makes a run repeatable: seeds, deterministic operations, and an honest list of what stays undetermined."""

import os
import random
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import numpy as np
import torch

__all__ = ["describe_determinism", "deterministic_operations", "random_state", "restore_random_state", "seed_all"]

_REFUSED = re.compile(r"(\S+) does not have a deterministic implementation")
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch (CPU and GPUs); loader processes and augmentation draw from seeds of their own."""
    lightning.seed_everything(seed, verbose=False)


def random_state() -> dict[str, Any]:
    """The state of the global generators as plain values and tensors, for a checkpoint."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the generators where `random_state` found them; GPUs only where there are as many as then."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def deterministic_operations(asked: bool, device: str) -> Iterator[set[str]]:
    """Use operations that repeat bit by bit where torch has them; the yielded set fills with those that do not."""
    varying: set[str] = set()
    if not asked:
        yield varying
        return
    if device == "cuda":
        os.environ.setdefault(_WORKSPACE, ":4096:8")  # cuBLAS adds up in a fixed order only with this
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Any, *rest: Any, **named: Any) -> None:
            refused = _REFUSED.search(str(message))
            if refused is None:
                show(message, *rest, **named)
            else:
                varying.add(refused.group(1))

        warnings.filterwarnings("always", message=f".*{_REFUSED.pattern}.*")
        warnings.showwarning = note
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        try:
            yield varying
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def describe_determinism(asked: bool, device: str, seed: int, processes: int, varying: set[str]) -> dict[str, Any]:
    """What `run.json` says: seeds, threads, and in `undetermined` whatever may differ between two equal runs."""
    undetermined = [f"{name} has no deterministic implementation on this device" for name in sorted(varying)]
    if device == "cuda" and not asked:
        undetermined += [
            "CUDA kernels that add up atomically, and cuDNN's choice of algorithms (deterministic=true fixes both)"
        ]
    if processes > 1:
        undetermined.append(
            f"the order in which {processes} processes add up: equal with as many processes, "
            "close with another number of them"
        )
    return {
        "deterministic": asked,
        "seeds": dict.fromkeys(("python", "numpy", "torch", "shuffling", "augmentation"), seed),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "undetermined": undetermined,
        "holds_for": "the same machine, versions, threads and settings; times and speeds always vary",
    }
