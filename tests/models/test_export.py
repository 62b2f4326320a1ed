"""The decoded network as ONNX with a free batch size gives torch's numbers in ONNX Runtime."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch

import sightline.models as models
from sightline.infer import OUTPUT_NAMES

from .families import smallest_of_each

_OF_TRANSFORMERS = (
    *("hf:dfine-n", "hf:rtdetrv2-r18", "hf:rfdetr-nano", "hf:mask2former-tiny", "hf:eomt-small", "hf:segformer-b0"),
    *("hf:mask2former-tiny-semantic", "hf:eomt-small-semantic"),
)


def pictures(count):
    """Patches of colour: of noise averaging layers leave nothing, and the norms behind them blow up what is left."""
    return torch.nn.functional.interpolate(torch.rand(count, 3, 8, 8), (64, 64), mode="bilinear")


@pytest.mark.parametrize(
    ("name", "class_names"),
    [
        ("yolo11n", ["a", "b", "c"]),
        *(
            pytest.param(name, ["a", "b", "c"], marks=pytest.mark.slow)
            for name in (*smallest_of_each(), *_OF_TRANSFORMERS)
            if name not in {"rcnn", "fast-rcnn"}  # selective search is no graph
        ),
        ("unet-small", ["background", "crack"]),
        ("unet-small", ["a", "b", "c"]),
    ],
)
@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
def test_onnx_runtime_equals_torch(tmp_path, name, class_names):
    if name.startswith("hf:"):
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = models.create(name, class_names=class_names, imgsz=64)
    torch.optim.swa_utils.update_bn([pictures(8)], model)  # keeps the signal in range through all layers
    decoded = models.Decoded(models.fuse(model))
    path, outputs = tmp_path / "model.onnx", list(OUTPUT_NAMES[model.task])
    torch.onnx.export(
        decoded,
        (pictures(2),),
        path,
        dynamo=True,
        input_names=["images"],
        output_names=outputs,
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = pictures(batch)
        with torch.no_grad():
            ours, exact = decoded(images), copy.deepcopy(decoded).double()(images.double())
        ours, exact = (value if isinstance(value, tuple) else (value,) for value in (ours, exact))
        for torch_s, exact_s, theirs in zip(ours, exact, session.run(outputs, {"images": images.numpy()}), strict=True):
            assert torch_s.shape == theirs.shape
            # An untrained network multiplies rounding: the runtime may be eight times as far from float64 as torch.
            rounding = float((torch_s.double() - exact_s).abs().max())
            error = np.abs(theirs - exact_s.numpy()).max()  # pixels for boxes, 0..1 for scores and probabilities
            assert error < max(1e-4, 8 * rounding)
            assert rounding < 1e-3 * max(100.0, float(exact_s.abs().max()))  # sizes by an exponential may be large
