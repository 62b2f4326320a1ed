"""Images as a source: one file, a folder in natural order, or the frames of a MOTChallenge sequence."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.core.errors import DataError, SourceError
from sightline.core.frames import Frame, picture_file
from sightline.data import absolute, inside
from sightline.data.formats.mot import read_seqinfo, sequence_frames
from sightline.media import IMAGE_SUFFIXES, as_rgb8, find_videos, image_size, read_image

__all__ = ["ImageSource", "look_through", "open_folder", "open_sequence"]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The given image files, in the given order; with `fps` they are frames of a film, without it just pictures.

    With `skip_damaged` those that cannot be read are left out. `notes` are what the last reading met; `others` are the
    files of their folder that are no images.
    """

    name: str
    paths: Sequence[Path]
    fps: float | None = None
    media_path: Path | None = None
    skip_damaged: bool = False
    others: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """Size of the first image, the others may differ; SourceError when it cannot be read."""
        try:
            return image_size(self.paths[0])
        except DataError as error:
            raise SourceError(error.what, where=error.where) from None

    @property
    def files(self) -> Sequence[Path]:
        """The files of the images, or of the video they are frames of."""
        return sorted({picture_file(path) for path in self.paths})

    @property
    def frame_count(self) -> int:
        """How many files there are."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        """One frame for each file; 16-bit images keep their upper 8 bits, gray ones get three channels."""
        damaged: list[str] = []
        self.notes[:] = self._said(damaged)
        for index, path in enumerate(self.paths):
            try:
                image = read_image(path)
            except DataError as error:
                if self.skip_damaged:
                    damaged.append(path.name)
                    self.notes[:] = self._said(damaged)
                    continue
                last = f"the last good image is '{self.paths[index - 1].name}'" if index else "there is none before it"
                raise SourceError(f"{error.what}; {last} ({index} of {len(self.paths)})", where=error.where) from None
            time_s = None if self.fps is None else index / self.fps
            yield Frame(as_rgb8(image), index, time_s, path.name, file=path.as_posix())

    def _said(self, damaged: Sequence[str]) -> list[str]:
        said = []
        if self.others:
            said.append(f"{len(self.others)} files of the folder are no images and left out: {_some(self.others)}")
        if damaged:
            said.append(f"{len(damaged)} damaged pictures left out: {_some(damaged)}")
        return said


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def open_folder(folder: Path, *, deep: bool = True) -> ImageSource:
    """The images of a folder, `img2` before `img10`, those of its sub-folders (`deep`) after its own.

    Sequences below it are left out, and so are videos. SourceError when there are no images.
    """
    paths, others = [], []
    for place in _folders(folder) if deep else [folder]:
        files = sorted((p for p in place.iterdir() if p.is_file() and not p.name.startswith(".")), key=_natural)
        paths += [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
        films = set(find_videos(place))  # sources of their own
        others += [p.name for p in files if p.suffix.lower() not in IMAGE_SUFFIXES and p not in films]
    if not paths:
        do = f"name one of its videos, such as {found[0]}" if (found := find_videos(folder)) else None
        raise SourceError(
            f"a folder to run on must hold images ({', '.join(sorted(IMAGE_SUFFIXES))}), got none",
            where=str(folder),
            do=do,
        )
    return ImageSource(folder.name, paths, others=others)


def look_through(folder: Path) -> list[Path]:
    """What a folder has to run on: itself where it has images, then each video and sequence below it, in order.

    A sequence stands for itself. SourceError when there is nothing; linked folders are not followed.
    """
    if (folder / "seqinfo.ini").is_file():
        return [folder]
    places = _folders(folder)
    has_images = any(p.suffix.lower() in IMAGE_SUFFIXES for place in places for p in place.iterdir() if p.is_file())
    videos = sorted((p for place in places for p in find_videos(place)), key=lambda p: (p.parent, _natural(p)))
    sequences = [p for place in places for p in _below(place) if (p / "seqinfo.ini").is_file()]
    if not (has_images or videos or sequences):
        raise SourceError(
            "a folder to run on must hold pictures, videos or sequences, here or in its sub-folders, got none",
            where=str(folder),
        )
    return [*([folder] if has_images else []), *videos, *sequences]


def _folders(folder: Path) -> list[Path]:
    """A folder and those below it, without sequences and what lies in them."""
    inner = [p for p in _below(folder) if not (p / "seqinfo.ini").is_file()]
    return [folder, *(q for p in inner for q in _folders(p))]


def _below(folder: Path) -> list[Path]:
    found = (p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    return sorted(found, key=_natural)


def open_sequence(folder: Path) -> ImageSource:
    """The frames of a MOTChallenge sequence folder: the pictures in its `imDir`, else those of its video.

    The video is the one the data set of this folder would be read from. SourceError where there are no frames, or
    neither `seqinfo.ini` nor the video tells their rate.
    """
    info_path = folder / "seqinfo.ini"
    folder = absolute(folder)
    try:
        info = read_seqinfo(info_path)
        pictures = folder / inside(folder, info.image_folder, str(info_path))
        if pictures.is_dir():
            paths, times = open_folder(pictures, deep=False).paths, None
        else:
            frames, _ = sequence_frames(folder, info, None, None, folder.parent, alone=True)
            paths, times = frames.paths, frames.times
    except DataError as error:
        raise SourceError(error.what, where=error.where) from None
    if not paths or not picture_file(paths[0]).is_file():
        message = f"imDir must name the folder of the frames, got '{info.image_folder}' and no video"
        raise SourceError(message, where=str(info_path))
    fps = info.fps or ((len(times) - 1) / times[-1] if times and times[-1] > 0 else None)
    if fps is None:
        raise SourceError("frameRate must be above 0, got none", where=str(info_path))
    return ImageSource(info.name or folder.name, paths, fps)


def _natural(path: Path) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"(\d+)", path.name.lower())
    return (*((1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts if p), (2, 0, path.name))
