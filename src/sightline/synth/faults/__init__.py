"""Faults planted in generated data, so that the audit can be tested end to end."""

from sightline.synth.faults.drill import FAULTS, FAULTS_RECORD, DrillResult, DrillRow, plant_faults, run_drill
from sightline.synth.faults.site import Planted

__all__ = ["FAULTS", "FAULTS_RECORD", "DrillResult", "DrillRow", "Planted", "plant_faults", "run_drill"]
