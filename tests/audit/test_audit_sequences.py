"""Sequences and names in the audit: each planted fault is found, and a sound sequence gives nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.audit import audit_dataset
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.findings import Finding
from sightline.data import read_dataset

FRAMES = 20


def boxes() -> list[dict[str, Any]]:
    """Three objects 12 pixels wide that move by 4 pixels a frame, each on a lane of its own."""
    rows = []
    for frame in range(FRAMES):
        for track in (1, 2, 3):
            x, y = 4.0 * frame + 5, 30.0 * track
            rows.append(
                {"image_id": frame, "class_id": 0, "track_id": track, "x1": x, "y1": y, "x2": x + 12, "y2": y + 8}
            )
    return rows


def images(tmp_path: Path, **columns: Any) -> pl.DataFrame:
    for frame in range(FRAMES):
        pixels = np.random.default_rng(frame).integers(0, 256, (120, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{frame + 1:06d}.png")
    return pl.DataFrame(
        [
            {"image_id": i, "path": f"{i + 1:06d}.png", "width": 128, "height": 120, "group": "a", "frame": i}
            | {"time_s": i / 25}
            for i in range(FRAMES)
        ]
    ).with_columns(**columns)


def sequence(tmp_path: Path, table: pl.DataFrame, objects: list[dict[str, Any]]) -> Dataset:
    classes = [{"class_id": 0, "name": "car"}]
    return dataset_from_rows(table, objects, classes, root=tmp_path, name="x", task="track", format="mot")


def findings(dataset: Dataset) -> list[Finding]:
    return [f for f in audit_dataset(dataset).findings if f.code.startswith(("track", "sequence"))]


def places(dataset: Dataset) -> list[tuple[str, str | None, int]]:
    return [(f.code, f.path, f.count) for f in findings(dataset)]


def test_a_sound_sequence_gives_nothing(tmp_path: Path) -> None:
    assert findings(sequence(tmp_path, images(tmp_path), boxes())) == []


def test_an_id_on_two_boxes(tmp_path: Path) -> None:
    rows = boxes()
    rows[1]["track_id"] = 1
    assert ("track-duplicate-id", "000001.png", 1) in places(sequence(tmp_path, images(tmp_path), rows))


def test_exchanged_identities_are_jumps(tmp_path: Path) -> None:
    rows = boxes()
    for row in rows:
        if row["image_id"] == 12 and row["track_id"] in {1, 3}:
            row["track_id"] = 4 - row["track_id"]
    assert places(sequence(tmp_path, images(tmp_path), rows)) == [
        ("track-jump", "000013.png", 1),
        ("track-jump", "000013.png", 1),
        ("track-jump", "000014.png", 1),
        ("track-jump", "000014.png", 1),
    ]


def test_a_leap_and_return_is_a_jump_where_the_size_would_explain_it(tmp_path: Path) -> None:
    """Sixteen pixels aside, beside its own box of 12 × 8, and back: less than one and a half diagonals."""
    rows = boxes()
    (row,) = [r for r in rows if r["image_id"] == 9 and r["track_id"] == 2]
    row["y1"], row["y2"] = row["y1"] + 17, row["y2"] + 17
    (leap,) = findings(sequence(tmp_path, images(tmp_path), rows))
    assert (leap.code, leap.path) == ("track-jump", "000010.png")
    assert "back where it was" in leap.message
    for later in rows:  # one that stays there has turned
        if later["image_id"] > 9 and later["track_id"] == 2:
            later["y1"], later["y2"] = later["y1"] + 17, later["y2"] + 17
    assert findings(sequence(tmp_path, images(tmp_path), rows)) == []


def test_a_fast_object_does_not_jump(tmp_path: Path) -> None:
    """Thirty pixels a frame, two and a half times its width: far for the size, ordinary for its own speed."""
    rows = [
        {"image_id": i, "class_id": 0, "track_id": 1, "x1": 30.0 * i, "y1": 5, "x2": 30.0 * i + 12, "y2": 13}
        for i in range(4)
    ]
    assert findings(sequence(tmp_path, images(tmp_path), rows)) == []


def test_ids_that_number_the_boxes(tmp_path: Path) -> None:
    """Detections in random order, numbered from 1 in every frame."""
    rng = np.random.default_rng(0)
    rows = boxes()
    for frame in range(FRAMES):
        for row, track in zip(rows[3 * frame : 3 * frame + 3], rng.permutation(3) + 1, strict=True):
            row["track_id"] = int(track)
    assert places(sequence(tmp_path, images(tmp_path), rows)) == [("track-ids-reset", "a", 1)]


def test_ids_that_are_never_used_again(tmp_path: Path) -> None:
    rows = [row | {"track_id": i} for i, row in enumerate(boxes())]
    assert places(sequence(tmp_path, images(tmp_path), rows)) == [("track-ids-reset", "a", 1)]


def test_gaps_and_hidden_objects_are_told(tmp_path: Path) -> None:
    rows = [r | {"occlusion": 0.6 if r["image_id"] == 3 else 0.0} for r in boxes()]
    rows = [r for r in rows if r["track_id"] != 2 or r["image_id"] not in {5, 6, 9}]
    found = findings(sequence(tmp_path, images(tmp_path), rows))
    assert [(f.code, f.severity, f.count) for f in found] == [("track-gap", "info", 1), ("track-occluded", "info", 3)]
    assert "track 2 for 2 frames" in found[0].message


def test_missing_frames(tmp_path: Path) -> None:
    table = images(tmp_path).filter(~pl.col("frame").is_in([4, 5, 9]))
    rows = [r for r in boxes() if r["image_id"] not in {4, 5, 9}]
    found = findings(sequence(tmp_path, table, rows))
    assert [(f.code, f.path, f.count) for f in found] == [
        ("sequence-frame-missing", "a", 3),
        ("track-gap", "a", 3),
    ]
    assert "between 000004.png and 000007.png" in found[0].message


def test_frames_missing_in_the_names_only(tmp_path: Path) -> None:
    """Frames counted anew by whoever read them, from files of which one is lost."""
    table = images(tmp_path).with_columns(
        path=pl.when(pl.col("frame") < 10).then("path").otherwise(pl.format("{}.png", pl.col("frame") + 1002))
    )
    for frame in range(10, FRAMES):
        (tmp_path / f"{frame + 1:06d}.png").rename(tmp_path / f"{frame + 1002}.png")
    assert ("sequence-frame-missing", "a", 1001) in places(sequence(tmp_path, table, boxes()))


def test_repeated_frames(tmp_path: Path) -> None:
    table = images(tmp_path)
    (tmp_path / "000007.png").write_bytes((tmp_path / "000006.png").read_bytes())
    assert places(sequence(tmp_path, table, boxes())) == [("sequence-frame-duplicate", "000007.png", 1)]


def test_uneven_times(tmp_path: Path) -> None:
    table = images(tmp_path).with_columns(
        time_s=pl.col("time_s") + pl.when(pl.col("frame") >= 8).then(0.1).otherwise(0.0)
    )
    found = findings(sequence(tmp_path, table, boxes()))
    assert [(f.code, f.path, f.count) for f in found] == [("sequence-time-irregular", "a", 1)]
    assert "000008.png and 000009.png: 140 ms" in found[0].message


def test_names_that_sort_differently(tmp_path: Path, save_image, save_mask) -> None:
    for name in ("a", "a_b", "c"):
        save_image(f"images/{name}.jpg")
        save_mask(f"masks/{name}_mask.png", np.eye(24, 32))
    result = audit_dataset(read_dataset(tmp_path))
    (found,) = [f for f in result.findings if f.code == "pair-order-differs"]
    assert (found.path, found.count) == ("images", 2)
    assert "images/a.jpg would be paired with masks/a_b_mask.png instead of masks/a_mask.png" in found.message


def test_an_image_without_mask_shifts_the_pairs_behind_it(tmp_path: Path, save_image, save_mask) -> None:
    for name in "abcd":
        save_image(f"images/{name}.jpg")
        if name != "b":
            save_mask(f"masks/{name}.png", np.eye(24, 32))
    (found,) = [f for f in audit_dataset(read_dataset(tmp_path)).findings if f.code == "pair-order-differs"]
    assert found.count == 2


def test_names_in_several_folders(tmp_path: Path, save_image) -> None:
    for name in ("train/1", "train/2", "val/2", "val/3"):
        save_image(f"images/{name}.png")
        label = tmp_path / f"labels/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [x]\n")
    (found,) = [f for f in audit_dataset(read_dataset(tmp_path)).findings if f.code == "image-stem-in-two-folders"]
    assert (found.severity, found.path, found.count) == ("info", "images/train/2.png", 1)
    assert "images/val/2.png; 1 of them are in different splits" in found.message


@pytest.mark.real_data
def test_real_sequences_are_sound(data_root: Path) -> None:
    assert findings(read_dataset(data_root / "track_mot15")) == []
