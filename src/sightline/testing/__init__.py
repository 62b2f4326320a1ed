"""What a plug-in must pass: the public conformance suites, each loaded when first used (one of them needs torch)."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.testing.formats import check_format, check_written
    from sightline.testing.models import check_model
    from sightline.testing.predictors import check_predictor
    from sightline.testing.trackers import check_tracker

__all__ = ["check_format", "check_model", "check_predictor", "check_tracker", "check_written"]

__getattr__, __dir__ = door(__name__)
