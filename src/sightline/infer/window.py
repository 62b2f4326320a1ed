"""A window that shows frames as they are drawn, while a run goes on."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from sightline.core.errors import ConfigError

__all__ = ["Window"]

_SCREEN_SHARE = 0.9  # of the screen's sides, so that title and task bar keep their room
_ENDING_KEYS = frozenset({"q", "Escape"})


class Window:
    """Shows pictures (H, W, 3) uint8 RGB, smaller where the screen is. `q`, Escape or closing it asks to stop.

    ConfigError where there is no screen, or Python came without Tk.

    >>> with Window("clip.mp4") as window:                                      # doctest: +SKIP
    ...     run_pipeline(source, predictor, on_picture=window.show)
    """

    def __init__(self, title: str) -> None:
        do = "use --save video or pictures, and look at those"
        try:
            import tkinter as tk
        except ImportError:
            raise ConfigError("--show needs Tk, which this Python came without", do=do) from None
        try:
            self._root: Any = tk.Tk()
        except tk.TclError as error:
            raise ConfigError(f"--show needs a screen: {error}", do=do) from None
        self._tk = tk
        self._root.title(title)
        self._label = tk.Label(self._root, borderwidth=0)
        self._label.pack()
        self._closed = False
        self._key: str | None = None
        self._root.bind("<Key>", self._pressed)
        self._root.protocol("WM_DELETE_WINDOW", self._close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._root.destroy()

    def show(
        self, picture: npt.NDArray[np.uint8], wait: bool = False, stopped: Callable[[], bool] = lambda: False
    ) -> bool:
        """Put the picture into the window, and with `wait` stay until a key is pressed or `stopped` says so; False once
        asked to stop."""
        if self._closed:
            return False
        self._image = self._tk.PhotoImage(data=_portable(self._fitted(picture)))  # Tk keeps no reference of its own
        self._label.configure(image=self._image)
        self._key = None
        self._root.update()
        while wait and self._key is None and not self._closed and not stopped():
            self._root.update()
            self._root.after(10)
        return not self._closed

    def _fitted(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        height, width = picture.shape[:2]
        screen = self._root.winfo_screenheight(), self._root.winfo_screenwidth()
        share = min(1.0, _SCREEN_SHARE * screen[0] / height, _SCREEN_SHARE * screen[1] / width)
        if share == 1.0:
            return picture
        size = max(1, round(width * share)), max(1, round(height * share))
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)

    def _pressed(self, event: Any) -> None:
        self._key = event.keysym
        if event.keysym in _ENDING_KEYS:
            self._close()

    def _close(self) -> None:
        self._closed = True


def _portable(picture: npt.NDArray[np.uint8]) -> bytes:
    """The picture as a PPM file, which Tk reads without another library."""
    height, width = picture.shape[:2]
    return b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(picture).tobytes()
