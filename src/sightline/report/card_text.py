"""What only people know about a data set, as they write it down in a `card.yaml`: nothing of it is ever made up."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from sightline.core.config import Config
from sightline.core.errors import ConfigError, unknown_name
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.data import finding

__all__ = ["CardText", "Creator", "Origin", "Policies", "write_template"]

_SHOWN_CLASSES = 10
_QUESTIONS = {
    "name": "what the data set is called; the folder's name without it",
    "description": "what it shows and what it was made for, in a few sentences",
    "version": "as 1.0.0",
    "date_published": "as 2026-01-31",
    "url": "where it can be found",
    "licence": "a name or URL; https://spdx.org/licenses lists them",
    "creators": "who made it: - {name: ..., kind: person or organization, url: ...}",
    "citation": "how to cite it, best as BibTeX",
    "keywords": "a list of words",
    "sources": "where the images come from: - {name: ..., url: ..., licence: ..., note: ...}",
    "collection": "how and when the images were taken: cameras, places, seasons, selection",
    "annotation": "who labelled, with what tool and instructions, how it was checked",
    "personal_data": "faces, number plates, patients: what is in it and what allows its use",
    "classes": "what exactly belongs to each class, and what does not",
    "policies": "how doubtful cases were labelled",
    "split_unit": "what is never divided between splits: video, patient, site, day",
    "known_artefacts": "a list: watermarks, compression, borders, re-encoding, anything a model may latch on to",
    "intended_use": "what it is good for",
    "limitations": "what it must not be used for, and what it lacks",
    "metrics": "a list: metrics to report beside the standard ones",
}
_POLICY_QUESTIONS = {
    "edge_cases": "objects cut by the border, reflections, pictures of objects",
    "ignore_regions": "what is marked to be ignored or as a crowd, and how it counts",
    "occlusion": "is the visible part labelled or the whole object; from what share on is none labelled",
    "smallest_object": "from what size on objects are labelled",
}


class Creator(Config):
    """Who made a data set."""

    name: str
    kind: Literal["person", "organization"] = "person"
    url: str | None = None


class Origin(Config):
    """Where images come from."""

    name: str
    url: str | None = None
    licence: str | None = None
    note: str | None = None


class Policies(Config):
    """How doubtful cases were labelled."""

    edge_cases: str | None = None
    ignore_regions: str | None = None
    occlusion: str | None = None
    smallest_object: str | None = None


class CardText(Config):
    """The keys of a `card.yaml`; each may be left out and is then shown as not stated."""

    name: str | None = None
    description: str | None = None
    version: str | None = None
    date_published: str | None = None
    url: str | None = None
    licence: str | None = None
    creators: tuple[Creator, ...] = ()
    citation: str | None = None
    keywords: tuple[str, ...] = ()
    sources: tuple[Origin, ...] = ()
    collection: str | None = None
    annotation: str | None = None
    personal_data: str | None = None
    classes: dict[str, str | None] = pydantic.Field(default_factory=dict)
    policies: Policies = Policies()
    split_unit: str | None = None
    known_artefacts: tuple[str, ...] = ()
    intended_use: str | None = None
    limitations: str | None = None
    metrics: tuple[str, ...] = ()

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        # A key of the template nobody filled in; a list or mapping that is empty stays what it is.
        if value is None and info.field_name is not None:
            return cls.model_fields[info.field_name].get_default(call_default_factory=True)
        if info.field_name in {"date_published", "version"} and isinstance(value, (date, int, float)):
            return str(value)  # YAML has its own dates and numbers
        return value

    @pydantic.field_validator("date_published")
    @classmethod
    def _is_a_date(cls, value: str | None) -> str | None:
        # Croissant with another text is not valid.
        if value is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            raise ValueError("must be a date as 2026-01-31")
        return None if value is None else date.fromisoformat(value).isoformat()

    def check_classes(self, names: Sequence[str], where: str | None = None) -> None:
        """ConfigError for a definition of a class the data set does not have."""
        for name in self.classes:
            if name not in names:
                raise ConfigError(unknown_name("class", name, names), where=where)

    def not_stated(self, class_names: Sequence[str]) -> list[str]:
        """What the card should say and nobody has written: keys, policies as `policies.<key>`, classes by name."""
        optional = {"name", "metrics", "policies", "classes", "keywords"}
        keys = [k for k in type(self).model_fields if k not in optional and not getattr(self, k)]
        keys += [f"policies.{k}" for k in Policies.model_fields if not getattr(self.policies, k)]
        return keys + [f"classes.{name}" for name in class_names if not self.classes.get(name)]

    def findings(self, class_names: Sequence[str]) -> list[Finding]:
        """A `card-not-stated` for everything that is missing, the classes together."""
        missing = self.not_stated(class_names)
        found = [finding("card-not-stated", f"'{k}' is not stated") for k in missing if not k.startswith("classes.")]
        classes = [key.removeprefix("classes.") for key in missing if key.startswith("classes.")]
        if classes:
            more = ", ..." if len(classes) > _SHOWN_CLASSES else ""
            listed = ", ".join(classes[:_SHOWN_CLASSES]) + more
            message = f"{len(classes)} of {len(class_names)} classes have no definition: {listed}"
            found.append(finding("card-not-stated", message, count=len(classes)))
        return found


def write_template(file: Path, class_names: Sequence[str]) -> None:
    """Write a `card.yaml` with every key, what it asks for, and nothing filled in. ConfigError if the file exists."""
    if file.exists():
        raise ConfigError("the template must be a new file, got one that exists", where=str(file))
    lines = ["# What only people know about this data set. What stays empty is shown as not stated."]
    for key, question in _QUESTIONS.items():
        lines.append(f"# {question}")
        lines.append(f"{key}:")
        inner = {"policies": _POLICY_QUESTIONS, "classes": dict.fromkeys(class_names, "")}.get(key, {})
        for name, asked in inner.items():
            quoted = yaml.safe_dump(name, allow_unicode=True, default_style='"', width=10**9).strip()
            lines.append(f"  {quoted if key == 'classes' else name}:{f'  # {asked}' if asked else ''}")
    write_text_atomic(file, "\n".join(lines) + "\n")
