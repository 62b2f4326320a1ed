"""Options of the verbs that run a network, and what they make of a model: tiles, and several models as one."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator

import sightline.audit.splits
import sightline.infer
from sightline.cli.console import note
from sightline.core.config import Config
from sightline.core.division import Division
from sightline.core.errors import ConfigError

if TYPE_CHECKING:
    from sightline.core.dataset import Dataset
    from sightline.infer import NetworkPredictor, Predictor

__all__ = ["AssemblyOptions", "NetworkOptions", "assembled", "read_size", "with_splits"]


class NetworkOptions(Config):
    """Where a network runs."""

    device: str = Field(
        default="auto",
        description="Where a torch model runs: auto, cpu, cuda, or the number of a CUDA device.",
    )
    threads: int | None = Field(default=None, ge=1, description="Threads the network may use.")

    @field_validator("device")
    @classmethod
    def _known(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|\d+", value):
            raise ValueError("must be auto, cpu, cuda or the number of a CUDA device")
        return value


class AssemblyOptions(NetworkOptions):
    """What is made of the model that runs."""

    also: tuple[str, ...] = Field(
        default=(), description="More models of the same classes, whose boxes are fused with the first one's (WBF)."
    )
    tile: str | None = Field(
        default=None,
        description="Look in overlapping tiles of so many pixels, one side or HEIGHTxWIDTH; auto chooses them from the "
        "size of the objects that were learnt, of label maps the network's own size.",
    )
    flips: Literal["none", "horizontal", "all"] = Field(
        default="none", description="Average what a network of label maps says of each tile and its mirror images."
    )
    clean: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = Field(
        default=(),
        description="What is done to label maps, as name=value: open, close (diameters), holes, min_area (areas), in "
        "pixels of the image.",
    )
    overlap: float = Field(default=0.2, ge=0, le=0.9, description="Least share of a tile that its neighbour sees too.")
    batch: int = Field(default=8, ge=1, description="Images, or tiles, per forward pass.")


def read_size(text: str, option: str) -> tuple[int, int]:
    """`320`, `320x480` or `320,480` as (height, width)."""
    sides = re.fullmatch(r"(\d{1,5})(?:[x,](\d{1,5}))?", text.lower().replace(" ", ""))
    if sides is None:
        raise ConfigError(f"{option} must be one side or HEIGHTxWIDTH in pixels, got '{text}'")
    return int(sides[1]), int(sides[2] or sides[1])


def assembled(
    predictor: "NetworkPredictor", options: AssemblyOptions, opened: Callable[[str], "NetworkPredictor"]
) -> "Predictor":
    """What runs: the model itself, in tiles, or fused with others, which `opened` opens."""
    for name in ("overlap", "flips"):
        if options.tile is None and name in options.model_fields_set:
            raise ConfigError(f"--{name} must be given with --tile, got it alone")
    if predictor.task == "semantic" and not options.also:
        return _of_maps(predictor, options)
    if predictor.task != "semantic" and (options.flips != "none" or options.clean):
        raise ConfigError("--flips and --clean are for label maps, got a model of boxes", where=predictor.where)
    members: list[NetworkPredictor | sightline.infer.TiledPredictor] = [predictor, *map(opened, options.also)]
    if options.tile is not None:
        tile_hw = None if options.tile == "auto" else read_size(options.tile, "--tile")
        tiling = sightline.infer.Tiling.load({"tile_hw": tile_hw, "overlap": options.overlap}, where="--tile")
        batch = {"batch": options.batch} if "batch" in options.model_fields_set else {}
        members = [
            sightline.infer.TiledPredictor(m, tiling, **batch)
            for m in members
            if isinstance(m, sightline.infer.NetworkPredictor)
        ]
    if len(members) == 1:
        return members[0]
    return sightline.infer.FusedPredictor(members, max_det=predictor.thresholds.max_det)


def _of_maps(predictor: "NetworkPredictor", options: AssemblyOptions) -> "Predictor":
    runs: NetworkPredictor | sightline.infer.TiledSegmenter = predictor
    if options.tile is not None:
        tile_hw = None if options.tile == "auto" else read_size(options.tile, "--tile")
        given = options.model_dump(include={"overlap", "flips"}, exclude_unset=True) | {"tile_hw": tile_hw}
        tiling = sightline.infer.MapTiling.load(given, where="--tile")
        batch = {"batch": options.batch} if "batch" in options.model_fields_set else {}
        runs = sightline.infer.TiledSegmenter(predictor, tiling, **batch)
        if runs.margin_hw is not None and "overlap" in options.model_fields_set:
            note("--overlap does nothing: tiles give their centres, which are the map of the whole image")
    if not options.clean:
        return runs
    pairs = [pair.partition("=") for pair in options.clean]
    if wrong := [pair for pair, split in zip(options.clean, pairs, strict=True) if not split[1]]:
        raise ConfigError(f"--clean must be name=value, got '{wrong[0]}'")
    names = [name for name, _, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"--clean must give each name once, got '{twice[0]}' {names.count(twice[0])} times")
    cleaning = sightline.infer.MapCleaning.load({name: value for name, _, value in pairs}, where="--clean")
    return sightline.infer.CleanedSegmenter(runs, cleaning)


def with_splits(dataset: "Dataset", split: str, given: Division, predictor: "NetworkPredictor | None") -> "Dataset":
    """The data set with its splits, or with the share held out that training held out; what is given wins."""
    if split == "all" or (not dataset.splits and dataset.task == "track"):
        return dataset
    trained = Division() if predictor is None else predictor.metadata.division
    chosen = trained.model_copy(update=given.model_dump(include=set(Division.model_fields), exclude_unset=True))
    divided, said = sightline.audit.splits.hold_out(
        dataset, train="train", val="val", fraction=chosen.val_fraction, seed=chosen.seed
    )
    for line in said:
        note(line)
    return divided
