"""A folder of drawn pictures, one for each frame."""

from contextlib import suppress
from pathlib import Path

import cv2

from sightline.core.errors import SightlineError
from sightline.core.files import write_bytes_atomic
from sightline.infer.sinks.protocol import FrameResult, RunInfo

__all__ = ["PicturesSink"]

_JPEG_QUALITY = 92


class PicturesSink:
    """Writes `<frame>-<source name>.jpg` into the folder `path`; each file is complete as soon as it is there."""

    kind = "pictures"
    needs_picture = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._written: list[Path] = []

    def open(self, info: RunInfo) -> None:
        """Make the folder."""
        self.path.mkdir(parents=True, exist_ok=True)

    def write(self, result: FrameResult) -> None:
        """Write one picture."""
        picture = result.picture if result.picture is not None else result.frame.image
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        sound, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not sound:
            raise SightlineError(f"cannot encode a picture of size {picture.shape[:2]} as JPEG", where=str(self.path))
        target = self.path / f"{result.frame.index:06d}-{Path(result.frame.source).stem}.jpg"
        write_bytes_atomic(target, data.tobytes())
        self._written.append(target)

    def close(self) -> None:
        """Keep the pictures: a later `discard` does not touch them."""
        self._written.clear()

    def discard(self) -> None:
        """Remove the pictures of this run, and the folder if it is then empty."""
        for path in self._written:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()
