"""What belongs together by declaration: groups from a pattern on the paths, the folders, or a column of a table."""

import re
from pathlib import Path, PurePosixPath

import polars as pl

from sightline.core.errors import ConfigError, at, unknown_name

__all__ = ["PARENT", "declared_groups", "read_rows"]

PARENT = "parent"
"""The rule by which the images of one folder are a group."""
_KEYS = ("path", "stem")


def declared_groups(paths: pl.Series, rule: str, metadata: Path | None = None, where: str | None = None) -> pl.Series:
    """The group of each path, null where the rule gives none.

    `rule` is a regular expression whose first group names it, `parent` for the folder, or, with `metadata`, a column of
    that CSV file, which names images in a column `path` or `stem`. ConfigError, at `where`, for anything else, and for
    a rule that gives no image a group.
    """
    if metadata is not None:
        return _from_column(paths, metadata, rule)
    if rule == PARENT:
        return pl.Series([PurePosixPath(p).parent.as_posix() for p in paths.to_list()], dtype=pl.String)
    try:
        compiled = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"'group' must be a regular expression, got '{rule}': {error}", where=where) from None
    if compiled.groups < 1:
        raise ConfigError(f"'group' must have a group in parentheses, or be '{PARENT}', got '{rule}'", where=where)
    matches = [compiled.search(p) for p in paths.to_list()]
    found = pl.Series([m.group(1) if m else None for m in matches], dtype=pl.String)
    if len(found) and found.null_count() == len(found):
        message = f"'group' must be found in paths of the data set, got '{rule}', which is not even in '{paths[0]}'"
        raise ConfigError(message, where=where)
    return found


def read_rows(file: Path) -> pl.DataFrame:
    """A CSV file with a head, every value as text, empty ones null; ConfigError when it cannot be read as that."""
    try:
        # Only text: a patient 007 must not become 7.
        frame = pl.read_csv(file, infer_schema=False, truncate_ragged_lines=False)
    except OSError as error:
        raise ConfigError(f"cannot read the file ({error.strerror or error})", where=str(file)) from None
    except pl.exceptions.PolarsError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"must be a CSV file in UTF-8 with a head, got: {first}", where=str(file)) from None
    return frame.rename({name: name.strip() for name in frame.columns})


def _from_column(paths: pl.Series, file: Path, column: str) -> pl.Series:
    table = read_rows(file)
    key = next((k for k in _KEYS if k in table.columns), None)
    if key is None:
        raise ConfigError(
            f"must name images in a column 'path' or 'stem', got the columns {', '.join(table.columns)}",
            where=at(file, 1),
        )
    if column not in table.columns or column == key:
        known = [c for c in table.columns if c != key]
        raise ConfigError(unknown_name("column", column, known), where=at(file, 1))
    twice = table.with_row_index("line", offset=2).filter(
        pl.col(key).is_duplicated() & ~pl.col(key).is_first_distinct()
    )
    if not twice.is_empty():
        raise ConfigError(f"must name each image once, got '{twice[key][0]}' again", where=at(file, twice["line"][0]))
    value_of = dict(table.select(key, column).iter_rows())
    names = paths.to_list() if key == "path" else [PurePosixPath(p).stem for p in paths.to_list()]
    found = pl.Series([value_of.get(n) for n in names], dtype=pl.String)
    if found.null_count() == len(found):
        raise ConfigError(f"must name images of the data set in '{key}', got none that is one", where=str(file))
    return found
