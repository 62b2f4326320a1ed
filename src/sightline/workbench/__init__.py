"""The chain in five lines of Python: one `Model` to train, measure, run, follow and export, and pictures of it.

Models of other tools come in by `adopt`.
"""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.workbench.adoption import Adopted, adopt
    from sightline.workbench.bench import BenchResult, bench_models
    from sightline.workbench.evaluation import evaluate_boxes, with_context
    from sightline.workbench.labelling import MaskedLabels, MaskMaker, grabcut_masks, masks_from_boxes
    from sightline.workbench.model import Model
    from sightline.workbench.pictures import Seen, Shown, show

__all__ = [
    "Adopted",
    "BenchResult",
    "MaskMaker",
    "MaskedLabels",
    "Model",
    "Seen",
    "Shown",
    "adopt",
    "bench_models",
    "evaluate_boxes",
    "grabcut_masks",
    "masks_from_boxes",
    "show",
    "with_context",
]

__getattr__, __dir__ = door(__name__)
