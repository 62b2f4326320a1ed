"""Training: settings, augmentation, the Lightning loop and what it records. Needs torch and lightning."""

from sightline.train.config import Augmentation, TrainConfig
from sightline.train.recorder import Watcher
from sightline.train.trainer import TrainResult, resume, train

__all__ = ["Augmentation", "TrainConfig", "TrainResult", "Watcher", "resume", "train"]
