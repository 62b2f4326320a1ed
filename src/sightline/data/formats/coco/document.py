"""One COCO label file: its bytes, what stands in its lists, and findings that carry line numbers.

A file of some size is never turned into Python objects as a whole: `scan` takes the annotations apart where they stand,
and only the short lists are parsed. `content` is the other way, for small files and for those that are not of the usual
form or no JSON at all; both give the same.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError, at
from sightline.core.findings import Finding
from sightline.core.text import parse_json
from sightline.data.codes import finding
from sightline.data.formats.coco.entries import ImageEntry, decode_json
from sightline.data.formats.coco.scan import Part, scan_part
from sightline.data.formats.coco.text import PACKED, SCAN_FROM, label_bytes, let_go, read_utf8
from sightline.data.json.places import JsonPlaces, Spans, find_values, guess_values
from sightline.data.json.scan import MAX_DEPTH, Bytes, skip_blank, skip_value

__all__ = ["Document", "Problem", "entry_lines", "has_json_name", "is_sound"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with item `index` of a list in the file; `image_id` is the data set's own."""

    code: str
    index: int
    message: str
    image_id: int | None = None
    count: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)


class Document:
    """A COCO file. DataError when it is no JSON or lacks the lists a COCO file has."""

    def __init__(self, file: Path, split: str | None) -> None:
        self.file, self.split = file, split
        self.name = file.name  # becomes relative to the data set's root once that is known
        self._data = read_utf8(file)
        self._spans = self._list_spans() if len(self._data) >= SCAN_FROM else None
        self._content: dict[str, Any] | None = None
        self._places: JsonPlaces | None = None
        self._numbers: dict[str, dict[str, int]] = {}  # of ids that are text, by section
        if self._spans is None:
            self.content  # noqa: B018 - refuses what is no COCO file

    @property
    def content(self) -> dict[str, Any]:
        """The whole file as Python objects."""
        if self._content is None:
            self._content = _parse(self._data, self.file)
            _check_lists(self._content, self.file)
        return self._content

    def entries(self, section: str) -> tuple[list[dict[str, Any]], npt.NDArray[np.int64], list[Problem]]:
        """The objects of a list, their indices in it, and a problem for each item that is no object."""
        items = self._numbered(section, self._items(section))
        if set(map(type, items)) <= {dict}:
            return items, np.arange(len(items)), []
        rows = [i for i, item in enumerate(items) if isinstance(item, dict)]
        bad = [
            Problem("label-malformed", i, f"{section}[{i}] must be an object, got {_kind(item)}")
            for i, item in enumerate(items)
            if not isinstance(item, dict)
        ]
        return [items[i] for i in rows], np.array(rows, dtype=np.int64), bad

    @property
    def has_text_ids(self) -> bool:
        """Whether images or categories read so far have ids that are text, and were numbered from 0."""
        return bool(self._numbers)

    def _numbered(self, section: str, items: list[Any]) -> list[Any]:
        """The items with numbers in place of ids that are text, and of what refers to them."""
        ids = [item.get("id") if isinstance(item, dict) else None for item in items]
        text = any(isinstance(i, str) and not _is_integer(i) for i in ids)
        if section != "annotations":
            if text and len(set(map(str, ids))) == len(ids):
                self._numbers[section] = {str(i): n for n, i in enumerate(ids)}
                return [
                    item if i is None else {**item, "id": n} for n, (i, item) in enumerate(zip(ids, items, strict=True))
                ]
            return items
        if not text and not self._numbers:
            return items
        replaced: list[Any] = []
        for number, item in enumerate(items):
            changes: dict[str, Any] = {"id": number} if text else {}
            for key, of in (("image_id", "images"), ("category_id", "categories")):
                if isinstance(item, dict) and of in self._numbers and str(item.get(key)) in self._numbers[of]:
                    changes[key] = self._numbers[of][str(item[key])]
            replaced.append({**item, **changes} if isinstance(item, dict) else item)
        return replaced

    @cached_property
    def images(self) -> tuple[list[dict[str, Any]], npt.NDArray[np.int64], list[Problem]]:
        """`entries` of the list of images, which is asked for twice; `del document.images` lets go of them."""
        return self.entries("images")

    def scan(self) -> Iterator[tuple[Part, Bytes] | None]:
        """The annotations in parts, with the text their places are in; None, and no more, where they are irregular.

        The text of a part is let go of when the next one is asked for.
        """
        if self._spans is None:
            yield None
            return
        if "annotations" not in self._spans:
            return
        start, end = self._spans["annotations"]
        text, self._places = self._data, None  # places are of a text that is whole
        place = skip_blank(text, start + 1)
        with ThreadPoolExecutor(1) as pool:  # the next part is scanned while the last one is worked on
            coming = pool.submit(scan_part, text, place) if place < end - 1 else None
            while coming is not None:
                scanned = coming.result()
                if scanned is None or scanned[1] >= end:
                    self._data = read_utf8(self.file)  # whole again, for those who look at every entry
                    yield None
                    return
                part, place = scanned
                coming = pool.submit(scan_part, text, place) if place < end - 1 else None
                yield part, text
                let_go(text, place)
        self._data = self._data[:0].copy()

    def lines(self, section: str, indices: Iterable[int]) -> dict[int, int]:
        """The 1-based lines of items of a list."""
        if self._places is None:  # a scanned text has been let go of
            self._places = JsonPlaces(self._data if len(self._data) else read_utf8(self.file))
        return self._places.lines(section, indices)

    def findings(self, section: str, problems: list[Problem]) -> list[Finding]:
        """The problems as findings with path and line."""
        if not problems:
            return []
        lines = self.lines(section, (p.index for p in problems))
        return [
            finding(
                p.code,
                p.message,
                path=self.name,
                line=lines.get(p.index),
                image_id=p.image_id,
                count=p.count,
                facts=p.facts,
                entry=p.index,
            )
            for p in problems
        ]

    def _items(self, section: str) -> list[Any]:
        if self._spans is not None and section != "annotations":
            try:
                text = self._data[slice(*self._spans[section])].tobytes()
                items: list[Any] = decode_json(text, ImageEntry if section == "images" else None)
                return items
            except (ValueError, RecursionError):
                pass  # the whole file is refused, with the line
        return list(self.content.get(section, []))

    def _list_spans(self) -> Spans | None:
        """Where the file's values stand; None where it is no COCO file or something beside the lists is no JSON."""
        text = self._data
        spans = guess_values(text, "annotations", "categories") or find_values(text)
        if spans is None or not {"images", "categories"} <= set(spans):
            return None
        stack = np.empty(MAX_DEPTH, dtype=np.uint8)
        for key, (start, end) in spans.items():
            if key in {"images", "categories", "annotations"}:
                sound = text[start] == ord("[")
            else:
                sound = skip_value(text, start, stack) == end
            if not sound:
                return None
        return spans


def _is_integer(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def has_json_name(file: Path) -> bool:
    """Whether a file is called JSON, or JSON packed with gzip."""
    return file.name.lower().endswith((".json", f".json{PACKED}"))


def entry_lines(file: Path, indices: Iterable[int]) -> dict[int, int]:
    """The 1-based lines of entries of a file's list of annotations; OSError where it cannot be read."""
    content = label_bytes(file).removeprefix(codecs.BOM_UTF8)
    return JsonPlaces(np.frombuffer(content, dtype=np.uint8)).lines("annotations", indices)


def is_sound(file: Path) -> bool:
    """Whether a file is JSON in UTF-8 with anything in it."""
    try:
        data = read_utf8(file)
        if len(data) < SCAN_FROM:
            return bool(decode_json(data.tobytes()))
    except (DataError, ValueError, RecursionError):
        return False
    start = skip_blank(data, 0)
    end = skip_value(data, start, np.empty(MAX_DEPTH, dtype=np.uint8))
    return end > start and skip_blank(data, end) == len(data)


def _parse(data: Bytes, file: Path) -> dict[str, Any]:
    text = data.tobytes().decode("utf-8")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")  # for the line in the error
    try:
        content = parse_json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"must be valid JSON, got: {error.msg}", where=at(file, error.lineno)) from None
    except ValueError as error:  # nesting without end, integers of thousands of digits
        raise DataError(f"must be JSON of a sane shape, got: {error}", where=str(file)) from None
    if not isinstance(content, dict):
        raise DataError(f"a COCO label file must hold an object, got {_kind(content)}", where=str(file))
    return content


def _check_lists(content: dict[str, Any], file: Path) -> None:
    for key in ("images", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f"a COCO file must have a list '{key}', got {_kind(content.get(key))}", where=str(file))
    if not isinstance(content.get("annotations", []), list):
        got = _kind(content["annotations"])
        raise DataError(f"'annotations' of a COCO file must be a list, got {got}", where=str(file))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
