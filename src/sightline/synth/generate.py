"""Synthetic data sets on disk: `generate` renders scenes and writes them in the layouts that `read_dataset` reads."""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from sightline.core.errors import DataError
from sightline.core.files import write_json_atomic
from sightline.core.process import Progress
from sightline.synth.plan import Plan, SynthFormat, SynthScene
from sightline.synth.writing import SynthResult, write_cracks, write_traffic

SYNTH_RECORD: Final = "synth.json"
_RECORD_VERSION: Final = 1


def generate(
    scene: SynthScene,
    out: str | Path,
    *,
    images: int,
    val_fraction: float = 0.2,
    size_hw: tuple[int, int] = (320, 320),
    seed: int = 0,
    video_frames: int = 0,
    video_size_hw: tuple[int, int] = (320, 480),
    fps: float = 25.0,
    format: SynthFormat | None = None,  # noqa: A002
    sequence_images: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SynthResult:
    """Render a synthetic data set into the folder `out` and return what was written.

    `traffic` gives `images/train|val/*.jpg` with boxes and masks as COCO (the default) or YOLO; `cracks` gives
    `images/train|val/*.jpg` and `masks/train|val/*.png` (0 and 255) with a `sightline.yaml`. With `video_frames`,
    traffic also gives `video/traffic.mp4` (H.264) and, beside it, the MOTChallenge sequence `video/traffic/` with
    `gt/gt.txt`, `seqinfo.ini` and, with `sequence_images`, the frames before compression in `img1/`. `synth.json`
    records how to make the same again. Labels are exact by construction; see `sightline.synth.labels` for their
    definitions.

    Image k depends on `seed`, `scene`, `size_hw` and k alone, so a larger set begins with the smaller one; the last
    `val_fraction` of the images is the split "val". `workers` threads change the speed, not a byte. `progress(done,
    total, what)` is called after each picture. The folder appears complete or not at all. ConfigError for arguments out
    of range; DataError when `out` holds files already, unless `overwrite` is set and an earlier call wrote them.

    >>> import tempfile
    >>> generate("cracks", Path(tempfile.mkdtemp()) / "cracks", images=2, size_hw=(64, 64)).images_by_split
    {'train': 1, 'val': 1}
    """
    plan = Plan(
        scene=scene,
        requested_format=format,
        images=images,
        val_fraction=val_fraction,
        size_hw=size_hw,
        seed=seed,
        video_frames=video_frames,
        video_size_hw=video_size_hw,
        fps=fps,
        sequence_images=sequence_images,
        workers=workers if workers is not None else min(4, os.cpu_count() or 1),
        progress=progress,
    )
    target = Path(out)
    _check_target(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        temporary.chmod(0o755)
        result = write_traffic(plan, temporary) if scene == "traffic" else write_cracks(plan, temporary)
        write_json_atomic(temporary / SYNTH_RECORD, _record(plan, result))
        _move_into_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    video = target / result.video.relative_to(temporary) if result.video else None
    sequences = target / result.sequences.relative_to(temporary) if result.sequences else None
    return replace(result, root=target, video=video, sequences=sequences)


def _record(plan: Plan, result: SynthResult) -> dict[str, Any]:
    """What it takes to make the same again, and what came out; no times or places, so equal sets have equal files."""
    return {
        "version": _RECORD_VERSION,
        "scene": plan.scene,
        "format": plan.format,
        "seed": plan.seed,
        "images": plan.images,
        "val_fraction": plan.val_fraction,
        "size_hw": plan.size_hw,
        "video_frames": plan.video_frames,
        "video_size_hw": plan.video_size_hw if plan.video_frames else None,
        "fps": plan.fps if plan.video_frames else None,
        "objects_by_class": result.objects_by_class,
        "ignored": result.ignored,
        "hidden": result.hidden,
        "crack_fraction": result.crack_fraction,
        "tracks": result.tracks,
        "conventions": result.conventions,
        "libraries": {"numpy": np.__version__, "opencv": cv2.__version__},
    }


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError("the output must be a folder, got a file", where=str(target))
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise DataError("the output folder must be new or empty, got files in it", where=str(target),
                        do="Choose another folder, or allow overwriting")  # fmt: skip
    if not (target / SYNTH_RECORD).is_file():
        raise DataError(f"only a folder with a {SYNTH_RECORD} of ours is overwritten, got none", where=str(target),
                        do="Choose another folder")  # fmt: skip


def _move_into_place(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    former = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        target.rename(former / target.name)
        temporary.rename(target)
    finally:
        if not target.exists():
            (former / target.name).rename(target)
        shutil.rmtree(former, ignore_errors=True)
