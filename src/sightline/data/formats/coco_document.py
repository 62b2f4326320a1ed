"""One COCO label file: its text, its parsed content, and findings that carry line numbers."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError, at
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.json_places import JsonPlaces
from sightline.data.layout import read_text

__all__ = ["Document", "Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with item `index` of a list in the file; `image_id` is the data set's own."""

    code: str
    index: int
    message: str
    image_id: int | None = None


class Document:
    """A parsed COCO file. DataError when it is no JSON or lacks the lists a COCO instances file has."""

    def __init__(self, file: Path, split: str | None) -> None:
        self.file, self.split = file, split
        self.name = file.name  # becomes relative to the data set's root once that is known
        self._text = read_text(file)
        self.content = _parse(self._text, file)
        self._places: JsonPlaces | None = None
        for key in ("images", "categories"):
            if not isinstance(self.content.get(key), list):
                raise DataError(
                    f"a COCO file must have a list '{key}', got {_kind(self.content.get(key))}", where=str(file)
                )
        if not isinstance(self.content.get("annotations", []), list):
            got = _kind(self.content["annotations"])
            raise DataError(f"'annotations' of a COCO file must be a list, got {got}", where=str(file))

    def entries(self, section: str) -> tuple[list[dict[str, Any]], npt.NDArray[np.int64], list[Problem]]:
        """The objects of a list, their indices in it, and a problem for each item that is no object."""
        items = self.content.get(section, [])
        if set(map(type, items)) <= {dict}:
            return items, np.arange(len(items)), []
        rows = [i for i, item in enumerate(items) if isinstance(item, dict)]
        bad = [
            Problem("label-malformed", i, f"{section}[{i}] must be an object, got {_kind(item)}")
            for i, item in enumerate(items)
            if not isinstance(item, dict)
        ]
        return [items[i] for i in rows], np.array(rows, dtype=np.int64), bad

    def lines(self, section: str, indices: Iterable[int]) -> dict[int, int]:
        """The 1-based lines of items of a list."""
        if self._places is None:
            self._places = JsonPlaces(self._text)
        return self._places.lines(section, indices)

    def findings(self, section: str, problems: list[Problem]) -> list[Finding]:
        """The problems as findings with path and line."""
        if not problems:
            return []
        lines = self.lines(section, (p.index for p in problems))
        return [
            finding(p.code, p.message, path=self.name, line=lines.get(p.index), image_id=p.image_id) for p in problems
        ]


def _parse(text: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"must be valid JSON, got: {error.msg}", where=at(file, error.lineno)) from None
    except (RecursionError, ValueError) as error:  # nesting without end, integers of thousands of digits
        raise DataError(f"must be JSON of a sane shape, got: {error}", where=str(file)) from None
    if not isinstance(content, dict):
        raise DataError(f"a COCO label file must hold an object, got {_kind(content)}", where=str(file))
    return content


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
