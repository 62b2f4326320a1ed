"""How long each stage took: every sample is kept, percentiles are taken at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import polars as pl

__all__ = ["LATENCY_SCHEMA", "STAGES", "StageTimer"]

STAGES = ("decode", "preprocess", "network", "postprocess", "track", "draw", "encode")
"""Stages of the video pipeline in their order; a predictor that is not staged has `predict` for the middle three."""

LATENCY_SCHEMA = {
    "stage": pl.String,
    "count": pl.Int64,
    "mean_ms": pl.Float64,
    "p50_ms": pl.Float64,
    "p95_ms": pl.Float64,
    "p99_ms": pl.Float64,
    "max_ms": pl.Float64,
}


class StageTimer:
    """Collects durations by stage."""

    def __init__(self) -> None:
        self._samples_ms: dict[str, list[float]] = {}

    def add(self, stage: str, duration_ms: float) -> None:
        """One sample of a stage."""
        self._samples_ms.setdefault(stage, []).append(duration_ms)

    @contextmanager
    def measure(self, stage: str, share: int = 1) -> Iterator[None]:
        """Time the block; with `share` > 1 the time is spread evenly over that many samples (a batch)."""
        start = time.perf_counter()
        yield
        each_ms = (time.perf_counter() - start) * 1e3 / share
        for _ in range(share):
            self.add(stage, each_ms)

    def summary(self) -> pl.DataFrame:
        """Count, mean, percentiles and maximum of every stage in milliseconds (`LATENCY_SCHEMA`), in pipeline order."""
        known = {stage: i for i, stage in enumerate(STAGES)}
        rows = []
        for stage in sorted(self._samples_ms, key=lambda s: known.get(s, len(known))):
            values = np.array(self._samples_ms[stage])
            p50, p95, p99 = (float(v) for v in np.percentile(values, [50, 95, 99]))
            rows.append((stage, len(values), float(values.mean()), p50, p95, p99, float(values.max())))
        return pl.DataFrame(rows, schema=LATENCY_SCHEMA, orient="row")
