"""The data card: what is stated is shown, what is not is said so, and Croissant validates and loads offline."""

import json
from itertools import islice
from pathlib import Path

import mlcroissant
import numpy as np
import pytest
import yaml
from PIL import Image

from sightline.audit import audit_dataset
from sightline.core.errors import ConfigError, DataError
from sightline.data import read_dataset
from sightline.report.card_text import CardText, write_template
from sightline.report.croissant import CONFORMS_TO
from sightline.report.dataset_card import write_card

# What mlcroissant and its dependencies are warned of: deprecated classes, files left open.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlcroissant"),
]

STATED = {
    "name": "Nuts & <bolts>",
    "description": "Nuts on a belt.",
    "version": "1.2.0",
    "date_published": "2026-01-31",
    "url": "https://example.org/nuts",
    "licence": "https://spdx.org/licenses/CC-BY-4.0.html",
    "creators": [{"name": "A. Maker"}, {"name": "Nut Works", "kind": "organization", "url": "https://example.org"}],
    "citation": "A. Maker, Nuts, 2026",
    "keywords": ["nuts"],
    "sources": [{"name": "belt camera 3", "licence": "own"}],
    "collection": "One camera, March 2025.",
    "annotation": "Two people, boxes.",
    "personal_data": "None.",
    "classes": {"nut": "hexagonal | with thread", "bolt": "with head"},
    "policies": dict.fromkeys(("edge_cases", "ignore_regions", "occlusion", "smallest_object"), "as seen"),
    "split_unit": "shift",
    "known_artefacts": ["dust on the lens"],
    "intended_use": "Counting.",
    "limitations": "One belt only.",
    "metrics": ["count error per image"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for split, name in (("train", "a 1"), ("train", "b"), ("val", "c"), ("shop", "d")):
        image = root / f"images/{split}/{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(image)
        label = root / f"labels/{split}/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.25 0.5\n")
    text = "train: images/train\nval: images/val\ntest: images/shop\nnames: [nut, bolt]\n"
    (root / "data.yaml").write_text(text)
    return root


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    root = tmp_path / "masks_data"
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for kind, values in (("images", rng.integers(0, 256, (24, 32, 3))), ("masks", rng.integers(0, 2, (24, 32)))):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(root / kind / f"{name}.png")
    return root


def make(folder: Path, out: Path, text: CardText | None = None):
    dataset = read_dataset(folder)
    return write_card(dataset, text or CardText(), audit_dataset(dataset), out)


def load(out: Path) -> mlcroissant.Dataset:
    croissant = mlcroissant.Dataset(jsonld=out / "croissant.json")
    assert not croissant.metadata.ctx.issues.errors
    return croissant


def test_croissant_validates_and_loads(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "card"
    make(folder, out, CardText.load(STATED))
    croissant = load(out)
    assert not croissant.metadata.ctx.issues.warnings
    assert json.loads((out / "croissant.json").read_text())["conformsTo"] == CONFORMS_TO
    images = list(croissant.records("images"))
    assert [i["images/path"].decode() for i in images] == read_dataset(folder).images.sort("path")["path"].to_list()
    assert {i["images/split"].decode() for i in images} == {"train", "val", "test"}
    objects = list(croissant.records("objects"))
    assert len(objects) == 8
    assert objects[0]["objects/class"] == b"nut"
    assert objects[0]["objects/bbox"] == [8.0, 6.0, 24.0, 18.0]
    pictures = list(croissant.records("pictures"))
    assert {p["pictures/path"] for p in pictures} == {i["images/path"] for i in images}
    assert all(p["pictures/image"].size == (32, 24) for p in pictures)
    assert [c["classes/definition"] for c in croissant.records("classes")] == ["hexagonal | with thread", "with head"]
    splits = {s["splits/name"]: s["splits/url"] for s in croissant.records("splits")}
    assert splits == {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}


def test_a_changed_table_is_refused_by_its_digest(folder: Path, tmp_path: Path) -> None:
    make(folder, tmp_path / "card")
    with (tmp_path / "card/objects.csv").open("a") as handle:
        handle.write("99,images/train/b.png,nut,1 1 2 2,1,false,false\n")
    with pytest.raises(Exception, match="during the operation"):
        list(load(tmp_path / "card").records("objects"))


def test_semantic_data_has_masks_and_no_objects(masks: Path, tmp_path: Path) -> None:
    result = make(masks, tmp_path / "card")
    assert [f.name for f in result.files] == ["card.md", "card.html", "croissant.json", "images.csv"]
    croissant = load(tmp_path / "card")
    assert [i["images/mask_path"] for i in croissant.records("images")] == [b"masks/a.png", b"masks/b.png"]
    assert "mean IoU" in (tmp_path / "card/card.md").read_text()


def test_nothing_is_made_up(folder: Path, tmp_path: Path) -> None:
    result = make(folder, tmp_path / "card")
    assert {"licence", "creators", "policies.occlusion", "classes.nut"} <= set(result.not_stated)
    document = json.loads((tmp_path / "card/croissant.json").read_text())
    assert not {"license", "creator", "description", "url", "version", "citeAs"} & set(document)
    page = (tmp_path / "card/card.html").read_text()
    text = (tmp_path / "card/card.md").read_text()
    assert page.count("not stated") > 15
    assert "| licence | not stated |" in text
    assert "'licence' is not stated" in text
    assert "2 of 2 classes have no definition: nut, bolt" in text


def test_what_is_stated_is_shown_and_escaped(folder: Path, tmp_path: Path) -> None:
    result = make(folder, tmp_path / "card", CardText.load(STATED))
    assert result.not_stated == ()
    page, text = ((tmp_path / f"card/card.{kind}").read_text() for kind in ("html", "md"))
    assert "Nuts &amp; &lt;bolts&gt;" in page
    assert "<bolts>" not in page
    assert "# Nuts & \\<bolts\\>" in text
    assert r"hexagonal \| with thread" in text
    for statement in ("dust on the lens", "One belt only.", "belt camera 3 (own)", "count error per image", "mAP50-95"):
        assert statement in page
        assert statement in text
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "not stated" not in page


def test_findings_are_shown_by_code_and_a_foreign_audit_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "labels/val/c.txt").write_text("0 0.5 0.5 0 0.5\n")
    dataset = read_dataset(folder)
    audit = audit_dataset(dataset)
    write_card(dataset, CardText(), audit, tmp_path / "card")
    text = (tmp_path / "card/card.md").read_text()
    assert "| error | label-degenerate-box | 1 | labels/val/c.txt:1 |" in text
    assert "The audit is of other labels" not in text
    (folder / "labels/val/c.txt").write_text("0 0.5 0.5 0.1 0.5\n")
    write_card(read_dataset(folder), CardText(), audit, tmp_path / "card")
    assert "The audit is of other labels" in (tmp_path / "card/card.md").read_text()


def test_a_missing_image_is_named(folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)
    audit = audit_dataset(dataset)
    (folder / "images/val/c.png").unlink()
    with pytest.raises(DataError, match=r"images/val/c.png: cannot read the image"):
        write_card(dataset, CardText(), audit, tmp_path / "card")


def test_the_template_asks_for_everything(tmp_path: Path) -> None:
    file = tmp_path / "card.yaml"
    write_template(file, ["nut", "on", 'with: "quotes" # and more'])
    values = yaml.safe_load(file.read_text())
    assert list(values) == list(CardText.model_fields)
    text = CardText.read(file)
    assert text == CardText(classes=dict.fromkeys(["nut", "on", 'with: "quotes" # and more']))
    with pytest.raises(ConfigError, match="must be a new file"):
        write_template(file, [])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"date_published": "yesterday"}, r"'date_published': must be a date as 2026-01-31, got 'yesterday'"),
        ({"license": "MIT"}, r"unknown key 'license' \(nearest: licence"),
        ({"policies": {"oclusion": "x"}}, r"unknown key 'oclusion' under 'policies' \(nearest: occlusion"),
        ({"classes": {"nutt": "x"}}, r"unknown class 'nutt' \(nearest: nut"),
        ({"creators": ["me"]}, "'creators.0'"),
    ],
)
def test_wrong_keys_are_named(values: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        CardText.load(values).check_classes(["nut", "bolt"])


@pytest.mark.real_data
def test_instances_with_polygons(data_root: Path, tmp_path: Path) -> None:
    make(data_root / "coco_nuts", tmp_path / "card")
    first = next(islice(load(tmp_path / "card").records("objects"), 1))
    outline = json.loads(first["objects/polygon"])
    assert len(outline[0]) >= 6
