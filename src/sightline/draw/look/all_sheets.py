"""All sheets of one look at a data set, made one after the other: nothing is kept that has been handed out."""

from collections.abc import Iterator, Sequence

from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.draw.look.evidence import Evidence, finding_sheets
from sightline.draw.look.options import LookOptions
from sightline.draw.look.samples import class_sheets, image_sheets
from sightline.draw.look.tracks import track_sheets
from sightline.draw.scenes import Scenes
from sightline.draw.sheets import Sheet

__all__ = ["look_at"]


def look_at(
    dataset: Dataset,
    options: LookOptions | None = None,
    findings: Sequence[Finding] = (),
    codes: Sequence[str] | None = None,
) -> Iterator[Sheet]:
    """Random images, objects of each class, tracks where there are such, then the findings' places code by code.

    `findings` are those of the data set's audit, `codes` which of them to show (all by default). The same data and
    options give the same pictures.
    """
    options = options or LookOptions()
    scenes = Scenes(dataset)
    yield from image_sheets(scenes, options)
    yield from class_sheets(scenes, options)
    yield from track_sheets(scenes, options)
    evidence = Evidence(scenes, findings, options.imgsz)
    yield from finding_sheets(evidence, list(evidence.by_code) if codes is None else codes, options)
