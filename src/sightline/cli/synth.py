"""`sightline synth` and `sightline drill`: generated data, and the audit tested on it."""

from collections.abc import Mapping
from inspect import signature
from typing import Literal

from sightline.cli.console import JsonFlag, emit_json, note, progress_bar, show_line, show_table
from sightline.core.errors import ConfigError, at
from sightline.synth import generate
from sightline.synth.faults import plant_faults, run_drill

__all__ = ["drill", "synth"]


def synth(
    out: str,
    *,
    scene: Literal["traffic", "cracks"] = "traffic",
    images: int = 200,
    val_fraction: float = 0.2,
    height: int = 320,
    width: int = 320,
    seed: int = 0,
    video_frames: int = 0,
    fps: float = 25.0,
    format: Literal["coco", "yolo", "masks"] | None = None,  # noqa: A002 - the option's name
    fault: str | None = None,
    overwrite: bool = False,
    json: JsonFlag = False,
) -> int:
    """Generate a labelled data set; labels are exact by construction, and a seed gives the same files again.

    Parameters
    ----------
    out
        New folder for the data set.
    scene
        traffic: vehicles from above with boxes, masks and, if asked for, a video with tracks. cracks: binary masks.
    images
        How many images.
    val_fraction
        Share of them in the split "val".
    height
        Height of the images in pixels.
    width
        Width of the images in pixels.
    seed
        Seed of everything random.
    video_frames
        Frames of a traffic video with tracks; 0 for none.
    fps
        Frames per second of the video.
    format
        Layout to write; the scene's usual one without it.
    fault
        Plant the fault of this finding code into a small data set of the kind it needs; only --seed goes with it.
    overwrite
        Replace a data set generated earlier.
    """
    if fault is not None:
        _refuse_beside_fault(locals())
        return _plant(fault, out, seed, json)
    with progress_bar() as bar:
        result = generate(
            scene,
            out,
            images=images,
            val_fraction=val_fraction,
            size_hw=(height, width),
            seed=seed,
            video_frames=video_frames,
            fps=fps,
            format=format,
            overwrite=overwrite,
            progress=bar,
        )
    if json:
        emit_json(result)
        return 0
    rows = [
        ("folder", str(result.root)),
        ("images", ", ".join(f"{n} {split}" for split, n in result.images_by_split.items())),
        ("objects", ", ".join(f"{n} {name}" for name, n in result.objects_by_class.items()) or "masks"),
    ]
    if result.video is not None:
        rows += [("video", f"{result.video} ({result.video_frames} frames, {result.tracks} tracks)")]
        rows += [("sequences", str(result.sequences))]
    show_table("", ("written", "value"), rows)
    return 0


def _refuse_beside_fault(given: Mapping[str, object]) -> None:
    """A fault brings the data set it needs: options about the data set would be ignored."""
    defaults = {name: p.default for name, p in signature(synth).parameters.items()}
    changed = [n for n in defaults if n not in {"out", "fault", "seed", "json"} and given[n] != defaults[n]]
    if changed:
        option = "--" + changed[0].replace("_", "-")
        raise ConfigError(f"only --seed goes with --fault, got {option} too", do="Leave one of the two out")


def _plant(code: str, out: str, seed: int, json: bool) -> int:
    planted = plant_faults(code, out, seed=seed)
    if json:
        emit_json({"path": out, "planted": planted})
        return 0
    show_table("planted", ("code", "place"), [(p.code, at(p.path, p.line) if p.path else "(whole)") for p in planted])
    return 0


def drill(*, fault: list[str] | None = None, seed: int = 0, json: JsonFlag = False) -> int:
    """Plant every fault the audit knows into generated data, audit it, and count what was planted, found and false.

    Exit code 1 when a planted fault was missed or a sound data set was accused.

    Parameters
    ----------
    fault
        Only these codes.
    seed
        Seed of the generated data and of the places.
    """
    with progress_bar() as bar:
        result = run_drill(fault, seed=seed, progress=bar)
    if json:
        emit_json(result)
        return int(not result.passed)
    show_table(
        "the audit on generated data with planted faults",
        ("code", "data", "planted", "found", "false"),
        [(row.code, row.base, row.planted, row.found, row.false) for row in result.rows],
    )
    for row in result.rows:
        for text in (*(f"missed: {m}" for m in row.missed), *(f"false: {s}" for s in row.strangers)):
            show_line(f"{row.code} ({row.base}): {text}")
    planted, found = sum(r.planted for r in result.rows), sum(r.found for r in result.rows)
    note(f"{planted} planted, {found} found, {sum(r.false for r in result.rows)} false")
    return int(not result.passed)
