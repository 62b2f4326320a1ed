"""`sightline synth` and `sightline drill`: generated data, and the audit tested on it."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

from sightline.cli.console import JsonFlag, emit_json, note, progress_bar, show_line, show_table
from sightline.core.config import Config
from sightline.core.errors import ConfigError, at
from sightline.core.files import check_writable
from sightline.synth import generate
from sightline.synth.faults import plant_faults, run_drill

__all__ = ["drill", "synth"]


class SynthOptions(Config):
    """What is generated."""

    scene: Literal["traffic", "cracks"] = Field(
        default="traffic",
        description="traffic: vehicles from above with boxes, masks and, if asked for, a video with tracks. "
        "cracks: binary masks.",
    )
    images: int = Field(default=200, description="How many images.")
    val_fraction: float = Field(default=0.2, description='Share of them in the split "val".')
    height: int = Field(default=320, description="Height of the images in pixels.")
    width: int = Field(default=320, description="Width of the images in pixels.")
    seed: int = Field(default=0, description="Seed of everything random.")
    video_frames: int = Field(default=0, description="Frames of a traffic video with tracks; 0 for none.")
    fps: float = Field(default=25.0, description="Frames per second of the video.")
    format: Literal["coco", "yolo", "masks"] | None = Field(
        default=None, description="Layout to write; the scene's usual one without it."
    )
    overwrite: bool = Field(default=False, description="Replace a data set generated earlier.")


def synth(
    out: str,
    *,
    options: Annotated[SynthOptions, Parameter(name="*")] = SynthOptions(),  # noqa: B008 - frozen
    fault: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Generate a labelled data set; labels are exact by construction, and a seed gives the same files again.

    Parameters
    ----------
    out
        New folder for the data set.
    options
        What is generated.
    fault
        Plant the fault of this finding code into a small data set of the kind it needs; only --seed goes with it.
    """
    check_writable([Path(out) / "synth.json"])
    if fault is not None:
        _refuse_beside_fault(options)
        return _plant(fault, out, options.seed, json)
    with progress_bar() as bar:
        result = generate(
            options.scene,
            out,
            size_hw=(options.height, options.width),
            progress=bar,
            **options.model_dump(exclude={"scene", "height", "width"}),
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


def _refuse_beside_fault(options: SynthOptions) -> None:
    """A fault brings the data set it needs: options about the data set would be ignored."""
    fields = SynthOptions.model_fields
    changed = [name for name in fields if name != "seed" and getattr(options, name) != fields[name].default]
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
