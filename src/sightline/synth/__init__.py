"""Procedural scenes with labels that are exact by construction: traffic from above (stills and video) and cracks.

`generate` writes a data set; the `render_*` functions return arrays. All randomness comes from the generator passed in.
"""

from sightline.synth.cracks import CRACK_CLASS_NAMES, CrackImage, render_cracks
from sightline.synth.generate import generate
from sightline.synth.labels import MIN_VISIBILITY, MIN_VISIBLE_PX, SceneObject
from sightline.synth.plan import SynthFormat, SynthScene
from sightline.synth.traffic import SequenceFrame, TrafficImage, render_traffic, render_traffic_sequence
from sightline.synth.vehicles import CLASS_NAMES as TRAFFIC_CLASS_NAMES
from sightline.synth.writing import SynthResult

__all__ = [
    "CRACK_CLASS_NAMES",
    "MIN_VISIBILITY",
    "MIN_VISIBLE_PX",
    "TRAFFIC_CLASS_NAMES",
    "CrackImage",
    "SceneObject",
    "SequenceFrame",
    "SynthFormat",
    "SynthResult",
    "SynthScene",
    "TrafficImage",
    "generate",
    "render_cracks",
    "render_traffic",
    "render_traffic_sequence",
]
