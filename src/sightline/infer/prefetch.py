"""Reading ahead in a thread: decoding overlaps with everything else, order and content stay what they were."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["prefetch"]

T = TypeVar("T")
_POLL_S = 0.1
_PATIENCE_S = 2.0


class _Ahead(Generic[T]):
    def __init__(self, items: Iterable[T], depth: int) -> None:
        self.queue: queue.Queue[tuple[str, Any, float]] = queue.Queue(depth)
        self.stopped = threading.Event()
        self._items = items
        self.thread = threading.Thread(target=self._fill, name="sightline-prefetch", daemon=True)

    def _fill(self) -> None:
        iterator = iter(self._items)
        try:
            while not self.stopped.is_set():
                start = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    self._put(("end", None, 0.0))
                    return
                except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
                    self._put(("error", error, 0.0))
                    return
                self._put(("item", item, (time.perf_counter() - start) * 1e3))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _put(self, entry: tuple[str, Any, float]) -> None:
        waiting = True
        while waiting and not self.stopped.is_set():
            try:
                self.queue.put(entry, timeout=_POLL_S)
                waiting = False
            except queue.Full:
                continue

    def take(self, stopped: Callable[[], bool]) -> tuple[str, Any, float]:
        """The next entry; the end where there is none yet and `stopped` says so."""
        while True:
            try:
                return self.queue.get(timeout=_POLL_S)
            except queue.Empty:
                if stopped():
                    return "end", None, 0.0


def prefetch(
    items: Iterable[T], depth: int = 4, stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[T, float]]:
    """Each item with the milliseconds it took to make; at most `depth` wait. Errors are raised where they occurred.

    Ends where nothing has come yet and `stopped` says so: what is waited for may never come.

    The thread ends when the generator is exhausted or closed.
    """
    ahead: _Ahead[T] = _Ahead(items, depth)
    ahead.thread.start()
    try:
        while True:
            kind, value, duration_ms = ahead.take(stopped)
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value, duration_ms
    finally:
        ahead.stopped.set()
        # A camera may never deliver again; the thread is a daemon and holds nothing but its source.
        ahead.thread.join(timeout=_PATIENCE_S)
