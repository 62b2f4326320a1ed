"""How a share of the data is held out; apart from the models' metadata, as the command line knows it too."""

import pydantic

from sightline.core.config import Config

__all__ = ["Division"]


class Division(Config):
    """How images are held out for validation where the data names no splits."""

    val_fraction: float = pydantic.Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share held out where the data names no splits; without it the model's own, from its training.",
    )
    seed: int = pydantic.Field(default=0, ge=0, le=2**31 - 1, description="Seed of that choice; likewise.")
