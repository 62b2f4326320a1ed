"""What tests of readers share."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sightline.audit.labels.boxes import check_boxes
from sightline.core.dataset import Dataset


@pytest.fixture
def judged() -> Callable[[Dataset], Dataset]:
    """A data set with what the audit says about its boxes beside what its reader has found."""
    return lambda dataset: replace(dataset, findings=(*dataset.findings, *check_boxes(dataset)))
