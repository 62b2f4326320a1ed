"""Small artefacts made without torch: an ONNX detector and an ONNX segmenter, and pictures that know their number."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sightline.core.metadata import METADATA_KEY, ModelMetadata, OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.core.seal import SEAL_KEY, UNSEALED, seal_file

SIZE_HW = (64, 96)
BOXES = np.array([[8, 8, 40, 40], [9, 9, 41, 41], [50, 10, 90, 60], [60, 20, 62, 22]], np.float32)
COEFFICIENTS = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
"""Of models with masks: the first prototype fills the box, of the second a stripe between columns 60 and 68 is missing
(both in network pixels)."""
PROTOTYPES = np.full((2, SIZE_HW[0] // 4, SIZE_HW[1] // 4), 40, np.float32)
PROTOTYPES[1, :, 15:17] = -40
SCORES = np.array([[0.9, 0.1], [0.8, 0.1], [0.2, 0.7], [0.05, 0.02]], np.float32)


def metadata(task: str = "detect", **changes: Any) -> ModelMetadata:
    names = ("car", "bus") if task != "semantic" else ("background", "bright")
    values = {
        "sightline_version": "0",
        "architecture": "constant",
        "arguments": {},
        "task": task,
        "class_names": names,
        "preprocess": Preprocess(size_hw=SIZE_HW),
        "operating_point": OperatingPoint(conf=0.5, iou=0.6, max_det=10),
        "model_digest": "sha256:0",
    }
    return ModelMetadata.load({**values, **changes})


def write_onnx(
    path: Path,
    meta: ModelMetadata | None,
    *,
    batch: int | str = "batch",
    shift_px: float = 0.0,
    task: str | None = None,
) -> Path:
    """A detector whose boxes (and masks) are constant and whose scores scale with the brightness of the image's first
    pixel, or a segmenter that calls bright pixels bright; of the task of `meta` where `task` is none."""
    task = task or ("detect" if meta is None else meta.task)
    height, width = SIZE_HW
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, height, width])
    if task == "semantic":
        nodes = [
            helper.make_node("ReduceMean", ["images", "channel_axis"], ["bright"], keepdims=1),
            helper.make_node("Sub", ["one", "bright"], ["dark"]),
            helper.make_node("Concat", ["dark", "bright"], ["probabilities"], axis=1),
        ]
        constants = {"channel_axis": np.array([1], np.int64), "one": np.array(1, np.float32)}
        outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 2, height, width])]
    else:
        nodes = [
            helper.make_node("Slice", ["images", "starts", "ends", "axes"], ["corner"]),
            helper.make_node("Reshape", ["corner", "column"], ["brightness"]),
            helper.make_node("Mul", ["brightness", "base_scores"], ["scores"]),
            helper.make_node("Mul", ["brightness", "nothing"], ["zero"]),
            helper.make_node("Add", ["zero", "base_boxes"], ["boxes_xyxy"]),
        ]
        constants = {
            "starts": np.array([0, 0, 0], np.int64),
            "ends": np.array([1, 1, 1], np.int64),
            "axes": np.array([1, 2, 3], np.int64),
            "column": np.array([-1, 1, 1], np.int64),
            "nothing": np.array(0, np.float32),
            "base_scores": SCORES[None],
            "base_boxes": BOXES[None] + np.float32(shift_px),
        }
        outputs = [
            helper.make_tensor_value_info("boxes_xyxy", TensorProto.FLOAT, [batch, 4, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 4, 2]),
        ]
        if task == "instance":
            for name, value in (("coefficients", COEFFICIENTS), ("prototypes", PROTOTYPES)):
                constants[f"base_{name}"] = value[None]
                zero = "zero" if value.ndim == 2 else "zero_map"
                nodes.append(helper.make_node("Add", [zero, f"base_{name}"], [name]))
                outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *value.shape]))
            constants["cells"] = np.array([-1, 1, 1, 1], np.int64)
            nodes.insert(4, helper.make_node("Reshape", ["zero", "cells"], ["zero_map"]))
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], outputs, tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    if meta is not None:
        helper.set_model_props(model, {METADATA_KEY: meta.to_json(), SEAL_KEY: UNSEALED})
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
    if meta is not None:
        seal_file(path)
    return path


def numbered_image(index: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """Bright, with the frame's index as six black or white blocks (binary) and a red top-left corner."""
    height, width = size_hw
    image = np.full((height, width, 3), 255, np.uint8)
    for bit in range(6):
        if index >> bit & 1:
            image[height // 2 : height // 2 + 16, 16 * bit : 16 * bit + 16] = 0
    image[: height // 4, : width // 4] = (220, 30, 30)
    return image


def read_number(image: np.ndarray) -> int:
    height = image.shape[0]
    return sum(int(image[height // 2 + 8, 16 * bit + 8].mean() < 128) << bit for bit in range(6))
