"""`sightline synth`."""

from typing import Literal

from sightline.cli.console import JsonFlag, emit_json, progress_bar, show_table
from sightline.data.synth import generate

__all__ = ["synth"]


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
    overwrite
        Replace a data set generated earlier.
    json
        Print the result as JSON.
    """
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
            progress=lambda done, total, what: bar(what, done, total),
        )
    if json:
        emit_json(result.to_dict())
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
