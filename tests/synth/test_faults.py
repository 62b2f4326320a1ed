"""Faults are planted where they are said to be, and the audit finds each under its code and nothing else."""

import json

import pytest

from sightline.core.errors import ConfigError, DataError
from sightline.data.codes import CODES
from sightline.synth.faults import FAULTS, FAULTS_RECORD, plant_faults, run_drill

ABOUT_NO_DATA = ("layout-", "loss-", "card-")  # said of folders, of writing and of cards
ONE_OF_EACH_KIND = ["image-corrupt", "label-mixed-coordinates", "mask-interpolated", "split-overlap-near"]


def test_every_code_about_data_can_be_planted():
    assert {c for c in CODES if not c.startswith(ABOUT_NO_DATA)} == set(FAULTS)


def test_what_is_planted_is_recorded_and_a_seed_gives_it_again(tmp_path):
    first = plant_faults("label-malformed", tmp_path / "a", seed=4)
    assert first == plant_faults("label-malformed", tmp_path / "b", seed=4)
    record = json.loads((tmp_path / "a" / FAULTS_RECORD).read_text())
    assert record["planted"] == [{"code": f.code, "path": f.path, "line": f.line} for f in first]
    line = (tmp_path / "a" / first[0].path).read_text().splitlines()[first[0].line - 1]
    assert "half" in line


def test_an_unknown_fault_and_a_used_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'image-corupt'.*image-corrupt"):
        plant_faults("image-corupt", tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="new or empty"):
        plant_faults("image-corrupt", tmp_path / "full")


def test_a_fault_of_each_kind_is_found_and_sound_data_is_not_accused():
    result = run_drill(ONE_OF_EACH_KIND)
    assert [(r.code, r.missed, r.strangers) for r in result.rows if r.missed or r.strangers] == []
    assert result.passed
    assert sum(r.planted for r in result.rows) == len(ONE_OF_EACH_KIND)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_fault_is_found(seed):
    result = run_drill(seed=seed)
    assert [(r.code, r.base, r.missed, r.strangers) for r in result.rows if r.missed or r.strangers] == []
