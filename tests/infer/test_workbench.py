"""One `Model`, what it saw as tables and pictures, and numbers of boxes in memory."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import supervision as sv
from PIL import Image

from sightline import Model, evaluate_boxes, read_dataset, show
from sightline.audit.splits import hold_out
from sightline.cli.main import main
from sightline.core.errors import ConfigError, DataError, ModelError, SourceError
from sightline.core.frames import Frame, SemanticMap
from sightline.core.predictions import Predictions
from sightline.synth import generate
from sightline.workbench import Seen

from .artefacts import BOXES, SIZE_HW, metadata, write_onnx

WHITE = np.full((*SIZE_HW, 3), 255, np.uint8)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "m.onnx", metadata())


def test_a_model_of_a_file_predicts_whatever_a_picture_is(detector, tmp_path):
    model = Model(detector)
    assert model.class_names == ("car", "bus")
    for i in range(3):
        Image.fromarray(WHITE).save(tmp_path / f"{i}.png")
    for source, count in ((WHITE, 1), ([WHITE, WHITE], 2), (tmp_path, 3), (str(tmp_path / "[01].png"), 2),
                          ([tmp_path / "0.png", WHITE], 2), (Image.fromarray(WHITE), 1)):  # fmt: skip
        seen = model.predict(source)
        assert len(seen) == count
        assert seen[0].boxes.tolist() == [BOXES[0].tolist(), BOXES[2].tolist()]
        assert seen[0].names == ["car", "bus"]
    table = model.predict(tmp_path / "1.png")[0].to_df()
    assert table.columns == [
        "name", "frame", "time_s", "class_id", "class", "score", "x1", "y1", "x2", "y2", "track_id",
    ]  # fmt: skip
    assert table["name"].to_list() == ["1.png", "1.png"]
    assert model.predict(np.zeros((*SIZE_HW, 3), np.uint8))[0].to_df().columns == table.columns


def test_what_cannot_be_done_is_one_sentence(detector, tmp_path):
    with pytest.raises(ModelError, match="nearest: yolo11m"):
        Model("yolo11m1")
    untrained = Model("yolo11n")
    assert "untrained" in repr(untrained)
    with pytest.raises(ModelError, match="must be trained before it is used"):
        untrained.predict(WHITE)
    with pytest.raises(ModelError, match=r"only weights \(\.safetensors\) can be exported"):
        Model(detector).export(data=tmp_path)
    with pytest.raises(SourceError, match="a pattern must fit files"):
        Model(detector).predict(str(tmp_path / "*.bmp"))
    with pytest.raises(ConfigError, match="a source must be a picture, a path or a list"):
        Model(detector).predict(7)


def test_seen_pictures_are_drawn_saved_and_shown(detector, tmp_path):
    seen = Model(detector).predict(WHITE)[0]
    assert seen.plot().pixels.shape == WHITE.shape
    assert not np.array_equal(seen.plot().pixels, WHITE)
    with Image.open(seen.save(tmp_path / "s.png")) as saved:
        assert saved.size == SIZE_HW[::-1]
    assert Image.open(io.BytesIO(seen._repr_png_())).size == SIZE_HW[::-1]
    with pytest.raises(ConfigError, match=r"must end in \.png"):
        seen.save(tmp_path / "s.txt")


def test_a_label_map_has_masks_and_shares():
    ids = np.zeros((4, 6), np.uint8)
    ids[1:3] = 2
    names = ("bg", "x", "road")
    seen = Seen(Frame(np.zeros((4, 6, 3), np.uint8), 0, None, "a.png"), SemanticMap(ids, names), names)
    assert seen.names == ["bg", "road"]
    assert seen.masks.sum(axis=(1, 2)).tolist() == [12, 12]
    assert seen.to_df()["share"].to_list() == [0.5, 0.5]
    assert seen.boxes.shape == (0, 4)
    assert seen.plot().pixels.shape == (4, 6, 3)


def test_a_data_set_is_a_list_of_images(tmp_path):
    sizes = {"size_hw": (96, 96), "video_frames": 2, "video_size_hw": (96, 128)}
    generate("traffic", tmp_path / "t", images=4, val_fraction=0.25, seed=1, **sizes)
    data = read_dataset(tmp_path / "t")
    assert [image.image_id for image in data] == data.images["image_id"].to_list()
    assert data[-1].file == data.image_path(data.images["path"][-1])
    assert data[-1].file.is_file()
    assert sum(len(image.boxes) for image in data) == data.objects.height
    assert len(data[1:3]) == 2
    with pytest.raises(IndexError):
        data[len(data)]
    assert show(data[:2]).pixels.ndim == 3
    with pytest.raises(DataError, match="must be an image to show"):
        show(data[:0])


@pytest.mark.parametrize("division", [{}, {"val_fraction": 0.4, "seed": 3}, {"seed": 5}])
def test_data_without_splits_is_divided_as_in_training(tmp_path, division):
    rng = np.random.default_rng(1)
    for i in range(20):
        image, label = tmp_path / f"d/images/{i:02d}.png", tmp_path / f"d/labels/{i:02d}.txt"
        for file in (image, label):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*SIZE_HW, 3), dtype=np.uint8)).save(image)
        label.write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "d/classes.txt").write_text("car\nbus\n")
    dataset = read_dataset(tmp_path / "d")
    assert not dataset.splits
    chosen = {"fraction": division.get("val_fraction", 0.2), "seed": division.get("seed", 0)}
    held_out = hold_out(dataset, train="train", val="val", **chosen)[0].split("val")
    model = write_onnx(tmp_path / "m.onnx", metadata(training=division))
    assert Model(model).val(tmp_path / "d").conventions["label_digest"] == held_out.label_digest()
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as done:
        main(["eval", "--data", str(tmp_path / "d"), "--model", str(model), "--out", str(out)])
    assert done.value.code == 0
    assert set(Predictions.load(out / "predictions.parquet").images["path"]) == set(held_out.images["path"])


def test_boxes_in_memory_have_coco_s_numbers():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 60, (20, 2))], axis=1)
    classes = rng.integers(0, 2, 20)
    truth = [np.column_stack([boxes, classes])[i::4] for i in range(4)]
    found = [np.column_stack([boxes + rng.normal(0, 2, (20, 4)), rng.random(20), classes])[i::4] for i in range(4)]
    of_arrays = evaluate_boxes(truth, found, class_names=["car", "bus"])
    of_detections = evaluate_boxes(
        [sv.Detections(xyxy=t[:, :4], class_id=t[:, 4].astype(int)) for t in truth],
        [sv.Detections(xyxy=f[:, :4], confidence=f[:, 4], class_id=f[:, 5].astype(int)) for f in found],
    )
    assert 0 < of_arrays["AP"] < 1
    assert of_arrays.metrics == pytest.approx(of_detections.metrics, nan_ok=True, abs=0)
    assert of_arrays.per_class["class"].to_list() == ["car", "bus"]
    assert isinstance(of_arrays.to_frame(), pl.DataFrame)


@pytest.mark.parametrize(
    ("truth", "found", "said"),
    [
        ([[]], [], "an entry for each image, got 1 of ground truth and 0"),
        ([[[0, 0, 1, 1]]], [[]], "ground truth 0: boxes must be rows of finite numbers x1, y1, x2, y2, class"),
        ([[]], [[[0, 0, 1, 1, 0]]], "prediction 0: boxes must be rows of finite numbers x1, y1, x2, y2, score"),
        ([[[0, 0, 1, float("nan"), 0]]], [[]], "finite numbers"),
        ([["a"]], [[]], "got something else"),
        ([[[0, 0, 9, 9, -1]]], [[]], r"class ids must be 0..0, got -1..0"),
    ],
)
def test_boxes_that_are_none_are_refused(truth, found, said):
    with pytest.raises(DataError, match=said):
        evaluate_boxes(truth, found)
