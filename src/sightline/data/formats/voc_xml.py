"""One Pascal VOC annotation file, parsed with the line of every object."""

from dataclasses import dataclass, field
from xml.parsers import expat

from sightline.core.errors import DataError, at

__all__ = ["AnnotatedObject", "Annotation", "parse_annotation"]

_MAX_DEPTH = 64


@dataclass
class AnnotatedObject:
    """An `<object>` as text: `fields` holds its children and those of its first `<bndbox>`; `line` is the box's."""

    line: int
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Annotation:
    """An annotation file as text: `fields` by path ("size/width"), the line of each, and the objects."""

    fields: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    objects: list[AnnotatedObject] = field(default_factory=list)


def parse_annotation(data: bytes, where: str) -> Annotation:
    """The annotation in an XML text; DataError when it is no well-formed XML or declares entities."""
    result = Annotation()
    stack: list[str] = []
    text: list[str] = []
    parser = expat.ParserCreate()

    def start(tag: str, _: dict[str, str]) -> None:
        stack.append(tag)
        text.clear()
        if len(stack) > _MAX_DEPTH:
            raise DataError(f"an annotation must be nested less than {_MAX_DEPTH} deep", where=where)
        if stack[1:] == ["object"]:
            result.objects.append(AnnotatedObject(parser.CurrentLineNumber))
        elif stack[1:] == ["object", "bndbox"]:
            result.objects[-1].line = parser.CurrentLineNumber

    def end(_: str) -> None:
        path = stack[1:]
        value = "".join(text).strip()
        if path[:1] == ["object"] and path[1:] and path[1] != "part":
            result.objects[-1].fields.setdefault("/".join(path[1:]), value)
        elif path and path[0] != "object":
            result.fields.setdefault("/".join(path), value)
            result.lines.setdefault("/".join(path), parser.CurrentLineNumber)
        stack.pop()
        text.clear()

    def entity(name: str, *_: object) -> None:
        # Entities are how a small XML file expands to gigabytes or reads other files.
        raise DataError(f"an annotation must not declare entities, got '{name}'", where=where)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        message = expat.ErrorString(error.code)
        raise DataError(f"must be well-formed XML, got: {message}", where=at(where, error.lineno)) from None
    except (ValueError, LookupError) as error:  # an encoding expat does not know
        raise DataError(f"must be XML in a known encoding, got: {error}", where=where) from None
    return result
