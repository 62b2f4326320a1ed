"""COCO files of any size read alike: what the scan of large files gives is what Python's parser gives."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.audit.labels.boxes import check_boxes
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data import read_dataset
from sightline.data.formats.coco import document as coco_document
from sightline.data.formats.coco import scan as coco_scan
from sightline.data.json.places import JsonPlaces, find_values, guess_values
from sightline.data.json.scan import BAD, MAX_DEPTH, parse_integer, parse_number, skip_value
from sightline.ops import rle

HEIGHT, WIDTH = 24, 32
COUNTS = rle.encode(np.pad(np.ones((5, 6), bool), ((3, 16), (4, 22)))).decode()
RUNS = rle.counts_to_runs(COUNTS, (HEIGHT, WIDTH)).tolist()
SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]


def as_bytes(text: str | bytes) -> np.ndarray:
    return np.frombuffer(text.encode() if isinstance(text, str) else text, dtype=np.uint8)


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], tuple[Any, Any]]:
    """What a file is read as by the scan and by the parser: tables and findings, or the error's sentence."""

    def read(file: Path) -> tuple[Any, Any]:
        results = []
        for scan_from in (0, 1 << 60):
            monkeypatch.setattr(coco_document, "SCAN_FROM", scan_from)
            results.append(outcome(file))
        return results[0], results[1]

    return read


def outcome(file: Path) -> Any:
    try:
        dataset = read_dataset(file, format="coco")
        return content(replace(dataset, findings=(*dataset.findings, *check_boxes(dataset))))
    except DataError as error:
        return str(error)


def content(dataset: Dataset) -> tuple[Any, ...]:
    def key(found: Finding) -> str:
        return repr(found)

    tables = [rows(table) for table in (dataset.images, dataset.objects, dataset.classes)]
    return (*tables, dataset.task, sorted(dataset.findings, key=key))


def rows(table: Any) -> list[Any]:
    """Rows in which 0.0 and -0.0 differ."""
    return [repr(row) for row in table.rows()]


def document(annotations: list[Any], **changes: Any) -> dict[str, Any]:
    return {
        "info": {"year": 2017, "note": 'quotes " and \\ and {[,]}'},
        "images": [
            {"license": 4, "id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT, "date": "x"},
            {"id": 9, "file_name": "b.png", "width": WIDTH, "height": HEIGHT},
        ],
        "annotations": annotations,
        "categories": [
            {"id": 5, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]},
            {"id": 2, "name": "dog", "supercategory": "animal"},
        ],
    } | changes


def annotation(number: Any, **changes: Any) -> dict[str, Any]:
    entry = {"id": number, "image_id": 7, "category_id": 5, "bbox": [2, 3, 10, 10], "area": 100, "iscrowd": 0}
    return entry | changes


SOUND = [
    annotation(1, segmentation=[SQUARE, [20, 1, 24.25, 1, 24, 5.5]]),
    annotation(2, segmentation={"size": [HEIGHT, WIDTH], "counts": COUNTS}, area=30.0, image_id=9),
    annotation(3, segmentation={"counts": RUNS, "size": [HEIGHT, WIDTH]}, iscrowd=1, category_id=2),
    annotation(4, bbox=[0.1, 0.2, 0.30000000000000004, 7.7], area=2765.1486500000005, keypoints=[1, 2, 2, 0, 0, 0]),
    annotation(5, bbox=[5, 5, 0, 4], attributes={"occluded": False, "x": [1, {"y": None}]}, segmentation=[]),
    annotation(6, ignore=1, bbox=[-1e0, 2.5e1, 1e-3, 4], num_keypoints=0, keypoints=None, segmentation=None),
    annotation(7, iscrowd=True, area=None, segmentation=[SQUARE], bbox=[2, 3, 10, 10]),
    annotation(8, image_id=404, segmentation={"size": [1, 1], "counts": "1"}),
    annotation(9, category_id=404),
    annotation(10, segmentation=[[1, 1, 2]]),
    annotation(11, segmentation=[SQUARE, [1, 2, 3, 4, 5]]),
    annotation(12, segmentation={"size": [HEIGHT, WIDTH], "counts": [1, 2]}),
    annotation(13, segmentation={"size": [WIDTH, HEIGHT], "counts": RUNS}),
    annotation(14, segmentation={"size": [HEIGHT, WIDTH], "counts": "~~~"}),
    annotation(15, keypoints=[1, 2, 2]),
    annotation(16, keypoints=[1, 2, 7, 3, 4, 0]),
    annotation(16, bbox=[15, 12, 4, 4], area=-3, segmentation=[[15, 12, 19, 12, 19, 16, 15, 16]]),
    annotation(18, bbox=None, segmentation=[SQUARE]),
    annotation(19, bbox=[-0, -0.0, 3, 3], segmentation=[[-0.0, -0, 3, 0, 3, 3]], área="größe"),
    {k: v for k, v in annotation(20).items() if k not in {"iscrowd", "area"}},
]
ODD = [
    "no object",
    annotation("21"),
    annotation(22.0),
    annotation(23, bbox=["1", 2, 3, 4]),
    annotation(24, bbox=[1, 2, 3]),
    annotation(25, bbox=[float("nan"), 1, 2, 3]),
    annotation(26, segmentation="polygon"),
    annotation(27, segmentation=[1, 2, 3, 4, 5, 6]),
    annotation(28, segmentation=[[1, 2, "x", 4, 5, 6]]),
    annotation(29, segmentation=[[1, 2, float("inf"), 4, 5, 6]]),
    annotation(30, iscrowd="0"),
    annotation(31, keypoints=[1, 2, "v"]),
    annotation(32, keypoints="all"),
    {"id": 33},
    annotation(2**70),
    annotation(35, segmentation={"size": [HEIGHT, WIDTH], "counts": [1.5, 2]}),
    annotation(36, segmentation={"size": None}),
]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_scan_and_parser_agree(tmp_path: Path, both, indent: int | None, ending: str) -> None:
    file = tmp_path / "labels.json"
    text = json.dumps(document(SOUND), indent=indent, ensure_ascii=False).replace("\n", ending)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    scanned, parsed = both(file)
    assert scanned == parsed
    assert {f.code for f in scanned[-1]} >= {
        "label-degenerate-box",
        "label-unknown-image",
        "label-unknown-class",
        "label-bad-segmentation",
        "label-bad-keypoints",
        "label-duplicate-id",
    }
    assert len(scanned[1]) == len(SOUND) - 2


def test_a_file_of_the_usual_form_is_never_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(document(SOUND)))
    monkeypatch.setattr(coco_document, "SCAN_FROM", 0)
    monkeypatch.setattr(coco_document, "_parse", lambda *_: pytest.fail("the whole file was parsed"))
    assert len(read_dataset(file, format="coco").objects) == len(SOUND) - 2
    text = json.dumps(document([*SOUND, annotation(40)]))
    for changed in (json.dumps(document([*SOUND, ODD[0]])), text.replace('"id": 40', r'"\u0069d": 40')):
        file.write_text(changed)
        with pytest.raises(pytest.fail.Exception):
            read_dataset(file, format="coco")


def test_memory_given_back_while_reading_is_read_again(tmp_path: Path) -> None:
    """A large file whose last entry is odd is parsed whole, after most of its text has been let go of; lines too."""
    entries = [annotation(number) | {"note": "x" * 150} for number in range(40_000)]
    entries[5]["category_id"] = 77
    file = tmp_path / "labels.json"
    for last in ([], [ODD[0]]):
        file.write_text(json.dumps(document([*entries, *last]), indent=0))
        dataset = read_dataset(file, format="coco")
        assert len(dataset.objects) == len(entries) - 1
        (found,) = (f for f in dataset.findings if f.code == "label-unknown-class")
        assert '"id": 5,' in "".join(file.read_text().splitlines()[found.line - 1 : found.line + 3])


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_what_the_scan_leaves_to_the_parser(tmp_path: Path, both, odd: Any) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(document([SOUND[0], odd, SOUND[1]]), indent=1))
    scanned, parsed = both(file)
    assert scanned == parsed
    assert isinstance(scanned, tuple)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: dict(sorted(d.items())),  # annotations first
        lambda d: {k: d[k] for k in ("categories", "images", "annotations")},  # annotations last
        lambda d: d | {"annotations": []},
        lambda d: {k: v for k, v in d.items() if k != "annotations"},
        lambda d: d | {"annotations": {}},
        lambda d: d | {"images": 3},
        lambda d: {k: v for k, v in d.items() if k != "categories"},
        lambda d: d | {"categories": [{"id": 5, "name": '], "categories": ['}, {"id": 2, "name": "dog"}]},
        lambda d: d | {"images": [i | {"width": None} for i in d["images"]]},
        lambda d: d | {"images": [*d["images"], "b.png", {"id": "x"}, d["images"][0]]},
        lambda d: d | {"zebra": [[[]]], "notes": {"a": {}}},
    ],
)
def test_order_and_shape_of_the_file(tmp_path: Path, both, change) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(change(document(SOUND[:4])), indent=2))
    scanned, parsed = both(file)
    assert scanned == parsed


def test_every_cut_and_every_changed_byte(tmp_path: Path, both) -> None:
    """Damage anywhere: the same tables, the same findings or the same sentence."""
    file = tmp_path / "labels.json"
    whole = json.dumps(document(SOUND[:5])).encode()
    rng = np.random.default_rng(0)
    for number, place in enumerate(rng.permutation(len(whole))[:120].tolist()):
        changed = bytearray(whole)
        if number % 3 == 0:
            del changed[place:]
        elif number % 3 == 1:
            changed[place] = int(rng.choice(list(b'{}[],:"0123456789-+.eE \\tnNx\x00\xff')))
        else:
            changed[place:place] = bytes(rng.choice(list(b'{}[],:"019-+.e \\nN'), 2).tolist())
        file.write_bytes(bytes(changed))
        scanned, parsed = both(file)
        assert scanned == parsed, bytes(changed[max(place - 20, 0) : place + 20])


def test_parts_join(tmp_path: Path, both, monkeypatch: pytest.MonkeyPatch) -> None:
    """More entries than a part takes, and one with more coordinates than a part has room for."""
    monkeypatch.setattr(coco_scan, "MAX_ENTRIES", 7)
    monkeypatch.setattr(coco_scan, "MAX_COORDINATES", 16)
    long = [float(v) for v in np.round(np.random.default_rng(1).uniform(0, 20, 200), 3)]
    entries = [annotation(i, segmentation=[SQUARE], bbox=[2, 3, 10 + i / 8, 10]) for i in range(40)]
    entries[20]["segmentation"] = [long]
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(document(entries), indent=1))
    scanned, parsed = both(file)
    assert scanned == parsed
    assert len(scanned[1]) == 40


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(0, 5000).map(repr),
    st.floats(0, 5000).map("{:.2f}".format),
    st.integers(-(10**25), 10**25).map(str),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,21})?([eE][+-]?[0-9]{1,3})?\Z"),
)


@settings(max_examples=500)
@given(numbers)
def test_numbers_are_read_to_the_last_bit(text: str) -> None:
    value, end, exact = parse_number(as_bytes(text + ","), 0)
    assert end == len(text)
    if exact:
        assert struct.pack("d", value) == struct.pack("d", float(json.loads(text)))
    else:  # a power of ten, or more digits than 64 bits hold
        assert "e" in text.lower() or sum(c.isdigit() for c in text) > 19 or len(text.partition(".")[2]) > 18


@settings(max_examples=300)
@given(st.integers(1, 2**52), st.integers(0, 40))
def test_halves_go_to_even(mantissa: int, shift: int) -> None:
    """Decimals exactly between two floats, where rounding is easiest to get wrong."""
    half = Fraction(2 * mantissa + 1, 2 ** (shift + 1))
    text = f"{half.numerator * 10**shift * 10 // half.denominator:0{shift + 2}d}"
    text = f"{text[: -shift - 1]}.{text[-shift - 1 :]}"
    text = text.lstrip("0") if not text.lstrip("0").startswith(".") else "0" + text.lstrip("0")
    value, _, exact = parse_number(as_bytes(text + ","), 0)
    assert not exact or value == float(text)


@pytest.mark.parametrize("text", ["01", "1.", ".5", "-", "+1", "1e", "1.e3", "--1", "-01", "1e+", "x"])
def test_what_is_no_number(text: str) -> None:
    assert parse_number(as_bytes(text + ","), 0)[1] == BAD


@given(st.one_of(st.integers(-(10**18) + 1, 10**18 - 1).map(str), numbers))
def test_integers(text: str) -> None:
    value, end = parse_integer(as_bytes(text + ","), 0)
    whole = text.lstrip("-").isdigit() and len(text.lstrip("-")) <= 18
    assert (end == len(text)) == whole
    assert end == BAD or value == int(text)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@settings(max_examples=200)
@given(values, st.booleans(), st.integers(0, 4))
def test_values_are_skipped_whole(value: Any, ascii_only: bool, indent: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent or None)
    stack = np.empty(MAX_DEPTH, dtype=np.uint8)
    data = as_bytes(f" {text} ".encode("utf-8", "surrogatepass"))
    assert skip_value(data, 0, stack) == len(data) - 1


@settings(max_examples=400)
@given(st.text(alphabet='{}[],:"0129-+.eEtrufalsn \\\n', max_size=12))
def test_nothing_else_is_skipped(text: str) -> None:
    """Whatever the parser refuses is refused, and whatever it takes is taken."""
    stack = np.empty(MAX_DEPTH, dtype=np.uint8)
    try:
        json.loads(text)
        valid = True
    except ValueError:
        valid = False
    data = as_bytes(text)
    end = skip_value(data, 0, stack)
    assert (end != BAD and not text[end:].strip(" \t\r\n")) == valid


def test_nesting_has_an_end() -> None:
    stack = np.empty(MAX_DEPTH, dtype=np.uint8)
    assert skip_value(as_bytes("[" * MAX_DEPTH + "]" * MAX_DEPTH), 0, stack) == 2 * MAX_DEPTH
    assert skip_value(as_bytes("[" * (MAX_DEPTH + 1)), 0, stack) == BAD


def test_values_and_lines_are_found() -> None:
    text = '{\n "a": [1,\n {"b": "]"},\r\n [2]\r, 3], "list": [[], {}\n], "z\\u0061": {}}\n'
    data = as_bytes(text)
    spans = find_values(data)
    assert spans is not None
    assert {k: json.loads(text[a:b]) for k, (a, b) in spans.items()} == json.loads(text.replace("\r", "\n"))
    assert guess_values(data, "list", "za") is None  # the key is written in another way
    assert guess_values(data, "list", "a") is None  # nor does the list stand last
    assert guess_values(as_bytes('{"a": 1, "list": [[]], "b": 2}'), "list", "b") == {
        "a": (6, 7),
        "list": (17, 21),
        "b": (28, 29),
    }
    assert guess_values(as_bytes('{"b": 2, "list": [[]]\n }'), "list", "b") == {"b": (6, 7), "list": (17, 21)}
    places = JsonPlaces(data)
    assert places.lines("a", [0, 1, 2, 3, 9]) == {0: 2, 1: 3, 2: 4, 3: 5}
    assert places.lines("list", [1]) == {1: 5}
    assert places.lines("nothing", [0]) == {}
    assert find_values(as_bytes("[1]")) is None
    assert find_values(as_bytes('{"a": 1} x')) is None


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name",
    [
        "coco_nuts/data/trainval.json",
        "coco128_lightly/derived_coco_instances/instances_val2017.json",
        "coco128_lightly/derived_coco_instances/instances_train2017.json",
        "format_samples/coco6_instances/annotations.json",
        "fixtures/coco_fake100/instances_val2014_100.json",
    ],
)
def test_real_files(data_root: Path, both, name: str) -> None:
    file = data_root / name
    if not file.exists():
        pytest.skip(f"{name} is absent")
    scanned, parsed = both(file)
    assert scanned == parsed
    assert isinstance(scanned, tuple)


def test_lines_of_entries_are_found_behind_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_bytes(b'\xef\xbb\xbf{"images": [],\n"annotations": [\n{"id": 1},\n\n{"id": 2}],\n"categories": []}')
    assert coco_document.entry_lines(file, [0, 1]) == {0: 3, 1: 5}
