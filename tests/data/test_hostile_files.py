"""Files made to do harm: paths that leave the data set, bombs of every kind, things that are no files at all."""

import contextlib
import itertools
import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit import audit_dataset
from sightline.core.errors import InputError
from sightline.data import FORMATS, read_dataset
from sightline.media.decode import read_image

HANG_S = 60.0  # a guard against hanging, far beyond what a slow machine takes
LEAVING = ("../secret.png", "/etc/passwd", "a/../../secret.png", "C:\\secret.png", "..\\secret.png", "a\0.png")


def codes(path: Path) -> set[str]:
    """The codes of everything the reader and the audit say; a refusal counts as "refused"."""
    start, refusal = time.perf_counter(), ""
    try:
        found = {f.code for f in audit_dataset(read_dataset(path), workers=1).findings}
    except InputError as error:
        refusal, found = str(error), {"refused"}
    assert "\n" not in refusal
    assert len(refusal) < 2000
    assert time.perf_counter() - start < HANG_S
    return found


def coco(path: str = "a.png", **more: object) -> str:
    content = {
        "images": [{"id": 1, "file_name": path, "width": 32, "height": 24}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10]}],
        "categories": [{"id": 1, "name": "x"}],
    }
    return json.dumps(content | more)


def voc(name: str = "a.png", head: str = "", label: str = "x") -> str:
    size = "<size><width>32</width><height>24</height></size>"
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>12</ymax></bndbox>"
    thing = f"<object><name>{label}</name>{box}</object>"
    return f"{head}<annotation><filename>{name}</filename>{size}{thing}</annotation>"


def voc_folder(root: Path, text: str) -> Path:
    (root / "Annotations").mkdir()
    (root / "Annotations/a.xml").write_text(text)
    (root / "JPEGImages").mkdir()
    Image.new("RGB", (32, 24)).save(root / "JPEGImages/a.png")
    return root


def yolo_folder(root: Path, data: str = "train: images\nnames: [x]\n") -> Path:
    (root / "images").mkdir()
    (root / "labels").mkdir()
    Image.new("RGB", (32, 24)).save(root / "images/a.png")
    (root / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text(data)
    return root


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    """A data set's folder, beside a picture that is none of its business."""
    Image.new("RGB", (32, 24)).save(tmp_path / "secret.png")
    root = tmp_path / "data"
    root.mkdir()
    return root


@pytest.mark.parametrize("path", LEAVING)
def test_coco_paths_stay_inside(inner: Path, path: str) -> None:
    (inner / "labels.json").write_text(coco(path))
    assert codes(inner) & {"refused", "label-malformed", "image-missing"}


@pytest.mark.parametrize("path", LEAVING[:5])
@pytest.mark.parametrize("place", ["list", "train", "path"])
def test_yolo_paths_stay_inside(inner: Path, path: str, place: str) -> None:
    root = yolo_folder(inner)
    if place == "list":
        (root / "train.txt").write_text(f"{path}\n./images/a.png\n")
        (root / "data.yaml").write_text("train: train.txt\nnames: [x]\n")
        assert codes(root) & {"refused", "label-malformed", "split-unknown-image", "image-missing"}
    else:
        text = f"train: '{path}'" if place == "train" else f"path: '{path}'\ntrain: images"
        (root / "data.yaml").write_text(f"{text}\nnames: [x]\n")
        assert codes(root) & {"refused", "layout-elsewhere", "image-missing", "split-unknown-image"}


@pytest.mark.parametrize("path", LEAVING[:5])
def test_voc_paths_stay_inside(inner: Path, path: str) -> None:
    """The name inside the file is only compared; the list of a split is followed."""
    root = voc_folder(inner, voc(path))
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text(f"{path.removesuffix('.png')}\na\n")
    found = codes(root)
    assert "refused" in found or {"label-filename-mismatch"} <= found
    if "refused" not in found:
        assert all(p.startswith("JPEGImages/") for p in read_dataset(root).images["path"])


@pytest.mark.parametrize("path", LEAVING[:5])
def test_mot_paths_stay_inside(inner: Path, path: str) -> None:
    (inner / "gt").mkdir()
    (inner / "gt/gt.txt").write_text("1,1,3,5,10,12,1,1,1\n")
    folder = path.replace("\\", "/").rpartition("/")[0]
    (inner / "seqinfo.ini").write_text(f"[Sequence]\nname=x\nimDir={folder}\nimWidth=32\nimHeight=24\nseqLength=1\n")
    found = codes(inner)
    assert found & {"refused", "image-missing", "label-malformed"}


@pytest.mark.parametrize("path", LEAVING[:5])
@pytest.mark.parametrize("key", ["exclude", "split"])
def test_description_lists_name_no_foreign_image(inner: Path, path: str, key: str) -> None:
    root = yolo_folder(inner)
    value = json.dumps([path]) if key == "exclude" else json.dumps({"train": [path]})
    (root / "sightline.yaml").write_text(f"{key}: {value}\n")
    found = codes(root)
    if "refused" not in found:
        assert read_dataset(root).images["path"].to_list() == ["images/a.png"]


LAUGHS = "<!DOCTYPE a [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {name} '{10 * ('&' + before + ';')}'>" for before, name in itertools.pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("head", "label"),
    [
        (LAUGHS + "]>", "&j;"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "&x;"),
        ('<!DOCTYPE a [<!ENTITY % x SYSTEM "http://example.invalid/x"> %x;]>', "x"),
        ("<a>" * 100_000, "x"),
        ("", "x" * 3_000_000),
        ("<!--" + "-" * 2_000_000, "x"),
    ],
    ids=["laughs", "external", "parameter", "nested", "long", "comment"],
)
def test_xml_bombs(inner: Path, head: str, label: str) -> None:
    assert codes(voc_folder(inner, voc(head=head, label=label))) & {"refused", "label-malformed"}


def test_an_attribute_bomb(inner: Path) -> None:
    attributes = " ".join(f'a{i}="{i}"' for i in range(100_000))
    codes(voc_folder(inner, voc().replace("<object>", f"<object {attributes}>")))


@pytest.mark.parametrize(
    "text",
    [
        "names: !!python/object/apply:os.system ['touch pwned']\ntrain: images\n",
        "names: !!python/name:os.system\ntrain: images\n",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
        + "names: *i\ntrain: images\n",
        "names: &n [*n]\ntrain: images\n",
        "names: " + "[" * 100_000 + "\ntrain: images\n",
        "names: " + "{a: " * 50_000 + "\ntrain: images\n",
        "names: [x]\ntrain: images\nnc: " + "9" * 100_000 + "\n",
        "names: [x]\ntrain: images\nnc: 1e400\n",
        "names: 2001-99-99\ntrain: images\n",
        "names: {" + ", ".join(f"{i}: x{i}" for i in range(10_000)) + "}\ntrain: images\n",
        "? [a, b]\n: train\ntrain: images\nnames: [x]\n",
        "train: images\nnames: {999999999999: x}\n",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("name", ["data.yaml", "sightline.yaml"])
def test_yaml_bombs(inner: Path, text: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(inner)
    root = yolo_folder(inner)
    (root / name).write_text(text)
    codes(root)
    assert not (root / "pwned").exists()


HUGE = "9" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [], "categories": ' + "[" * 100_000,
        '{"images": [], "categories": [], "annotations": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"images": [], "categories": [], "x": ' + '{"a": ' * 100_000 + "1" + "}" * 100_001,
        coco().replace('"image_id": 1', f'"image_id": {HUGE}'),
        coco().replace("[2, 3,", f"[{HUGE}, 3,"),
        coco().replace('"width": 32', f'"width": {HUGE}'),
        coco().replace('"width": 32', '"width": 1e308'),
        coco().replace('"id": 1, "file', f'"id": -{HUGE}, "file'),
        coco().replace("[2, 3,", "[1e308, -1e308,"),
        coco(annotations=[{"id": 1, "image_id": 1, "category_id": 1, "segmentation": {"size": [2**31, 2**31]}}]),
        coco(
            annotations=[
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
                | {"segmentation": {"size": [24, 32], "counts": [2**62, 2**62, 2**62]}}
            ]
        ),
        coco(
            annotations=[
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
                | {"segmentation": {"size": [24, 32], "counts": "~~~~~~~~~~~~~~~~~~~~~~~~~~~"}}
            ]
        ),
        coco(
            annotations=[
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
                | {"segmentation": [[1e300, 1e300, -1e300, 1e300, 0.0, -1e300]]}
            ]
        ),
        coco().replace('"a.png"', '"\\u0000\\ud800.png"'),
    ],
    ids=range(14),
)
def test_json_bombs(inner: Path, text: str) -> None:
    Image.new("RGB", (32, 24)).save(inner / "a.png")
    (inner / "labels.json").write_text(text)
    codes(inner)


@pytest.mark.parametrize("value", [HUGE, "1e400", "-" + HUGE, "nan", "0x10", "1" + "_0" * 5000])
def test_numbers_without_end_in_text_labels(inner: Path, value: str) -> None:
    root = yolo_folder(inner)
    (root / "labels/a.txt").write_text(f"0 {value} 0.5 0.5 0.5\n{value} 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.2 0.2\n")
    assert codes(root) & {"label-malformed", "label-not-normalised", "label-unknown-class", "label-mixed-coordinates"}
    sequence = root / "sequence"
    (sequence / "gt").mkdir(parents=True)
    (sequence / "gt/gt.txt").write_text(
        f"{value},1,3,5,10,12,1,1,1\n1,{value},3,5,10,12,1,1,1\n1,1,{value},5,1,1,1,1,1\n"
    )
    (sequence / "seqinfo.ini").write_text(f"[Sequence]\nimWidth=32\nimHeight=24\nseqLength={value[:20]}\n")
    assert codes(sequence)


def png(width: int, height: int, *chunks: tuple[bytes, bytes], colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return out


def tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 4, height)]
    entries.append((279, 4, 16))
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4)


def jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    return (
        b"\xff\xd8\xff\xc0"
        + struct.pack(">H", len(frame) + 2)
        + frame
        + b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0\xff\xd9"
    )


ZEROS = zlib.compress(bytes(200 << 20), 9)
BOMBS: dict[str, bytes] = {
    "gigapixel.png": png(100_000, 100_000, (b"IDAT", zlib.compress(bytes(1000)))),
    "most.png": png(2**31 - 1, 2**31 - 1, (b"IDAT", b"")),
    "gigapixel.jpg": jpeg(65_500, 65_500),
    "gigapixel.tif": tiff(200_000, 200_000),
    "gigapixel.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 90_000, 90_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "gigapixel.ppm": b"P6\n100000 100000\n255\n" + bytes(100),
    "text.png": png(1, 1, (b"zTXt", b"a\0\0" + ZEROS), (b"IDAT", zlib.compress(bytes(4)))),
    "profile.png": png(1, 1, (b"iCCP", b"a\0\0" + ZEROS), (b"IDAT", zlib.compress(bytes(4)))),
    "much.png": png(8, 8, (b"IDAT", ZEROS)),
    "empty.png": b"",
    "folder-in-name.png": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_picture_bombs(inner: Path, name: str) -> None:
    (inner / name).write_bytes(BOMBS[name])
    start = time.perf_counter()
    with contextlib.suppress(InputError):
        assert read_image(inner / name).size < 1000
    assert time.perf_counter() - start < HANG_S
    (inner / "labels.json").write_text(coco(name))
    found = codes(inner)
    assert found & {"refused", "image-size-mismatch"} or any(c.startswith("image-") for c in found)


def test_mask_bombs(inner: Path, save_image: Callable[..., Path]) -> None:
    for folder in ("images", "masks"):
        (inner / folder).mkdir()
    for name in "abc":
        Image.new("RGB", (32, 24)).save(inner / f"images/{name}.png")
        Image.fromarray(np.eye(24, 32, dtype=np.uint8)).save(inner / f"masks/{name}.png")
    (inner / "masks/a.png").write_bytes(BOMBS["gigapixel.png"])
    (inner / "masks/b.png").write_bytes(png(32, 24, (b"IDAT", ZEROS), colour=0))
    assert "mask-unreadable" in codes(inner)
    (inner / "sightline.yaml").write_text("classes: {0: road, 1: crack, 16777215: far}\n")
    assert "mask-unreadable" in codes(inner)


def test_links_that_leave_the_folder_are_followed(inner: Path) -> None:
    """A link is the user's own doing: data is often linked together from elsewhere. A path in a label file is not."""
    root = yolo_folder(inner)
    (root / "images/b.png").symlink_to(inner.parent / "secret.png")
    assert codes(root) >= {"label-missing-file", "image-duplicate"}
    (root / "images/c.png").symlink_to(inner / "nowhere.png")
    assert "refused" not in codes(root)
    (root / "images/loop").symlink_to(root / "images")
    assert "refused" not in codes(root)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "pipe", "folder"])
@pytest.mark.parametrize(
    "name",
    ["images/a.png", "labels/a.txt", "data.yaml", "labels.json", "Annotations/a.xml", "train.txt", "sightline.yaml"],
)
def test_things_that_are_no_files(inner: Path, target: str, name: str) -> None:
    """Opening a pipe waits for its other end, and a device never ends: neither may be opened."""
    root = inner
    if name == "labels.json":
        Image.new("RGB", (32, 24)).save(root / "a.png")
    elif name == "Annotations/a.xml":
        voc_folder(root, voc())
    else:
        yolo_folder(root, "train: train.txt\nnames: [x]\n")
        (root / "train.txt").write_text("images/a.png\n")
    (root / name).unlink(missing_ok=True)
    if target == "pipe":
        os.mkfifo(root / name)
    elif target == "folder":
        (root / name).mkdir()
    else:
        (root / name).symlink_to(target)
    codes(root)
    for known in FORMATS.values():
        with contextlib.suppress(InputError):
            known.detect(root)


def test_a_sequence_of_pipes(inner: Path) -> None:
    (inner / "gt").mkdir()
    (inner / "gt/gt.txt").write_text("1,1,3,5,10,12,1,1,1\n")
    os.mkfifo(inner / "gt/labels.txt")
    os.mkfifo(inner / "seqinfo.ini")
    (inner / "img1").mkdir()
    os.mkfifo(inner / "img1/000001.jpg")
    codes(inner)


@pytest.mark.parametrize("number", ["1e308", "-1e308", "1e16"])
def test_one_number_beyond_any_picture_costs_one_row(tmp_path: Path, number: str) -> None:
    sound, damaged = "<ymin>2</ymin>", f"<ymin>{number}</ymin>"
    (tmp_path / "voc").mkdir()
    text = voc().replace("</annotation>", voc().partition("</size>")[2].replace(sound, damaged))
    folders = [voc_folder(tmp_path / "voc", text)]
    for name, file, rows in (
        ("yolo", "labels/a.txt", f"0 .5 .5 .2 .2\n0 .5 .5 {number} .2\n"),
        ("visdrone", "annotations/a.txt", f"1,2,9,9,1,4,0,0\n1,{number},9,9,1,4,0,0\n"),
        ("mot", "gt/gt.txt", f"1,1,2,3,9,9,1,1,1\n1,2,{number},3,9,9,1,1,1\n"),
    ):
        root = tmp_path / name
        (root / file).parent.mkdir(parents=True)
        (root / file).write_text(rows)
        (root / "images").mkdir()
        Image.new("RGB", (32, 24)).save(root / "images/a.png")
        folders.append(root)
    (tmp_path / "mot/seqinfo.ini").write_text("[Sequence]\nimWidth=32\nimHeight=24\n")
    (tmp_path / "cvat").mkdir()
    boxes = "".join(f'<box label="x" xtl="1" ytl="{y}" xbr="9" ybr="8"/>\n' for y in ("2", number))
    (tmp_path / "cvat/annotations.xml").write_text(
        f'<annotations><image name="a.png" width="32" height="24">\n{boxes}</image></annotations>'
    )
    for folder in [*folders, tmp_path / "cvat"]:
        dataset = read_dataset(folder)
        assert (dataset.format, dataset.objects.height) == (folder.name, 1)
        assert [f.line is not None for f in dataset.findings if f.code == "label-malformed"] == [True]


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_links_that_lead_back_up_multiply_nothing(tmp_path: Path, save_image, target: str) -> None:
    for i in range(3):
        save_image(f"set/images/{i}.png")
        (tmp_path / "set/labels").mkdir(exist_ok=True)
        (tmp_path / f"set/labels/{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    for folder in ("images", "labels"):
        (tmp_path / f"set/{folder}/a-link").symlink_to(target)
    (tmp_path / "set/images/loop.png").symlink_to("loop.png")
    data = read_dataset(tmp_path / "set")
    assert data.images["path"].to_list() == [f"images/{i}.png" for i in range(3)]
    assert not [f for f in data.findings if f.code == "label-missing-file"]


def test_a_folder_of_links_to_pictures_elsewhere_is_read(tmp_path: Path, save_image) -> None:
    for i in range(2):
        save_image(f"store/{i}.png")
    (tmp_path / "set/labels").mkdir(parents=True)
    (tmp_path / "set/images").symlink_to("../store")
    for i in range(2):
        (tmp_path / f"set/labels/{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert len(read_dataset(tmp_path / "set")) == 2
