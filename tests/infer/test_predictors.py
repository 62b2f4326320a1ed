"""Predictors: thresholds, geometry, metadata, conformance, and life without torch."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import supervision as sv
from PIL import Image

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import ConfigError, DataError, InputError, ModelError, SightlineError
from sightline.core.frames import SemanticMap
from sightline.core.metadata import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.core.seal import SEAL_KEY, UNSEALED, seal_file
from sightline.infer import NetworkPredictor, open_predictor, predict_dataset, track_dataset
from sightline.ops import rle
from sightline.testing import check_predictor
from sightline.track import KalmanIouTracker, TrackerConfig

from .artefacts import BOXES, SIZE_HW, metadata, write_onnx

WHITE = np.full((*SIZE_HW, 3), 255, np.uint8)


def test_thresholds_come_from_the_artefact_unless_given(detector_path: Path) -> None:
    assert open_predictor(detector_path).thresholds == OperatingPoint(conf=0.5, iou=0.6, max_det=10)
    given = open_predictor(detector_path, conf=0.001, max_det=2)
    assert given.thresholds == OperatingPoint(conf=0.001, iou=0.6, max_det=2)
    assert len(given([WHITE])[0]) == 2
    with pytest.raises(ConfigError, match="'conf'"):
        open_predictor(detector_path, conf=1.5)


def test_one_image_is_one_image_however_it_is_given(detector_path: Path, tmp_path: Path) -> None:
    predictor = open_predictor(detector_path)
    wanted = predictor([WHITE])[0]
    Image.fromarray(WHITE).save(tmp_path / "white.png")
    opaque = np.concatenate([WHITE, WHITE[..., :1]], axis=2)
    gray = WHITE[..., 0]
    wide = WHITE.astype(np.uint16) * 257
    for given in (
        WHITE, [WHITE], (WHITE,), WHITE[None], opaque, gray, gray[..., None], wide, Image.fromarray(WHITE),
        Image.fromarray(gray), [Image.fromarray(opaque)], tmp_path / "white.png", str(tmp_path / "white.png"),
        [str(tmp_path / "white.png")], iter([WHITE]),
    ):  # fmt: skip
        found = predictor(given)
        assert len(found) == 1
        assert found[0].xyxy.tolist() == wanted.xyxy.tolist()
    assert len(predictor([WHITE, tmp_path / "white.png"])) == 2
    assert predictor([]) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (WHITE / 255, "pixels of type uint8 or uint16, got float64. Scale it to 0..255"),
        (WHITE > 3, "pixels of type uint8 or uint16, got bool"),
        (WHITE.transpose(2, 0, 1), r"must have pixels and the shape .*Move the channels last"),
        (np.zeros((0, 5, 3), np.uint8), "must have pixels and the shape"),
        (np.zeros((5,), np.uint8), "must have pixels and the shape"),
        ([WHITE, None], "image 1 must be an array, a Pillow picture or a path, got NoneType"),
        (7, "must be an array, a Pillow picture or a path, got int"),
        ("absent.png", "absent.png"),
    ],
)
def test_what_is_no_image_gets_one_clear_answer(detector_path: Path, given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_predictor(detector_path)(given)


@pytest.mark.parametrize("threads", [0, -1, 10_000_000])
def test_an_absurd_number_of_threads_is_refused(detector_path: Path, threads: int) -> None:
    with pytest.raises(ConfigError, match=f"threads must be in 1..[0-9]+ on this machine, got {threads}"):
        open_predictor(detector_path, threads=threads)


def test_an_artefact_without_operating_point_uses_the_defaults(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", metadata(operating_point=None))
    assert open_predictor(path).thresholds == OperatingPoint()


def test_detections_are_suppressed_named_and_sorted(detector_path: Path) -> None:
    found = open_predictor(detector_path)([WHITE])[0]
    assert found.xyxy.tolist() == [BOXES[0].tolist(), BOXES[2].tolist()]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.7])
    assert found.class_id.tolist() == [0, 1]
    assert found.data["class_name"].tolist() == ["car", "bus"]
    # Every box has a score for every class: at a low threshold both count, as average precision demands.
    assert len(open_predictor(detector_path, conf=0.01)([WHITE])[0]) == 6


def test_boxes_return_to_the_pixels_of_each_image(detector_path: Path) -> None:
    predictor = open_predictor(detector_path)
    double, tall = np.full((128, 192, 3), 255, np.uint8), np.full((640, 96, 3), 255, np.uint8)
    found = predictor([double, WHITE])
    assert found[0].xyxy == pytest.approx(BOXES[[0, 2]] * 2)
    assert found[1].xyxy == pytest.approx(BOXES[[0, 2]])
    # 640 x 96 is letterboxed to 64 rows of 10 columns in the middle of 96: what lies in the bars is cut off.
    clipped = predictor.at(OperatingPoint(conf=0.2))([tall])[0].xyxy
    assert (clipped >= 0).all()
    assert (clipped[:, 2] <= 96).all()


def test_images_that_keep_their_own_sizes_are_run_apart(tmp_path: Path) -> None:
    preprocess = Preprocess(size_hw=SIZE_HW, policy="none")
    path = write_onnx(tmp_path / "m.onnx", metadata("semantic", preprocess=preprocess))
    predictor = open_predictor(path)
    maps = predictor([WHITE, WHITE[::-1]])
    assert [m.class_ids.shape for m in maps] == [SIZE_HW, SIZE_HW]
    with pytest.raises(ModelError, match="cannot run on input"):
        predictor([WHITE, WHITE[:32, :32]])


def test_a_fixed_batch_is_respected(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", metadata(), batch=1)
    predictor = open_predictor(path)
    assert predictor.max_batch == 1
    assert [len(d) for d in predictor([WHITE] * 3)] == [2, 2, 2]


def test_label_maps_have_the_image_size(segmenter_path: Path) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 100:] = 255
    found = open_predictor(segmenter_path)([image])[0]
    assert isinstance(found, SemanticMap)
    assert found.class_ids.shape == (100, 200)
    assert (found.class_ids[:, :95] == 0).all()
    assert (found.class_ids[:, 105:] == 1).all()


@pytest.mark.parametrize("kind", ["detector_path", "segmenter_path"])
def test_ours_conform(kind: str, request: pytest.FixtureRequest) -> None:
    check_predictor(open_predictor(request.getfixturevalue(kind)))


class Own:
    """A user's own detector: one box in the middle of every image."""

    task = "detect"
    class_names: Any = ("car",)
    preprocess = None

    def __call__(self, images: Sequence[Any]) -> list[Any]:
        return [self.one(image) for image in images]

    def one(self, image: Any) -> Any:
        height, width = image.shape[:2]
        box = np.array([[width / 4, height / 4, width / 2, height / 2]])
        return sv.Detections(
            box, confidence=np.ones(1), class_id=np.zeros(1, int), data={"class_name": np.array(["car"])}
        )


class Unnamed(Own):
    def one(self, image: Any) -> Any:
        found = super().one(image)
        found.data = {}
        return found


class Outside(Own):
    def one(self, image: Any) -> Any:
        found = super().one(image)
        found.xyxy[:, 2] += image.shape[1]
        return found


class Neighbourly(Own):
    """Looks at the size of the batch, as an NMS with a time limit in effect does."""

    def __call__(self, images: Sequence[Any]) -> list[Any]:
        return [
            self.one(i)
            if len(images) == 1
            else sv.Detections(np.empty((0, 4)), confidence=np.empty(0), class_id=np.empty(0, int))
            for i in images
        ]


class Forgetful(Own):
    def __call__(self, images: Sequence[Any]) -> list[Any]:
        return super().__call__(images)[:1]


def test_a_users_own_predictor_conforms() -> None:
    check_predictor(Own())


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Unnamed(), 'name each class in data\\["class_name"\\]'),
        (Outside(), "boxes inside the image"),
        (Neighbourly(), "alike alone and in a batch"),
        (Forgetful(), "one prediction for each image"),
        (object(), "have task, class_names"),
    ],
)
def test_the_suite_refuses_broken_predictors(broken: Any, rule: str) -> None:
    with pytest.raises(SightlineError, match=rule):
        check_predictor(broken)


def tampered(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    data[:64] = bytes(64)
    path.write_bytes(data)
    return path


def test_files_that_are_not_ours_are_refused_in_one_sentence(tmp_path: Path, detector_path: Path) -> None:
    cases = {
        write_onnx(tmp_path / "bare.onnx", None): "must carry Sightline's metadata",
        write_onnx(tmp_path / "size.onnx", metadata(preprocess=Preprocess(size_hw=(32, 32)))): r"input must be float32",
        write_onnx(tmp_path / "task.onnx", metadata("instance"), task="detect"): "input and outputs must be",
        write_onnx(tmp_path / "classes.onnx", metadata(class_names=("a", "b", "c"))): "for 1 images and 3 classes",
        tampered(detector_path): "a file that was damaged or edited",
        tmp_path / "absent.onnx": "no such file",
        tmp_path / "model.pt": r"must end in \.onnx, \.safetensors",
    }
    for path, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            open_predictor(path)([WHITE])
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import numpy as np
import polars as pl
from sightline.core.errors import MissingExtraError
from sightline.infer import open_predictor
image = np.full((64, 96, 3), 255, np.uint8)
print(len(open_predictor(sys.argv[1])([image])[0]))
try:
    open_predictor("model.safetensors")
except MissingExtraError as error:
    print(error)
"""


def test_onnx_runs_without_torch(detector_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(detector_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, sentence = done.stdout.splitlines()
    assert count == "2"
    assert "needs the package 'torch'" in sentence
    assert "pip install 'sightline[train]'" in sentence.replace("Pip", "pip")


@pytest.fixture
def sequence(tmp_path: Path) -> Dataset:
    """Six white frames, the last one black, with the classes of the detector."""
    images = []
    for index in range(6):
        Image.fromarray(WHITE if index < 5 else WHITE * 0).save(tmp_path / f"{index}.png")
        images.append(
            {"image_id": 10 + index, "path": f"{index}.png", "width": 96, "height": 64, "group": "s", "frame": index}
        )
    classes = [{"class_id": 0, "name": "car"}, {"class_id": 1, "name": "bus"}]
    return dataset_from_rows(images, [], classes, root=tmp_path, name="s", task="track", format="mot")


def test_a_data_set_is_predicted_whole(detector_path: Path, sequence: Dataset) -> None:
    done: list[tuple[int, int | None]] = []
    predictions = predict_dataset(
        open_predictor(detector_path), sequence, batch=4, progress=lambda n, total, what: done.append((n, total))
    )
    assert done == [(4, 6), (6, 6)]
    assert predictions.table["image_id"].to_list() == [i for i in range(10, 15) for _ in range(2)]
    assert predictions.table["track_id"].null_count() == 10
    assert predictions.meta["conf"] == 0.5
    assert predictions.meta["class_names"] == ["car", "bus"]
    assert predictions.meta["data_digest"] == sequence.digest()
    assert predictions.meta["backend"].startswith("onnxruntime")


def test_a_data_set_is_tracked(detector_path: Path, sequence: Dataset) -> None:
    tracked = track_dataset(
        open_predictor(detector_path), lambda: KalmanIouTracker(TrackerConfig(min_hits=2)), sequence
    )
    assert tracked.table.select("image_id", "track_id").rows() == [(i, t) for i in range(11, 15) for t in (1, 2)]


def test_label_maps_become_one_row_per_class(segmenter_path: Path, sequence: Dataset) -> None:

    classes = sequence.classes.with_columns(pl.Series("name", ["background", "bright"]))
    dataset = Dataset(sequence.images, sequence.objects, classes, sequence.root, "s", "semantic", "masks")
    table = predict_dataset(open_predictor(segmenter_path), dataset).table
    assert table.select("image_id", "class_id").rows() == [(10 + i, 1) for i in range(5)] + [(15, 0)]
    assert rle.area(table["rle"][0]) == 64 * 96


def test_other_classes_are_refused(detector_path: Path, sequence: Dataset) -> None:
    other = Dataset(sequence.images, sequence.objects, sequence.classes[:1], sequence.root, "s", "track", "mot")
    with pytest.raises(ConfigError, match=r"must be those of the data set \(1: car\), got 2: car, bus"):
        predict_dataset(open_predictor(detector_path), other)


def test_an_unreadable_image_is_named(detector_path: Path, sequence: Dataset) -> None:
    (sequence.root / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png"):
        predict_dataset(open_predictor(detector_path), sequence)


def test_a_network_with_the_wrong_number_of_outputs_is_refused() -> None:
    class OneOutput:
        backend = "test"

        def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
            return (pixels,)

    predictor = NetworkPredictor(OneOutput(), metadata(), OperatingPoint(), where="here")
    with pytest.raises(ModelError, match="here: a detect network must return boxes_xyxy, scores"):
        predictor([WHITE])


def test_outputs_of_text_are_refused_when_the_file_is_opened(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", metadata("detect"))
    model = onnx.load_model(path)
    node = next(node for node in model.graph.node if "scores" in node.output)
    node.output[list(node.output).index("scores")] = "numbers"
    model.graph.node.append(onnx.helper.make_node("Cast", ["numbers"], ["scores"], to=onnx.TensorProto.STRING))
    next(o for o in model.graph.output if o.name == "scores").type.tensor_type.elem_type = onnx.TensorProto.STRING
    next(p for p in model.metadata_props if p.key == SEAL_KEY).value = UNSEALED
    onnx.save_model(model, str(path))
    seal_file(path)
    with pytest.raises(ModelError, match=r"outputs must be tensor\(float\), got tensor\(.*string"):
        open_predictor(path)


def test_a_segmenter_of_two_classes_runs_at_its_own_threshold_and_keeps_probabilities_where_asked(
    tmp_path: Path,
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
    path = write_onnx(tmp_path / "m.onnx", metadata("semantic", operating_point=OperatingPoint(conf=0.125)))
    predictor = open_predictor(path)
    assert (predictor.foreground_conf, predictor.meta["foreground_conf"]) == (0.125, 0.125)
    assert predictor.at_foreground(0.75).foreground_conf == 0.75
    (plain,), (kept,) = predictor(image), predictor.with_foreground()(image)
    assert plain.foreground is None
    assert np.array_equal(kept.class_ids, plain.class_ids)
    assert np.array_equal(kept.foreground >= 0.125, plain.class_ids == 1)
    bare = open_predictor(write_onnx(tmp_path / "n.onnx", metadata("semantic", operating_point=None)))
    assert bare.foreground_conf is None
    with pytest.raises(ConfigError, match="label maps of two classes"):
        open_predictor(write_onnx(tmp_path / "d.onnx", metadata())).with_foreground()
