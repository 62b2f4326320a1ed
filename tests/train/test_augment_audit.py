"""The audit of augmentation counts what is known to be removed, shrunk and added; the study varies nothing else."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sightline.cli.main import main
from sightline.core.errors import ConfigError
from sightline.core.preprocess import Preprocess
from sightline.data import read_dataset
from sightline.synth import generate
from sightline.train import Augmentation, TrainConfig
from sightline.train.augment.augmenter import Augmenter
from sightline.train.augment.geometry import scale, translate
from sightline.train.augment.policy import OPERATIONS
from sightline.train.data.images import NetworkImages
from sightline.train.studies.ablation import augment_study
from sightline.train.studies.augment_audit import AugmentAuditOptions, audit_augmentation

SIZE = Preprocess(size_hw=(96, 96))
ALL = AugmentAuditOptions(images=100, draws=3)
NOTHING = Augmentation.none()


def _change(**settings):
    return NOTHING.model_copy(update=settings)


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def test_nothing_removes_nothing_and_counts_reconcile(street: Path) -> None:
    dataset = read_dataset(street)
    policy = Augmentation(rotate=20, translate=0.6, mosaic=1.0)
    result = audit_augmentation(dataset, SIZE, policy, ALL)
    assert result.table["operation"].to_list() == ["none", "mosaic", "affine", "flip", "colour", "all"]
    assert (result.table["given"] == len(dataset.usable_objects) * 3).all()
    assert (result.table["kept"] + result.table["removed"] == result.table["given"]).all()
    quiet = result.table.filter(pl.col("operation").is_in(["flip", "colour"]))
    assert quiet.select(pl.sum_horizontal(pl.sum("removed", "shrunk", "grown", "added"))).item() == 0
    by_class = result.by_class.group_by("operation", maintain_order=True).agg(pl.sum("given", "removed", "added"))
    assert by_class.equals(result.table.select("operation", "given", "removed", "added"))
    rows = {row["operation"]: row for row in result.table.rows(named=True)}
    assert rows["affine"]["removed"] > 0
    assert rows["mosaic"]["added"] > 0
    again = audit_augmentation(dataset, SIZE, policy, ALL)
    assert again.to_dict() == result.to_dict()


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with more objects than those of the other tests."""
    out = tmp_path_factory.mktemp("audit") / "street"
    generate("traffic", out, images=12, val_fraction=0.25, size_hw=(192, 192), seed=4)
    return out


@pytest.fixture
def moved_by(monkeypatch: pytest.MonkeyPatch):
    """Has every geometry be this matrix."""

    def use(matrix: np.ndarray) -> None:
        monkeypatch.setattr(Augmenter, "_geometry", lambda *_: matrix)

    return use


def test_the_objects_a_shift_pushes_out_are_counted(street: Path, moved_by) -> None:
    """The same shift, applied to the boxes by hand."""
    dataset, policy = read_dataset(street), _change(translate=0.5, min_visible=0.5)
    boxes = NetworkImages(dataset, SIZE).store.objects.boxes.astype(np.float64)
    moved = boxes + np.array([40, 0, 40, 0])
    left = moved.clip(0, 96)
    sides = left[:, 2:] - left[:, :2]
    gone = sides.min(axis=1) < policy.min_side_px
    below = ~gone & (sides.prod(axis=1) < 0.5 * (moved[:, 2:] - moved[:, :2]).prod(axis=1))
    assert gone.any()
    assert below.any()
    moved_by(translate(40, 0))
    result = audit_augmentation(dataset, SIZE, policy, ALL)
    row = result.table.row(1, named=True)
    assert (row["removed"], row["by_rule"]) == (3 * (gone | below).sum(), 3 * below.sum())
    kept = audit_augmentation(dataset, SIZE, policy.model_copy(update={"below_visible": "keep"}), ALL)
    row = kept.table.row(1, named=True)
    assert (row["removed"], row["by_rule"]) == (3 * gone.sum(), 0)


def test_the_objects_a_zoom_shrinks_or_enlarges_are_counted(street: Path, moved_by) -> None:
    dataset, policy = read_dataset(street), _change(scale=0.5)
    boxes = NetworkImages(dataset, SIZE).store.objects.boxes
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    below = float(np.median(sides)) + 0.01
    moved_by(scale(0.5, 0.5))
    row = audit_augmentation(dataset, SIZE, policy, ALL.model_copy(update={"below_px": below})).table.row(1, named=True)
    gone = sides / 2 < policy.min_side_px
    assert row["small_before"] == 3 * (sides < below).sum()
    assert row["shrunk"] == 3 * (~gone & (sides >= below) & (sides / 2 < below)).sum() > 0
    assert (row["removed"], row["grown"]) == (3 * gone.sum(), 0)


def test_foreground_of_masks_is_counted_in_classes_and_pixels(cracks: Path, moved_by) -> None:
    dataset, size = read_dataset(cracks), Preprocess(size_hw=(64, 96))
    store = NetworkImages(dataset, size).store
    masks = np.stack([store.load(row)["mask"] for row in range(len(dataset))])
    moved_by(translate(60, 0))
    result = audit_augmentation(dataset, size, _change(translate=0.5), ALL)
    row = result.table.row(1, named=True)
    before, after = masks == 1, masks[:, :, :36] == 1
    assert row["given"] == 3 * before.any((1, 2)).sum()
    assert row["kept"] == 3 * (before.any((1, 2)) & after.any((1, 2))).sum()
    assert row["pixels"] == pytest.approx(after.sum() / before.sum())
    assert result.by_class["class"].unique().to_list() == [dataset.class_names[1]]


def test_an_exchange_of_objects_is_no_loss(street: Path) -> None:
    result = audit_augmentation(read_dataset(street), SIZE, _change(mosaic=1.0), ALL)
    row = result.table.row(1, named=True)
    assert row["removed_share"] > 0.3
    assert ("augment-removes" in {f.code for f in result.findings}) == (
        row["removed"] - row["added"] > 0.1 * row["given"]
    )


def test_the_verb_prints_and_writes(
    traffic: Path, cracks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("imgsz=64", "augment.translate=0.9", "augment.min_visible=0.9", "--draws", "2")
    assert _run("augment", str(traffic), *chosen, "--out", str(tmp_path / "a.json")) == 0
    shown = capsys.readouterr().out
    assert "removed_share" in shown
    assert "warning: 'affine' takes away" in shown
    written = json.loads((tmp_path / "a.json").read_text())
    assert _run("augment", str(traffic), *chosen, "--json") == 0
    assert json.loads(capsys.readouterr().out) == written
    assert _run("augment", str(cracks), "augment.mixup=1") == 2
    assert "mixup" in capsys.readouterr().err


def test_a_study_varies_augmentation_alone() -> None:
    policy = {"scale": 0.3, "flip_lr": 0.0, "mosaic": 0.5, "min_visible": 0.4}
    config = TrainConfig.load({"data": "x", "model": "yolo11n", "epochs": 3, "seed": 5, "augment": policy})
    study = augment_study(config, seeds=2)
    made = study.configs({}, "here")
    assert list(study.variants) == ["none", "mosaic", "affine", "colour", "all"]
    assert {seed for _, seed in made} == {5, 6}
    for (name, seed), variant in made.items():
        assert variant.model_copy(update={"augment": config.augment, "seed": 5}) == config
        assert variant.augment.active() == {"none": (), "all": config.augment.active()}.get(name, (name,))
        assert (variant.augment.min_visible, variant.seed) == (0.4, seed)
    assert made["all", 5].augment == config.augment
    assert list(_change(gray=0.2).apart()) == ["none", "gray"]
    with pytest.raises(ConfigError, match="needs an operation that is on"):
        augment_study(config.model_copy(update={"augment": NOTHING}), seeds=1)


def test_a_study_takes_no_resume_and_its_options_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("train", "--augment-study", "--resume", "x") == 2
    assert "takes no --resume" in capsys.readouterr().err
    assert _run("train", "--jobs", "2") == 2
    assert "belong to --augment-study" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_runs_and_writes_the_table(cracks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    off = [f"augment.{f}=0" for name in ("affine", "colour") for f in OPERATIONS[name]]
    tiny = ("model=unet-small", "imgsz=64", "batch=4", "epochs=1", "precision=fp32", "pictures_every=0", *off)
    given = (
        "train",
        f"data={cracks}",
        *tiny,
        "--augment-study",
        "--study-seeds",
        "1",
        "--runs",
        str(tmp_path),
        "--json",
    )
    assert _run(*given) == 0
    table = json.loads(capsys.readouterr().out)["table"]
    assert {row["variant"] for row in table} == {"none", "flip"}
    assert (tmp_path / "augment-study" / "ablation.html").is_file()
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}
    assert len(stamps) == 2
    assert _run(*given) == 0
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}


@pytest.mark.real_data
def test_small_cars_are_lost_to_scaling_alone(data_root: Path) -> None:
    dataset = read_dataset(data_root / "det_aerial_cars")
    options = AugmentAuditOptions(images=6, draws=2)
    result = audit_augmentation(dataset, Preprocess(size_hw=(320, 320)), Augmentation(), options)
    rows = {row["operation"]: row for row in result.table.rows(named=True)}
    assert rows["affine"]["removed"] > rows["none"]["removed"]
    assert rows["colour"]["removed"] == rows["flip"]["removed"] == rows["none"]["removed"]
    assert "augment-small" in {f.code for f in result.findings}
