"""No verb writes over a file it reads, under its own name, by hard link or symlink; nor begins what must fail."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sightline.cli.main import main

Link = Callable[[Path, Path], object]
LINKS: dict[str, Link] = {
    "hard": lambda source, name: name.hardlink_to(source),
    "symlink": lambda source, name: name.symlink_to(source),
}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    return int(done.value.code or 0)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    Image.new("RGB", (32, 24)).save(tmp_path / "set/a.png")
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "area": 100, "iscrowd": 0}
    images = [{"id": 1, "file_name": "a.png", "width": 32, "height": 24}]
    content = {"images": images, "annotations": [entry], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "set/labels.json").write_text(json.dumps(content))
    return tmp_path / "set"


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_the_plain_name_of_a_label_file(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(coco)
    assert run("audit", coco, "--out", coco / "labels.json") == 2
    assert "the output must not be a file that is read" in capsys.readouterr().err
    assert run("audit", coco / "labels.json", "--out", coco / "labels.json") == 2
    assert files(coco) == before


@pytest.mark.parametrize("verb", [("augment",), ("anchors",), ("profile", "--model", "yolo11n", "--data")])
def test_results_of_the_training_data(coco: Path, verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    before = files(coco)
    assert run(*verb, coco, "--out", coco / "labels.json") == 2
    assert "the output must not be a file that is read" in capsys.readouterr().err
    assert files(coco) == before


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("source", ["labels.json", "a.png"])
@pytest.mark.parametrize("option", ["--out out.json", "--html out.html", "--quarantine out.yaml"])
def test_links_to_what_an_audit_reads(coco: Path, link: str, source: str, option: str) -> None:
    name, file = option.split()
    LINKS[link](coco / source, coco.parent / file)
    before = files(coco)
    assert run("audit", coco, name, coco.parent / file) == 2
    assert files(coco) == before


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", ["card.md", "croissant.json"])
def test_links_in_the_folder_of_a_card(coco: Path, link: str, name: str) -> None:
    (coco.parent / "card").mkdir()
    LINKS[link](coco / "labels.json", coco.parent / "card" / name)
    before = files(coco)
    assert run("card", coco, "--out", coco.parent / "card") == 2
    assert files(coco) == before


@pytest.mark.parametrize("link", LINKS)
def test_links_where_an_evaluation_is_written(coco: Path, link: str) -> None:
    found = coco.parent / "found.json"
    found.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.9}]))
    (coco.parent / "out").mkdir()
    LINKS[link](coco / "labels.json", coco.parent / "out/evaluation.json")
    before = files(coco)
    assert run("eval", "--data", coco, "--predictions", found, "--out", coco.parent / "out") == 2
    assert files(coco) == before


def test_what_an_audit_wrote_may_be_written_again(coco: Path) -> None:
    for _ in range(2):
        assert run("audit", coco, "--out", coco / "audit.json", "--html", coco.parent / "audit.html") == 0


def test_a_place_that_takes_no_file_is_said_before_the_work(
    coco: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sightline.audit.audit_dataset", lambda *a, **k: pytest.fail("the work was begun"))
    (coco.parent / "file").write_text("")
    (coco.parent / "folder.html").mkdir()
    for place in ("file/page.html", "folder.html"):
        assert run("audit", coco, "--html", coco.parent / place) == 2
        assert "cannot be written or read" in capsys.readouterr().err
