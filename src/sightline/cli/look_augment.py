"""What `sightline look --augment` shows; apart from the verb, as it alone needs torch."""

from collections.abc import Iterator, Sequence
from typing import Any

from sightline.cli.train import parse_assignments
from sightline.core.config import read_yaml
from sightline.core.dataset import Dataset
from sightline.core.preprocess import Preprocess
from sightline.draw.look import Sheet
from sightline.models import create
from sightline.train import Augmentation, TrainConfig
from sightline.train.augment import check_policy
from sightline.train.studies import augmented_sheets, merge_settings, settings_of

__all__ = ["sheets_of_training", "training_view"]

_USUAL_MODEL = {"semantic": "unet-small"}
_DETECTOR = "yolo11n"


def training_view(dataset: Dataset, assignments: Sequence[str], config: str | None) -> tuple[Preprocess, Augmentation]:
    """How a run of these settings would see the data: `model`, `imgsz` and `augment.*` count, the rest is checked."""
    values = settings_of(read_yaml(config), config) if config is not None else {}
    usual = {"data": {"path": str(dataset.root)}, "model": {"name": _USUAL_MODEL.get(dataset.task, _DETECTOR)}}
    given = merge_settings(merge_settings(usual, values), parse_assignments(assignments))
    settings = TrainConfig.load(given, where=config)
    size: dict[str, Any] = {} if settings.model.imgsz is None else {"imgsz": settings.model.imgsz}
    model = create(settings.model.name, class_names=dataset.class_names, **size)
    check_policy(settings.augment, dataset)
    return model.preprocess, settings.augment


def sheets_of_training(
    dataset: Dataset, assignments: Sequence[str], config: str | None, *, images: int, draws: int, seed: int
) -> Iterator[Sheet]:
    """Images as a run of these settings would see them."""
    preprocess, policy = training_view(dataset, assignments, config)
    return augmented_sheets(dataset, preprocess, policy, images=images, draws=draws, seed=seed)
