"""Export: the written file is the model, and a file that is not is never kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from tests.infer.artefacts import metadata
from torch import nn

from sightline.core.errors import ConfigError, DataError, ModelError, ParityError
from sightline.core.metadata import METADATA_KEY, OperatingPoint
from sightline.core.seal import SEAL_KEY, UNSEALED, seal_file
from sightline.deploy import ExportResult, ParityTolerance, check_parity, export_onnx
from sightline.infer import NetworkPredictor, open_predictor
from sightline.infer.torch_predictor import predictor_from_model
from sightline.models import Model, create, save_weights
from sightline.testing import check_predictor

IMGSZ = 64


def pictures(count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (count, 6, 8, 3), np.uint8)
    return [np.asarray(Image.fromarray(c).resize((100, 75), Image.Resampling.BICUBIC)) for c in coarse]


def lively(name: str, class_names: Sequence[str]) -> Model:
    """An untrained network whose last layers are drawn anew, so that its scores differ and detections exist."""
    torch.manual_seed(0)
    model = create(name, class_names=class_names, imgsz=IMGSZ)
    assert isinstance(model, nn.Module)
    for module in model.modules():  # statistics of real pictures in place of 0 and 1, which let the signal fade
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    model(torch.stack([torch.from_numpy(model.preprocess.apply(p)[0]) for p in pictures(4)]))
    model.eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if tensor.shape[0] == len(class_names):
                spread = tensor[0].numel() ** -0.5 if key.endswith("weight") else 0.2
                tensor.copy_(torch.randn_like(tensor) * spread)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for name, classes in (("yolo11n", ("car", "bus", "van")), ("unet-small", ("background", "crack"))):
        point = OperatingPoint(conf=0.45, iou=0.6, max_det=50)
        paths[name] = folder / f"{name}.safetensors"
        save_weights(paths[name], lively(name, classes), {"operating_point": point, "licence": "Apache-2.0"})
    return paths


@pytest.fixture(scope="module")
def in_torch(weights: dict[str, Path]) -> dict[str, NetworkPredictor]:
    return {name: open_predictor(path, device="cpu") for name, path in weights.items()}


@pytest.fixture(scope="module")
def exported(weights: dict[str, Path]) -> dict[str, ExportResult]:
    return {name: export_onnx(path, path.with_suffix(".onnx"), images=pictures()) for name, path in weights.items()}


def test_the_detector_agrees_with_its_model(
    exported: dict[str, ExportResult], in_torch: dict[str, NetworkPredictor]
) -> None:
    result = exported["yolo11n"]
    parity = result.parity
    assert parity.images == 3
    assert parity.detections > 5
    # Without training the network amplifies rounding; far below any visible difference all the same.
    assert parity.max_abs_error["boxes_xyxy"] < 0.03
    assert parity.max_abs_error["scores"] < 3e-4
    assert parity.max_box_px < 0.03
    torch_found = in_torch["yolo11n"](pictures())
    onnx_found = open_predictor(result.path)(pictures())
    assert sum(map(len, torch_found)) == parity.detections
    for expected, found in zip(torch_found, onnx_found, strict=True):
        assert np.array_equal(expected.class_id, found.class_id)
        np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=0.03)
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=3e-4)


def test_the_segmenter_agrees_with_its_model(
    exported: dict[str, ExportResult], in_torch: dict[str, NetworkPredictor]
) -> None:
    parity = exported["unet-small"].parity
    assert parity.max_abs_error["probabilities"] < 1e-5
    assert parity.label_agreement is not None
    assert parity.label_agreement >= 0.9999
    expected = in_torch["unet-small"](pictures())
    assert {int(v) for m in expected for v in np.unique(m.class_ids)} == {0, 1}


@pytest.mark.parametrize("name", ["yolo11n", "unet-small"])
def test_both_forms_conform_and_say_the_same_about_themselves(
    name: str, exported: dict[str, ExportResult], in_torch: dict[str, NetworkPredictor]
) -> None:
    ours, theirs = in_torch[name], open_predictor(exported[name].path)
    check_predictor(ours, pictures())
    check_predictor(theirs, pictures())
    assert theirs.metadata == ours.metadata
    assert theirs.thresholds == OperatingPoint(conf=0.45, iou=0.6, max_det=50)
    assert theirs.meta["backend"].startswith("onnxruntime")
    assert ours.meta["backend"].startswith("torch")


def test_the_result_states_what_was_measured(exported: dict[str, ExportResult]) -> None:
    result = exported["yolo11n"]
    stated = result.to_dict()
    assert stated["parity"]["max_abs_error"].keys() == {"boxes_xyxy", "scores"}
    assert stated["conventions"]["tolerance"] == ParityTolerance().model_dump()
    assert stated["file_bytes"] == Path(result.path).stat().st_size
    model = onnx.load(result.path)
    assert [o.version for o in model.opset_import if o.domain == ""] == [result.opset]
    assert METADATA_KEY in {p.key for p in model.metadata_props}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param  # the batch is free


def with_changed_weights(path: Path, target: Path, factor: float, seal: str = UNSEALED) -> Path:
    """A copy whose convolution weights are scaled, sealed anew."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    onnx.helper.set_model_props(model, {p.key: seal if p.key == SEAL_KEY else p.value for p in model.metadata_props})
    onnx.save_model(model, str(target))
    if seal == UNSEALED:
        seal_file(target)
    return target


@pytest.mark.parametrize("seal", ["sightline-file-sha256:" + "1" * 64, "none"])
def test_a_file_that_was_altered_since_it_was_written_is_refused(
    exported: dict[str, ExportResult], tmp_path: Path, seal: str
) -> None:
    path = with_changed_weights(Path(exported["unet-small"].path), tmp_path / "other.onnx", 1.02, seal)
    with pytest.raises(ModelError, match=r"other\.onnx: must .* Export it again"):
        open_predictor(path)


@pytest.mark.parametrize("name", ["yolo11n", "unet-small"])
def test_the_gate_refuses_a_tampered_file(
    name: str, exported: dict[str, ExportResult], in_torch: dict[str, NetworkPredictor], tmp_path: Path
) -> None:
    reference = in_torch[name]
    same = open_predictor(with_changed_weights(Path(exported[name].path), tmp_path / "same.onnx", 1.0))
    assert check_parity(reference, same, pictures(), batch=2).images == 3
    other = open_predictor(with_changed_weights(Path(exported[name].path), tmp_path / "other.onnx", 1.02))
    with pytest.raises(ParityError, match=r"parity image \d: .* must (be within|agree on)"):
        check_parity(reference, other, pictures(), batch=2)


def test_no_file_is_left_when_parity_fails(weights: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.onnx"
    out.parent.mkdir()
    out.write_bytes(b"earlier")
    impossible = ParityTolerance(score=0.0)
    with pytest.raises(ParityError, match="The exported file was not kept") as caught:
        export_onnx(weights["unet-small"], out, images=pictures(1), tolerance=impossible)
    assert caught.value.exit_code == 2
    assert [p.name for p in out.parent.iterdir()] == ["m.onnx"]
    assert out.read_bytes() == b"earlier"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tv:fasterrcnn-resnet18", "tv:maskrcnn-resnet18", "hf:rfdetr-nano"])
def test_networks_that_choose_their_candidates_agree_in_any_order(name: str, tmp_path: Path) -> None:
    if name.startswith("hf:"):
        pytest.importorskip("transformers")
    parity = export_onnx(lively(name, ("car", "bus", "van")), tmp_path / "m.onnx", images=pictures()).parity
    assert parity.detections > 5
    assert parity.borderline <= 2
    assert parity.max_abs_error["boxes_xyxy"] < 0.03
    if name.startswith("tv:mask"):
        assert parity.max_abs_error["box_masks"] < 1e-3
        assert parity.least_mask_iou is not None
        assert parity.least_mask_iou > 0.99


@pytest.mark.slow
def test_a_live_model_with_a_fixed_batch_can_be_exported(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    Image.fromarray(pictures(1)[0]).save(picture)
    model = lively("unet-small", ("background", "crack"))
    result = export_onnx(model, tmp_path / "m.onnx", images=[picture], dynamic_batch=False)
    assert open_predictor(result.path).max_batch == 1
    live = predictor_from_model(model, device="cpu")
    found, expected = open_predictor(result.path)(pictures(1))[0], live(pictures(1))[0]
    assert (found.class_ids == expected.class_ids).mean() >= 0.9999


def test_what_cannot_be_exported_is_refused(
    weights: dict[str, Path], in_torch: dict[str, NetworkPredictor], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.onnx"):
        export_onnx(weights["yolo11n"], tmp_path / "m.pt", images=pictures(1))
    with pytest.raises(ModelError, match=r"absent\.safetensors: no such file"):
        export_onnx(tmp_path / "absent.safetensors", tmp_path / "m.onnx", images=pictures(1))
    with pytest.raises(DataError, match="must have at least one image"):
        check_parity(in_torch["yolo11n"], in_torch["yolo11n"], [])
    with pytest.raises(ConfigError, match="device must be one this torch can use"):
        open_predictor(weights["yolo11n"], device="abacus")


class Shifted:
    """A network that moves one box, or drops one score below every threshold."""

    backend = "test"

    def __init__(self, network: Any, box_px: float, drop: bool) -> None:
        self.network, self.box_px, self.drop = network, box_px, drop

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        boxes, scores = (array.copy() for array in self.network(pixels))
        best = int(scores[0].max(axis=1).argmax())
        boxes[0, best, 0] += self.box_px
        if self.drop:
            scores[0, best] = 0.0
        return boxes, scores


@pytest.mark.parametrize(("box_px", "drop", "message"), [(0.3, False, "boxes_xyxy"), (0.0, True, "scores")])
def test_one_moved_or_lost_detection_is_enough(
    in_torch: dict[str, NetworkPredictor], box_px: float, drop: bool, message: str
) -> None:
    reference = in_torch["yolo11n"]
    network = Shifted(reference.network, box_px, drop)
    candidate = NetworkPredictor(network, reference.metadata, reference.thresholds, where="shifted")
    with pytest.raises(ParityError, match=message):
        check_parity(reference, candidate, pictures())
    # Where raw outputs are let through, the final answers still decide.
    lenient = ParityTolerance(box_px=0.1, score=0.99) if box_px else None
    if lenient is not None:
        with pytest.raises(ParityError):
            check_parity(reference, candidate, pictures(), lenient)


def test_a_comparison_of_no_detections_is_no_proof(in_torch: dict[str, NetworkPredictor]) -> None:
    predictor = in_torch["yolo11n"]

    class Silent:
        backend = "test"

        def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
            boxes, scores = predictor.network(pixels)
            return boxes, scores * 0

    silent = NetworkPredictor(Silent(), predictor.metadata, predictor.thresholds, where="silent")
    with pytest.raises(ParityError, match="detections must be compared, got none from the model on 2 images"):
        check_parity(silent, silent, pictures(2))


class Tied:
    """Two boxes on one object with equal scores up to rounding and different masks: rounding says which stays."""

    backend = "test"

    def __init__(self, second_more: float) -> None:
        self.second_more = second_more

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        boxes = np.array([[[8, 8, 40, 40], [8, 8, 40, 40]]], np.float32)
        scores = np.array([[[0.8, 0.1], [0.8 + self.second_more, 0.1]]], np.float32)
        maps = np.full((1, 1, *pixels.shape[2:]), 20, np.float32)
        maps[..., 24:] = -20
        return boxes, scores, np.array([[[1.0], [-1.0]]], np.float32), maps


def test_the_mask_of_either_of_two_boxes_with_equal_scores_will_do() -> None:
    first, second = (
        NetworkPredictor(Tied(more), metadata("instance"), OperatingPoint(conf=0.5), where="tied")
        for more in (-1e-6, 1e-6)
    )
    report = check_parity(first, second, pictures(1))
    assert (report.detections, report.borderline, report.least_mask_iou) == (1, 1, None)
    unequal = NetworkPredictor(Tied(-0.01), metadata("instance"), OperatingPoint(conf=0.5), where="tied")
    with pytest.raises(ParityError, match="output 'scores' must be within"):
        check_parity(unequal, second, pictures(1))
