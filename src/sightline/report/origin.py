"""Where the numbers come from: environment, digests, the settings, and the commands that make each of them again."""

import shlex
from collections.abc import Mapping
from typing import Any

from sightline.report.blocks import Block, Cell, Code, Pairs, Section, Table, pairs_of
from sightline.report.records import RunRecord

__all__ = ["origin_section", "recompute_section"]


def origin_section(record: RunRecord) -> Section:
    """Command, time, commit, hardware, versions, seeds, digests, model, preprocessing, and the whole configuration."""
    run = record.run
    blocks: list[Block] = [Pairs(_made(run), "The run"), Pairs(_digests(record), "Digests (SHA-256)")]
    for key, caption in (
        ("model", "Model"),
        ("preprocess", "Preprocessing"),
        ("seeds", "Seeds"),
        ("hardware", "Hardware"),
    ):
        if run.get(key):
            blocks.append(Pairs(pairs_of(run[key], f"run.json {key}"), caption, folded=key != "hardware"))
    versions = run.get("versions")
    if versions:
        blocks.append(Pairs([(k, str(v or "not installed")) for k, v in versions.items()], "Versions", folded=True))
    if record.config:
        blocks.append(Code(record.config, "Configuration (config.yaml)", folded=True))
    return Section("origin", "Environment and digests", "What must be the same to get the same numbers.", blocks)


def _made(run: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    git = run.get("git")
    commit = "not a checkout" if not git else f"{git['commit']}{' with uncommitted changes' if git['dirty'] else ''}"
    return [
        ("command", _command(run) or "not recorded"),
        ("started", str(run.get("started") or "not recorded")),
        ("code", str(run.get("code") or "not recorded")),
        ("working folder", commit),
        ("status", str(run.get("status") or "not recorded")),
    ]


def _command(run: Mapping[str, Any]) -> str:
    return shlex.join(map(str, run.get("command") or ()))


def _digests(record: RunRecord) -> list[tuple[str, Cell]]:
    meta = record.predictions.meta if record.predictions is not None else {}
    conventions = (record.evaluation or {}).get("conventions") or {}
    rows: list[tuple[str, Cell]] = [("data", record.data_digest)]
    rows.append(("labels of the evaluated part", conventions.get("label_digest")))
    rows.append(("model", meta.get("model_digest") or (record.export or {}).get("model_digest")))
    rows.append(("predictions", record.predictions.digest() if record.predictions is not None else None))
    evaluated = conventions.get("prediction_digest")
    if record.predictions is not None and evaluated:
        same = evaluated == record.predictions.digest()
        rows.append(("evaluation is of these predictions", "yes" if same else f"NO: of {evaluated}"))
    return [(name, value or "not recorded") for name, value in rows]


def recompute_section(record: RunRecord) -> Section:
    """For each kind of number the command that makes it again; only of what this run has."""
    folder = record.folder.as_posix()
    data = str(record.part.get("path") or "DATA")
    weights = f"{folder}/weights/best.safetensors"
    steps: list[tuple[bool, str, str]] = [
        (True, "counts and audit findings", shlex.join(["sightline", "audit", data])),
        (bool(record.epochs), "training curves, weights", _command(record.run)),
        (
            record.evaluation is not None,
            "accuracy",
            shlex.join(["sightline", "eval", *_evaluated(record, data, weights)]),
        ),
        (record.export is not None, "export parity", shlex.join(["sightline", "export", weights, "--data", data])),
        (record.video is not None, "latency by stage", shlex.join(["sightline", "run", weights, _source(record)])),
        (record.tracking is not None, "tracking", shlex.join(["sightline", "eval", *_tracked(record, weights)])),
        (True, "this page", shlex.join(["sightline", "report", folder])),
    ]
    rows = [(what, command or "not recorded") for there, what, command in steps if there]
    return Section(
        anchor="recompute",
        title="How to recompute each number",
        intro="Numbers are shown rounded; point at one for its exact value and the file and key it was read from. "
        "A word in capitals stands for a path the run did not record.",
        blocks=[Table(["numbers", "command"], rows)],
    )


def _evaluated(record: RunRecord, data: str, weights: str) -> list[str]:
    """The options with which `sightline eval` measures on the images the evaluation is of."""
    options = ["--model", weights, "--data", data]
    split = str(((record.evaluation or {}).get("conventions") or {}).get("split") or "")
    if split:
        options += ["--split", split]
    for name in record.part.get("excluded") or ():
        options += ["--exclude", str(name)]
    for key in ("val_fraction", "seed"):
        if key in record.settings:
            options += [f"--{key.replace('_', '-')}", str(record.settings[key])]
    return options


def _source(record: RunRecord) -> str:
    return str((record.video or {}).get("source") or "VIDEO")


def _tracked(record: RunRecord, weights: str) -> list[str]:
    """From the MOT file of the video run where there is one, else with a tracker on the sequences."""
    written = ((record.video or {}).get("outputs") or {}).get("mot")
    found = ["--predictions", str(written)] if written else ["--model", weights, "--track", "kalman-iou"]
    return ["--data", "SEQUENCES", *found]
