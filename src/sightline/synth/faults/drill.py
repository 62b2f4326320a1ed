"""The drill: every fault that can be planted is planted into generated data, and what the audit finds is counted."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sightline.audit import audit_dataset
from sightline.core.errors import ConfigError, DataError, unknown_name
from sightline.core.files import write_json_atomic
from sightline.core.findings import SEVERITIES, Finding
from sightline.core.predictions import Predictions
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.data import read_dataset
from sightline.synth.faults.bases import BASES, EMBEDDINGS_NAME, PREDICTIONS_NAME, Rendering, build_base
from sightline.synth.faults.format_faults import FORMAT_FAULTS
from sightline.synth.faults.image_faults import IMAGE_FAULTS
from sightline.synth.faults.label_faults import LABEL_FAULTS
from sightline.synth.faults.mask_faults import MASK_FAULTS
from sightline.synth.faults.object_faults import OBJECT_FAULTS, PREDICTION_FAULTS
from sightline.synth.faults.sequence_faults import SEQUENCE_FAULTS
from sightline.synth.faults.site import Fault, Planted, Site
from sightline.synth.faults.split_faults import SPLIT_FAULTS
from sightline.synth.faults.whole_faults import WHOLE_FAULTS

__all__ = ["FAULTS", "FAULTS_RECORD", "DrillResult", "DrillRow", "plant_faults", "run_drill"]

FAULTS: Mapping[str, Fault] = MappingProxyType(
    IMAGE_FAULTS
    | LABEL_FAULTS
    | OBJECT_FAULTS
    | MASK_FAULTS
    | SEQUENCE_FAULTS
    | SPLIT_FAULTS
    | WHOLE_FAULTS
    | PREDICTION_FAULTS
    | FORMAT_FAULTS
)


FAULTS_RECORD = "faults.json"
CLEAN = "(none)"


@dataclass(frozen=True, slots=True)
class DrillRow:
    """One fault (or, with the code "(none)", one sound data set): how many were planted, found and falsely reported.

    `found` counts planted faults with a finding of their code at their place; `false` counts findings of severity
    warning and above that the fault does not explain.
    """

    code: str
    base: str
    planted: int
    found: int
    false: int
    missed: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrillResult(Result):
    """The audit tested end to end: a row per planted code, after one for each sound data set."""

    rows: tuple[DrillRow, ...]
    conventions: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether everything planted was found and nothing else was."""
        return all(row.found == row.planted and row.false == 0 for row in self.rows)


def plant_faults(code: str, out: str | Path, *, seed: int = 0) -> list[Planted]:
    """Write a generated data set with the fault of one code into the new folder `out`; returns what was planted where.

    `faults.json` in the folder records the same. ConfigError for a code that cannot be planted, DataError when the
    folder holds files.
    """
    target = Path(out)
    if code not in FAULTS:
        raise ConfigError(unknown_name("fault", code, FAULTS))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError("the output must be a new or empty folder, got one with files in it", where=str(out))
    with tempfile.TemporaryDirectory() as folder:
        return _plant(code, Rendering(Path(folder), seed), target, seed)


def run_drill(codes: Sequence[str] | None = None, *, seed: int = 0, progress: Progress | None = None) -> DrillResult:
    """Plant every fault (or those named) in turn, audit, and compare; the sound data sets are audited too."""
    chosen = list(FAULTS if codes is None else codes)
    for code in chosen:
        if code not in FAULTS:
            raise ConfigError(unknown_name("fault", code, FAULTS))
    bases = list(dict.fromkeys(FAULTS[code].base for code in chosen))
    rows: list[DrillRow] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rendering = Rendering(place / "rendered", seed)
        for number, name in enumerate([*bases, *chosen], start=1):
            target = place / "site"
            planted: list[Planted] = []
            if name in BASES:
                build_base(name, rendering, target)
            else:
                planted = _plant(name, rendering, target, seed)
            rows.append(_judge(name, planted, _findings(target)))
            shutil.rmtree(target)
            if progress is not None:
                progress(number, len(bases) + len(chosen), "planting and auditing")
    return DrillResult(tuple(rows), conventions={"seed": seed, "false_from": "warning"})


def _plant(code: str, rendering: Rendering, target: Path, seed: int) -> list[Planted]:
    fault = FAULTS[code]
    build_base(fault.base, rendering, target)
    planted = fault.plant(Site(target, np.random.default_rng([seed, *code.encode()])))
    write_json_atomic(target / FAULTS_RECORD, {"code": code, "base": fault.base, "planted": list(map(asdict, planted))})
    return planted


def _findings(target: Path) -> tuple[Finding, ...]:
    predictions, vectors = target / PREDICTIONS_NAME, target / EMBEDDINGS_NAME
    return audit_dataset(
        read_dataset(target),
        predictions=Predictions.load(predictions) if predictions.is_file() else None,
        embeddings=np.load(vectors) if vectors.is_file() else None,
    ).findings


def _judge(name: str, planted: list[Planted], findings: Sequence[Finding]) -> DrillRow:
    fault = FAULTS.get(name)
    explained = {p.code for p in planted} | set(fault.also if fault else ())
    strangers = [
        f for f in findings if f.code not in explained and SEVERITIES.index(f.severity) >= SEVERITIES.index("warning")
    ]
    missed = [p for p in planted if not any(_is_at(f, p) for f in findings)]
    return DrillRow(
        code=name if fault else CLEAN,
        base=fault.base if fault else name,
        planted=len(planted),
        found=len(planted) - len(missed),
        false=sum(f.count for f in strangers),
        missed=tuple(f"{p.code} at {p.path}:{p.line}" for p in missed),
        strangers=tuple(f"{f.code} at {f.path}:{f.line}: {f.message}" for f in strangers),
    )


def _is_at(found: Finding, planted: Planted) -> bool:
    if found.code != planted.code:
        return False
    return (planted.path is None or found.path == planted.path) and (planted.line is None or found.line == planted.line)
