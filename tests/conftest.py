"""Shared fixtures: the folder of real data sets, where there is one."""

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets beside the repository; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip("the folder of real data sets is absent")
    return REAL_DATA
