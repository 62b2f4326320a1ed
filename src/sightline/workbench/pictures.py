"""What a model saw in one picture, and pictures to look at in a notebook or to save."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import supervision as sv
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.files import atomic_path
from sightline.core.frames import Frame, SemanticMap
from sightline.draw import Drawer
from sightline.draw.look import LookOptions, look_at, paint_sheet

__all__ = ["Seen", "Shown", "show"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture (H, W, 3) RGB that a notebook shows by itself."""

    pixels: Pixels

    def save(self, path: str | Path) -> Path:
        """Write the picture (.png, .jpg, .webp) in one step; ConfigError for a name of another kind."""
        target = Path(path)
        if target.suffix.lower() not in {".png", ".jpg", ".jpeg", ".webp"}:
            raise ConfigError(f"a picture must end in .png, .jpg or .webp, got '{target.name}'")
        with atomic_path(target) as temporary:
            Image.fromarray(self.pixels).save(temporary)
        return target

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        Image.fromarray(self.pixels).save(written, "PNG")
        return written.getvalue()


@dataclass(frozen=True, eq=False)
class Seen:
    """One frame (`image`, RGB uint8, and where it is from) and the prediction for it, in the frame's own pixels."""

    frame: Frame
    prediction: sv.Detections | SemanticMap
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """How many objects, or classes of a label map, there are."""
        return len(self.class_ids)

    @property
    def image(self) -> Pixels:
        """RGB (H, W, 3)."""
        return self.frame.image

    @property
    def name(self) -> str:
        """Of the picture, or of the film the frame is from."""
        return self.frame.source

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """(N, 4) `xyxy` in pixels, best score first; none of a label map."""
        if isinstance(self.prediction, SemanticMap):
            return np.empty((0, 4))
        return np.asarray(self.prediction.xyxy, np.float64)

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """(N,) in 0..1."""
        if isinstance(self.prediction, SemanticMap) or self.prediction.confidence is None:
            return np.empty(0)
        return np.asarray(self.prediction.confidence, np.float64)

    @property
    def class_ids(self) -> npt.NDArray[np.int64]:
        """(N,) ids of the objects; of a label map those that occur, rising."""
        if isinstance(self.prediction, SemanticMap):
            return np.unique(self.prediction.class_ids).astype(np.int64)
        return np.asarray(self.prediction.class_id if self.prediction.class_id is not None else [], np.int64)

    @property
    def names(self) -> list[str]:
        """The class name of each."""
        return [self.class_names[i] for i in self.class_ids]

    @property
    def track_ids(self) -> list[int | None]:
        """The identity of each object, None without a confirmed track."""
        ids = None if isinstance(self.prediction, SemanticMap) else self.prediction.tracker_id
        return [None] * len(self) if ids is None else [int(i) if i >= 0 else None for i in ids]

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """(N, H, W): a mask for each class of a label map, or for each object where the model gives masks; else none.

        Of many objects on large pictures that is much memory: `prediction.mask[i]` is the mask of one.
        """
        if not isinstance(self.prediction, SemanticMap):
            if self.prediction.mask is None:
                return np.empty((0, *self.frame.size_hw), dtype=np.bool_)
            return np.asarray(self.prediction.mask, np.bool_)
        return np.asarray(self.prediction.class_ids == self.class_ids[:, None, None])

    @property
    def keypoints(self) -> npt.NDArray[np.float64]:
        """(N, K, 3) x, y and how likely each can be located, of each object where the model gives them; else none."""
        data = {} if isinstance(self.prediction, SemanticMap) else self.prediction.data
        return np.asarray(data.get("keypoints", np.empty((0, 0, 3))), np.float64)

    @property
    def oriented(self) -> npt.NDArray[np.float64]:
        """(N, 5) cx, cy, w, h, angle of each object, where boxes are (see `sightline.ops.oriented`); else none."""
        data = {} if isinstance(self.prediction, SemanticMap) else self.prediction.data
        return np.asarray(data.get("oriented", np.empty((0, 5))), np.float64)

    def plot(self) -> Shown:
        """The picture with the prediction drawn on it."""
        of_map = isinstance(self.prediction, SemanticMap)
        drawer = Drawer(self.frame.size_hw, self.class_names)
        parts = (None, self.prediction) if of_map else (self.prediction, None)
        return Shown(drawer.draw(self.image, *parts))

    def save(self, path: str | Path) -> Path:
        """Write the drawn picture; see `Shown.save`."""
        return self.plot().save(path)

    def to_df(self) -> pl.DataFrame:
        """A row for each object: name, frame, time_s, class_id, class, score, x1, y1, x2, y2, track_id; or for each
        class of a label map: name, frame, time_s, class_id, class, share of the pixels.
        """
        start: dict[str, Any] = {"name": self.name, "frame": self.frame.index, "time_s": self.frame.time_s}
        columns: dict[str, Any] = {"class_id": self.class_ids, "class": self.names}
        if isinstance(self.prediction, SemanticMap):
            columns["share"] = self.masks.mean(axis=(1, 2))
        else:
            columns |= {"score": self.scores, **dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))}
            columns["track_id"] = pl.Series(self.track_ids, dtype=pl.Int64)
        table = pl.DataFrame(columns, schema_overrides={"class": pl.String})
        return table.select(*(pl.lit(value).alias(key) for key, value in start.items()), pl.all())

    def _repr_png_(self) -> bytes:
        return self.plot()._repr_png_()


def show(dataset: Dataset, *, count: int = 12, seed: int = 0) -> Shown:
    """A sheet of `count` pictures of a data set, drawn at random with `seed`, with their labels on them.

    A part shows certain ones: `show(dataset[:4])`, `show(dataset.split("val"))`. DataError where there is none.
    """
    if not len(dataset) or count < 1:
        raise DataError("there must be an image to show, got none", where=str(dataset.root))
    options = LookOptions(images=count, per_class=0, per_finding=0, tracks=0, seed=seed)
    return Shown(paint_sheet(next(iter(look_at(dataset, options, (), None)))))
