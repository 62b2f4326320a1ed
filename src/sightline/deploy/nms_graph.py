"""Suppression as part of a graph: what runs elsewhere then needs no code of ours behind the network."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sightline.core.decoding import Decoding
from sightline.core.errors import ConfigError
from sightline.core.metadata import NMS_IN_GRAPH, ModelMetadata
from sightline.core.operating_point import OperatingPoint
from sightline.infer import OUTPUT_NAMES
from sightline.infer.onnx_predictor import INPUT_NAME

__all__ = ["DETECTIONS", "check_nms", "with_nms"]

DETECTIONS = "detections"
"""The one output: (1, max_det, 6) of x1, y1, x2, y2 in network pixels, score and class id, by descending score; rows
behind the last detection are zeros."""


def check_nms(metadata: ModelMetadata, point: OperatingPoint) -> None:
    """ConfigError for what the operator NonMaxSuppression cannot do: it keeps boxes, class by class."""
    if metadata.task != "detect":
        raise ConfigError(f"a graph with suppression must be of a model of boxes, got the task '{metadata.task}'")
    if point.suppression != "nms" or point.conf_by_size is not None:
        got = "least scores by size" if point.suppression == "nms" else f"the suppression '{point.suppression}'"
        raise ConfigError(f"a graph can suppress by class alone (nms), got a model whose operating point has {got}")


def with_nms(proto: onnx.ModelProto, metadata: ModelMetadata, point: OperatingPoint) -> ModelMetadata:
    """Add suppression at `point` behind the outputs of a graph for one image, in place; what the file then is.

    As `select_detections`, with two differences of the operator: a score must be above `conf`, not equal to it, and
    each class alone may have `max_det` boxes before the best `max_det` of all are taken.
    """
    boxes, scores = OUTPUT_NAMES["detect"]
    graph = proto.graph
    constants: dict[str, np.ndarray[Any, Any]] = {
        "nms_most": np.array([point.max_det], np.int64),
        "nms_iou": np.array([point.iou], np.float32),
        "nms_conf": np.array([point.conf], np.float32),
        "nms_image_and_box": np.array([0, 2], np.int64),
        "nms_class": np.array([1], np.int64),
        "nms_last": np.array([1], np.int64),
        "nms_first": np.array([0], np.int64),
        "nms_nothing": np.array([0, 0], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Transpose", [scores], "nms_by_class", {"perm": [0, 2, 1]}),
        ("NonMaxSuppression", [boxes, "nms_by_class", "nms_most", "nms_iou", "nms_conf"], "nms_chosen", {}),
        ("Gather", ["nms_chosen", "nms_image_and_box"], "nms_places", {"axis": 1}),
        ("GatherND", [boxes, "nms_places"], "nms_boxes", {}),
        ("GatherND", ["nms_by_class", "nms_chosen"], "nms_scores", {}),
        ("Gather", ["nms_chosen", "nms_class"], "nms_ids", {"axis": 1}),
        ("Cast", ["nms_ids"], "nms_classes", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["nms_scores", "nms_last"], "nms_score_column", {}),
        ("Concat", ["nms_boxes", "nms_score_column", "nms_classes"], "nms_rows", {"axis": 1}),
        ("Shape", ["nms_scores"], "nms_count", {}),
        ("Min", ["nms_count", "nms_most"], "nms_kept", {}),
        ("TopK", ["nms_scores", "nms_kept"], "nms_best_scores nms_best", {"axis": 0}),
        ("Gather", ["nms_rows", "nms_best"], "nms_sorted", {"axis": 0}),
        ("Sub", ["nms_most", "nms_kept"], "nms_left", {}),
        ("Concat", ["nms_nothing", "nms_left", "nms_first"], "nms_around", {"axis": 0}),
        ("Pad", ["nms_sorted", "nms_around"], "nms_padded", {}),
        ("Unsqueeze", ["nms_padded", "nms_first"], DETECTIONS, {}),
    ]
    graph.node.extend(helper.make_node(kind, taken, made.split(), **more) for kind, taken, made, more in steps)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(DETECTIONS, TensorProto.FLOAT, [1, point.max_det, 6]))
    decoding = Decoding(reading="one-to-one", input=INPUT_NAME, outputs=(DETECTIONS,), suppressed=True)
    own = point.model_copy(update={"suppression": "none"})
    training = metadata.training | {NMS_IN_GRAPH: point.model_dump(mode="json")}
    return metadata.model_copy(update={"decoding": decoding, "operating_point": own, "training": training})
