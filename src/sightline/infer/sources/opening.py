"""From what the user typed to a source."""

from pathlib import Path

from sightline.core.errors import SourceError
from sightline.infer.sources.images import ImageSource, open_folder, open_sequence
from sightline.infer.sources.protocol import Source
from sightline.infer.sources.video import open_camera, open_video
from sightline.media import IMAGE_SUFFIXES

__all__ = ["open_source"]


def open_source(spec: str | Path | int, *, allow_network: bool = False) -> Source:
    """The source for an image, a folder of images, a MOTChallenge sequence folder, a video file or a camera number.

    Addresses (`rtsp://…`, `https://…`) are opened only with `allow_network`. SourceError in one sentence otherwise.
    """
    text = str(spec)
    if isinstance(spec, int) or (text.isdecimal() and not Path(text).exists()):
        return open_camera(int(text))
    if "://" in text:
        if not allow_network:
            raise SourceError(f"a source must be on this machine, got '{text}'", do="allow the network explicitly")
        return open_video(text, is_file=False)
    path = Path(spec)
    if not path.exists():
        raise SourceError(
            "no such file or folder", where=text, do="give an image, a folder, a video or a camera number"
        )
    if path.is_dir():
        return open_sequence(path) if (path / "seqinfo.ini").is_file() else open_folder(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(path.name, [path])
    return open_video(text)
