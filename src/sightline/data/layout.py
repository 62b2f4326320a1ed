"""Folders and paths as data sets use them: image files, split names, and paths that must stay inside a root."""

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sightline.core.errors import DataError
from sightline.core.files import check_regular
from sightline.core.text import well_formed
from sightline.media import IMAGE_SUFFIXES

__all__ = [
    "JUNK_FOLDERS",
    "KIND_FOLDERS",
    "absolute",
    "common_root",
    "folders_up_to",
    "inside",
    "list_files",
    "list_images",
    "path_from",
    "read_list",
    "read_text",
    "relative",
    "split_of",
    "subfolder",
]

JUNK_FOLDERS = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir"})
"""What operating systems leave beside data; never looked into."""

KIND_FOLDERS = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "pngimages", "data", "labels", "label", "annotations", "xmls"}
    | {"masks", "mask", "ann", "gt", "segmentationclass"}
)
"""Folders that say what kind of files they hold: without them picture and label have the same path."""

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_OTHER_SPLIT_WORDS = {"dev": "val", "eval": "test", "evaluation": "test", "holdout": "test"}
"""What these mean in Hugging Face's folders of images, where no word of the first kind is beside them: `test-dev`."""


def list_files(folder: Path, suffixes: Iterable[str], *, recursive: bool = False) -> list[Path]:
    """The files of a folder with one of the suffixes (any case), sorted; hidden files and folders are left out.

    Links are followed, and a folder that several names lead to is looked into once: links may lead back up.
    """
    wanted = frozenset(suffixes)
    found: list[Path] = []
    seen = {_identity(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        below = [f for f in folders if not f.startswith(".") and f not in JUNK_FOLDERS] if recursive else []
        # Folders before links to folders: a file is called by the name it has, not by one that leads to it.
        places = sorted((Path(parent, f) for f in below), key=lambda p: (p.is_symlink(), p.name))
        folders[:] = [p.name for p in places if _is_new(p, seen)]
        found += [
            Path(parent, n) for n in names if posixpath.splitext(n)[1].lower() in wanted and not n.startswith(".")
        ]
    return sorted(found)


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder, under whatever name, is not among those `seen`, to which it is added."""
    here = _identity(folder)
    is_new = here not in seen
    seen.add(here)
    return is_new


def _identity(folder: Path) -> tuple[int, int]:
    """What a folder is, whatever it is called; (0, 0) where it cannot be asked."""
    try:
        state = folder.stat()
    except OSError:
        return 0, 0
    return state.st_dev, state.st_ino


def list_images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """The image files of a folder, sorted."""
    return list_files(folder, IMAGE_SUFFIXES, recursive=recursive)


def subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first folder inside `folder` that has one of the names (any case), in the order of `names`."""
    if not folder.is_dir():
        return None
    by_name = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()}
    return next((by_name[n.lower()] for n in names if n.lower() in by_name), None)


def split_of(name: str) -> str | None:
    """The split a folder or file name speaks of: train, val or test ("instances_train2017" → "train"), else None."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {_SPLIT_WORDS[w] for w in words if w in _SPLIT_WORDS} or {
        _OTHER_SPLIT_WORDS[w] for w in words if w in _OTHER_SPLIT_WORDS
    }
    return found.pop() if len(found) == 1 else None


def inside(root: Path, text: str, where: str) -> str:
    """`text`, a path given in a label file, as a POSIX path relative to `root`; DataError when it leaves the root.

    `where` names the place in the label file.
    """
    clean = text.strip().replace("\\", "/")
    normal = posixpath.normpath(clean)
    if not clean or "\0" in clean:
        raise DataError(f"a path in a label file must name a file, got {text!r}", where=where)
    if normal.startswith(("/", "../")) or normal in {".", ".."} or re.match(r"[A-Za-z]:", normal):
        raise DataError(
            f"a path in a label file must stay inside the data set's root {root}, got '{text}'",
            where=where,
            do="Give the path relative to the root",
        )
    return normal


def relative(path: Path, root: Path) -> str:
    """`path` relative to `root` in POSIX form; the path as it is when it lies elsewhere.

    Bytes of a name that is not UTF-8 are written out: no table and no file of results can hold them.
    """
    try:
        text = path.relative_to(root).as_posix()
    except ValueError:
        text = path.as_posix()
    return well_formed(text)  # type: ignore[no-any-return]


def common_root(paths: Iterable[Path]) -> Path:
    """The deepest folder that holds all the paths."""
    return Path(os.path.commonpath([str(absolute(p)) for p in paths]))


def folders_up_to(file: Path, top: Path) -> list[Path]:
    """The folder of a file and those above it as far as `top`, which is one of them."""
    return [folder for folder in file.parents if folder == top or top in folder.parents] or [file.parent]


def absolute(path: Path) -> Path:
    """The path made absolute, `..` resolved by name (links are kept as they are named)."""
    return Path(os.path.normpath(Path.cwd() / path))


def path_from(file: Path, target: Path) -> str:
    """`target` relative to the folder of `file`, in POSIX form; absolute where it is on another drive."""
    try:
        return Path(os.path.relpath(absolute(target), absolute(file).parent)).as_posix()
    except ValueError:
        return absolute(target).as_posix()


def read_head(path: Path, size: int) -> bytes:
    """The first bytes of a file; nothing where it cannot be read, as a link to nowhere or a pipe."""
    try:
        check_regular(path)
        with path.open("rb") as handle:
            return handle.read(size)
    except OSError:
        return b""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without byte-order mark; DataError when it cannot be read."""
    try:
        check_regular(path)
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror or error})", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise DataError(f"must be UTF-8 text, got byte {error.object[error.start]:#04x}", where=str(path)) from None


def read_list(path: Path) -> list[tuple[int, str]]:
    """The lines of a list of images with their numbers, blank ones left out; DataError for a list without any."""
    lines = [(number, text.strip()) for number, text in enumerate(read_text(path).splitlines(), 1) if text.strip()]
    if not lines:
        do = "Restore the list, or remove it and what names it"
        raise DataError("a list of images must name at least one, got an empty file", where=str(path), do=do)
    return lines
