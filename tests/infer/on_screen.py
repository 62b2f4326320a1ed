"""What happens in the window of a run, done on the screen of DISPLAY and printed as JSON: `on_screen.py CLIP`.

A process of its own, as one that has opened a screen ends with it.
"""

import json
import sys

import numpy as np
from PIL import ImageGrab
from tests.infer.test_pipeline import Moving

from sightline.infer import Window, open_source, run_pipeline


def seen() -> dict[str, object]:
    """The pixels of a picture twice as large as the screen."""
    picture = np.zeros((600, 600, 3), np.uint8)
    picture[:, :300] = (250, 0, 10)
    picture[:300, 300:] = (0, 120, 0)
    with Window("clip") as window:
        window.show(picture)
        window._root.update()
        screen = np.asarray(ImageGrab.grab(xdisplay=""))[:, :, :3]
    return {"left": np.unique(screen[:270, :135].reshape(-1, 3), axis=0).tolist(), "right": screen[20, 200].tolist(),
            "beside": int(screen[:, 271:].max())}  # fmt: skip


def ended(clip: str, end: str) -> dict[str, object]:
    """A run that is ended in its fourth frame."""
    with Window("clip") as window:

        def leave(index: int) -> None:
            if index == 3 and end == "closed":
                window._close()
            elif index == 3:
                window._root.focus_force()
                window._root.event_generate(f"<KeyPress-{end}>")

        result = run_pipeline(open_source(clip), Moving(leave), on_picture=window.show)
    shown = dict(result.latency.select("stage", "count").iter_rows())["show"]
    return {"frames": result.frames, "shown": shown, "interrupted": result.interrupted}


def stayed() -> bool:
    """Whether a still stays until a key is pressed."""
    with Window("still") as window:
        window._root.after(50, lambda: (window._root.focus_force(), window._root.event_generate("<KeyPress-space>")))
        return window.show(np.zeros((20, 30, 3), np.uint8), wait=True) and window._key == "space"


def interrupted() -> bool:
    """Whether a signal ends the wait at a still, with what is done kept."""
    asked = iter((False, False, True))
    with Window("still") as window:
        return window.show(np.zeros((20, 30, 3), np.uint8), wait=True, stopped=lambda: next(asked))


if __name__ == "__main__":
    ends = {end: ended(sys.argv[1], end) for end in ("q", "Escape", "closed")}
    print(json.dumps({"seen": seen(), "ended": ends, "stayed": stayed(), "interrupted": interrupted()}))
