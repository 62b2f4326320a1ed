"""The predictor of our own artefacts: one preparation and one postprocessing around a network of any backend."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import supervision as sv
from supervision.config import ORIENTED_BOX_COORDINATES

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError, ModelError
from sightline.core.frames import SemanticMap
from sightline.core.keypoints import Keypoints
from sightline.core.metadata import NMS_IN_GRAPH, ModelMetadata, OperatingPoint
from sightline.core.preprocess import Geometry, Preprocess
from sightline.infer.object_masks import as_detection_masks
from sightline.infer.predictor import LEFT_OUT, Batch, Given, Image, Outputs, Prediction, given_images
from sightline.ops.instance_masks import MaskCrop, object_masks
from sightline.ops.oriented import box_corners
from sightline.ops.postprocess import (
    KeptDetections,
    class_confidence,
    evaluation_point,
    likeliest,
    map_probabilities,
    place_keypoints,
    select_detections,
)

__all__ = [
    "OUTPUT_NAMES",
    "Network",
    "NetworkPredictor",
    "choose_thresholds",
    "is_binary",
    "masks_of",
    "output_names",
    "to_detections",
]

OUTPUT_NAMES: dict[str, tuple[str, ...]] = {
    "detect": ("boxes_xyxy", "scores"),
    "instance": ("boxes_xyxy", "scores", "coefficients", "prototypes"),
    "obb": ("boxes_xyxy", "scores", "oriented"),
    "pose": ("boxes_xyxy", "scores", "keypoints"),
    "semantic": ("probabilities",),
}
"""What a network returns for each task, in order; the same names in ONNX files."""
_WITHIN_BOXES = ("boxes_xyxy", "scores", "box_masks")
"""Of task instance the other form of masks, see `Model.decode`."""


def output_names(task: str, count: int) -> tuple[str, ...]:
    """The names of `count` outputs of a task: of the forms it has that one with so many, else the usual one."""
    return _WITHIN_BOXES if task == "instance" and count == len(_WITHIN_BOXES) else OUTPUT_NAMES.get(task, ())


class Network(Protocol):
    """A network ready to run, whatever runs it."""

    @property
    def backend(self) -> str:
        """Runtime, its version, device and precision, for reports."""
        ...

    def __call__(self, pixels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], ...]:
        """The arrays of `OUTPUT_NAMES` for a batch (B, C, H, W)."""
        ...


class NetworkPredictor:
    """A `StagedPredictor` made of a network and the metadata of its file.

    `max_batch` bounds how many images meet the network at once, 1 for a file exported with a fixed batch. Of label maps
    of two classes, `foreground_conf` is the least probability of the foreground: the artefact's own unless given;
    without either the likelier class wins.
    """

    def __init__(
        self,
        network: Network,
        metadata: ModelMetadata,
        thresholds: OperatingPoint,
        *,
        where: str,
        max_batch: int | None = None,
        foreground_conf: float | None = None,
    ) -> None:
        if metadata.task not in OUTPUT_NAMES:
            raise ModelError(f"task must be one of {', '.join(OUTPUT_NAMES)}, got '{metadata.task}'", where=where)
        self.network = network
        self.metadata = metadata
        self.thresholds = thresholds
        self.where = where
        self.max_batch = max_batch
        own = metadata.operating_point if is_binary(metadata) else None
        self.foreground_conf = own.conf if foreground_conf is None and own is not None else foreground_conf
        self.keeps_foreground = self.keeps_confidence = False
        self._skeleton = _skeleton_of(metadata, where) if metadata.task == "pose" else ()

    @property
    def task(self) -> Task:
        """As the artefact states."""
        return self.metadata.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """As the artefact states."""
        return self.metadata.class_names

    @property
    def preprocess(self) -> Preprocess:
        """As the artefact states."""
        return self.metadata.preprocess

    @property
    def meta(self) -> dict[str, Any]:
        """What made the predictions, for `Predictions.meta` and reports."""
        own = self.metadata.operating_point
        return {
            "task": self.task,
            "class_names": list(self.class_names),
            "architecture": self.metadata.architecture,
            "model_digest": self.metadata.model_digest,
            "preprocess": self.preprocess.model_dump(mode="json"),
            "backend": self.network.backend,
            **self.thresholds.model_dump(),
            **({} if self.foreground_conf is None else {"foreground_conf": self.foreground_conf}),
            "operating_point": None if own is None else own.model_dump(),
        }

    def at(self, thresholds: OperatingPoint) -> "NetworkPredictor":
        """The same network at other thresholds, sharing its memory."""
        return self._with(thresholds=thresholds)

    def for_evaluation(self) -> "NetworkPredictor":
        """The same network with the whole curve of its detections kept, as average precision is measured with.

        What a graph leaves out that suppresses by itself is lost, and `meta` says from which score on.
        """
        point = evaluation_point(self.metadata.operating_point)
        return self.at(point.model_copy(update={"conf": max(point.conf, least_score(self.metadata))}))

    def at_foreground(self, conf: float) -> "NetworkPredictor":
        """The same network, calling pixels foreground from this probability on; ConfigError but for two classes."""
        if self.task != "semantic" or len(self.class_names) != 2:
            got = f"{len(self.class_names)} classes" if self.task == "semantic" else "a model of boxes"
            do = "leave it out: of several classes the likeliest is taken" if self.task == "semantic" else None
            message = f"a least probability of the foreground must be given for label maps of two classes, got {got}"
            raise ConfigError(message, where=self.where, do=do)
        if not 0 <= conf <= 1:
            raise ConfigError(f"the least probability of the foreground must be in 0..1, got {conf:g}")
        return self._with(foreground_conf=conf)

    def with_foreground(self) -> "NetworkPredictor":
        """The same network, whose maps of two classes keep the foreground's probability; ConfigError for others."""
        if not is_binary(self.metadata):
            raise ConfigError("the foreground's probability is that of label maps of two classes", where=self.where)
        kept = self._with()
        kept.keeps_foreground = True
        return kept

    def with_confidence(self) -> "NetworkPredictor":
        """The same network, whose label maps keep how sure it is of each class."""
        kept = self._with()
        kept.keeps_confidence = True
        return kept

    def resized(self, size_hw: tuple[int, int]) -> "NetworkPredictor":
        """The same network fed at another size, which `meta` then says: not what the model was trained and judged at.

        Only networks that take any size can be; the first picture shows it.
        """
        try:
            preprocess = Preprocess.model_validate({**self.preprocess.model_dump(), "size_hw": size_hw})
        except ValueError:
            raise ConfigError(f"imgsz must be 1..16384 pixels, got {size_hw[0]} x {size_hw[1]}") from None
        return self._with(metadata=self.metadata.model_copy(update={"preprocess": preprocess}))

    def _with(
        self,
        *,
        thresholds: OperatingPoint | None = None,
        metadata: ModelMetadata | None = None,
        foreground_conf: float | None = None,
    ) -> "NetworkPredictor":
        made = NetworkPredictor(
            self.network,
            metadata or self.metadata,
            thresholds or self.thresholds,
            where=self.where,
            max_batch=self.max_batch,
            foreground_conf=self.foreground_conf if foreground_conf is None else foreground_conf,
        )
        made.keeps_foreground, made.keeps_confidence = self.keeps_foreground, self.keeps_confidence
        return made

    def __call__(self, images: Given | Sequence[Given]) -> list[Any]:
        """Predictions in image pixels, one for each image, in order; see `given_images` for what an image may be."""
        answers: list[Prediction] = []
        arrays = given_images(images)
        sizes = [self.preprocess.geometry((i.shape[0], i.shape[1])).target_hw for i in arrays]
        # Policies that keep the aspect without padding give every shape its own network size.
        for _, group in groupby(range(len(arrays)), key=sizes.__getitem__):
            rows = list(group)
            step = self.max_batch or len(rows)
            for start in range(0, len(rows), step):
                batch = self.prepare([arrays[row] for row in rows[start : start + step]])
                answers.extend(self.finish(self.run(batch.pixels), batch.geometries))
        return answers

    def prepare(self, images: Sequence[Image]) -> Batch:
        """Network input and geometries; the images must come out at one size."""
        arrays, geometries = zip(*(self.preprocess.apply(image) for image in images), strict=True)
        return Batch(np.stack(arrays) if len(arrays) > 1 else arrays[0][None], tuple(geometries))

    def run(self, pixels: npt.NDArray[np.float32]) -> Outputs:
        """Named raw outputs; ModelError when the network returns other arrays than its task calls for."""
        arrays = self.network(pixels)
        names = output_names(self.task, len(arrays))
        if len(arrays) != len(names):
            raise ModelError(
                f"a {self.task} network must return {', '.join(names)}, got {len(arrays)}", where=self.where
            )
        outputs = dict(zip(names, arrays, strict=True))
        self._check_shapes(outputs, len(pixels))
        return outputs

    def finish(self, outputs: Outputs, geometries: Sequence[Geometry]) -> list[Prediction]:
        """Detections above the thresholds, with their masks or keypoints, or the label map, at image resolution."""
        if self.task == "semantic":
            return [self._map(outputs["probabilities"][i], geometry) for i, geometry in enumerate(geometries)]
        return [self._detections({n: array[i] for n, array in outputs.items()}, g) for i, g in enumerate(geometries)]

    def _map(self, probabilities: npt.NDArray[Any], geometry: Geometry) -> SemanticMap:
        at_image = map_probabilities(probabilities, geometry)
        ids = likeliest(at_image, self.foreground_conf)
        foreground = np.asarray(at_image[1], np.float32) if self.keeps_foreground else None
        sure = class_confidence(at_image, ids) if self.keeps_confidence else None
        return SemanticMap(ids, self.class_names, foreground, sure)

    def _detections(self, outputs: Outputs, geometry: Geometry) -> sv.Detections:
        """Those of one image."""
        boxes, scores = outputs["boxes_xyxy"], outputs["scores"]
        kept = select_detections(boxes, scores, self.thresholds, geometry, outputs.get("oriented"))
        found = to_detections(kept, self.class_names)
        if self.task == "instance":
            found.mask = as_detection_masks(masks_of(kept, outputs, geometry), geometry.source_hw)
        elif self.task == "pose":
            found.data["keypoints"] = place_keypoints(outputs["keypoints"][kept.anchors], geometry)
            found.metadata["skeleton"] = self._skeleton
        return found

    def _check_shapes(self, outputs: Outputs, batch: int) -> None:
        classes = len(self.class_names)
        shapes = {name: array.shape for name, array in outputs.items()}
        if self.task == "semantic":
            sound = len(shapes["probabilities"]) == 4 and shapes["probabilities"][:2] == (batch, classes)
        else:
            anchors = shapes["boxes_xyxy"][1] if len(shapes["boxes_xyxy"]) == 3 else -1
            sound = shapes["boxes_xyxy"] == (batch, anchors, 4) and shapes["scores"] == (batch, anchors, classes)
        if "box_masks" in shapes:
            sound = sound and len(shapes["box_masks"]) == 4 and shapes["box_masks"][:2] == (batch, anchors)
        elif self.task == "instance":
            sound = sound and len(shapes["prototypes"]) == 4 and shapes["prototypes"][0] == batch
            sound = sound and shapes["coefficients"] == (batch, anchors, shapes["prototypes"][1])
        elif self.task == "obb":
            sound = sound and shapes["oriented"] == (batch, anchors, 5)
        elif self.task == "pose":
            count = shapes["keypoints"][2] if len(shapes["keypoints"]) == 4 else -1
            sound = sound and shapes["keypoints"] == (batch, anchors, count, 3)
        if not sound:
            raise ModelError(
                f"outputs must be for {batch} images and {classes} classes, got {shapes}", where=self.where
            )


def is_binary(metadata: ModelMetadata) -> bool:
    """Whether a model gives label maps of two classes, which have a threshold."""
    return metadata.task == "semantic" and len(metadata.class_names) == 2


def _skeleton_of(metadata: ModelMetadata, where: str) -> tuple[tuple[int, int], ...]:
    """Which keypoints are joined; ModelError for a model that does not say which it gives."""
    given = metadata.arguments.get("keypoints")
    if not isinstance(given, (Mapping, Keypoints)):
        raise ModelError("a model of the task pose must say its keypoints (arguments.keypoints), got none", where=where)
    return Keypoints.load(dict(given), where).skeleton


def masks_of(kept: KeptDetections, outputs: Outputs, geometry: Geometry) -> Iterator[MaskCrop]:
    """The masks of the detections of one image, in order; `outputs` are the network's for it."""
    forms = {name: array for name, array in outputs.items() if name not in ("boxes_xyxy", "scores")}
    of_masks = [array if name == "prototypes" else array[kept.anchors] for name, array in forms.items()]
    return object_masks(of_masks, outputs["boxes_xyxy"][kept.anchors], kept.boxes_xyxy, geometry)


def to_detections(kept: KeptDetections, class_names: Sequence[str]) -> sv.Detections:
    """Detections of one image with their class names."""
    names = (
        np.array(class_names, dtype=object)[kept.class_ids].astype(str) if len(kept.class_ids) else np.empty(0, "<U1")
    )
    data: dict[str, Any] = {"class_name": names}
    if kept.oriented is not None:
        data |= {"oriented": kept.oriented, ORIENTED_BOX_COORDINATES: box_corners(kept.oriented)}
    return sv.Detections(
        xyxy=kept.boxes_xyxy.reshape(-1, 4),
        confidence=kept.scores,
        class_id=kept.class_ids,
        data=data,
        metadata={LEFT_OUT: kept.left_out} if kept.left_out else {},
    )


def least_score(metadata: ModelMetadata) -> float:
    """Below which a graph that suppresses by itself gives nothing; 0 of all others."""
    within = metadata.training.get(NMS_IN_GRAPH)
    conf = within.get("conf") if isinstance(within, dict) else None
    return float(conf) if isinstance(conf, (int, float)) else 0.0


def choose_thresholds(metadata: ModelMetadata, given: Mapping[str, Any], where: str) -> OperatingPoint:
    """What the caller gave and is not None, else the artefact's operating point, else the defaults of its type.

    ConfigError for a least score below that of a graph which suppresses by itself.
    """
    given = {name: value for name, value in given.items() if value is not None}
    own = metadata.operating_point.model_dump() if metadata.operating_point is not None else {}
    point = OperatingPoint.load({**own, **given}, where=where)
    least = least_score(metadata)
    if "conf" in given and point.conf < least:
        message = f"conf must be at least {least:g}, at which the graph itself suppresses, got {point.conf:g}"
        raise ConfigError(message, where=where, do="run the weights, or a file exported without --nms")
    return point.model_copy(update={"conf": max(point.conf, least)})
