"""Label files of every format, mutated: each is read or refused in one sentence, none crashes or hangs."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.core.errors import InputError
from sightline.data import read_dataset

TOKENS = [
    *(b"-1", b"NaN", b"Infinity", b"1e999", b"null", b"[]", b"{}", b'""', b'"x"', b"9" * 23, b"0", b"1.5", b"1_0"),
    *(b"../../etc", b"\xff\xfe", b"\0", b"\n", b"true", b"<", b"&x;", b'"a":', b",", b"*a", b"!!python/object:x"),
]
VALUE = re.compile(rb'-?\d+\.?\d*|"[^"]*"')


def mutate(content: bytes, rng: random.Random) -> bytes:
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


WRITERS: dict[str, Callable[[Path], list[Path]]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "mot": write_mot,
    "masks": write_masks,
}


def fuzz(root: Path, name: str, cases: int) -> tuple[int, int]:
    """How many mutated data sets were read, and how many refused."""
    files = WRITERS[name](root)
    assert read_dataset(root).format == name
    rng = random.Random(name)
    read = refused = 0
    for _ in range(cases):
        file = rng.choice(files)
        whole = file.read_bytes()
        file.write_bytes(mutate(whole, rng))
        answer = attempt(root)
        file.write_bytes(whole)
        if isinstance(answer, Dataset):
            assert all(f.count >= 1 and f.message for f in answer.findings)
            read += 1
        else:
            assert "\n" not in str(answer)
            refused += 1
    return read, refused


def attempt(root: Path) -> Dataset | InputError:
    try:
        return read_dataset(root)
    except InputError as error:
        return error


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_mutated_labels_are_read_or_refused(tmp_path: Path, name: str) -> None:
    read, refused = fuzz(tmp_path, name, 100)
    assert read + refused == 100
    assert read >= 5  # most mutations break JSON as a whole


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_many_mutated_labels_are_read_or_refused(tmp_path: Path, name: str) -> None:
    assert sum(fuzz(tmp_path, name, 2000)) == 2000
