"""The arguments of one generation, checked: which pictures, how many, how large, from which seed."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from sightline.core.errors import ConfigError, unknown_name
from sightline.core.process import Progress

SynthScene: TypeAlias = Literal["traffic", "cracks"]
SynthFormat: TypeAlias = Literal["coco", "yolo", "masks"]

_SCENES: Final[tuple[str, ...]] = get_args(SynthScene)
_FORMATS: Final[dict[str, tuple[SynthFormat, ...]]] = {"traffic": ("coco", "yolo"), "cracks": ("masks",)}
_SMALLEST_PX, _LARGEST_PX = 64, 4096
_IMAGE_STREAM, _VIDEO_STREAM = 0, 1


@dataclass(frozen=True)
class Plan:
    """Arguments of `generate`; ConfigError where one is out of range. `requested_format` None: the scene's first."""

    scene: SynthScene
    requested_format: SynthFormat | None
    images: int
    val_fraction: float
    size_hw: tuple[int, int]
    seed: int
    video_frames: int
    video_size_hw: tuple[int, int]
    fps: float
    sequence_images: bool
    workers: int
    progress: Progress | None

    def __post_init__(self) -> None:
        if self.scene not in _SCENES:
            raise ConfigError(unknown_name("scene", self.scene, _SCENES))
        formats = _FORMATS[self.scene]
        if self.format not in formats:
            raise ConfigError(
                f"the format of a '{self.scene}' scene must be {' or '.join(formats)}, got '{self.format}'"
            )
        for name, least in (("images", 1), ("seed", 0), ("video_frames", 0), ("workers", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0.0 <= self.val_fraction <= 1.0:
            raise ConfigError(f"val_fraction must be from 0 to 1, got {self.val_fraction}")
        if not 1.0 <= self.fps <= 240.0:
            raise ConfigError(f"fps must be from 1 to 240, got {self.fps}")
        self._check_sizes()

    def _check_sizes(self) -> None:
        for name in ("size_hw", "video_size_hw"):
            size = getattr(self, name)
            if len(size) != 2 or not all(_SMALLEST_PX <= n <= _LARGEST_PX for n in size):
                raise ConfigError(f"{name} must be height and width from {_SMALLEST_PX} to {_LARGEST_PX}, got {size}")
        if not self.video_frames:
            return
        if self.scene != "traffic":
            raise ConfigError(f"only 'traffic' scenes move, got video_frames={self.video_frames} for '{self.scene}'")
        if self.video_size_hw[0] % 2 or self.video_size_hw[1] % 2:
            raise ConfigError(f"video_size_hw must be even for H.264, got {self.video_size_hw}")

    @property
    def format(self) -> SynthFormat:
        """The format asked for, or the scene's own."""
        return self.requested_format or _FORMATS[self.scene][0]

    @property
    def validation(self) -> int:
        """How many images are held out: at least one where any are wanted and there are two."""
        least = 1 if self.val_fraction > 0 and self.images > 1 else 0
        return max(least, round(self.images * self.val_fraction))

    def split(self, index: int) -> str:
        """The split of an image: the last ones are held out."""
        return "train" if index < self.images - self.validation else "val"

    @property
    def images_by_split(self) -> dict[str, int]:
        """How many images each split gets; empty splits are left out."""
        counts = {"train": self.images - self.validation, "val": self.validation}
        return {split: count for split, count in counts.items() if count}

    def image_name(self, index: int) -> str:
        """The path of an image inside the data set."""
        return f"images/{self.split(index)}/{index:06d}.jpg"

    def image_rng(self, index: int) -> np.random.Generator:
        """The randomness of one image: of seed, scene and index alone."""
        return np.random.default_rng([self.seed, _SCENES.index(self.scene), _IMAGE_STREAM, index])

    def video_rng(self) -> np.random.Generator:
        """The randomness of the video."""
        return np.random.default_rng([self.seed, _SCENES.index(self.scene), _VIDEO_STREAM])

    def advance(self, done: int, total: int, what: str) -> None:
        """Tell the caller how far we are."""
        if self.progress is not None:
            self.progress(done, total, what)
