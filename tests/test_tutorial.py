"""The page on Python runs as it stands, top to bottom."""

import re
from pathlib import Path

from sightline.synth import generate

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"size_hw": (96, 96), "video_frames": 4, "video_size_hw": (96, 128)}
    generate("traffic", "traffic", images=8, val_fraction=0.25, seed=1, **sizes)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    assert {p.name for p in tmp_path.iterdir()} >= {"labels.png", "seen.jpg", "model.onnx", "runs", "traffic"}
