"""Ctrl-C and SIGTERM end a run at the next place where nothing is lost; a second one ends it at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interruption"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # SIGTERM is what schedulers send


class Interruption:
    """While entered, both signals raise KeyboardInterrupt, or only set `requested` while `deferred` is true."""

    def __init__(self) -> None:
        self.requested = False
        self.deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def listen(self) -> None:
        """Take the signals (again: Lightning puts handlers of its own in our place when it starts)."""
        for number in self._before:
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self.deferred:
            raise KeyboardInterrupt
        self.requested = True
