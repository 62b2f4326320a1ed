"""How this process was launched: alone, or as one of several by `torchrun`, which tells by environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launch", "read_launch"]


@dataclass(frozen=True, slots=True)
class Launch:
    """The place of this process: `rank` of `world` in all, `local_rank` of `local_world` on this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0


def read_launch(environment: Mapping[str, str] | None = None) -> Launch:
    """What `torchrun` has told; without it a process is alone, whatever a scheduler's variables say."""
    told = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" not in told:
        return Launch()
    return Launch(*(int(told[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
