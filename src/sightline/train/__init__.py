"""Training: settings, augmentation, the Lightning loop, studies of many runs. Needs torch and lightning."""

from sightline.train.ablation import Ablation, AblationResult, run_ablation
from sightline.train.config import Augmentation, TrainConfig
from sightline.train.recorder import Watcher
from sightline.train.trainer import TrainResult, resume, train
from sightline.train.tuning import SearchResult, Tuning, run_tuning

__all__ = [
    "Ablation",
    "AblationResult",
    "Augmentation",
    "SearchResult",
    "TrainConfig",
    "TrainResult",
    "Tuning",
    "Watcher",
    "resume",
    "run_ablation",
    "run_tuning",
    "train",
]
