"""From trained weights to an ONNX file that has proved to be the same model."""

import contextlib
import hashlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import polars as pl
import torch
from torch import nn

from sightline.core.errors import ConfigError, ModelError
from sightline.core.files import atomic_path
from sightline.core.metadata import METADATA_KEY, MODEL_SCHEMA_VERSION, ModelMetadata
from sightline.core.operating_point import OperatingPoint
from sightline.core.results import Result
from sightline.core.seal import SEAL_KEY, UNSEALED, seal_file
from sightline.deploy.nms_graph import DETECTIONS, check_nms, with_nms
from sightline.deploy.parity import ParityReport, ParityTolerance, check_detections, check_parity
from sightline.infer import Image, NetworkPredictor, output_names
from sightline.infer.onnx_predictor import INPUT_NAME, open_onnx
from sightline.infer.torch_predictor import predictor_from_model
from sightline.media import read_image
from sightline.models import (
    Decoded,
    Model,
    chooses_candidates,
    describe_weights,
    fuse,
    load_model,
    not_exportable,
    read_weights_meta,
)

__all__ = ["DEFAULT_OPSET", "LEAST_CONF", "ExportResult", "export_onnx"]

DEFAULT_OPSET = 18
LEAST_CONF = 0.05
"""Final detections are compared at the operating point but not below this score: among thousands of boxes scored near
0, as of a hardly trained model, rank and suppression hang on the last bit. Raw outputs are compared at any score."""
LOWER_CONFS = (0.01, 0.001, 1e-4, 1e-6)
"""Where nothing is found at that score, the next ones tried: a gate that compared no detection would prove nothing."""
_PARITY_BATCH = 2
_RUN_AS_IT_IS = "run its .safetensors file, or train a network that has no such part"


@dataclass(frozen=True)
class ExportResult(Result):
    """The exported file and the proof that it is the model: `parity` holds the greatest differences found."""

    path: str
    sha256: str
    file_bytes: int
    architecture: str
    task: str
    opset: int
    dynamic_batch: bool
    parity: ParityReport
    conventions: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """What was compared and the greatest differences found, as `metric`, `value`."""
        parity = self.parity
        values: dict[str, float] = {"images compared": parity.images}
        values |= {f"{name}: greatest difference": error for name, error in parity.max_abs_error.items()}
        if parity.label_agreement is None:
            values |= {
                "detections compared": parity.detections,
                "on one side by rounding": parity.borderline,
                "box difference, pixels": parity.max_box_px,
                "score difference": parity.max_score_difference,
            }
            if parity.least_mask_iou is not None:
                values["least IoU of two masks"] = parity.least_mask_iou
            if parity.max_keypoint_px is not None:
                values["keypoint difference, pixels"] = parity.max_keypoint_px
        else:
            values["share of equal pixels"] = parity.label_agreement
        values["megabytes"] = self.file_bytes / 1e6
        return pl.DataFrame({"metric": list(values), "value": list(map(float, values.values()))})


def export_onnx(
    model: Model | str | Path,
    out: str | Path,
    *,
    images: Sequence[Image | str | Path],
    metadata: ModelMetadata | None = None,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = True,
    nms: bool = False,
    tolerance: ParityTolerance | None = None,
) -> ExportResult:
    """Write `out` (.onnx) from a weights file or a live model, if and only if it agrees with the model on `images`.

    The file takes `images` (B, C, H, W) float32, preprocessed, and returns what `output_names` lists for the task; its
    metadata is that of the weights (`metadata` describes a live model, default: what the model says about itself). It
    is checked by the ONNX checker, then run beside the torch model. With `nms` a detector's graph, for one image at a
    time, goes on to suppression at its operating point and returns `DETECTIONS` alone; it must then give the detections
    of the graph without. Raises ParityError, and leaves an earlier file as it was, when raw outputs or final answers
    differ by more than `tolerance`; ModelError for a model that states that it cannot be exported.
    """
    target = Path(out)
    if target.suffix != ".onnx":
        raise ConfigError(f"an exported file must end in .onnx, got '{target.name}'", where=str(out))
    live, described = _model_and_metadata(model, metadata)
    if (reason := not_exportable(live)) is not None:
        raise ModelError(f"'{described.architecture}' cannot be exported: {reason}", where=str(out), do=_RUN_AS_IT_IS)
    if nms:
        check_nms(described, described.operating_point or OperatingPoint())
    dynamic_batch = dynamic_batch and not nms
    limits = tolerance if tolerance is not None else ParityTolerance()
    pictures = [read_image(i) if isinstance(i, (str, Path)) else i for i in images]
    reference = _comparable(predictor_from_model(live, metadata=described, device="cpu"), pictures)
    if reference.thresholds.conf < LEAST_CONF:  # there most detections hang on rounding: each must still prove it
        limits = limits.model_copy(update={"borderline_share": 1.0})
    with atomic_path(target) as temporary:
        _write(live, described, temporary, opset, dynamic_batch)
        candidate = open_onnx(temporary).at(reference.thresholds)
        batch = _PARITY_BATCH if dynamic_batch else 1
        report = check_parity(reference, candidate, pictures, limits, batch=batch, chosen=chooses_candidates(live))
        if nms:
            add_nms(described, temporary, pictures, limits)
        data = temporary.read_bytes()
    return ExportResult(
        path=str(target),
        sha256=hashlib.sha256(data).hexdigest(),
        file_bytes=len(data),
        architecture=described.architecture,
        task=described.task,
        opset=opset,
        dynamic_batch=dynamic_batch,
        parity=report,
        conventions={
            "tolerance": limits.model_dump(),
            "reference": reference.meta["backend"],
            "candidate": candidate.meta["backend"],
            "conf": reference.thresholds.conf,
            "iou": reference.thresholds.iou,
            "model_digest": described.model_digest,
            **({"nms": f"in the graph: {DETECTIONS} (1, max_det, 6)"} if nms else {}),
        },
    )


def add_nms(metadata: ModelMetadata, path: Path, pictures: Sequence[Image], limits: ParityTolerance) -> None:
    """Suppression behind a written graph; ParityError unless both give the same detections."""
    plain = open_onnx(path)
    proto = onnx.load(str(path))
    del proto.metadata_props[:]
    described = with_nms(proto, metadata, plain.thresholds)
    onnx.checker.check_model(proto, full_check=True)
    _save(proto, described, path)
    check_detections(plain, open_onnx(path), pictures, limits)


def _comparable(predictor: NetworkPredictor, pictures: Sequence[Image]) -> NetworkPredictor:
    """The predictor at its operating point, or at the highest of `LOWER_CONFS` at which it finds anything."""
    point = predictor.thresholds
    for conf in (max(point.conf, LEAST_CONF), *LOWER_CONFS):
        lowered = predictor.at(point.model_copy(update={"conf": conf}))
        if predictor.task == "semantic" or any(len(found) for found in lowered(pictures)):
            break
    return lowered


def _model_and_metadata(model: Model | str | Path, metadata: ModelMetadata | None) -> tuple[Model, ModelMetadata]:
    if isinstance(model, (str, Path)):
        if metadata is not None:
            raise ConfigError("metadata must be left out for a weights file, which carries its own", where=str(model))
        if not Path(model).is_file():
            raise ModelError("no such file", where=str(model))
        return load_model(model), read_weights_meta(model)
    return model, metadata if metadata is not None else describe_weights(model)


def _write(model: Model, metadata: ModelMetadata, path: Path, opset: int, dynamic_batch: bool) -> None:
    """The checked ONNX file with our metadata, in one piece."""
    assert isinstance(model, nn.Module)
    module = Decoded(fuse(model)).eval().cpu()
    preprocess = metadata.preprocess
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2 if dynamic_batch else 1, preprocess.channel_count, *preprocess.size_hw)
    with torch.no_grad():
        outputs = module(example)
    names = output_names(metadata.task, len(outputs) if isinstance(outputs, tuple) else 1)
    shapes = {INPUT_NAME: {0: torch.export.Dim("batch")}} if dynamic_batch else None
    # The exporter prints its progress and warns about its own internals; standard output is for results.
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT_NAME],
            output_names=list(names),
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise ModelError(f"the exporter made no program of '{metadata.architecture}'")
    proto = program.model_proto
    onnx.checker.check_model(proto, full_check=True)
    _save(proto, metadata, path)


def restate_onnx(path: str | Path, metadata: ModelMetadata) -> None:
    """Write another description of the same network into a file that `export_onnx` wrote, in one step.

    ModelError for a file that is not ours, and where the description is of another network.
    """
    own = open_onnx(path).metadata
    if metadata.model_digest != own.model_digest:
        raise ModelError("the description must be of this network, got one of another", where=str(path))
    proto = onnx.load(str(path))
    kept = [(e.key, e.value) for e in proto.metadata_props if e.key not in (METADATA_KEY, SEAL_KEY)]
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(kept))
    with atomic_path(Path(path)) as temporary:
        _save(proto, metadata.model_copy(update={"schema_version": MODEL_SCHEMA_VERSION}), temporary)


def _save(proto: onnx.ModelProto, metadata: ModelMetadata, path: Path) -> None:
    for key, text in ((METADATA_KEY, metadata.to_json()), (SEAL_KEY, UNSEALED)):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.save_model(proto, str(path))
    seal_file(path)
