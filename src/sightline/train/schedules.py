"""The learning rate over a run, as a share of its peak: one function of the step for each schedule."""

import math
from collections.abc import Callable
from typing import Literal, get_args

__all__ = ["SCHEDULES", "ScheduleName", "rate_factor"]

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
