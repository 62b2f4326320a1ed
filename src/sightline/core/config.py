"""The base of every configuration: frozen pydantic models that refuse unknown keys and name the nearest one."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pydantic
import yaml

from sightline.core.errors import ConfigError, at, unknown_name, value_sentence
from sightline.core.files import check_regular, write_text_atomic

__all__ = ["Config", "read_yaml", "validation_sentence"]


class Config(pydantic.BaseModel):
    """Frozen settings whose fields are the only accepted keys; each default is written once, on its field."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def load(cls, values: Mapping[str, Any], where: str | None = None) -> Self:
        """The settings from a mapping; ConfigError, naming the nearest key, for a wrong key or value."""
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            raise ConfigError(validation_sentence(cls, error), where=where) from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The settings from a YAML file."""
        return cls.load(read_yaml(path), where=str(path))

    def save(self, path: str | Path) -> None:
        """Write all settings, defaults included, as YAML that `read` takes back."""
        write_text_atomic(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


_HALF_PAIR = re.compile(r"\\(u|U0000)[dD][89a-fA-F]")


class _Loader(yaml.SafeLoader):
    """YAML's safe subset; a key that is given twice is an error, where PyYAML keeps the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge") else None
            if name is not None and (key.tag, name) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{name}' twice", key.start_mark)
            seen.add((key.tag, name))
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping a YAML file holds (safe subset only); ConfigError with file and line otherwise."""
    file = Path(path)
    try:
        check_regular(file)
        text = file.read_text(encoding="utf-8")
        if _HALF_PAIR.search(text):
            raise ConfigError("must be whole characters, got half a surrogate pair", where=str(file))
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - the safe one, but for keys given twice
    except OSError as error:
        raise ConfigError(f"cannot read the file ({error.strerror})", where=str(file)) from None
    except UnicodeDecodeError:
        raise ConfigError("must be UTF-8 text, got other bytes", where=str(file)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"must be valid YAML, got: {problem}", where=at(file, line)) from None
    except RecursionError:
        raise ConfigError("must be YAML of few levels, got thousands of nested values", where=str(file)) from None
    except ValueError as error:  # a date or number that only looks like one
        raise ConfigError(f"must be valid YAML, got: {error}", where=str(file)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"must be a mapping of keys to values, got a {type(value).__name__}", where=str(file))
    return {str(k): v for k, v in value.items()}


def validation_sentence(cls: type[pydantic.BaseModel], error: pydantic.ValidationError) -> str:
    """The first fault pydantic found in values for `cls`, as one sentence without its full stop."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden":
        *parents, leaf = map(str, first["loc"])
        under = f" under '{'.'.join(parents)}'" if parents else ""
        return unknown_name("key", leaf, _known_keys(cls, first["loc"])).replace(f"'{leaf}'", f"'{leaf}'{under}", 1)
    return value_sentence(first)


def _known_keys(cls: type[pydantic.BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    model: type[pydantic.BaseModel] = cls
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, pydantic.BaseModel)):
            break
        model = inner
    return list(model.model_fields)
