"""The settings of a training run by concern, and the learning rate over it as a share of its peak."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sightline.core.config import Config
from sightline.core.errors import unknown_name
from sightline.train.augment.policy import Augmentation

__all__ = ["SCHEDULES", "SHORT_NAMES", "Augmentation", "ScheduleName", "TrainConfig", "nest_settings", "rate_factor"]

ScheduleName = Literal["cosine", "linear", "step", "one-cycle", "constant"]
ONE_CYCLE_RISE = 0.3  # share of a one-cycle run in which the rate rises (Smith and Topin, 2018)
ONE_CYCLE_START = 1 / 25


def rate_factor(
    schedule: ScheduleName, step: int, *, warmup: float, total: float, final: float, milestones: tuple[float, ...]
) -> float:
    """The share of the peak rate, 0..1, at a step: the rise of `warmup` steps, then the schedule's way to `final`.

    `milestones` (shares of the run) are where "step" multiplies the rate by ten to the minus one.
    """
    if step < warmup:
        if schedule == "one-cycle":
            return ONE_CYCLE_START + (1.0 - ONE_CYCLE_START) * (1.0 - _half_cosine(step / warmup))
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
    return SCHEDULES[schedule](progress, step / max(1.0, total), final, milestones)


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _cosine(progress: float, _run: float, final: float, _milestones: tuple[float, ...]) -> float:
    return final + (1.0 - final) * _half_cosine(progress)


def _linear(progress: float, _run: float, final: float, _milestones: tuple[float, ...]) -> float:
    return 1.0 - (1.0 - final) * progress


def _step(_progress: float, run: float, _final: float, milestones: tuple[float, ...]) -> float:
    return 0.1 ** sum(run >= milestone for milestone in milestones)


def _constant(_progress: float, _run: float, _final: float, _milestones: tuple[float, ...]) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float, float, float, tuple[float, ...]], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "step": _step,
    "one-cycle": _cosine,
    "constant": _constant,
}
assert set(SCHEDULES) == set(get_args(ScheduleName))


_LR_BY_OPTIMIZER = {"adamw": 0.002, "sgd": 0.01, "muon": 0.002}
_DECAY_BY_OPTIMIZER = {"adamw": 0.01, "sgd": 5e-4, "muon": 0.01}


class DataConfig(Config):
    """Which images are learnt from and which are held out."""

    path: str = Field(description="path of the data set")
    split_train: str = Field(default="train", description="split to learn from")
    split_val: str = Field(default="val", description="split to validate on")
    val_fraction: float = Field(default=0.2, gt=0, lt=1, description="share held out where the data names no splits")
    exclude: tuple[str, ...] = Field(default=(), description="images left out, by path or file name without suffix")
    workers: Annotated[int, Field(ge=0, le=64)] | Literal["auto"] = Field(
        default="auto", description="loader processes; auto: from the measured times of loading and of a step"
    )
    cache: Literal["auto", "ram", "disk", "none"] = Field(
        default="auto", description="where decoded images are kept; auto: in memory if they fit"
    )
    cache_dir: str | None = Field(
        default=None, description="folder of the disk cache; 'pixels' in the user's cache folder without"
    )
    decode: Literal["full", "scaled"] = Field(
        default="full", description="scaled: training JPEGs far above the network's size are decoded smaller, faster"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.split_train == self.split_val:
            raise ValueError(f"split_train and split_val must differ, got '{self.split_val}' for both")
        return self


class ModelConfig(Config):
    """Which network, and what it starts from."""

    name: str = Field(description="name of a model, such as yolo11n or unet-small; 'sightline models' lists them")
    weights: str | None = Field(
        default=None, description="weights to start from: a .safetensors path or URL, or a name of sightline weights"
    )
    imgsz: tuple[int, int] | None = Field(
        default=None,
        description="the network's input in pixels, one side or HEIGHTxWIDTH; the model's usual one without",
    )
    freeze: int = Field(default=0, ge=0, description="stages, from the input on, that are not trained")

    @field_validator("imgsz", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value, value)
        if isinstance(value, str):
            sides = value.lower().split("x")
            if not all(side.isdecimal() for side in sides) or len(sides) > 2:
                raise ValueError("must be one side or HEIGHTxWIDTH in pixels")
            return (int(sides[0]), int(sides[-1]))
        return value

    @field_validator("imgsz", mode="after")
    @classmethod
    def _multiples(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and any(side % 32 or not 32 <= side <= 4096 for side in value):
            near = " x ".join(str(min(4096, max(32, round(side / 32) * 32))) for side in value)
            raise ValueError(f"must be a multiple of 32 from 32 to 4096 (nearest: {near})")
        return value


def _lower(value: Any) -> Any:
    """Names in any case: other tools write SGD and AdamW."""
    return value.lower() if isinstance(value, str) else value


class OptimizerConfig(Config):
    """How the weights follow the gradients."""

    name: Annotated[Literal["adamw", "sgd", "muon"], BeforeValidator(_lower)] = Field(
        default="adamw", description="how weights are updated"
    )
    lr: float | None = Field(default=None, gt=0, le=10, description="peak learning rate")
    momentum: float = Field(default=0.937, ge=0, lt=1, description="of SGD and Muon; AdamW's first beta")
    weight_decay: float | None = Field(default=None, ge=0, le=1, description="on weights, not on biases and norms")
    clip_norm: float = Field(default=10.0, gt=0, description="gradients are scaled down to this norm")
    accumulate: int = Field(default=1, ge=1, le=1024, description="batches whose gradients make one step")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="learning rate of each stage over that of the stage behind it"
    )

    @property
    def peak_lr(self) -> float:
        """`lr`, or the optimiser's usual value."""
        return self.lr if self.lr is not None else _LR_BY_OPTIMIZER[self.name]

    @property
    def decay(self) -> float:
        """`weight_decay`, or the optimiser's usual value."""
        return self.weight_decay if self.weight_decay is not None else _DECAY_BY_OPTIMIZER[self.name]


class ScheduleConfig(Config):
    """How long, and how the learning rate moves."""

    name: ScheduleName = Field(default="cosine", description="how the learning rate falls")
    epochs: int = Field(default=100, ge=1, le=100_000, description="passes over the training images")
    warmup_epochs: float | None = Field(
        default=None,
        ge=0,
        description="epochs in which the rate rises; 3, or a tenth of all where that is less, and 30 % of one-cycle",
    )
    final_lr_ratio: float | None = Field(
        default=None, ge=0, le=1, description="last learning rate over the peak, of cosine, linear and one-cycle; 0.01"
    )
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = Field(
        default=None, description="shares of the run at which 'step' divides the rate by ten; 0.6 and 0.85"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warmup_epochs is not None and self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs must be at most epochs ({self.epochs})")
        if self.milestones is not None and self.name != "step":
            raise ValueError(f"milestones belong to the schedule 'step', not to '{self.name}'")
        if self.final_lr_ratio is not None and self.name in {"step", "constant"}:
            raise ValueError(f"final_lr_ratio belongs to cosine, linear and one-cycle, not to '{self.name}'")
        return self

    @property
    def warmup(self) -> float:
        """`warmup_epochs`, or the usual length."""
        if self.warmup_epochs is not None:
            return self.warmup_epochs
        return ONE_CYCLE_RISE * self.epochs if self.name == "one-cycle" else min(3.0, self.epochs / 10)

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """The share of the peak rate, 0..1, at an optimiser step."""
        return rate_factor(
            self.name,
            step,
            warmup=self.warmup * steps_per_epoch,
            total=self.epochs * steps_per_epoch,
            final=0.01 if self.final_lr_ratio is None else self.final_lr_ratio,
            milestones=(0.6, 0.85) if self.milestones is None else self.milestones,
        )


class CheckpointConfig(Config):
    """Which weights are kept, and when training stops."""

    patience: int = Field(default=50, ge=1, description="epochs without a better metric before training stops")
    ema_decay: float = Field(default=0.9995, ge=0, lt=1, description="decay of the averaged weights; 0 switches off")
    save_every_s: float = Field(
        default=600, ge=0, description="seconds between states saved inside an epoch; 0 saves at its end alone"
    )
    ema_ramp_steps: int = Field(default=500, ge=1, description="steps over which the decay rises to its value")


class LoggingConfig(Config):
    """What is written beside the weights."""

    pictures_every: int = Field(
        default=10, ge=0, description="epochs between prediction pictures, of the first epoch too; 0 for none"
    )
    loggers: tuple[Literal["tensorboard", "mlflow"], ...] = Field(
        default=(), description="tools that get a copy of the numbers: tensorboard, mlflow"
    )


class TrainConfig(Config):
    """One training run. `None` means: chosen from the task or the machine, stated in the log and in `run.json`."""

    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augment: Augmentation = Augmentation()
    arguments: dict[str, Any] = Field(
        default={}, description="arguments of the model by name, such as box_loss=giou; imgsz is a setting of its own"
    )
    loss: dict[str, Annotated[float, Field(ge=0, le=1000)]] = Field(
        default={}, description="factors on the model's loss terms by name, 1 where none is given"
    )
    checkpoint: CheckpointConfig = CheckpointConfig()
    logging: LoggingConfig = LoggingConfig()
    batch: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        default=16, description="images per step; auto: from the measured memory of a step"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(default="auto", description="arithmetic of the network")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where the network runs")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="seed of everything random")
    deterministic: bool = Field(
        default=False, description="operations that repeat to the last bit on CUDA too, slower; the CPU's always do"
    )

    @property
    def images_per_step(self) -> int:
        """`batch` once it is a number; 'auto' has been resolved by then."""
        assert self.batch != "auto"
        return self.batch

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What the network is made with beside its classes."""
        return self.arguments if self.model.imgsz is None else {**self.arguments, "imgsz": self.model.imgsz}

    @field_validator("arguments")
    @classmethod
    def _no_size(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "imgsz" in value:
            raise ValueError("the network's input must be given as imgsz, not as arguments.imgsz")
        return value

    @model_validator(mode="before")
    @classmethod
    def _by_section(cls, value: Any) -> Any:
        return nest_settings(value) if isinstance(value, Mapping) else value


_SECTIONS: dict[str, type[Config]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "checkpoint": CheckpointConfig,
    "logging": LoggingConfig,
}
_GROUPS = {*_SECTIONS, "augment", "loss", "arguments"}
_NAMESAKES = {"data": "path", "model": "name", "optimizer": "name", "schedule": "name"}
"""Sections whose own name, given a single value, means this field."""

SHORT_NAMES: dict[str, tuple[str, str]] = {
    field: (section, field)
    for section, model in _SECTIONS.items()
    for field in model.model_fields
    if field != _NAMESAKES.get(section)
} | {section: (section, field) for section, field in _NAMESAKES.items()}
"""Short name → section and field."""


def nest_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by section, from short names, dotted names and sections in any mixture.

    ValueError for a name that is none, naming the nearest, and for a setting that is given twice.
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, dot, field = key.partition(".")
        if dot:
            _put(nested, section, {field: value})
        elif key in {*_SECTIONS, "augment", "loss", "arguments"} and (
            isinstance(value, (Mapping, Config)) or key not in _NAMESAKES
        ):
            _put(nested, key, value.model_dump(exclude_unset=True) if isinstance(value, Config) else value)
        elif key in SHORT_NAMES:
            section, field = SHORT_NAMES[key]
            _put(nested, section, {field: value})
        elif key in TrainConfig.model_fields:
            nested[key] = value
        else:
            raise ValueError(unknown_name("setting", key, [*SHORT_NAMES, *TrainConfig.model_fields]))
    return nested


def _put(nested: dict[str, Any], section: str, values: Any) -> None:
    if not isinstance(values, Mapping):
        nested[section] = values  # refused by the section's own type
        return
    kept = nested.setdefault(section, {})
    twice = set(kept) & set(values)
    if twice:
        raise ValueError(f"a setting must be given once, got '{section}.{min(twice)}' twice")
    kept.update(values)
