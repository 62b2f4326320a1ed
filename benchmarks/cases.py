"""Audit every case of a folder and put what came out beside what a user may expect, as a Markdown table.

A case is a folder `<number>-<name>/` with `expected.md`; its archives and its sub-folders that are data sets of their
own are audited too. Exit codes are those of `sightline audit --fail-on error`: 2 refused, 1 an error among the
findings, 0. `ROOT/` in label files stands for the case's own folder: such a case is copied first. Nothing is judged:
the table is for reading.

Run: python benchmarks/cases.py FOLDER [--below 300]
"""

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sightline.audit import audit_dataset
from sightline.core.errors import InputError
from sightline.data import detect_format, read_dataset, split_of

_PLACEHOLDER = "ROOT/"
_HEAD = "| case | found | read | listed | findings | exit | expected |\n|---|---|---|---|---|---|---|"
_PARTS = {"images", "labels", "annotations", "masks", "imgs"}
_WIDE = 160


def audited(place: Path) -> tuple[str, str, str, str, int]:
    """Pictures found, read and listed, the codes of findings with their number, and the exit code."""
    try:
        result = audit_dataset(read_dataset(place))
    except InputError as error:
        return "", "", "", f"refused: {error}".replace(str(place), place.name)[:_WIDE], 2
    counts, codes = result.pictures, Counter(f.code for f in result.findings)
    assert counts is not None  # only audits of earlier versions, read from files, lack them
    named = ", ".join(code if n == 1 else f"{code} × {n}" for code, n in sorted(codes.items()))
    failed = any(f.severity == "error" for f in result.findings)
    return str(counts.found), str(counts.read), str(counts.listed), named, int(failed)


def places(case: Path) -> Iterator[Path]:
    """The case itself, its archives, and its sub-folders where it holds several sets."""
    try:
        read_dataset(case)
        is_one = True
    except InputError as error:
        is_one = "got several" not in str(error) and "an archive" not in str(error)
    yield from [case] if is_one else []
    yield from sorted(p for p in case.iterdir() if p.suffix == ".zip")
    for folder in sorted(p for p in case.iterdir() if p.is_dir() and p.name.lower() not in _PARTS):
        if not is_one or (split_of(folder.name) is None and detect_format(folder) is not None):
            yield folder


def with_root(case: Path, copies: Path) -> Path:
    """The case, or a copy of it in which label files name the copy's own folder."""
    named = [p for p in case.glob("*.json") if _PLACEHOLDER in p.read_text(encoding="utf-8", errors="replace")]
    if not named:
        return case
    copy = shutil.copytree(case, copies / case.name)
    for file in named:
        text = file.read_text(encoding="utf-8").replace(_PLACEHOLDER, f"{copy}/")
        (copy / file.name).write_text(text, encoding="utf-8")
    return copy


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--below", type=int, default=300, help="cases of smaller numbers only")
    options = parser.parse_args()
    print(_HEAD)
    with tempfile.TemporaryDirectory() as copies:
        for file in sorted(options.folder.glob("*/expected.md")):
            number, _, _ = file.parent.name.partition("-")
            if not number.isdecimal() or int(number) >= options.below:
                continue
            expected = file.read_text(encoding="utf-8").splitlines()[0].split(". ")[0]
            case = with_root(file.parent, Path(copies))
            for place in places(case):
                name = place.relative_to(case.parent).as_posix()
                row = [name, *map(str, audited(place)), expected]
                print("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |", flush=True)


if __name__ == "__main__":
    main()
