"""BDD100K: JSON lists of frames with `labels` of `box2d` or `poly2d`.

`occluded` and `truncated` are read as half hidden and half outside, since they say no share. Lanes and drivable areas
(open or closed lines of other categories) are read where they are closed outlines, else reported.
"""

from pathlib import Path
from typing import Any

from sightline.core.dataset import Dataset
from sightline.data.formats.shared.named import NamedObjects, json_files, read_json_list, read_named
from sightline.data.layout import absolute, split_of

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "BDD100K JSON (frames with labels)"
_MARKS = (b'"name"', b'"labels"', b'"category"')
_SOME = 0.5  # what "occluded" without a share is read as
_CORNERS = ("x1", "y1", "x2", "y2")


def detect(path: Path) -> float | None:
    """How surely the path is BDD100K, 0..1, or None."""
    return 0.9 if json_files(path, _MARKS) else None


def read(path: Path) -> Dataset:
    """The data set of a BDD100K file or folder. DataError when there is none."""
    path = absolute(path)
    return read_named(path, json_files(path, _MARKS), LOOKED_FOR, "bdd100k", _read_file)


def _read_file(found: NamedObjects, file: Path) -> None:
    for frame in read_json_list(file, "frames", "frames"):
        _read_frame(frame, found, split_of(file.stem))


def _read_frame(frame: Any, found: NamedObjects, split: str | None) -> None:
    name = frame.get("name") if isinstance(frame, dict) else None
    if not isinstance(name, str) or not name:
        found.report("label-malformed", f"a frame must have a name, got {frame!r:.60}", None)
        return
    image, _ = found.picture(name, split=split)
    labels = frame.get("labels")
    for label in labels if isinstance(labels, list) else ():
        if not isinstance(label, dict):
            found.report("label-malformed", f"a label must be an object, got {label!r:.60}", None, image)
            continue
        given = label.get("attributes")
        attributes = given if isinstance(given, dict) else {}
        flags: dict[str, Any] = {
            "crowd": attributes.get("crowd") is True,
            "occlusion": _SOME if attributes.get("occluded") is True else None,
            "truncation": _SOME if attributes.get("truncated") is True else None,
        }
        box, outlines = label.get("box2d"), label.get("poly2d")
        if isinstance(box, dict):
            found.add(image, label.get("category"), None, box=[box.get(k) for k in _CORNERS], **flags)
        elif isinstance(outlines, list) and outlines:
            _read_outlines(outlines, label.get("category"), image, found, flags)
        else:
            found.report("label-unsupported-shape", "a label has neither box2d nor poly2d", None, image)


def _read_outlines(outlines: list[Any], category: Any, image: str, found: NamedObjects, flags: dict[str, Any]) -> None:
    for outline in outlines:
        vertices = outline.get("vertices") if isinstance(outline, dict) else None
        if not isinstance(vertices, list) or outline.get("closed") is False:
            found.report("label-unsupported-shape", "a line that is not closed has no area", None, image)
            continue
        flat = [v for pair in vertices for v in (pair if isinstance(pair, list) else [None])]
        found.add(image, category, None, ring=flat, **flags)
