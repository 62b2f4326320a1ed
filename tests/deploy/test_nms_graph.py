"""Suppression within the graph gives the detections of suppression behind it, in the form other tools know."""

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.infer.artefacts import metadata, numbered_image, write_onnx

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import ConfigError, ParityError
from sightline.core.metadata import OperatingPoint
from sightline.deploy import ParityTolerance
from sightline.deploy.export import add_nms
from sightline.deploy.nms_graph import check_nms
from sightline.deploy.parity import check_detections
from sightline.infer import AdoptHints, adopt_onnx, open_predictor, search_thresholds

PICTURES = [numbered_image(1), np.zeros((64, 96, 3), np.uint8), np.full((40, 90, 3), 200, np.uint8)]


@pytest.mark.parametrize("most", [1, 2, 10])
def test_the_graph_gives_what_suppression_behind_it_gives(tmp_path, most):
    meta = metadata(operating_point=OperatingPoint(conf=0.06, iou=0.6, max_det=most))
    plain = open_predictor(write_onnx(tmp_path / "plain.onnx", meta, batch=1))
    file = write_onnx(tmp_path / "nms.onnx", meta, batch=1)
    add_nms(meta, file, PICTURES, ParityTolerance())
    with_nms = open_predictor(file)
    assert with_nms.metadata.decoding.name == "one-to-one"
    assert with_nms.max_batch == 1
    counts = []
    for expected, found in zip(plain(PICTURES), with_nms(PICTURES), strict=True):
        np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-4)
        np.testing.assert_array_equal(found.confidence, expected.confidence)
        np.testing.assert_array_equal(found.class_id, expected.class_id)
        counts.append(len(found))
    assert with_nms.for_evaluation().meta["conf"] == 0.06, "what the graph leaves out is lost"
    with pytest.raises(ConfigError, match=r"conf must be at least 0\.06, at which the graph itself suppresses"):
        open_predictor(file, conf=0.01)
    with pytest.raises(ConfigError, match="Search with the weights, then export --nms again"):
        search_thresholds(
            with_nms, dataset_from_rows([], [], [], root=tmp_path, name="none", task="detect", format="x")
        )
    assert counts == [min(most, 4), 0, min(most, 3)], "of the first two boxes one is left"


def test_it_is_the_form_that_other_tools_write_and_is_adopted_as_such(tmp_path):
    meta = metadata()
    file = write_onnx(tmp_path / "nms.onnx", meta, batch=1)
    add_nms(meta, file, PICTURES[:1], ParityTolerance())
    proto = onnx.load(str(file))
    del proto.metadata_props[:]
    onnx.save_model(proto, str(tmp_path / "bare.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "bare.onnx", providers=["CPUExecutionProvider"])
    pixels = open_predictor(file).prepare(PICTURES[:1]).pixels
    (rows,) = session.run(None, {"images": pixels})
    assert rows.shape == (1, 10, 6)
    assert (rows[0, :2, 4] > 0.5).all()
    assert not rows[0, 2:].any()
    hints = AdoptHints(channels="rgb", scale="0..1", fit="letterbox")
    adopted = adopt_onnx(tmp_path / "bare.onnx", tmp_path / "own.onnx", class_names=["car", "bus"], hints=hints)
    (found,), (expected,) = adopted.predictor(PICTURES[0]), open_predictor(file)(PICTURES[0])
    np.testing.assert_allclose(found.xyxy, expected.xyxy)


def test_what_the_operator_cannot_do_is_refused(tmp_path):
    for task, point, message in (
        ("semantic", OperatingPoint(), "must be of a model of boxes, got the task 'semantic'"),
        ("detect", OperatingPoint(suppression="diou"), "has the suppression 'diou'"),
        ("detect", OperatingPoint(conf=0.1, conf_by_size=(0.1, 0.2, 0.3)), "has least scores by size"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_nms(metadata(task), point)
    plain, moved = (open_predictor(write_onnx(tmp_path / f"{px}.onnx", metadata(), shift_px=px)) for px in (0, 30))
    with pytest.raises(ParityError, match="detections must be the same"):
        check_detections(plain, moved, PICTURES[:1], ParityTolerance())
