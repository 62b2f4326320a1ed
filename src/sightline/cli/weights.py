"""`sightline weights`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import sightline.models
from sightline.cli.console import JsonFlag, emit_json, progress_bar, show_line, show_table
from sightline.core.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from sightline.models import PublishedWeights

__all__ = ["weights"]


def weights(
    action: Literal["list", "get"] = "list",
    name: str | None = None,
    *,
    catalogue: str | None = None,
    json: JsonFlag = False,
) -> int:
    """List pretrained weights with publisher, licence, what they learnt from, size and checksum; or fetch some.

    Fetched once into the cache (SIGHTLINE_CACHE), checked, and taken by name: sightline train --weights lite0. With
    SIGHTLINE_OFFLINE=1 nothing is fetched. A download that was cut goes on where it was.

    Parameters
    ----------
    action
        list, or get NAME.
    name
        Which weights.
    catalogue
        YAML file with further weights: name: {publisher, licence, trained_on, starts, bytes, sha256, address}.
    """
    known = {**sightline.models.PUBLISHED, **({} if catalogue is None else sightline.models.read_catalogue(catalogue))}
    if action == "list":
        if name is not None:
            raise ConfigError(f"a list takes no name, got '{name}'", do=f"fetch it with 'sightline weights get {name}'")
        _show(known, json)
        return 0
    if name is None:
        raise ConfigError("a name must be given, got none", do="see 'sightline weights list'")
    if name not in known:
        raise ConfigError(unknown_name("weights", name, known))
    if not json:
        _show({name: known[name]}, json=False)
    with progress_bar() as progress:
        path = sightline.models.get_weights(name, known[name], progress=progress)
    if json:
        emit_json({"name": name, "file": path, **known[name].model_dump()})
    else:
        of_table = name in sightline.models.PUBLISHED
        show_line(f"{path}: use it with --weights {name if of_table else path}")
    return 0


def _show(known: "dict[str, PublishedWeights]", json: bool) -> None:
    paths: dict[str, Path | None] = {
        name: sightline.models.cached_weights(name, entry) for name, entry in known.items()
    }
    if json:
        emit_json({"weights": [{"name": n, "file": paths[n], **e.model_dump()} for n, e in known.items()]})
        return
    rows = [
        (name, e.publisher, e.licence, e.trained_on, e.starts, f"{e.bytes / 1e6:.1f}", "yes" if paths[name] else "no")
        for name, e in known.items()
    ]
    show_table("", ("name", "publisher", "licence", "learnt from", "starts", "MB", "cached"), rows)
    for name, entry in known.items():
        show_line(f"{name}: {entry.package or entry.address}, SHA-256 {entry.sha256}")
