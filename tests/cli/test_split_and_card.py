"""The verbs split and card: from data to files that the other verbs take."""

import json
from pathlib import Path

import pytest
import yaml


def test_split_is_read_by_the_other_verbs(sightline, traffic: Path, tmp_path: Path) -> None:
    data = traffic / "data" if (traffic / "data").is_dir() else traffic
    made = sightline("split", data, "--out", "s.yaml", "--val-fraction", "0.25", "--compare-random", "--json")
    assert made.returncode == 0, made.stderr
    result = json.loads(made.stdout)
    assert [part["split"] for part in result["parts"]] == ["train", "val"]
    assert all(found["divided"] == 0 for found in result["together"].values())
    assert set(result["random_division"]) == set(result["together"])
    audited = sightline("audit", "s.yaml", "--json")
    assert set(json.loads(audited.stdout)["splits"]) == {"train", "val"}
    again = sightline("split", data, "--out", "s.yaml")
    assert again.returncode == 2
    assert "must be a new file" in again.stderr
    kept = sightline("split", data, "--previous", "s.yaml", "--out", "s.yaml", "--json")
    assert json.loads(kept.stdout)["moved"] == 0
    assert json.loads(kept.stdout)["parts"] == result["parts"]
    shown = sightline("split", data, "--out", "folds.yaml", "--k-folds", "2")
    assert "fold" in shown.stdout
    assert (tmp_path / "folds-fold1.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--fractions", "train=0.5,val"], "--fractions must be like train=0.7,val=0.2,test=0.1"),
        (["--fractions", "train=0.5,val=0.6"], "split fractions must be at least 0 and sum to 1"),
        (["--fractions", "train=1", "--k-folds", "3"], "only one of --fractions, --val-fraction and --k-folds"),
        (["--stratify", "colour"], "'stratify.0'"),
        (["--group-by", "^(x"], "must be a regular expression"),
        (["--group-by", "x"], "must have a group in parentheses, or be 'parent'"),
        (["--metadata", "m.csv"], "--metadata needs --group-by"),
        (["--out", "x.csv"], "must be a YAML file"),
        (["--previous", "gone.yaml"], "gone.yaml"),
        (["--fractions", "train=0.5,train=0.5"], "--fractions must name each split once"),
        (["--fractions", "=0.5,val=0.5"], "a split must have a name that a file can have, got ''"),
        (["--fractions", "a/b=0.5,val=0.5"], "a split must have a name that a file can have, got 'a/b'"),
        (["--group-by", "nowhere(x)"], "must be found in paths of the data set"),
        (["--seed", "-1"], "'seed'"),
    ],
)
def test_what_split_refuses(sightline, traffic: Path, arguments: list[str], sentence: str) -> None:
    done = sightline("split", traffic, *arguments)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())


def test_split_replaces_nothing_but_the_division_it_continues(sightline, traffic: Path, tmp_path: Path) -> None:
    (tmp_path / "days.csv").write_text("stem,day\n")
    taken = sightline("split", traffic, "--out", "days.yaml")
    assert taken.returncode == 2
    assert "days.csv: the output must be a new file" in " ".join(taken.stderr.split())
    for name in ("one.yaml", "two.yaml"):
        assert sightline("split", traffic, "--out", name, "--val-fraction", "0.25").returncode == 0
    before = (tmp_path / "two.yaml").read_bytes()
    for arguments in ([traffic, "--previous", "one.yaml"], ["two.yaml", "--previous", "two.yaml"]):
        assert sightline("split", *arguments, "--out", "two.yaml").returncode == 2
    assert (tmp_path / "two.yaml").read_bytes() == before


def test_card(sightline, traffic: Path, tmp_path: Path) -> None:
    assert sightline("card", traffic, "--init").returncode == 0
    stated = yaml.safe_load((tmp_path / "card.yaml").read_text())
    stated["licence"] = "Apache-2.0"
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(stated))
    audit = sightline("audit", traffic, "--json").stdout
    (tmp_path / "audit.json").write_text(audit)
    done = sightline("card", traffic, "--out", "card", "--audit", "audit.json", "--describe", "card.yaml", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert "licence" not in result["not_stated"]
    assert all((tmp_path / file).stat().st_size for file in result["files"])
    shown = sightline("card", traffic)
    assert "licence" in shown.stdout
    # What was changed by hand, or written by another version, is told in a sentence.
    for keys, value in (
        (("splits", "train"), {}),
        (("statistics", "classes", "car"), {}),
        (("statistics", "classes"), [1]),
        (("statistics", "images", "width"), [1.0]),
        (("split_digests",), {"": 5}),
        (("findings", 0), {"code": "x"}),
    ):
        changed = json.loads(audit)
        place = changed
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        (tmp_path / "audit.json").write_text(json.dumps(changed))
        odd = sightline("card", traffic, "--audit", "audit.json")
        assert odd.returncode == 2, odd.stderr
        assert f"audit.json: '{'.'.join(map(str, keys))}" in " ".join(odd.stderr.split())
    (tmp_path / "audit.json").write_text("[1")
    broken = sightline("card", traffic, "--audit", "audit.json")
    assert broken.returncode == 2
    assert "audit.json:1: must be JSON" in " ".join(broken.stderr.split())
