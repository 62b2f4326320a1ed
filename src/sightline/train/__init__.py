"""Training: settings, augmentation, the training loop, studies of many runs. Needs torch."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.train.anchors import AnchorFit, AnchorProposal, propose_anchors
    from sightline.train.config import SHORT_NAMES, Augmentation, TrainConfig
    from sightline.train.distributed import join_processes
    from sightline.train.profile import Profile, profile_training
    from sightline.train.recorder import Watcher
    from sightline.train.run import TrainResult, resume, train
    from sightline.train.studies.ablation import Ablation, AblationResult, run_ablation
    from sightline.train.studies.tuning import SearchResult, Tuning, run_tuning

__all__ = [
    "SHORT_NAMES",
    "Ablation",
    "AblationResult",
    "AnchorFit",
    "AnchorProposal",
    "Augmentation",
    "Profile",
    "SearchResult",
    "TrainConfig",
    "TrainResult",
    "Tuning",
    "Watcher",
    "join_processes",
    "profile_training",
    "propose_anchors",
    "resume",
    "run_ablation",
    "run_tuning",
    "train",
]

__getattr__, __dir__ = door(__name__)
