"""A generated data set on disk into which faults are planted, and the record of what was planted where."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sightline.media import read_image

__all__ = ["Fault", "Plant", "Planted", "Site"]

Picture: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Planted:
    """One planted fault: the code it must be found under, and its place (`path` relative to the root, 1-based `line`).

    Without a path the fault is of the data set as a whole.
    """

    code: str
    path: str | None = None
    line: int | None = None


Plant = Callable[["Site"], list[Planted]]


class Fault(NamedTuple):
    """How one code's fault is made: the data set it is planted in, the change, and what else it rightly brings."""

    base: str
    plant: Plant
    also: tuple[str, ...] = ()


class Site:
    """The files of one generated data set, to be damaged. Everything random comes from `rng`."""

    def __init__(self, root: Path, rng: np.random.Generator) -> None:
        self.root, self.rng = root, rng

    def pictures(self, split: str = "train") -> list[str]:
        """The paths of a split's images, relative to the root, sorted."""
        return sorted(p.relative_to(self.root).as_posix() for p in (self.root / "images" / split).glob("*.*"))

    def pick(self, split: str = "train") -> str:
        """One image of a split that has labels."""
        return str(self.rng.choice([p for p in self.pictures(split) if not self._is_unlabelled(p)]))

    def _is_unlabelled(self, picture: str) -> bool:
        file = self.root / self.label(picture)
        return file.is_file() and not file.read_text().strip()

    @staticmethod
    def label(picture: str) -> str:
        """The YOLO label file of an image."""
        return Path("labels", *Path(picture).parts[1:]).with_suffix(".txt").as_posix()

    @staticmethod
    def mask(picture: str) -> str:
        """The mask of an image."""
        return Path("masks", *Path(picture).parts[1:]).with_suffix(".png").as_posix()

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        return (self.root / path).read_bytes()

    def write(self, path: str, content: bytes | str) -> None:
        """Write a file, whatever was there."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def remove(self, path: str) -> None:
        """Delete a file."""
        (self.root / path).unlink()

    def lines(self, path: str) -> list[str]:
        """The lines of a text file."""
        return (self.root / path).read_text().splitlines()

    def write_lines(self, path: str, lines: Iterable[str]) -> None:
        """Write a text file of the lines."""
        self.write(path, "".join(f"{line}\n" for line in lines))

    def add_line(self, path: str, line: str) -> int:
        """Append a line; returns its number."""
        lines = [*self.lines(path), line]
        self.write_lines(path, lines)
        return len(lines)

    def rows(self, picture: str) -> list[list[float]]:
        """The YOLO rows of an image."""
        return [[float(v) for v in line.split()] for line in self.lines(self.label(picture))]

    def write_rows(self, picture: str, rows: Sequence[Sequence[float]]) -> None:
        """Write the YOLO rows of an image."""
        self.write_lines(self.label(picture), (f"{int(r[0])} " + " ".join(f"{v:.8f}" for v in r[1:]) for r in rows))

    def picture(self, path: str) -> Picture:
        """The pixels of an image."""
        pixels = read_image(self.root / path)
        return np.asarray(pixels, np.uint8)

    def write_picture(self, path: str, pixels: Picture, quality: int = 95) -> None:
        """Encode RGB or gray pixels by the suffix of the path."""
        ordered = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        settings = [cv2.IMWRITE_JPEG_QUALITY, quality] if Path(path).suffix == ".jpg" else []
        _, data = cv2.imencode(Path(path).suffix, np.ascontiguousarray(ordered), settings)
        self.write(path, data.tobytes())

    def document(self, path: str) -> dict[str, Any]:
        """The content of a JSON file."""
        content: dict[str, Any] = json.loads(self.read(path))
        return content

    def write_document(self, path: str, content: Mapping[str, Any]) -> dict[tuple[str, int], int]:
        """Write JSON with one item of each top-level list a line; returns the line of (list, index)."""
        lines, places = ["{"], {}
        for number, (key, value) in enumerate(content.items()):
            comma = "," if number + 1 < len(content) else ""
            if not isinstance(value, list):
                lines.append(f"{json.dumps(key)}: {json.dumps(value)}{comma}")
                continue
            lines.append(f"{json.dumps(key)}: [")
            for i, item in enumerate(value):
                lines.append(json.dumps(item) + ("," if i + 1 < len(value) else ""))
                places[key, i] = len(lines)
            lines.append(f"]{comma}")
        self.write_lines(path, [*lines, "}"])
        return places
