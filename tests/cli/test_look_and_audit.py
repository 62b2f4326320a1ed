"""`sightline look` and what `sightline audit` writes."""

import json

import pytest

from sightline.audit import AuditOptions
from sightline.data import read_dataset


def test_look_draws_a_data_set(sightline, traffic, tmp_path):
    done = sightline("look", traffic, "--images", 3, "--per-class", 2, "--imgsz", 96, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    name = read_dataset(traffic).name
    assert f"look/{name}/look.html" in result["files"]
    assert all((tmp_path / f).is_file() for f in result["files"])
    assert result["sheets"][0]["pictures"] == 3


def test_look_shows_tracks_splits_and_findings(sightline, traffic, tmp_path):
    done = sightline("look", traffic / "video", "--imgsz", 96, "--out", "t", "--images", 0, "--per-class", 0)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "t").glob("tracks-*.png"))
    assert sightline("audit", traffic, "--out", "a.json").returncode == 0
    options = ("--split", "val", "--audit", "a.json", "--finding", "all", "--format", "html", "--imgsz", 96)
    assert sightline("look", traffic, "--out", "v", *options).returncode == 0
    assert {f.name for f in (tmp_path / "v").iterdir()} == {"look.html", "look.json"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--finding", "label-tny"), "unknown finding 'label-tny' (nearest: label-tiny"),
        (("--split", "nowhere"), "split 'nowhere' is not in data set"),
        (("--audit", "gone.json"), "gone.json"),
        (("--images", "-1"), "--images"),
        (("--imgsz", "8"), "--imgsz"),
    ],
)
def test_look_refuses_in_one_sentence(sightline, traffic, arguments, sentence):
    done = sightline("look", traffic, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_look_refuses_the_data_folder_and_other_json(sightline, traffic, tmp_path):
    done = sightline("look", traffic, "--out", traffic / "look")
    assert done.returncode == 2
    assert "outside the data set's folder" in done.stderr
    (tmp_path / "other.json").write_text('{"findings": [{"code": 3}]}')
    done = sightline("look", traffic, "--audit", "other.json")
    assert done.returncode == 2
    assert "other.json" in done.stderr


def test_audit_writes_page_json_and_quarantine(sightline, traffic, tmp_path):
    done = sightline("audit", traffic, "--html", "p.html", "--out", "a.json", "--quarantine", "q.yaml")
    assert done.returncode == 0, done.stderr
    assert "images" in done.stdout
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    result = json.loads((tmp_path / "a.json").read_text())
    del result["seal"]  # what is edited on purpose cannot carry it
    assert result["images"] == 8
    assert len(read_dataset(tmp_path / "q.yaml")) == 8
    again = sightline("audit", traffic, "--since", "a.json", "--json")
    assert "split-changed" not in json.loads(again.stdout)["counts_by_code"]
    result["split_digests"] = {name: f"{text}0" for name, text in result["split_digests"].items()}
    (tmp_path / "a.json").write_text(json.dumps(result))
    changed = sightline("audit", traffic, "--since", "a.json", "--fail-on", "warning")
    assert changed.returncode == 1
    assert "split-changed" in changed.stdout


def test_every_setting_of_the_audit_is_an_option(sightline, traffic):
    given = {
        name: field.default / 2 if isinstance(field.default, float) and field.default <= 1 else field.default + 1
        for name, field in AuditOptions.model_fields.items()
    }
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    done = sightline("audit", traffic, *words, "--json")
    assert done.returncode == 0, done.stderr
    conventions = json.loads(done.stdout)["conventions"]
    assert {name: conventions[name] for name in given} == given
    help_text = sightline("audit", "--help").stdout
    assert "--blur-factor" in help_text
    assert "[default: 0.98]" in help_text


def test_audit_judges_labels_by_predictions(sightline, traffic, tmp_path):
    dataset = read_dataset(traffic)
    objects = dataset.objects.head(20)
    entries = [
        {"image_id": i, "category_id": (c + 1) % 4 + 1, "score": 0.99, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for i, c, x1, y1, x2, y2 in objects.select("image_id", "class_id", "x1", "y1", "x2", "y2").iter_rows()
    ]
    (tmp_path / "p.json").write_text(json.dumps(entries))
    done = sightline("audit", traffic, "--predictions", "p.json", "--html", "p.html", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts_by_code"]["label-swapped"] > 0
    assert 'id="label-swapped"' in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--html", "page.txt"), "--html must name a file that ends in .html"),
        (("--quarantine", "q.txt"), "--quarantine must name a file that ends in .yaml"),
        (("--since", "gone.json"), "gone.json"),
        (("--predictions", "gone.json"), "gone.json"),
        (("--imgsz", "0"), "--imgsz: input should be greater than or equal to 1, got '0'."),
        (("--blur-faktor", "3"), "unknown option --blur-faktor of 'sightline audit' (nearest: --blur-factor)"),
    ],
)
def test_audit_refuses_in_one_sentence(sightline, traffic, arguments, sentence):
    done = sightline("audit", traffic, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
