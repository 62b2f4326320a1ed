"""The Lightning module: one training step, the optimiser, the learning-rate schedule. Everything else is a callback."""

import math
from collections.abc import Mapping
from typing import Any, Self

import lightning
import torch
from torch import Tensor, nn

from sightline.core.errors import ConfigError, SightlineError, unknown_name
from sightline.models import Model
from sightline.train.config import TrainConfig
from sightline.train.data.images import Batch, normalise_batch
from sightline.train.distributed import ALONE, Processes
from sightline.train.optimizers import build_optimizer
from sightline.train.signals import GradientMeter
from sightline.train.stages import freeze_stages

__all__ = ["TrainingModule", "as_module", "check_loss_factors"]


MOST_SKIPPED = 50
"""Steps in a row without finite gradients: fp16's scale has long come down to nothing by then."""


class TrainingModule(lightning.LightningModule):
    """Trains `model`, which computes its own loss by named terms; their sum is minimised."""

    def __init__(
        self,
        model: Model,
        config: TrainConfig,
        steps_per_epoch: int,
        image_names: list[str],
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.image_names = image_names
        self.processes = processes
        self.frozen = freeze_stages(as_module(model), config.model.freeze)
        self.gradients = GradientMeter()
        self.term_sums: dict[str, float] = {}
        self.step_count = 0
        self.skipped = 0  # steps in a row whose gradients were not finite
        self.step_rows: list[int] = []  # the images behind the gradients of the coming step

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the loss terms of one batch; SightlineError when a term is not a number."""
        images = normalise_batch(batch.images, self.model.preprocess)
        plain_terms = self.model.loss(self.model(images), batch.targets, self.processes.total)
        terms = {name: value * self.config.loss.get(name, 1.0) for name, value in plain_terms.items()}
        values = {name: float(value.detach()) for name, value in terms.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise SightlineError(
                    f"loss term '{name}' must be a number, got {value} in epoch {self.current_epoch + 1}, "
                    f"batch {batch_idx + 1} ({self._names(batch.rows)}, ...)",
                    do="look at these images and labels, or lower the learning rate or use --precision fp32",
                )
            self.term_sums[name] = self.term_sums.get(name, 0.0) + value
        self.step_count += 1
        self.step_rows += batch.rows
        # The terms are those of the whole batch, and processes take the mean of their gradients.
        return torch.stack(list(terms.values())).sum() * self.processes.world

    def _names(self, rows: list[int]) -> str:
        """The first files of a batch, the shares of all processes taken together."""
        return ", ".join(self.image_names[row] for share in self.processes.gather(rows) for row in share[:4])

    def take_mean_terms(self) -> dict[str, float]:
        """The mean of each term since the last call."""
        means = {name: total / max(1, self.step_count) for name, total in self.term_sums.items()}
        self.term_sums, self.step_count = {}, 0
        return means

    def position(self) -> dict[str, Any]:
        """What has been noted of the epoch so far."""
        noted = {"term_sums": dict(self.term_sums), "step_count": self.step_count}
        return {**noted, "gradients": self.gradients.state_dict()}

    def load_position(self, state: dict[str, Any]) -> None:
        """Go on from what `position` gave."""
        self.term_sums, self.step_count = dict(state["term_sums"]), state["step_count"]
        self.gradients.load_state_dict(state["gradients"])

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """As Lightning asks: the batch on `device`."""
        return batch.to(device)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Scale the gradients down to the norm limit; SightlineError when one is not a number.

        Lightning's own clipping refuses fused optimisers. With fp16 the gradient scaler skips such a step itself and
        halves its scale; only when that has gone on for `MOST_SKIPPED` steps is it an error.
        """
        broken = self.gradients.clip(as_module(self.model), self.config.optimizer.clip_norm)
        rows, self.step_rows = self.step_rows, []
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self.skipped = self.skipped + 1 if broken else 0
        if self.skipped >= (MOST_SKIPPED if scaled else 1):
            raise SightlineError(
                f"gradients must be finite, got others in {len(broken)} weight tensors ({', '.join(broken[:3])}, ...) "
                f"in epoch {self.current_epoch + 1}, step {self.global_step + 1} ({self._names(rows)}, ...)",
                do="look at these images and labels, or lower the learning rate or use --precision fp32",
            )

    def configure_optimizers(self) -> Any:
        """The optimiser and a schedule that is advanced after every step."""
        # Scaled gradients of fp16 have to be unscaled before they are clipped, which fused optimisers do too late.
        fused = self.config.precision != "fp16"
        optimizer = build_optimizer(as_module(self.model), self.config.optimizer, fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.config.schedule.factor(step, self.steps_per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train(self, mode: bool = True) -> Self:
        """As torch's; frozen stages stay in evaluation mode, so that their batch statistics do not drift."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self


def check_loss_factors(model: Model, factors: Mapping[str, float]) -> None:
    """ConfigError for a factor on a term that the model's loss does not have."""
    if not factors:
        return
    size = tuple(model.preprocess.size_hw)
    targets = {
        "detect": {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "batch_index": torch.zeros(0).long()},
        "semantic": {"mask": torch.zeros(1, *size, dtype=torch.int64)},
    }
    with torch.no_grad():
        terms = model.eval().loss(model(torch.zeros(1, model.preprocess.channel_count, *size)), targets[model.task])
    model.train()
    for name in factors:
        if name not in terms:
            raise ConfigError(unknown_name(f"loss term of {model.name}", name, terms))


def as_module(model: Model) -> nn.Module:
    """The model seen as the torch module it is."""
    assert isinstance(model, nn.Module)
    return model
