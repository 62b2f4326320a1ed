"""The entries of a CVAT XML file, one after the other as the file is read: labels, images, tracks and their shapes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sightline.data.formats.shared.xml import Attributes, walk_xml

__all__ = ["CvatShape", "Meta", "Owner", "read_cvat"]

SHAPES = frozenset({"box", "polygon", "mask", "ellipse", "polyline", "points", "cuboid", "skeleton", "tag"})


@dataclass(frozen=True, slots=True)
class Owner:
    """The `<image>` or `<track>` that shapes stand in."""

    kind: str
    attributes: Attributes
    line: int


@dataclass(slots=True)
class CvatShape:
    """A shape as text: its element's name and attributes, the `<attribute>`s inside it, and its line."""

    kind: str
    attributes: Attributes
    line: int
    extra: dict[str, str] = field(default_factory=dict)


@dataclass
class Meta:
    """What stands before the images: label names in order, and the first text of each other entry by its name."""

    labels: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    tasks: int = 0


OnShape: TypeAlias = Callable[[Owner, CvatShape], None]


def read_cvat(file: Path, where: str, meta: Meta, on_owner: Callable[[Owner], None], on_shape: OnShape) -> None:
    """Walk through a file, calling `on_owner` for each image and track and `on_shape` for each of its shapes.

    `meta` is filled from the file's meta entry, which comes first. DataError (with line) when it is no well-formed XML
    or declares entities.
    """
    stack: list[str] = []
    owner: Owner | None = None
    shape: CvatShape | None = None
    attribute = ""

    def start(tag: str, attributes: Attributes, line: int) -> None:
        nonlocal owner, shape, attribute
        stack.append(tag)
        if len(stack) == 2 and tag in {"image", "track"}:
            owner = Owner(tag, attributes, line)
            on_owner(owner)
        elif len(stack) == 3 and owner is not None and tag in SHAPES:
            shape = CvatShape(tag, attributes, line)
        elif len(stack) == 4 and shape is not None and tag == "attribute":
            attribute = attributes.get("name", "")

    def end(tag: str, text: str, _: int) -> None:
        nonlocal owner, shape
        if len(stack) == 2:
            owner = None
        elif len(stack) == 3 and owner is not None and shape is not None:
            on_shape(owner, shape)
            shape = None
        elif len(stack) == 4 and shape is not None and tag == "attribute":
            shape.extra.setdefault(attribute, text)
        elif stack[1:2] == ["meta"]:
            _take_meta(meta, stack, text)
        stack.pop()

    with file.open("rb") as stream:
        walk_xml(stream, where, start, end)


def _take_meta(meta: Meta, stack: list[str], text: str) -> None:
    if stack[-3:] == ["labels", "label", "name"]:
        if text and text not in meta.labels:
            meta.labels.append(text)
    elif stack[-3:] == ["labels", "label", "parent"] and text and meta.labels:
        meta.labels.pop()  # a skeleton's part, listed beside the skeleton
    elif stack[-1] == "task":
        meta.tasks += 1
    elif text:
        meta.values.setdefault(stack[-1], text)
