"""The time of a training step by part. Lightning says when each of its actions begins and ends; the clock notes it."""

import time
from collections.abc import Callable
from contextlib import ExitStack

from lightning.pytorch.profilers import Profiler
from torch import nn

__all__ = ["PARTS", "Laps"]

PARTS: dict[str, str] = {
    "loader wait": "loader",
    "to device": "host",
    "normalise": "host",
    "forward": "forward",
    "loss": "forward",
    "backward": "backward",
    "optimiser": "optimiser",
    "other": "host",
}
"""The parts of a step, and what each counts to."""

_PART_OF_ACTION = {
    "train_dataloader_next": "loader wait",
    "batch_to_device": "to device",
    "training_step": "normalise",  # until the network begins, see `Laps.watch`
    "backward": "backward",
    "optimizer_step": "optimiser",
    "optimizer_zero_grad": "optimiser",
    "on_before_optimizer_step": "optimiser",  # clips the gradients
    "on_train_batch_end": "optimiser",  # moves the averaged weights along
}


class Laps(Profiler):
    """Books all the time between `begin` and `end` on `PARTS`: what passes belongs to the innermost part entered.

    Each moment is read once, as the end of one part and the beginning of the next, so that the parts sum to `wall_ns`
    exactly. `clock` gives nanoseconds; `settle` is called before each reading, to wait for work given to a GPU.
    """

    def __init__(
        self, clock: Callable[[], int] = time.perf_counter_ns, settle: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self._clock, self._settle = clock, settle
        self._entered = ["other"]
        self._began = self._since = 0
        self._running = False
        self.spent_ns = dict.fromkeys(PARTS, 0)

    @property
    def wall_ns(self) -> int:
        """From `begin` to `end`."""
        return self._since - self._began

    def begin(self) -> None:
        """Note the time from here on."""
        self._running = True
        self._began = self._since = self._now()

    def end(self) -> None:
        """Note no more."""
        self._book()
        self._running = False

    def start(self, action_name: str) -> None:
        """As Lightning asks: an action begins. One that belongs to no part counts to the part around it."""
        part = _PART_OF_ACTION.get(action_name.rsplit(".", 1)[-1], self._entered[-1])
        self._book()
        self._entered.append(part)

    def stop(self, action_name: str) -> None:
        """As Lightning asks: the action that began last has ended."""
        self._book()
        self._entered.pop()

    def watch(self, model: nn.Module) -> ExitStack:
        """Until this context ends, tell the network's forward pass and the loss behind it apart."""

        def turn_to(part: str) -> Callable[..., None]:
            def turn(*_: object) -> None:
                self._book()
                self._entered[-1] = part

            return turn

        hooks = ExitStack()
        hooks.callback(model.register_forward_pre_hook(turn_to("forward")).remove)
        hooks.callback(model.register_forward_hook(turn_to("loss")).remove)
        return hooks

    def _book(self) -> None:
        if self._running:
            now = self._now()
            self.spent_ns[self._entered[-1]] += now - self._since
            self._since = now

    def _now(self) -> int:
        if self._settle is not None:
            self._settle()
        return self._clock()
