"""XML from strangers, streamed: every element with its line, no entities, no endless nesting, no endless text."""

import io
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO, TypeAlias
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from sightline.core.errors import DataError, at

__all__ = ["Attributes", "attribute_text", "element_text", "line_in", "walk_xml"]

Attributes: TypeAlias = dict[str, str]

_MAX_DEPTH = 64
_MAX_TEXT = 1 << 20  # characters between two tags; labels are short


def walk_xml(
    source: bytes | BinaryIO,
    where: str,
    start: Callable[[str, Attributes, int], None],
    end: Callable[[str, str, int], None],
) -> None:
    """Call `start(tag, attributes, line)` and `end(tag, text, line)` for every element; tags and attribute names are
    lower case and without a namespace's prefix, `text` is what stands behind the last tag, stripped.

    DataError (`where:line`) when it is no well-formed XML, declares entities, or nests too deep. The file is read in
    pieces, so that memory does not grow with it.
    """
    depth = 0
    text: list[str] = []
    length = 0
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(what: str) -> DataError:
        return DataError(what, where=at(where, parser.CurrentLineNumber))

    def on_start(tag: str, attributes: Attributes) -> None:
        nonlocal depth, length
        depth, length = depth + 1, 0
        text.clear()
        if depth > _MAX_DEPTH:
            raise refuse(f"an annotation must be nested less than {_MAX_DEPTH} deep")
        start(_local(tag), {_local(k): v for k, v in attributes.items()}, parser.CurrentLineNumber)

    def on_end(tag: str) -> None:
        nonlocal depth, length
        end(_local(tag), "".join(text).strip(), parser.CurrentLineNumber)
        depth, length = depth - 1, 0
        text.clear()

    def on_text(piece: str) -> None:
        nonlocal length
        length += len(piece)
        if length > _MAX_TEXT:
            raise refuse(f"text in an annotation must be shorter than {_MAX_TEXT} characters")
        text.append(piece)

    def on_entity(name: str, *_: object) -> None:
        # Entities are how a small XML file expands to gigabytes or reads other files.
        raise refuse(f"an annotation must not declare entities, got '{name}'")

    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    parser.CharacterDataHandler = on_text
    parser.EntityDeclHandler = on_entity
    try:
        parser.ParseFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except expat.ExpatError as error:
        message = expat.ErrorString(error.code)
        raise DataError(f"must be well-formed XML, got: {message}", where=at(where, error.lineno)) from None
    except (ValueError, LookupError) as error:  # an encoding expat does not know
        if isinstance(error, DataError):
            raise
        raise DataError(f"must be XML in a known encoding, got: {error}", where=where) from None
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror or error})", where=where) from None


def line_in(error: DataError, name: str) -> int | None:
    """The line an error of `walk_xml` names in the file `name`, or None."""
    line = (error.where or "").removeprefix(f"{name}:")
    return int(line) if line.isdecimal() else None


def element_text(tag: str, value: object, **attributes: object) -> str:
    """`<tag>value</tag>` with the value escaped, and with attributes."""
    return f"<{tag}{attribute_text(**attributes)}>{escape(str(value))}</{tag}>"


def attribute_text(**attributes: object) -> str:
    """` name="value"` of each attribute that is not None, escaped."""
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in attributes.items() if value is not None)


@lru_cache(maxsize=256)  # a file has few names, and each of them many times
def _local(tag: str) -> str:
    return tag.rpartition(":")[2].lower()
