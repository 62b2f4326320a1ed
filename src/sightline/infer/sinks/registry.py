"""Sinks by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sightline.core.errors import ConfigError, unknown_name
from sightline.core.plugins import open_registry
from sightline.infer.sinks.drawn import VideoSettings, VideoSink
from sightline.infer.sinks.folders import PicturesSink, TextSink, masks_sink
from sightline.infer.sinks.protocol import Sink
from sightline.infer.sinks.tables import coco_sink, mot_sink, parquet_sink
from sightline.infer.sinks.text import association_sink, csv_sink, jsonl_sink

__all__ = ["SINKS", "SinkKind", "create_sinks"]


@dataclass(frozen=True, slots=True)
class SinkKind:
    """How a sink is made and what its file is called: `<stem><ending>`."""

    create: Callable[[Path, VideoSettings], Sink]
    ending: str


def _added(entry: tuple[Callable[[Path], Sink], str]) -> SinkKind:
    create, ending = entry
    return SinkKind(lambda path, _: create(path), ending)


_OWN = {
    "video": SinkKind(VideoSink, ".mp4"),
    "pictures": SinkKind(lambda path, _: PicturesSink(path), "-pictures"),
    "jsonl": SinkKind(lambda path, _: jsonl_sink(path), ".jsonl"),
    "csv": SinkKind(lambda path, _: csv_sink(path), ".csv"),
    "txt": SinkKind(lambda path, _: TextSink(path), "-txt"),
    "masks": SinkKind(lambda path, _: masks_sink(path), "-masks"),
    "mot": SinkKind(lambda path, _: mot_sink(path), ".txt"),
    "coco": SinkKind(lambda path, _: coco_sink(path), ".coco.json"),
    "parquet": SinkKind(lambda path, _: parquet_sink(path), ".parquet"),
    "association": SinkKind(lambda path, _: association_sink(path), "-association.jsonl"),
}
SINKS: dict[str, SinkKind] = open_registry("sink", _OWN, _added)


def create_sinks(
    kinds: Iterable[str], folder: str | Path, stem: str, video: VideoSettings | None = None
) -> dict[str, Sink]:
    """A sink for each kind, writing `<folder>/<stem><ending>`; ConfigError for an unknown kind."""
    settings = video if video is not None else VideoSettings()
    sinks: dict[str, Sink] = {}
    for kind in dict.fromkeys(kinds):
        if kind not in SINKS:
            raise ConfigError(unknown_name("output", kind, SINKS))
        entry = SINKS[kind]
        ending = f".{settings.container}" if kind == "video" else entry.ending
        sinks[kind] = entry.create(Path(folder) / f"{stem}{ending}", settings)
    return sinks
