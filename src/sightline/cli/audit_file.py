"""An audit that was written to a file, read again."""

import json
from pathlib import Path
from typing import Annotated, Any

import pydantic

from sightline.audit import QUANTILES, AuditResult
from sightline.core.config import validation_sentence
from sightline.core.errors import ConfigError, at, unknown_name
from sightline.core.findings import Finding
from sightline.data import CODES

__all__ = ["findings_of", "read_audit", "read_result"]

_Quantiles = Annotated[list[float], pydantic.Field(min_length=len(QUANTILES), max_length=len(QUANTILES))] | None


class _Counts(pydantic.BaseModel):
    images: int
    objects: int


class _Recorded(pydantic.BaseModel):
    """What is compared with a later audit."""

    splits: dict[str, _Counts] = {}
    split_digests: dict[str, str] = {}


class _Sizes(pydantic.BaseModel):
    small: int
    medium: int
    large: int


class _Class(pydantic.BaseModel):
    objects: int
    images: int
    share: float | None
    side_at_imgsz_px: _Quantiles
    area: _Quantiles
    aspect: _Quantiles
    coco_sizes: _Sizes


class _ClassPixels(pydantic.BaseModel):
    pixels: int
    share: float
    masks: int
    share_where_present: _Quantiles


class _Pixels(pydantic.BaseModel):
    classes: dict[str, _ClassPixels]


class _Statistics(pydantic.BaseModel):
    images: dict[str, _Quantiles] = {}
    classes: dict[str, _Class] = {}
    pixels: _Pixels | None = None
    tracks: dict[str, _Quantiles | int] = {}


class _Histogram(pydantic.BaseModel):
    edges: list[float]
    masks: list[int]


class _Masks(pydantic.BaseModel):
    pixels_by_class: dict[str, int] = {}
    foreground_histogram: _Histogram | None = None


class _Shown(pydantic.BaseModel):
    """What a card shows of what `AuditResult` leaves open."""

    statistics: _Statistics = _Statistics()
    masks: _Masks | None = None


_FINDINGS = pydantic.TypeAdapter(list[Finding])
_RECORDED = pydantic.TypeAdapter(_Recorded)
_SHOWN = pydantic.TypeAdapter(_Shown)
_RESULT = pydantic.TypeAdapter(AuditResult)


def read_audit(path: str | Path) -> dict[str, Any]:
    """The object in a file that `sightline audit` wrote (`audit.json`, or the output of --json); else ConfigError."""
    file = Path(path)
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the file ({error.strerror})", where=str(file)) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"must be JSON, got: {error.msg}", where=at(file, error.lineno)) from None
    except (UnicodeDecodeError, RecursionError):
        raise ConfigError("must be JSON text, got something else", where=str(file)) from None
    if not isinstance(value, dict) or not isinstance(value.get("findings"), list):
        raise ConfigError("must be the result of `sightline audit --json`, got something else", where=str(file))
    _checked(_RECORDED, value, path)
    return value


def read_result(path: str | Path) -> AuditResult:
    """The whole audit in such a file; ConfigError where anything is missing or malformed."""
    value = read_audit(path)
    _checked(_SHOWN, value, path)
    result: AuditResult = _checked(_RESULT, value, path)
    return result


def findings_of(audit: dict[str, Any], where: str) -> list[Finding]:
    """The findings in an audit that was read; ConfigError where one is malformed or of an unknown code."""
    found: list[Finding] = _checked(_FINDINGS, audit["findings"], where)
    for f in found:
        if f.code not in CODES:
            raise ConfigError(unknown_name("finding", f.code, CODES), where=where)
    return found


def _checked(shape: "pydantic.TypeAdapter[Any]", value: Any, where: str | Path) -> Any:
    try:
        return shape.validate_python(value)
    except pydantic.ValidationError as error:
        raise ConfigError(validation_sentence(None, error), where=str(where)) from None
