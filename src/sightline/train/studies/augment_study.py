"""What each operation of an augmentation policy does for the validation metric: an ablation over its parts."""

from sightline.core.errors import ConfigError
from sightline.train.augment.policy import OPERATIONS, Augmentation
from sightline.train.config import TrainConfig
from sightline.train.studies.ablation import Ablation

__all__ = ["NONE", "WHOLE", "augment_study", "operations_apart"]

NONE, WHOLE = "none", "all"


def operations_apart(policy: Augmentation) -> dict[str, Augmentation]:
    """The policy with nothing on (`none`), each of its operations alone, in order, and whole (`all`).

    Visibility rule and photometry are the policy's everywhere. Where one operation is on, it is the whole.
    """
    nothing = Augmentation.none()
    fields = [field for fields in OPERATIONS.values() for field in fields]
    parts = {NONE: policy.model_copy(update={field: getattr(nothing, field) for field in fields})}
    active = policy.active()
    parts |= {name: policy.only(name) for name in active}
    return parts | ({WHOLE: policy} if len(active) > 1 else {})


def augment_study(config: TrainConfig, seeds: int) -> Ablation:
    """The ablation of a run's augmentation: `none`, then each operation alone, then all; seeds from the run's on.

    ConfigError where the policy changes nothing: there is nothing to compare.
    """
    if not config.augment.active():
        raise ConfigError("an augmentation study needs an operation that is on, got a policy with all of them off")
    return Ablation(
        description="augmentation: nothing, each operation alone, all of them; differences to nothing",
        base=config.model_dump(mode="json", exclude={"seed", "augment"}),
        variants={
            name: {"augment": part.model_dump(mode="json")} for name, part in operations_apart(config.augment).items()
        },
        seeds=tuple(range(config.seed, config.seed + seeds)),
    )
