"""Shared fixtures: the folder of real data sets, where there is one."""

from pathlib import Path

import pytest
from hypothesis import settings

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# The first call of a kernel compiles it, which no deadline per example can tell from a slow test.
settings.register_profile("sightline", deadline=None)
settings.load_profile("sightline")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets beside the repository; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip("the folder of real data sets is absent")
    return REAL_DATA
