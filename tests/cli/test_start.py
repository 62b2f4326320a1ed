"""What a verb loads before it has anything to do: its help must not wait for what only its work needs."""

import subprocess
import sys

import pytest

from sightline.data import WRITTEN_NAMES

CALL = """
import sys
from sightline.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


def loaded_by(*words):
    done = subprocess.run([sys.executable, "-c", CALL, *words], capture_output=True, text=True, check=True, timeout=240)
    assert "Usage:" in done.stdout
    return set(done.stderr.split())


def test_help_loads_no_package_for_numbers_or_pictures():
    loaded = loaded_by("--help")
    assert "sightline.cli.main" in loaded
    assert not {"numpy", "polars", "cv2", "numba", "pydantic", "torch"} & loaded


@pytest.mark.parametrize("verb", ["audit", "look", "convert", "eval", "split", "run"])
def test_help_of_a_verb_loads_nothing_that_only_its_work_needs(verb):
    loaded = loaded_by(verb, "--help")
    assert f"sightline.cli.{'evaluate' if verb == 'eval' else verb}" in loaded
    assert not {"torch", "altair", "supervision", "scipy.optimize", "cv2", "numba", "hotcoco"} & loaded


def test_help_of_convert_names_every_format_that_can_be_written():
    done = subprocess.run(
        [sys.executable, "-c", CALL, "convert", "--help"], capture_output=True, text=True, check=True, timeout=240
    )
    words = set(done.stdout.replace(",", " ").replace(".", " ").split())
    assert set(WRITTEN_NAMES) <= words
