"""Run folders are never overwritten, and provenance names what is needed to make a result again."""

import json
import os
import platform
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sightline.core.errors import ConfigError
from sightline.core.runs import RunFolder, package_versions, provenance, read_record


def test_named_run(tmp_path):
    run = RunFolder.create(tmp_path, "detect", "first.try+2")
    assert run.path == tmp_path / "detect" / "first.try+2"
    assert run.path.is_dir()


def test_a_taken_name_is_refused_and_left_alone(tmp_path):
    run = RunFolder.create(tmp_path, "detect", "mine")
    (run.path / "kept.txt").write_text("kept")
    with pytest.raises(ConfigError, match=r"run 'mine' exists already\. Choose another --name"):
        RunFolder.create(tmp_path, "detect", "mine")
    assert (run.path / "kept.txt").read_text() == "kept"
    assert RunFolder.create(tmp_path, "semantic", "mine").path.is_dir(), "a name is taken within its task only"


def test_without_a_name_the_next_free_number(tmp_path):
    assert [RunFolder.create(tmp_path, "detect").path.name for _ in range(3)] == ["run-1", "run-2", "run-3"]
    (tmp_path / "detect" / "run-2").rmdir()
    assert RunFolder.create(tmp_path, "detect").path.name == "run-2"


def test_runs_started_together_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        paths = [f.result().path for f in [pool.submit(RunFolder.create, tmp_path, "detect") for _ in range(24)]]
    assert len(set(paths)) == 24


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".", "..", "-a", "a b", "a\n", "a\x00"])
def test_names_that_are_no_folder_names_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="a run's name must be"):
        RunFolder.create(tmp_path, "detect", name)


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "detect").write_text("a file")
    with pytest.raises(ConfigError, match="cannot make the run folder"):
        RunFolder.create(tmp_path, "detect", "mine")
    with pytest.raises(ConfigError, match="cannot make the run folder"):
        RunFolder.create(tmp_path / "detect", "x")


def test_sub_folders_and_record(tmp_path):
    run = RunFolder.create(tmp_path, "detect")
    assert run.weights.is_dir()
    assert run.figures == run.path / "figures"
    run.record({"best": np.float64("nan"), "seeds": {"torch": 0}})
    assert read_record(run.path / "run.json") == {"best": None, "seeds": {"torch": 0}}
    edited = (run.path / "run.json").read_text().replace('"torch": 0', '"torch": 1')
    (run.path / "run.json").write_text(edited)
    with pytest.raises(ConfigError, match=r"run\.json: must be as it was written"):
        read_record(run.path / "run.json")


def test_one_process_at_a_time_works_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sightline.core.runs._SHORT_S", 0.1)
    run = RunFolder.create(tmp_path, "detect")
    run.record({})
    left = run.path / ".evaluation-abcd1234.json"
    with run.held(), pytest.raises(ConfigError, match="one process at a time, got one that another process works on"):
        RunFolder.open(run.path)
    left.write_text("{")
    with ThreadPoolExecutor(1) as pool:
        with run.held():
            assert not left.exists()
            kept = pool.submit(run.keep, "video.json", {"frames": 3})  # what is done already waits for its turn
            time.sleep(0.1)
            assert not (run.path / "video.json").exists()
        kept.result()
    assert json.loads((run.path / "video.json").read_text())["frames"] == 3


def test_no_file_of_a_folder_that_is_no_run_is_removed(tmp_path):
    (tmp_path / ".local-settings").write_text("of the user")  # looks like what a killed process leaves behind
    RunFolder(tmp_path).keep("evaluation.json", {})
    assert (tmp_path / ".local-settings").exists()


def git(folder: Path, *arguments: str) -> str:
    who = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org"}
    who |= {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org"}
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **who}
    ).stdout.strip()


def test_provenance_fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-qm", "first")
    facts = provenance(seeds={"torch": 3}, data_digest="ab", command=["sightline", "train"])
    assert facts["command"] == ["sightline", "train"]
    assert facts["git"] == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    assert facts["seeds"] == {"torch": 3}
    assert facts["data_digest"] == "ab"
    assert facts["started"].endswith("+00:00")
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["hardware"]["cores"] >= 1
    assert facts["hardware"]["cpu"]
    json.dumps(facts, allow_nan=False)
    (tmp_path / "a.txt").write_text("two")
    assert provenance(seeds={}, data_digest=None)["git"]["dirty"] is True


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    facts = provenance(seeds={}, data_digest=None)
    assert facts["git"] is None
    assert facts["command"], "the process's own command line"


def test_versions_of_absent_packages_are_none():
    assert package_versions(["numpy", "no-such-package-here"]) == {
        "numpy": np.__version__,
        "no-such-package-here": None,
    }
