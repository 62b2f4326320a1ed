"""An audit that was written to a file, read again."""

import json
from pathlib import Path
from typing import Any

import pydantic

from sightline.core.config import validation_sentence
from sightline.core.errors import ConfigError, at
from sightline.core.findings import Finding

__all__ = ["findings_of", "read_audit"]

_FINDINGS = pydantic.TypeAdapter(list[Finding])


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
    return value


def findings_of(audit: dict[str, Any], where: str) -> list[Finding]:
    """The findings in an audit that was read; ConfigError where one is malformed."""
    try:
        return _FINDINGS.validate_python(audit["findings"])
    except pydantic.ValidationError as error:
        raise ConfigError(validation_sentence(None, error), where=where) from None
