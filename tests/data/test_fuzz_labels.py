"""Files of every format, mutated: each data set is read or refused in one sentence, and the audit survives it.

Label files have bytes, numbers and words exchanged; pictures have bytes and length fields exchanged, with checksums
made right again so that the damage reaches the decoder. The seeds are small data sets written by hand, and what each
registered format writes of one data set: a new format is tried without a line here.
"""

import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.audit import audit_dataset
from sightline.core.dataset import Dataset, Task, dataset_from_rows
from sightline.core.errors import InputError
from sightline.data import WRITTEN_NAMES, read_dataset, write_dataset
from sightline.ops.rle import encode

DEFAULT_CASES, SLOW_CASES = 500, 10_000
HANG_S = 60.0  # one case; most take a hundredth of a second, this guards against hanging
MEMORY_BYTES = 6 << 30  # address space of the process that runs the many cases
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
PICTURES = frozenset({".jpg", ".png", ".tif", ".bmp", ".webp", ".ppm", ".gif", ".mp4"})
TOKENS = [
    *(b"-1", b"NaN", b"Infinity", b"1e999", b"null", b"[]", b"{}", b'""', b'"x"', b"9" * 23, b"0", b"1.5", b"1_0"),
    *(b"../../etc", b"\xff\xfe", b"\0", b"\n", b"true", b"<", b"&x;", b'"a":', b",", b"*a", b"!!python/object:x"),
]
VALUE = re.compile(rb'-?\d+\.?\d*|"[^"]*"')


def mutate_text(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        kind, place = rng.randint(0, 6), rng.randrange(len(out) + 1)
        if kind == 0:
            out[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            out[place:place] = rng.choice(TOKENS)
        elif kind == 2:
            del out[place : place + rng.randint(1, 30)]
        elif kind == 3:
            out = out[:place]
        else:
            values = list(VALUE.finditer(bytes(out)))
            if values:
                chosen = rng.choice(values)
                out[chosen.start() : chosen.end()] = rng.choice(TOKENS)
    return bytes(out)


def mutate_picture(content: bytes, rng: random.Random) -> bytes:
    """Bytes, stretches and 32-bit fields exchanged; the checksums of PNG chunks are right again in every other case."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        kind, place = rng.randint(0, 5), int(len(out) * rng.random() ** 2)  # the header more often than the rest
        if kind == 0:
            out[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            out[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\0\1\0\0"])
        elif kind == 2:
            del out[place : place + rng.randint(1, 30)]
        elif kind == 3:
            out = out[:place]
        elif kind == 4:
            out[place:place] = out[place : place + rng.randint(1, 200)]
        else:
            length = rng.randint(1, 200)
            out[place : place + length] = bytes(length)
    mutated = bytes(out)
    return with_checksums(mutated) if mutated.startswith(b"\x89PNG") and rng.random() < 0.5 else mutated


def with_checksums(png: bytes) -> bytes:
    out, place = bytearray(png), 8
    while place + 12 <= len(out):
        end = place + 8 + int.from_bytes(out[place : place + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(out)


def write_coco(root: Path) -> list[Path]:
    square = [2.0, 3.0, 12.0, 3.0, 12.0, 13.0]
    runs = {"size": [24, 32], "counts": [100, 50, 618]}
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "segmentation": [square]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 24}],
        "annotations": [entry, entry | {"id": 2, "segmentation": runs, "iscrowd": 1}, entry | {"id": 3, "area": 5.5}],
        "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
    }
    Image.new("RGB", (32, 24)).save(root / "a.png")
    (root / "labels.json").write_text(json.dumps(content, indent=1))
    return [root / "labels.json"]


def write_yolo(root: Path) -> list[Path]:
    (root / "images").mkdir()
    (root / "labels").mkdir()
    Image.new("RGB", (32, 24)).save(root / "images/a.png")
    (root / "labels/a.txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (root / "train.txt").write_text("./images/a.png\n")
    (root / "data.yaml").write_text("path: .\ntrain: train.txt\nnames: {0: cat, 1: dog}\nnc: 2\n")
    return [root / "labels/a.txt", root / "train.txt", root / "data.yaml"]


def write_voc(root: Path) -> list[Path]:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (32, 24)).save(root / "JPEGImages/a.png")
    corners = "<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>12</ymax>"
    thing = f"<object><name>x</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"
    size = "<size><width>32</width><height>24</height></size>"
    text = f"<annotation><filename>a.png</filename>{size}{thing}</annotation>"
    (root / "Annotations/a.xml").write_text(text)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    return [root / "Annotations/a.xml", root / "ImageSets/Main/train.txt"]


def write_mot(root: Path) -> list[Path]:
    (root / "gt").mkdir()
    (root / "gt/gt.txt").write_text("1,1,3,5,10,12,1,3,0.25\n2,2,3,15,9,5,1,1,1\n")
    (root / "gt/labels.txt").write_text("car\nbus\nlorry\n")
    info = "[Sequence]\nname=x\nimDir=img1\nframeRate=5\nseqLength=3\nimWidth=32\nimHeight=24\nimExt=.png\n"
    (root / "seqinfo.ini").write_text(info)
    return [root / "gt/gt.txt", root / "gt/labels.txt", root / "seqinfo.ini"]


def write_masks(root: Path) -> list[Path]:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for name in ("1", "2", "3"):
        Image.new("RGB", (32, 24)).save(root / f"images/{name}.jpg")
        Image.fromarray(np.eye(24, 32, dtype=np.uint8)).save(root / f"masks/{name}.png")
    text = "format: masks\nclasses: {0: road, 1: crack}\nexclude: ['1']\nsplit: {val: 0.5, seed: 0}\ngroup: (\\d)\n"
    (root / "sightline.yaml").write_text(text)
    return [root / "images/2.jpg", root / "masks/2.png", root / "sightline.yaml"]


def write_yolo_kinds(root: Path) -> None:
    """Outlines, oriented boxes and keypoints in one folder, as a confused export leaves them."""
    write_yolo(root)
    (root / "labels/a.txt").write_text(
        "0 0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.4\n1 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.6 0.6 1\n"
    )
    (root / "data.yaml").write_text("train: images\nnames: [cat, dog]\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n")


def write_roboflow(root: Path) -> None:
    for split in ("train", "valid"):
        (root / split).mkdir()
        write_coco(root / split)
        (root / split / "labels.json").rename(root / split / "_annotations.coco.json")


def write_pictures(root: Path) -> None:
    """One picture of each kind a decoder may be handed, listed in a COCO file."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    rgb, gray16 = Image.fromarray(pixels), Image.fromarray(pixels[..., 0].astype(np.uint16) * 250)
    exif = rgb.getexif()
    exif[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "a.jpg": (rgb, {"exif": exif}),
        "b.jpg": (rgb.convert("CMYK"), {}),
        "c.jpg": (rgb.convert("L"), {"progressive": True}),
        "d.png": (rgb, {}),
        "e.png": (gray16, {}),
        "f.png": (rgb.quantize(7), {"transparency": 2}),
        "g.tif": (rgb, {"compression": "tiff_lzw"}),
        "h.tif": (gray16, {"compression": "tiff_deflate"}),
        "i.bmp": (rgb, {}),
        "j.webp": (rgb, {"save_all": True, "append_images": [rgb.transpose(Image.Transpose.ROTATE_180)]}),
        "k.ppm": (rgb, {}),
        "l.gif": (rgb.quantize(7), {}),
    }
    images = []
    for number, (name, (picture, options)) in enumerate(kinds.items(), start=1):
        picture.save(root / name, **options)
        width, height = (24, 32) if name == "a.jpg" else (32, 24)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
    boxes = [{"id": i["id"], "image_id": i["id"], "category_id": 1, "bbox": [2, 3, 10, 10]} for i in images]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
    (root / "labels.json").write_text(json.dumps(content))


def write_mask_kinds(root: Path) -> None:
    """Masks as palette, 16-bit and 1-bit files, with declared classes."""
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    ids = np.tri(24, 32, dtype=np.uint8)
    palette = Image.fromarray(ids).convert("P")
    masks = {"1.png": palette, "2.png": Image.fromarray(ids.astype(np.uint16)), "3.bmp": Image.fromarray(ids)}
    masks |= {"4.tif": Image.fromarray(ids.astype(np.int32)), "5.png": Image.fromarray(ids * 255).convert("1")}
    for name, mask in masks.items():
        mask.save(root / "masks" / name)
        Image.new("RGB", (32, 24)).save(root / f"images/{Path(name).stem}.jpg")
    (root / "sightline.yaml").write_text("format: masks\nclasses: [road, crack]\nignore_values: [9]\n")


def write_colours(root: Path) -> None:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    colours = np.array([(0, 0, 0), (200, 10, 10)], np.uint8)
    for name in ("1", "2", "3"):
        Image.new("RGB", (32, 24)).save(root / f"images/{name}.jpg")
        Image.fromarray(colours[np.eye(24, 32, dtype=np.uint8)]).save(root / f"masks/{name}.png")
    text = "palette: {road: [0, 0, 0], crack: [200, 10, 10]}\nname: colours\nexclude: ['2']\n"
    (root / "sightline.yaml").write_text(text + "split: {train: ['1'], val: val.txt}\n")
    (root / "val.txt").write_text("3\n")


def sample(task: Task, root: Path) -> Dataset:
    """Three pictures, two of them frames of one scene, with everything the tables can hold."""
    root.mkdir()
    rng = np.random.default_rng(1)
    mask = np.zeros((24, 32), np.uint8)
    mask[4:12, 5:20] = 1
    images, objects = [], []
    for i in range(3):
        pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
        image = {"image_id": i, "path": f"{i}.png", "width": 32, "height": 24, "split": "train" if i < 2 else "val"}
        if task == "track":
            image |= {"group": "scene", "frame": i, "time_s": i / 5, "split": "train"}
        if task == "semantic":
            Image.fromarray(mask * (i > 0)).save(root / f"{i}_mask.png")
            image |= {"mask_path": f"{i}_mask.png"}
        images.append(image)
        box = {"image_id": i, "class_id": i % 2, "x1": 5.0, "y1": 4.0, "x2": 20.0, "y2": 12.0, "track_id": None}
        if task == "instance":
            ring = [5.0, 4.0, 20.0, 4.0, 20.0, 12.0, 5.0, 12.0]
            objects += [box | {"polygon": [ring]}, box | {"rle": encode(mask), "crowd": i == 1}]
        elif task != "semantic":
            track = i if task == "track" else None
            spots = [1.0, 2.0, 2.0, 3.0, 4.0, 1.0] if task == "detect" else None
            objects += [box | {"track_id": track, "occlusion": 0.5}, box | {"ignore": True, "keypoints": spots}]
    names: list[dict[str, Any]] = [{"class_id": 0, "name": "cat"}, {"class_id": 1, "name": "dog"}]
    if task == "detect":
        names = [n | {"keypoint_names": ["nose", "tail"], "skeleton": [[0, 1]]} for n in names]
    return dataset_from_rows(images, objects, names, root=root, name="sample", task=task, format="sample")


def write_format(name: str, task: Task) -> Callable[[Path], object]:
    """Writes the sample data set in a registered format; skips where that format cannot hold the task."""

    def write(root: Path) -> None:
        source = root.parent / f"{root.name}-source"
        shutil.rmtree(root)
        try:
            write_dataset(sample(task, source), root, name)
        except InputError:
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
        shutil.rmtree(source)

    return write


SEEDS: dict[str, Callable[[Path], object]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "yolo-kinds": write_yolo_kinds,
    "roboflow": write_roboflow,
    "voc": write_voc,
    "mot": write_mot,
    "masks": write_masks,
    "mask-kinds": write_mask_kinds,
    "mask-colours": write_colours,
    "pictures": write_pictures,
} | {
    f"{name}-{task}-written": write_format(name, task)
    for name in WRITTEN_NAMES
    for task in ("detect", "instance", "semantic", "track")
}
WRITABLE = len(SEEDS) * 2 // 3  # about a third of the pairs of format and task cannot be written


def fuzz(root: Path, name: str, cases: int, first: int = 0) -> tuple[int, int]:
    """How many mutated data sets were read and audited, and how many refused; none where there is no seed."""
    SEEDS[name](root)
    files = sorted(p for p in root.rglob("*") if p.is_file())
    if not files:
        return 0, 0
    assert attempt(root) is None  # whole, it is read
    labels = [f for f in files if f.suffix not in PICTURES] or files
    read = refused = 0
    for number in range(first, first + cases):
        rng = random.Random(f"{name}-{number}")
        file = rng.choice(files) if name in {"pictures", "mask-kinds"} or rng.random() < 0.2 else rng.choice(labels)
        whole = file.read_bytes()
        mutated = (mutate_picture if file.suffix in PICTURES else mutate_text)(whole, rng)
        file.write_bytes(mutated)
        start = time.perf_counter()
        try:
            answer = attempt(root)
        except Exception as error:
            error.add_note(f"case {name}-{number}: {file.relative_to(root)} = {mutated[:2000]!r}")
            raise
        file.write_bytes(whole)
        took = time.perf_counter() - start
        assert took < HANG_S, f"case {name}-{number} took {took:.1f} s: {file.relative_to(root)} = {mutated[:500]!r}"
        read, refused = (read + 1, refused) if answer is None else (read, refused + 1)
        assert "\n" not in str(answer or ""), f"case {name}-{number}: {answer}"
    return read, refused


def attempt(root: Path) -> InputError | None:
    """Read and audit; the refusal, if there is one."""
    try:
        dataset = read_dataset(root)
    except InputError as error:
        return error
    assert all(f.count >= 1 and f.message and f.code for f in audit_dataset(dataset, workers=1).findings)
    return None


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_mutated_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    cases = -(-DEFAULT_CASES // WRITABLE)
    read, refused = fuzz(root, name, cases)
    if read + refused == 0:
        pytest.skip("the format does not hold this task")
    assert read + refused == cases


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(SEEDS))
def test_many_mutated_files_in_bounded_memory(tmp_path: Path, name: str) -> None:
    """In a process of its own, so that neither a crash of a decoder nor its memory can pass unseen."""
    cases = -(-SLOW_CASES // WRITABLE)
    command = [sys.executable, "-X", "faulthandler", str(Path(__file__)), name, str(cases), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert sum(map(int, done.stdout.split())) in {0, cases}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    folder = Path(sys.argv[3], "data")
    folder.mkdir()
    print(*fuzz(folder, sys.argv[1], int(sys.argv[2]), first=DEFAULT_CASES))
