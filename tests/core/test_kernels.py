"""Kernels where nothing can be written: compiled anew, said once, and `doctor` says so."""

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from sightline.core.kernels import cache_folder

# What numba does where neither the package, the home folder nor the place it is told of takes a file.
_NO_PLACE = """
import sys
from numba.core import caching
for kind in (caching.CacheImpl, *caching.CacheImpl.__subclasses__()):
    kind._locator_classes = []
from sightline.cli.main import main
main(sys.argv[1:])
"""


def run(*arguments: str, code: str = _NO_PLACE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "400"})


def test_an_audit_without_a_place_for_kernels(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (32, 24)).save(tmp_path / "images/a.png")
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    done = run("audit", str(tmp_path), "--json")
    assert done.returncode in {0, 1}, done.stderr
    assert json.loads(done.stdout)["findings"]
    assert done.stderr.count("no folder for compiled kernels can be written") == 1


def test_doctor_says_where_kernels_are_kept() -> None:
    checks = {c["name"]: c for c in json.loads(run("doctor", "--json").stdout)["checks"]}
    assert "compiled anew in each run" in checks["kernel cache"]["found"]
    assert "NUMBA_CACHE_DIR" in checks["kernel cache"]["do"]
    assert cache_folder() is not None
