"""The page of an audit and the files of a look: everything inside, everything escaped, nothing overwritten."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.audit import audit_dataset
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.data import read_dataset
from sightline.data.codes import finding
from sightline.draw.look import LookOptions, look_at
from sightline.report.audit_page import MAX_PLACES, write_audit_page
from sightline.report.look_page import write_look

HOSTILE = "<img src=x onerror=alert(1)>"


class _Reader(HTMLParser):
    """Collects tags with attributes, and the text that is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read_page(path: Path) -> _Reader:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def check_is_inert(page: _Reader) -> None:
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name) is None or re.match(r"data:image/jpeg|#", str(attributes[name]))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Two hostile names, a box outside its image, a copy in the other split, a broken file."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for split, name in (("train", f"{HOSTILE}"), ("train", "b"), ("train", "broken"), ("val", "copy")):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        image = root / "images" / split / f"{name}.png"
        Image.fromarray(pixels if name in {"b", "copy"} else 255 - pixels).save(image)
        (root / "labels" / split / f"{name}.txt").write_text("0 0.9 0.5 0.4 0.2\n1 0.3 0.3 0.2 0.2\n")
    broken = root / "images/train/broken.png"
    broken.write_bytes(broken.read_bytes()[:900])
    names = [HOSTILE, "größe & co"]
    (root / "data.yaml").write_text(json.dumps({"train": "images/train", "val": "images/val", "names": names}))
    return read_dataset(root / "data.yaml")


def test_the_page_has_every_code_with_places_and_pictures(data: Dataset, tmp_path: Path) -> None:
    result = audit_dataset(data)
    written = write_audit_page(data, result, tmp_path / "a.html")
    page = read_page(written.path)
    check_is_inert(page)
    text = " ".join("".join(page.text).split())
    anchors = {str(a["id"]) for tag, a in page.tags if tag == "article"}
    assert anchors == set(result.counts_by_code)
    assert {"label-out-of-bounds", "split-overlap-bytes"} <= anchors
    assert HOSTILE in text
    assert "labels/train/b.txt:1" in text
    assert "größe & co" in text
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert len(pictures) == written.pictures >= 4
    assert written.size_bytes == written.path.stat().st_size < 2_000_000
    linked = {str(a["href"])[1:] for tag, a in page.tags if tag == "a"}
    assert linked <= {str(a["id"]) for _, a in page.tags if "id" in a}


def test_places_beyond_the_first_are_counted(data: Dataset, tmp_path: Path) -> None:
    many = tuple(finding("label-tiny", f"number {i}", path="labels/train/b.txt", line=i) for i in range(1, 81))
    result = replace(audit_dataset(data), findings=many)
    page = read_page(write_audit_page(data, result, tmp_path / "a.html").path)
    text = "".join(page.text)
    assert f"number {MAX_PLACES}" in text
    assert f"number {MAX_PLACES + 1}" not in text
    assert f"and {80 - MAX_PLACES} more" in text


def test_nothing_found_is_said(data: Dataset, tmp_path: Path) -> None:
    result = replace(audit_dataset(data), findings=())
    page = read_page(write_audit_page(data, result, tmp_path / "a.html").path)
    assert "The audit found nothing to report." in "".join(page.text)


def test_a_look_is_written_and_replaced(data: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "look"
    findings = audit_dataset(data).findings
    result = write_look(data, look_at(data, LookOptions(imgsz=96), findings), out)
    names = {f.name for f in result.files}
    assert {"look.html", "look.json", "images.png", "class-000.png", "finding-label-out-of-bounds.png"} <= names
    assert {f.name for f in out.iterdir()} == names
    page = read_page(out / "look.html")
    check_is_inert(page)
    assert HOSTILE in "".join(page.text)
    listed = json.loads((out / "look.json").read_text())
    assert [len(s["cells"]) for s in listed["sheets"]] == [count for _, _, count in result.sheets]
    again = write_look(data, look_at(data, LookOptions(imgsz=96, per_class=0)), out, "png")
    assert {f.name for f in out.iterdir()} == {f.name for f in again.files} == {"images.png", "look.json"}


def test_no_foreign_file_is_replaced(data: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "images.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"no other 'images.png'"):
        write_look(data, look_at(data, LookOptions(imgsz=96)), out)
    assert [f.name for f in out.iterdir()] == ["images.png"]
    assert (out / "images.png").read_bytes() == b"mine"


def test_a_list_of_a_look_names_plain_files_only(data: Dataset, tmp_path: Path) -> None:
    out, other = tmp_path / "look", tmp_path / "other.txt"
    out.mkdir()
    other.write_text("mine")
    (out / "look.json").write_text(json.dumps({"made_by": "sightline look", "files": ["../other.txt", "old.png"]}))
    (out / "old.png").write_bytes(b"old")
    write_look(data, look_at(data, LookOptions(imgsz=96, per_class=0)), out, "png")
    assert other.read_text() == "mine"
    assert not (out / "old.png").exists()


def test_pictures_are_not_written_into_the_data(data: Dataset) -> None:
    before = sorted(data.root.rglob("*"))
    with pytest.raises(ConfigError, match="outside the data set's folder"):
        write_look(data, look_at(data), data.root / "look")
    assert sorted(data.root.rglob("*")) == before
