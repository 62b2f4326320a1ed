"""Results as a folder with a file for each frame: drawn pictures, YOLO text, masks of classes."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sightline.core.errors import ConfigError, SightlineError
from sightline.core.files import write_bytes_atomic
from sightline.core.frames import Frame, split_frame_path
from sightline.infer.dataset import result_rows
from sightline.infer.sinks.protocol import FrameResult, RunInfo
from sightline.ops.boxes import xyxy_to_cxcywh
from sightline.ops.oriented import box_corners
from sightline.ops.outlines import code_outlines, largest_ring

__all__ = ["FolderSink", "PicturesSink", "TextSink", "masks_sink"]

_JPEG_QUALITY = 92


class FolderSink:
    """Writes one file a frame into the folder `path`: `name` gives its name without `suffix`, `encode` its bytes.

    Each file is complete as soon as it is there. Where two frames have one name, the second gets its number too.
    """

    needs_picture = False

    def __init__(
        self,
        path: str | Path,
        kind: str,
        encode: Callable[[FrameResult], bytes],
        name: Callable[[Frame], str],
        suffix: str,
        *,
        of_maps: bool | None = None,
    ) -> None:
        self.path = Path(path)
        self.kind = kind
        self._encode, self._name, self._suffix, self._of_maps = encode, name, suffix, of_maps
        self._written: set[Path] = set()

    def open(self, info: RunInfo) -> None:
        """Make the folder; ConfigError for label maps where boxes are written, and the other way round."""
        if self._of_maps not in (None, info.task == "semantic"):
            wanted, got = ("label maps", "boxes") if self._of_maps else ("boxes", "label maps")
            raise ConfigError(f"'{self.kind}' must be given {wanted}, got a model of {got}", where=str(self.path))
        self.path.mkdir(parents=True, exist_ok=True)

    def write(self, result: FrameResult) -> None:
        """Write one file."""
        target = self.path / f"{self._name(result.frame)}{self._suffix}"
        if target in self._written:
            target = target.with_stem(f"{target.stem}_{result.frame.index:06d}")
        write_bytes_atomic(target, self._encode(result))
        self._written.add(target)

    def close(self) -> None:
        """Keep the files: a later `discard` does not touch them."""
        self._written.clear()

    def discard(self) -> None:
        """Remove the files of this run, and the folder if it is then empty."""
        for path in self._written:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()


class PicturesSink(FolderSink):
    """Writes `<frame>-<source name>.jpg`, drawn."""

    needs_picture = True

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "pictures", _jpeg, lambda frame: f"{frame.index:06d}-{Path(frame.source).stem}", ".jpg")


class TextSink(FolderSink):
    """YOLO text: `class x y width height score` a line or, of an object with a mask, `class x1 y1 x2 y2 … score`, its
    outline along the edges of its pixels; in fractions of the image. Keypoints stand before the score, x, y and how
    likely it can be located of each; the four corners of an oriented box in place of the box. Empty for a frame
    without objects.

    A picture's file has its stem, a video's frame `<video>_<frame>`. A line holds one outline: `notes` count the masks
    of which that is not all.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "txt", self._lines, _stem, ".txt", of_maps=False)
        self._reduced = self._without = 0

    @property
    def notes(self) -> list[str]:
        """What of the masks the text does not hold."""
        reduced = f"txt: of {self._reduced} masks of several parts or with holes the largest part, without holes"
        without = f"txt: {self._without} objects with a mask of no pixel, written as boxes"
        return [said for said, count in ((reduced, self._reduced), (without, self._without)) if count]

    def _lines(self, result: FrameResult) -> bytes:
        height, width = result.frame.size_hw
        rows = result_rows(result.frame.index, result.detections)
        boxes = xyxy_to_cxcywh(rows.select("x1", "y1", "x2", "y2").to_numpy()) / (width, height, width, height)
        if rows["oriented"].count():
            boxes = (box_corners(rows["oriented"].to_list()) / (width, height)).reshape(-1, 8)
        shares = np.array([1 / width, 1 / height, 1.0])
        lines = []
        for class_id, box, code, points, score in zip(
            rows["class_id"], boxes.tolist(), rows["rle"], rows["keypoints"], rows["score"], strict=True
        ):
            ring = None if code is None else self._ring(code, (height, width))
            shape = box if ring is None else (ring / (width, height)).ravel().tolist()
            shape = shape if points is None else [*shape, *(np.reshape(points, (-1, 3)) * shares).ravel()]
            lines.append(f"{class_id} {' '.join(f'{value:.9g}' for value in (*shape, score))}\n")
        return "".join(lines).encode()

    def _ring(self, code: bytes, size_hw: tuple[int, int]) -> NDArray[np.float64] | None:
        rings, holes = code_outlines(code, size_hw)
        self._reduced += len(rings) > 1 or holes > 0
        self._without += not rings
        return largest_ring(rings)


def masks_sink(path: str | Path) -> FolderSink:
    """Gray PNG masks of class ids, of the size of the frame, named as `TextSink` names its files."""
    return FolderSink(path, "masks", _mask, _stem, ".png", of_maps=True)


def _stem(frame: Frame) -> str:
    by_itself = frame.file is not None and split_frame_path(frame.file) is None
    return Path(frame.source).stem + ("" if by_itself else f"_{frame.index:06d}")


def _jpeg(result: FrameResult) -> bytes:
    picture = result.picture if result.picture is not None else result.frame.image
    return _encoded(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def _mask(result: FrameResult) -> bytes:
    assert result.semantic is not None
    return _encoded(".png", np.asarray(result.semantic.class_ids, np.uint8), [])


def _encoded(suffix: str, picture: "cv2.typing.MatLike", settings: list[int]) -> bytes:
    sound, data = cv2.imencode(suffix, picture, settings)
    if not sound:
        raise SightlineError(f"cannot encode a picture of size {picture.shape[:2]} as {suffix}")
    return data.tobytes()
