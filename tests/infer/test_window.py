"""The window of a run: seen on a screen of its own where there is one to be had (Xvfb), refused where there is none."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.core.errors import ConfigError
from sightline.infer import Window

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb, a screen without a monitor")
def test_a_window_shows_the_frames_and_ends_the_run(make_video: Callable[..., Path]) -> None:
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "400x300x24"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        display = {
            "DISPLAY": f":{server.stdout.readline().strip()}",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)]),
        }
        script = [sys.executable, "-m", "tests.infer.on_screen", str(make_video())]
        environment = {**os.environ, **display}
        done = subprocess.run(
            script, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
        )
        server.terminate()
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    # 600 x 600 pixels in 0.9 of a screen's 300 rows
    assert said["seen"] == {"left": [[250, 0, 10]], "right": [0, 120, 0], "beside": 0}
    assert said["ended"] == {key: {"frames": 4, "shown": 4, "interrupted": True} for key in ("q", "Escape", "closed")}
    assert said["stayed"]
    assert said["interrupted"]


def test_without_a_screen_or_tk_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ConfigError, match="--show needs a screen") as error:
        Window("clip")
    assert "--save video or pictures" in error.value.sentence()
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(ConfigError, match="this Python came without"):
        Window("clip")
