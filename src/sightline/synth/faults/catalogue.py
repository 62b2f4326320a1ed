"""Every fault that can be planted, by the code it must be found under."""

from collections.abc import Mapping
from types import MappingProxyType

from sightline.synth.faults.format_faults import FORMAT_FAULTS
from sightline.synth.faults.image_faults import IMAGE_FAULTS
from sightline.synth.faults.label_faults import LABEL_FAULTS
from sightline.synth.faults.mask_faults import MASK_FAULTS
from sightline.synth.faults.object_faults import OBJECT_FAULTS
from sightline.synth.faults.prediction_faults import PREDICTION_FAULTS
from sightline.synth.faults.sequence_faults import SEQUENCE_FAULTS
from sightline.synth.faults.site import Fault
from sightline.synth.faults.split_faults import SPLIT_FAULTS

__all__ = ["FAULTS"]

FAULTS: Mapping[str, Fault] = MappingProxyType(
    IMAGE_FAULTS
    | LABEL_FAULTS
    | OBJECT_FAULTS
    | MASK_FAULTS
    | SEQUENCE_FAULTS
    | SPLIT_FAULTS
    | PREDICTION_FAULTS
    | FORMAT_FAULTS
)
