"""The Lightning module: one training step, the optimiser, the learning-rate schedule. Everything else is a callback."""

import math
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from sightline.core.errors import SightlineError
from sightline.models import Model
from sightline.train.config import TrainConfig
from sightline.train.images import Batch, normalise_batch

__all__ = ["TrainingModule", "learning_rate_factor", "parameter_groups"]


class TrainingModule(lightning.LightningModule):
    """Trains `model`, which computes its own loss by named terms; their sum is minimised."""

    def __init__(self, model: Model, config: TrainConfig, steps_per_epoch: int, image_names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.image_names = image_names
        self.term_sums: dict[str, float] = {}
        self.step_count = 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the loss terms of one batch; SightlineError when a term is not a number."""
        images = normalise_batch(batch.images, self.model.preprocess)
        terms = self.model.loss(self.model(images), batch.targets)
        values = {name: float(value.detach()) for name, value in terms.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                files = ", ".join(self.image_names[row] for row in batch.rows[:4])
                raise SightlineError(
                    f"loss term '{name}' must be a number, got {value} in epoch {self.current_epoch + 1}, "
                    f"batch {batch_idx + 1} ({files}, ...)",
                    do="look at these images and labels, or lower the learning rate or use --precision fp32",
                )
            self.term_sums[name] = self.term_sums.get(name, 0.0) + value
        self.step_count += 1
        return torch.stack(list(terms.values())).sum()

    def take_mean_terms(self) -> dict[str, float]:
        """The mean of each term since the last call."""
        means = {name: total / max(1, self.step_count) for name, total in self.term_sums.items()}
        self.term_sums, self.step_count = {}, 0
        return means

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """As Lightning asks: the batch on `device`."""
        return batch.to(device)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Scale the gradients down to the norm limit; Lightning's own clipping refuses fused optimisers."""
        torch.nn.utils.clip_grad_norm_(as_module(self.model).parameters(), self.config.optimizer.clip_norm)

    def configure_optimizers(self) -> Any:
        """The optimiser and a schedule that is advanced after every step."""
        config = self.config
        groups = parameter_groups(self.model, config.optimizer.decay)
        optimizer: torch.optim.Optimizer
        if config.optimizer.name == "adamw":
            optimizer = torch.optim.AdamW(
                groups, lr=config.optimizer.peak_lr, betas=(config.optimizer.momentum, 0.999), fused=True
            )
        else:
            optimizer = torch.optim.SGD(
                groups,
                lr=config.optimizer.peak_lr,
                momentum=config.optimizer.momentum,
                nesterov=config.optimizer.momentum > 0,
                fused=True,
            )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, config, self.steps_per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def learning_rate_factor(step: int, config: TrainConfig, steps_per_epoch: int) -> float:
    """Share of the peak rate at a step: a linear rise over the warm-up, then half a cosine down to the final ratio."""
    warmup = config.schedule.warmup * steps_per_epoch
    total = config.schedule.epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
    return config.schedule.final_lr_ratio + (1.0 - config.schedule.final_lr_ratio) * 0.5 * (
        1.0 + math.cos(math.pi * progress)
    )


def parameter_groups(model: Model, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of convolutions and matrices with decay; biases and normalisation without, as is usual."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def as_module(model: Model) -> nn.Module:
    """The model seen as the torch module it is."""
    assert isinstance(model, nn.Module)
    return model
