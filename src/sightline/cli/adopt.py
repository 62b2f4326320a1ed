"""`sightline adopt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

import sightline.data
import sightline.workbench
from sightline.cli.console import JsonFlag, emit_json, note, progress_bar, show_line, show_table
from sightline.core.config import Config, read_yaml
from sightline.core.errors import ConfigError
from sightline.core.files import check_regular

if TYPE_CHECKING:
    from sightline.core.dataset import Dataset
    from sightline.workbench import Adopted

__all__ = ["adopt"]


class AdoptOptions(Config):
    """What is known of the model; what is left out is taken from the file, or found by trying."""

    names: str | None = Field(
        default=None, description="Class names in the model's order: a,b,c, or a file with one a line, or a data.yaml."
    )
    data: str | None = Field(
        default=None,
        description="Labelled data set: ways to feed and to read the model are tried on some of its images.",
    )
    split: str | None = Field(default=None, description="Split of it to take; val where there is one, else everything.")
    images: int = Field(default=16, ge=1, le=10_000, description="How many of its images each way is tried on.")
    onnx: str | None = Field(
        default=None,
        description="Of a checkpoint: the same model exported by its own tool, whose outputs it must give.",
    )
    reading: str | None = Field(default=None, description="How the outputs are read, where several ways are possible.")
    channels: Literal["rgb", "bgr", "gray"] | None = Field(default=None, description="Order of the channels.")
    scale: Literal["0..1", "0..255", "-1..1", "imagenet"] | None = Field(
        default=None, description="Range of the values; imagenet is 0..1 less its mean, over its deviation."
    )
    fit: Literal["letterbox", "stretch"] | None = Field(
        default=None, description="Whether pictures keep their aspect, with borders."
    )
    imgsz: str | None = Field(default=None, description="Side of the input in pixels, or HEIGHT,WIDTH.")
    licence: str | None = Field(default=None, description="Licence of the weights, in place of what the file states.")


def adopt(
    model: str,
    *,
    out: str | None = None,
    options: Annotated[AdoptOptions, Parameter(name="*")] = AdoptOptions(),  # noqa: B008 - frozen
    json: JsonFlag = False,
) -> int:
    """Take over a model of another tool: read as data, recognised, proven, and written as one of ours.

    Parameters
    ----------
    model
        A checkpoint of PyTorch (.pt, .pth: nothing of it is run) or an ONNX file.
    out
        The file to write: .safetensors of a checkpoint, .onnx of an ONNX file. Beside the model without it.
    options
        What is known of the model.
    """
    given = {name: getattr(options, name) for name in ("reading", "channels", "scale", "fit", "licence")}
    dataset = None if options.data is None else _part(options.data, options.split)
    with progress_bar() as progress:
        adopted = sightline.workbench.adopt(
            model,
            out,
            class_names=None if options.names is None else _names(options.names),
            data=dataset,
            onnx=options.onnx,
            imgsz=None if options.imgsz is None else _size(options.imgsz),
            images=options.images,
            progress=progress,
            **given,
        )
    if json:
        emit_json(adopted)
    else:
        _show(adopted)
    return 0


def _show(adopted: "Adopted") -> None:
    show_line(f"{adopted.file}: {adopted.architecture}, {adopted.task}, licence {adopted.licence}")
    names = ", ".join(adopted.class_names[:8]) + (", …" if len(adopted.class_names) > 8 else "")
    rows = [("classes", f"{len(adopted.class_names)}: {names}"), *adopted.checks.items()]
    show_table("", ("checked", "found"), rows)
    if adopted.tried.height:
        show_table("ways to feed and to read it, on labelled images", adopted.tried.columns, adopted.tried.rows())
    note(f"use it as any model: sightline eval DATA --model {adopted.file}")


def _part(data: str, split: str | None) -> "Dataset":
    dataset = sightline.data.read_dataset(data)
    chosen = split or ("val" if "val" in dataset.splits else "all")
    return dataset if chosen == "all" else dataset.split(chosen)


def _size(text: str) -> tuple[int, int]:
    sides = text.split(",")
    if len(sides) > 2 or not all(side.strip().isdecimal() and 0 < int(side) <= 16_384 for side in sides):
        raise ConfigError(f"--imgsz must be a number of pixels, or HEIGHT,WIDTH, got '{text}'")
    return int(sides[0]), int(sides[-1])


def _names(text: str) -> tuple[str, ...]:
    path = Path(text)
    if not path.is_file():
        if path.suffix.lower() in {".txt", ".yaml", ".yml", ".names"}:
            raise ConfigError("the file of class names must be there, got none", where=text)
        return tuple(name.strip() for name in text.split(","))
    if path.suffix.lower() in {".yaml", ".yml"}:
        names = read_yaml(path).get("names")
        if isinstance(names, dict) and set(names) == set(range(len(names))):
            names = [names[i] for i in range(len(names))]
        if not isinstance(names, list) or not names:
            raise ConfigError("'names' must be a list, or ids from 0 to names, got something else", where=text)
        return tuple(str(name) for name in names)
    try:
        check_regular(path)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigError("class names must be UTF-8 text, got other bytes", where=text) from None
    return tuple(line.strip() for line in lines if line.strip())
