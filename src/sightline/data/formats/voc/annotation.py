"""One Pascal VOC annotation file, parsed with the line of every object."""

from dataclasses import dataclass, field
from typing import BinaryIO

from sightline.data.formats.shared.xml import Attributes, walk_xml

__all__ = ["AnnotatedObject", "Annotation", "parse_annotation"]


@dataclass
class AnnotatedObject:
    """An `<object>` as text: `fields` holds its children and those of its first `<bndbox>`; `line` is the box's."""

    line: int
    fields: dict[str, str] = field(default_factory=dict)
    has_box: bool = False


@dataclass
class Annotation:
    """An annotation file as text: `fields` by path ("size/width"), the line of each, and the objects."""

    fields: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    objects: list[AnnotatedObject] = field(default_factory=list)


def parse_annotation(source: bytes | BinaryIO, where: str) -> Annotation:
    """The annotation in an XML text; DataError when it is no well-formed XML or declares entities.

    Tag names count in any case and with any namespace. Parts of objects (`<part>`) are not objects of their own.
    """
    result = Annotation()
    stack: list[str] = []
    root = 1  # how many elements stand around the annotation's own

    def start(tag: str, _: Attributes, line: int) -> None:
        nonlocal root
        stack.append(tag)
        if tag == "annotation" and len(stack) == 2 and stack[0] != "annotation":
            root = 2  # some exporters wrap the annotation once more
        path = stack[root:]
        if path == ["object"]:
            result.objects.append(AnnotatedObject(line))
        elif path == ["object", "bndbox"] and not result.objects[-1].has_box:
            result.objects[-1].line, result.objects[-1].has_box = line, True

    def end(_: str, value: str, line: int) -> None:
        path = stack[root:]
        if path[:1] == ["object"] and path[1:] and path[1] != "part":
            result.objects[-1].fields.setdefault("/".join(path[1:]), value)
        elif path and path[0] != "object":
            result.fields.setdefault("/".join(path), value)
            result.lines.setdefault("/".join(path), line)
        stack.pop()

    walk_xml(source, where, start, end)
    return result
