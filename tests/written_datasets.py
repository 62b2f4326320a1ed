"""Hand-made data sets of every task, with what formats stumble over, for the tests of writers."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from sightline.core.dataset import Dataset, Task, dataset_from_rows
from sightline.ops import rle

SIZE_HW = (48, 64)


def picture(seed: int) -> np.ndarray:
    """A picture that no other seed gives."""
    return np.random.default_rng(seed).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


def saved(root: Path, *paths: str) -> list[dict[str, Any]]:
    """Pictures on disk, and their rows of the images table."""
    rows = []
    for i, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(file, **({"quality": 95} if file.suffix == ".jpg" else {}))
        rows.append({"image_id": i, "path": path, "height": SIZE_HW[0], "width": SIZE_HW[1]})
    return rows


def made(root: Path, task: Task, images: list, objects: list, names: list, **options: Any) -> Dataset:
    """The data set of these rows; a class is a name or a row."""
    classes = [c if isinstance(c, dict) else {"name": c} for c in names]
    classes = [{"class_id": i, **c} for i, c in enumerate(classes)]
    return dataset_from_rows(images, objects, classes, root=root, name="made", task=task, format="hand", **options)


def box(image_id: int, class_id: int, x1: float, y1: float, x2: float, y2: float, **more: Any) -> dict[str, Any]:
    """A row of the objects table."""
    return {"image_id": image_id, "class_id": class_id, "x1": x1, "y1": y1, "x2": x2, "y2": y2, **more}


def painted(*boxes: tuple[int, int, int, int], holes: tuple[tuple[int, int, int, int], ...] = ()) -> dict[str, Any]:
    """Box, area and run lengths of filled rectangles less holes, as columns."""
    mask = np.zeros(SIZE_HW, dtype=np.bool_)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = True
    for x1, y1, x2, y2 in holes:
        mask[y1:y2, x1:x2] = False
    counts = rle.encode(mask)
    corners = dict(zip(("x1", "y1", "x2", "y2"), rle.to_box(counts, SIZE_HW).tolist(), strict=True))
    return {**corners, "area": float(mask.sum()), "rle": counts}


def boxes(root: Path) -> Dataset:
    """Boxes with fractions; names with spaces and letters beyond ASCII, folders, an empty image, splits, marks."""
    paths = ("ein Bild.png", "Größe/straße 1.png", "Größe/leer.png", "b.jpg", "deep/er/c.png")
    images = saved(root, *paths)
    for row, split in zip(images, ("train", "train", "val", "val", "test"), strict=True):
        row["split"] = split
    objects = [
        box(0, 0, 1.25, 2.5, 20.125, 30.0),
        box(0, 1, 30.0, 10.0, 50.0, 44.75, ignore=True),
        box(1, 1, 0.0, 0.0, 64.0, 48.0),
        box(1, 1, 5.0, 5.0, 9.0, 9.0, occlusion=0.5, truncation=0.25),
        box(3, 0, 12.0, 7.0, 40.0, 22.0, crowd=True),
        box(4, 0, 33.3, 12.1, 63.9, 47.9),
    ]
    return made(root, "detect", images, objects, ["Fußgänger", "traffic light"])


def unsplit_boxes(root: Path) -> Dataset:
    """Boxes of images in no split, and a class without any object."""
    images = saved(root, "a.png", "images/b.png")
    return made(root, "detect", images, [box(0, 0, 1, 2, 20, 30), box(1, 0, 3, 4, 10, 11)], ["car", "unused"])


def partly_split_boxes(root: Path) -> Dataset:
    """Some images belong to a split and others to none; a folder is named like another split."""
    images = saved(root, "test/a.png", "b.png", "c.png")
    images[0]["split"], images[1]["split"] = "train", "val"
    return made(root, "detect", images, [box(i, 0, 1 + i, 2, 20, 30) for i in range(3)], ["car"])


def points(root: Path) -> Dataset:
    """Keypoints: all, some, none of them labelled."""
    images = saved(root, "a.png", "b.png")
    for row in images:
        row["split"] = "train"
    some = [10.0, 11.0, 2.0, 0.0, 0.0, 0.0, 20.5, 21.25, 1.0]
    objects = [
        box(0, 0, 5, 5, 30, 40, keypoints=[6.0, 7.0, 2.0, 8.0, 9.0, 1.0, 10.0, 11.0, 2.0]),
        box(0, 0, 35, 5, 60, 40, keypoints=some),
        box(1, 0, 2, 2, 9, 9),
    ]
    names = [{"name": "person", "keypoint_names": ["nose", "left eye", "right eye"], "skeleton": [[0, 1], [0, 2]]}]
    return made(root, "detect", images, objects, names)


def instances(root: Path) -> Dataset:
    """Outlines of one part and of several, masks with holes and parts, an overlap, crowd, ignore, a box alone."""
    images = saved(root, "a.png", "sub folder/b.png", "sub folder/ç.png", "leer.png")
    for row in images:
        row["split"] = "val" if row["image_id"] == 1 else "train"
    triangle = [2.0, 2.0, 22.0, 2.0, 12.0, 20.0]
    two_parts = [[30.0, 5.0, 40.0, 5.0, 40.0, 15.0, 30.0, 15.0], [45.0, 20.0, 60.0, 20.0, 60.0, 44.0, 45.0, 44.0]]
    objects = [
        box(0, 0, 2, 2, 22, 20, area=180.0, polygon=[triangle]),
        box(0, 1, 30, 5, 60, 44, area=460.0, polygon=two_parts),
        box(0, 2, 10, 10, 30, 40),
        {"image_id": 1, "class_id": 0, **painted((4, 4, 30, 30), holes=((10, 10, 20, 20),))},
        {"image_id": 1, "class_id": 1, **painted((25, 25, 50, 40), (52, 2, 60, 10))},
        {"image_id": 1, "class_id": 1, "ignore": True, **painted((40, 41, 60, 47))},
        {"image_id": 2, "class_id": 2, "crowd": True, **painted((0, 0, 20, 20), (30, 30, 64, 48))},
        {"image_id": 2, "class_id": 0, **painted((33, 3, 44, 9))},
    ]
    return made(root, "instance", images, objects, ["cat", "dog/puppy", "Ünknown %"])


def single_instances(root: Path) -> Dataset:
    """Masks of one class that any format of instances holds exactly."""
    images = saved(root, "a.png", "train_2.png")
    rows = [(0, painted((2, 3, 20, 30))), (0, painted((30, 5, 60, 40))), (1, painted((1, 1, 9, 9)))]
    for row in images:
        row["split"] = "train"
    return made(root, "instance", images, [{"image_id": i, "class_id": 0, **m} for i, m in rows], ["nucleus"])


def semantic(root: Path) -> Dataset:
    """Ids with gaps, an ignored value, splits, folders, an indexed mask."""
    images = saved(root, "a/one.jpg", "zwei ä.png")
    for row, split in zip(images, ("train", "val"), strict=True):
        row["split"], row["mask_path"] = split, f"m/{row['image_id']}.png"
    values = np.random.default_rng(0).choice(np.array([0, 3, 9, 255], dtype=np.uint8), (2, *SIZE_HW))
    (root / "m").mkdir()
    Image.fromarray(values[0]).save(root / "m/0.png")
    indexed = Image.fromarray(values[1])
    indexed.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
    indexed.save(root / "m/1.png")
    names = [{"name": n, "source_id": v, "thing": False} for n, v in (("road", 0), ("sky", 3), ("Gehweg", 9))]
    return made(root, "semantic", images, [], names, ignore_values=(255,))


def binary(root: Path) -> Dataset:
    """Masks of 0 and 255, one of them as BMP."""
    images = saved(root, "a.png", "b.png")
    values = np.zeros(SIZE_HW, dtype=np.uint8)
    values[10:20, 10:50] = 255
    for row, suffix in zip(images, ("png", "bmp"), strict=True):
        row["mask_path"] = f"m/{row['image_id']}.{suffix}"
        (root / "m").mkdir(exist_ok=True)
        Image.fromarray(values).save(root / row["mask_path"])
    names = [{"name": n, "source_id": v, "thing": False} for n, v in (("background", 0), ("crack", 255))]
    return made(root, "semantic", images, [], names)


def coloured(root: Path) -> Dataset:
    """Masks as RGB pictures of three colours."""
    images = saved(root, "a.png")
    images[0]["mask_path"] = "m.png"
    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 64, 200]], dtype=np.uint8)
    ids = np.random.default_rng(0).integers(0, 3, SIZE_HW)
    Image.fromarray(colours[ids]).save(root / "m.png")
    values = [(1 << 24) + (int(r) << 16) + (int(g) << 8) + int(b) for r, g, b in colours]
    rows = zip(("none", "chair", "door"), values, strict=True)
    return made(root, "semantic", images, [], [{"name": n, "source_id": v, "thing": False} for n, v in rows])


def tracks(root: Path) -> Dataset:
    """Two sequences, one in a split's folder; hidden objects, one ignored, one of unknown visibility."""
    paths = [f"train/S1/{i}.png" for i in range(3)] + [f"S 2/{i}.png" for i in range(2)]
    images = saved(root, *paths)
    for row in images:
        first = row["image_id"] < 3
        frame = row["image_id"] if first else row["image_id"] - 3
        row |= {"split": "train" if first else "val", "group": "train/S1" if first else "S 2"}
        row |= {"frame": frame, "time_s": frame / 12.5}
    objects = [box(i, 0, 1 + i, 2, 20 + i, 30, track_id=1, occlusion=0.3) for i in range(5)]
    objects += [box(0, 1, 30, 5, 50, 40, track_id=2, ignore=True), box(3, 1, 30, 5, 50, 40, track_id=7)]
    return made(root, "track", images, objects, ["person", "Auto"])


def video_tracks(root: Path) -> Dataset:
    """A sequence whose frames are those of a video."""
    write_video(root / "clip.mp4", 6)
    images = [
        {
            "image_id": i,
            "path": f"clip.mp4#{i:06d}",
            "height": SIZE_HW[0],
            "width": SIZE_HW[1],
            "group": "clip",
            "frame": i,
            "time_s": i / 10,
        }
        for i in range(6)
    ]
    return made(root, "track", images, [box(i, 0, 5 + i, 5, 20 + i, 30, track_id=3) for i in range(6)], ["car"])


def write_video(path: Path, frames: int, codec: str = "libx264", rate: int = 10, **options: str) -> None:
    """A small video; every frame differs from the others."""
    start = picture(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = SIZE_HW[1], SIZE_HW[0]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, rate)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(start, 5 * i, axis=1), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


DATASETS: dict[str, Callable[[Path], Dataset]] = {
    f.__name__: f
    for f in (
        boxes,
        unsplit_boxes,
        partly_split_boxes,
        points,
        instances,
        single_instances,
        semantic,
        binary,
        coloured,
        tracks,
        video_tracks,
    )
}
