"""`sightline anchors`."""

from typing import Annotated

import yaml
from cyclopts import Parameter, validators

from sightline.cli.console import DataFormat, DataPath, JsonFlag, emit_json, note, show_line, show_table
from sightline.core.files import refuse_overwriting, write_text_atomic
from sightline.data import dataset_files, read_dataset
from sightline.train import TrainConfig, propose_anchors

__all__ = ["anchors"]


def anchors(
    data: DataPath,
    *,
    model: str = "yolo5n",
    imgsz: str | None = None,
    split: str | None = None,
    per_level: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=16))] = 3,
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    out: str | None = None,
    format: DataFormat = None,  # noqa: A002 - the option's name
    json: JsonFlag = False,
) -> int:
    """Propose anchor boxes for the objects of a data set, and say how they fit beside the model's own.

    Parameters
    ----------
    model
        A model with anchors.
    imgsz
        The network's input in pixels, one side or HEIGHTxWIDTH; the model's usual one without it.
    split
        Split whose objects count; without it "train" where there is one, else all.
    per_level
        Anchors of each of the three levels.
    seed
        Seed of what chance decides.
    out
        New YAML file of settings that `sightline train --config` takes.
    """
    settings = TrainConfig.load({"data": data, "model": model, "imgsz": imgsz})
    dataset = read_dataset(data, format=format, task="detect")
    if out is not None:
        refuse_overwriting([out], dataset_files(dataset, data))
    part = split if split is not None else "train" if "train" in dataset.splits else None
    chosen = dataset if part is None else dataset.split(part)
    size = settings.model.imgsz
    found = propose_anchors(chosen, model, size, per_level=per_level, seed=seed)
    text = yaml.safe_dump(found.settings(), sort_keys=False, default_flow_style=None)
    if out is not None:
        write_text_atomic(out, text)
    if json:
        emit_json(found)
        return 0
    title = f"{found.objects} objects{'' if part is None else f' of {part}'}, {model} at {found.width} x {found.height}"
    frame = found.to_frame()
    show_table(title, tuple(frame.columns), frame.rows())
    if out is None:
        for line in text.splitlines():
            show_line(line)
        note("with --out FILE.yaml this becomes a file for sightline train --config")
    else:
        note(f"written: {out}; use it with sightline train --config {out} --data {data}")
    return 0
