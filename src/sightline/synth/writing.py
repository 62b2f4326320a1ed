"""Putting rendered pictures and labels on disk: image folders, label files, masks, and a video that browsers play."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeVar

import av
import cv2
import numpy as np
import numpy.typing as npt

from sightline.core.dataset import dataset_from_rows
from sightline.core.files import atomic_path
from sightline.core.findings import Finding
from sightline.core.results import Result
from sightline.data import DESCRIPTION_NAME, write_dataset
from sightline.synth.cracks import CRACK_CLASS_NAMES, render_cracks
from sightline.synth.labels import MIN_VISIBILITY, MIN_VISIBLE_PX, SceneObject
from sightline.synth.plan import Plan, SynthFormat, SynthScene
from sightline.synth.traffic import SequenceFrame, render_traffic, render_traffic_sequence
from sightline.synth.vehicles import CLASS_NAMES

__all__ = []

_CONSTANT_RATE_FACTOR = 18


def write_h264(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    size_hw: tuple[int, int],
    fps: float,
    ticks: Sequence[int] | None = None,
) -> int:
    """Write RGB frames (H, W, 3), H and W even, and return how many; frame k is shown at k / fps seconds exactly.

    With `ticks`, rising whole numbers, it is shown at `ticks[k]` / fps.
    """
    rate = Fraction(fps).limit_denominator(1001)
    count = 0
    with atomic_path(path) as temporary, av.open(temporary, "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(_CONSTANT_RATE_FACTOR), "threads": "2"})
        stream.height, stream.width = size_hw
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = count if ticks is None else ticks[count], 1 / rate
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count


SEQUENCE_NAME: Final = "traffic"
_CONVENTIONS: Final = {
    "box": "tight box of the visible mask, xyxy pixels, ends exclusive",
    "mask": "pixels covered by more than half",
    "occlusion": "1 - visible / full area inside the picture",
    "ignore": f"less than {MIN_VISIBILITY} of the whole vehicle or fewer than {MIN_VISIBLE_PX} pixels visible",
    "hidden": "wholly hidden vehicles: not in the stills' labels; in the video's with visibility 0 and not considered",
}

Item = TypeVar("Item")


@dataclass(frozen=True)
class SynthResult(Result):
    """What was written. `root` is the data set's folder; `video` and `sequences` (a MOTChallenge folder) are None
    without a video. `ignored` counts objects marked ignore, `hidden` vehicles without a visible pixel;
    `crack_fraction` is the mean share of crack pixels (None for traffic).
    """

    root: Path
    scene: SynthScene
    format: SynthFormat
    seed: int
    images_by_split: dict[str, int]
    objects_by_class: dict[str, int]
    ignored: int
    hidden: int
    crack_fraction: float | None
    video: Path | None
    sequences: Path | None
    video_frames: int
    tracks: int
    findings: tuple[Finding, ...] = ()
    conventions: dict[str, Any] = field(default_factory=lambda: dict(_CONVENTIONS))


def _ordered(plan: Plan, work: Callable[[int], Item]) -> Iterator[Item]:
    """Yield `work(k)` for every image, in order, computed a few ahead in threads."""
    pending: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(plan.workers) as pool:
        for index in range(plan.images):
            pending.append(pool.submit(work, index))
            if len(pending) > 2 * plan.workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _save_jpeg(path: Path, image: npt.NDArray[np.uint8], quality: int) -> None:
    _save(path, cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def _save(path: Path, encoded: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())


def write_traffic(plan: Plan, folder: Path) -> SynthResult:
    """Write traffic images with boxes and masks, and the video if one is planned."""

    def work(index: int) -> tuple[SceneObject, ...]:
        rng = plan.image_rng(index)
        drawn = render_traffic(rng, plan.size_hw)
        _save_jpeg(folder / plan.image_name(index), drawn.image, int(rng.integers(86, 97)))
        return drawn.objects

    height, width = plan.size_hw
    image_rows, object_rows, hidden = [], [], 0
    for index, objects in enumerate(_ordered(plan, work)):
        image_rows.append({"image_id": index, "path": plan.image_name(index), "width": width, "height": height,
                           "split": plan.split(index)})  # fmt: skip
        seen = [item for item in objects if item.visible_area > 0]
        hidden += len(objects) - len(seen)
        object_rows += [_object_row(index, item) for item in seen]
        plan.advance(index + 1, plan.images, "images")
    dataset = dataset_from_rows(
        image_rows, object_rows, _class_rows(), root=folder, name="traffic", task="instance", format="synth"
    )
    findings = write_dataset(dataset, folder, plan.format, copy_images=False)
    tracks = _write_video(plan, folder / "video") if plan.video_frames else 0
    return SynthResult(
        root=folder,
        scene=plan.scene,
        format=plan.format,
        seed=plan.seed,
        images_by_split=plan.images_by_split,
        objects_by_class=dataset.counts_by_class(),
        ignored=int(dataset.objects["ignore"].sum()),
        hidden=hidden,
        crack_fraction=None,
        video=folder / "video" / f"{SEQUENCE_NAME}.mp4" if plan.video_frames else None,
        sequences=folder / "video" if plan.video_frames else None,
        video_frames=plan.video_frames,
        tracks=tracks,
        findings=tuple(findings),
    )


def _class_rows() -> list[dict[str, Any]]:
    return [{"class_id": i, "name": name} for i, name in enumerate(CLASS_NAMES)]


def _object_row(image_id: int, item: SceneObject) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box_xyxy
    return {
        "image_id": image_id, "class_id": item.class_id, "x1": x1, "y1": y1, "x2": x2, "y2": y2,
        "area": float(item.visible_area), "ignore": item.ignore, "occlusion": item.occlusion,
        "truncation": item.truncation, "track_id": item.track_id, "rle": item.mask_rle if item.visible_area else None,
    }  # fmt: skip


def _write_video(plan: Plan, folder: Path) -> int:
    """Write the video and its MOTChallenge sequence, and return how many tracks it has."""
    height, width = plan.video_size_hw
    image_rows: list[dict[str, Any]] = []
    object_rows: list[dict[str, Any]] = []

    def keep(frame: SequenceFrame) -> npt.NDArray[np.uint8]:
        path = f"{SEQUENCE_NAME}/img1/{frame.index + 1:06d}.jpg"
        image_rows.append({"image_id": frame.index, "path": path, "width": width, "height": height,
                           "group": SEQUENCE_NAME, "frame": frame.index, "time_s": frame.time_s})  # fmt: skip
        object_rows.extend(_object_row(frame.index, item) for item in frame.objects)
        if plan.sequence_images:
            _save_jpeg(folder / path, frame.image, 95)
        plan.advance(frame.index + 1, plan.video_frames, "frames")
        return frame.image

    frames = render_traffic_sequence(
        plan.video_rng(), plan.video_size_hw, frames=plan.video_frames, fps=plan.fps, workers=plan.workers
    )
    write_h264(folder / f"{SEQUENCE_NAME}.mp4", map(keep, frames), plan.video_size_hw, plan.fps)
    dataset = dataset_from_rows(
        image_rows, object_rows, _class_rows(), root=folder, name=SEQUENCE_NAME, task="track", format="synth"
    )
    write_dataset(dataset, folder, "mot", copy_images=False)
    return int(dataset.objects["track_id"].n_unique())


def write_cracks(plan: Plan, folder: Path) -> SynthResult:
    """Write crack images with their masks and a description that names the mask values."""

    def work(index: int) -> float:
        rng = plan.image_rng(index)
        drawn = render_cracks(rng, plan.size_hw)
        name = plan.image_name(index)
        _save_jpeg(folder / name, drawn.image, int(rng.integers(90, 98)))
        mask = np.where(drawn.mask, np.uint8(255), np.uint8(0))
        path = folder / name.replace("images/", "masks/", 1)
        _save(path.with_suffix(".png"), cv2.imencode(".png", mask)[1])
        return float(drawn.mask.mean())

    total = 0.0
    for index, fraction in enumerate(_ordered(plan, work)):
        total += fraction
        plan.advance(index + 1, plan.images, "images")
    splits = plan.images_by_split
    lines = ["format: masks", *(f"{s}: {{images: images/{s}, masks: masks/{s}}}" for s in splits)]
    lines.append(f"classes: {{0: {CRACK_CLASS_NAMES[0]}, 255: {CRACK_CLASS_NAMES[1]}}}")
    (folder / DESCRIPTION_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return SynthResult(
        root=folder,
        scene=plan.scene,
        format=plan.format,
        seed=plan.seed,
        images_by_split=splits,
        objects_by_class={},
        ignored=0,
        hidden=0,
        crack_fraction=total / plan.images,
        video=None,
        sequences=None,
        video_frames=0,
        tracks=0,
        conventions={"mask": _CONVENTIONS["mask"]},
    )
