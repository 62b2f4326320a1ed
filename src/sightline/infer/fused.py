"""Several models as one: what each of them detects in an image is fused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import supervision as sv

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError
from sightline.infer.network_predictor import NetworkPredictor, to_detections
from sightline.infer.predictor import LEFT_OUT, Given, given_images
from sightline.infer.tiled import TiledPredictor
from sightline.ops import fuse_boxes
from sightline.ops.postprocess import KeptDetections

__all__ = ["FusedPredictor"]


class FusedPredictor:
    """A predictor of detections made of several, by weighted boxes fusion (`sightline.ops.fuse_boxes`).

    Each runs at its own thresholds. A box that one of two models finds keeps half of its score. Of models with masks an
    object has the mask of its best member: masks have no mean. ConfigError unless all do the same (boxes, or boxes with
    masks) for the same classes, in the same order.
    """

    def __init__(
        self, members: Sequence[NetworkPredictor | TiledPredictor], *, iou_threshold: float = 0.55, max_det: int = 300
    ) -> None:
        self.members, self.iou_threshold, self.max_det = tuple(members), iou_threshold, max_det
        first, *others = self.members
        for member in others:
            if member.class_names != first.class_names:
                message = f"models to fuse must know the same classes, got {first.class_names} and {member.class_names}"
                raise ConfigError(message)
        tasks = sorted({member.task for member in self.members})
        if tasks not in (["detect"], ["instance"]):
            message = f"models to fuse must all find boxes, or all boxes with masks, got {' and '.join(tasks)}"
            raise ConfigError(message)

    @property
    def task(self) -> Task:
        """As every member's."""
        return self.members[0].task

    @property
    def class_names(self) -> tuple[str, ...]:
        """As every member's."""
        return self.members[0].class_names

    @property
    def preprocess(self) -> None:
        """None: each member has its own."""
        return

    @property
    def meta(self) -> dict[str, Any]:
        """What each of the members says of itself."""
        own = [member.meta for member in self.members]
        shared = {key: own[0][key] for key in ("task", "class_names")}
        fused = {"method": "weighted boxes fusion", "iou": self.iou_threshold, "models": own}
        together = {
            key: " + ".join(str(meta[key]) for meta in own) for key in ("model_digest", "architecture", "backend")
        }
        conf = min(meta["conf"] for meta in own)
        return {**shared, **together, "conf": conf, "max_det": self.max_det, "fused": fused, "operating_point": None}

    def __call__(self, images: Given | Sequence[Given]) -> list[sv.Detections]:
        """Detections in image pixels, one for each image, in order."""
        arrays = given_images(images)
        answers = zip(*(member(arrays) for member in self.members), strict=True)
        return [self._fuse(found) for found in answers]

    def _fuse(self, found: Sequence[sv.Detections]) -> sv.Detections:
        fused = fuse_boxes(
            np.concatenate([part.xyxy for part in found]),
            np.concatenate([np.asarray(part.confidence) for part in found]),
            np.concatenate([np.asarray(part.class_id) for part in found]),
            weights=np.ones(len(found)),
            models=np.repeat(np.arange(len(found)), [len(part) for part in found]),
            iou_threshold=self.iou_threshold,
        )
        left_out = sum(part.metadata.get(LEFT_OUT, 0) for part in found)
        most, of_several = self.max_det, np.full(min(self.max_det, len(fused.scores)), -1)
        kept = KeptDetections(
            fused.boxes_xyxy[:most], fused.scores[:most], fused.class_ids[:most], of_several, left_out=left_out
        )
        together = to_detections(kept, self.class_names)
        if self.task == "instance":
            masks: Any = [part.mask for part in found]
            together.mask = sv.CompactMask.merge(masks)[fused.best[:most].tolist()]
        return together
