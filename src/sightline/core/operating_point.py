"""What a detector's boxes are chosen with, a part of what its file says; light, for command lines know it too."""

from typing import Annotated, Literal, Self

import pydantic

from sightline.core.config import Config

__all__ = ["OperatingPoint", "Suppression"]

Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Suppression = Literal["nms", "agnostic", "diou", "soft-linear", "soft-gaussian", "none"]
"""How one object is kept once: greedily by class, over all classes, by DIoU; by decaying scores; not at all."""


class OperatingPoint(Config):
    """What a model's detections are chosen with, see `sightline.ops.postprocess.select_detections`."""

    conf: float = pydantic.Field(default=0.25, ge=0, le=1)
    """Least score."""
    iou: float = pydantic.Field(default=0.7, ge=0, le=1)
    """Greatest IoU two kept boxes of a class have; of `soft-linear` the IoU from which scores decay."""
    max_det: int = pydantic.Field(default=300, ge=1, le=100_000)
    """Most detections of an image."""
    suppression: Suppression = "nms"
    sigma: float = pydantic.Field(default=0.5, gt=0, le=100)
    """Of `soft-gaussian`: the smaller, the faster scores decay."""
    conf_by_size: tuple[Share, Share, Share] | None = None
    """Least scores of small, medium and large boxes (COCO's areas 32² and 96² in image pixels) where `conf` is not for
    all; none below it."""

    @pydantic.model_validator(mode="after")
    def _no_size_below_conf(self) -> Self:
        if self.conf_by_size is not None and min(self.conf_by_size) < self.conf:
            raise ValueError("conf_by_size must be at least conf, which is the least score of all")
        return self
