"""Where the images, labels and class names of a YOLO data set are: the data YAML, image lists and plain folders."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.core.config import read_yaml
from sightline.core.errors import ConfigError, DataError, at, nearest
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.layout import (
    absolute,
    common_root,
    inside,
    list_files,
    list_images,
    read_list,
    read_text,
    relative,
    split_of,
    subfolder,
)
from sightline.media import IMAGE_SUFFIXES

__all__ = ["NAME_FILES", "Layout", "data_yaml", "folder_layout", "is_data_yaml", "label_there", "yaml_layout"]

UNLISTED = "unlisted"
"""Our own key of the data YAML, for images of no split; others pass over it."""
_SPLITS = ("train", "val", "test")
_MOST_KEYPOINTS = 1000
_MOST_CLASSES = 100_000
# The keys of the data YAML in use by trainers and export services; only the first line has a meaning here.
_KEYS = ("path", *_SPLITS, "names", "nc", "kpt_shape", "kpt_names", "flip_idx", UNLISTED)
_OTHER_KEYS = ("download", "channels", "roboflow", "minival", "format", "author", "license")
NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")


@dataclass
class Layout:
    """Images with split and label file, class names by id (None: not given), and everything met on the way."""

    root: Path
    name: str
    names: dict[int, str] | None
    images: list[tuple[Path, str | None]] = field(default_factory=list)
    labels: dict[Path, Path] = field(default_factory=dict)  # image → where its label file would be
    label_folders: dict[Path, bool] = field(default_factory=dict)  # with whether folders below belong to it
    not_labels: set[Path] = field(default_factory=set)  # text files in label folders that are something else
    keypoints: tuple[int, int] | None = None  # how many an object has, and how many numbers (2 or 3) each
    keypoint_names: dict[int, list[str]] = field(default_factory=dict)  # by class id
    mirror: list[int] | None = None  # the keypoints' order in a mirror
    findings: list[Finding] = field(default_factory=list)

    def take_names(self, names: dict[int, str] | None, file: Path) -> None:
        """The class names of a file, where none are known yet; of two classes of one name the second has its id too."""
        if self.names is not None or names is None:
            return
        first: dict[str, int] = {}
        self.names = {}
        for number, name in names.items():
            known = first.setdefault(name, number)
            self.names[number] = name if known == number else f"{name} (id {number})"
            if known != number:
                message = f"'{name}' is the name of two ids, {known} and {number}"
                facts = {"ids": [known, number], "name": name}
                place = relative(file, self.root)
                self.findings.append(finding("class-duplicate-name", message, path=place, facts=facts))

    def add_folder(self, images: Path, labels: Path, split: str | None) -> None:
        """All images of a folder and below, their labels at the same place below `labels`."""
        self.label_folders[labels] = True
        for image in list_images(images, recursive=True):
            self.images.append((image, split))
            self.labels[image] = labels / image.relative_to(images).with_suffix(".txt")

    def add_list(self, file: Path, split: str | None) -> None:
        """The images a text file lists, one a line, relative to the list or to the root."""
        self.not_labels.add(file)
        for line, text in read_list(file):
            path = inside(self.root, relative(absolute(file.parent / text), self.root), at(file, line))
            image = self.root / path
            if not image.is_file():
                image = self.root / inside(self.root, text, at(file, line))
            if not image.is_file():
                message = f"the listed image '{text}' does not exist"
                self.findings.append(finding("image-missing", message, path=relative(file, self.root), line=line))
                continue
            self.images.append((image, split))
            self.labels[image] = labels_beside(image.parent) / f"{image.stem}.txt"
            self.label_folders.setdefault(self.labels[image].parent, False)


def labels_beside(images: Path) -> Path:
    """The folder of label files for a folder of images: the last `images` in the path becomes `labels`."""
    parts = list(images.parts)
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].lower() == "images":
            return Path(*parts[:i], "labels" if parts[i].islower() else "Labels", *parts[i + 1 :])
    return images


def label_there(label: Path) -> Path | None:
    """The label file, whose suffix some programs write in capitals; None where there is none."""
    return next((p for p in (label, label.with_suffix(".TXT")) if p.is_file()), None)


def is_data_yaml(values: dict[str, Any]) -> bool:
    """Whether a YAML mapping describes a YOLO data set: class names, or a split that is a path or list of paths."""
    return "names" in values or any(isinstance(values.get(s), (str, list)) for s in _SPLITS)


def data_yaml(folder: Path) -> Path | None:
    """The data YAML of a folder: `data.yaml`, else the first that is one."""
    files = list_files(folder, (".yaml", ".yml"))
    files.sort(key=lambda p: p.stem.lower() != "data")
    for file in files:
        try:
            if is_data_yaml(read_yaml(file)):
                return file
        except ConfigError:
            if file.stem.lower() == "data":
                raise
    return None


def yaml_layout(file: Path, top: Path | None = None) -> Layout:
    """The layout a data YAML describes; its paths are relative to the file (or to its `path`).

    Below `top` alone is searched, where one is given: the folder in which the file was found.
    """
    values = read_yaml(file)
    strange = _unknown_keys(values, file)
    base = _base(values, file, top)
    entries = [(split, entry) for split in (*_SPLITS, UNLISTED) for entry in _entries(values.get(split), split, file)]
    if not entries:
        raise ConfigError("a data YAML must have one of train, val, test, got none", where=str(file))
    places = [(split, *_resolve(base, entry, split, file, top)) for split, entry in entries]
    root = common_root([base, *(p.parent if p.suffix == ".txt" else p for _, p, _, _ in places)])
    name = file.parent.name if file.stem in {"config", "data", "dataset"} else file.stem
    layout = Layout(root, name, None, keypoints=_keypoint_shape(values, file))
    layout.take_names(_names(values, file), file)
    layout.keypoint_names = _keypoint_names(values, layout)
    layout.mirror = _mirror(values, layout)
    unused = [finding("layout-unknown-key", f"the key '{k}' is not used", path=relative(file, root)) for k in strange]
    layout.findings += unused
    for key, images, labels, note in places:
        split = None if key == UNLISTED else key
        if note:
            layout.findings.append(finding("layout-elsewhere", note, path=relative(file, root)))
        if images.suffix == ".txt":
            layout.add_list(images, split)
        else:
            layout.add_folder(images, labels, split)
    return layout


def folder_layout(path: Path) -> Layout | None:
    """The layout of a folder without a data YAML, or None when it has no images with label files."""
    layout = Layout(path, path.name, None)
    layout.take_names(*_names_file(path))
    layout.not_labels |= {path / n for n in NAME_FILES}
    images = subfolder(path, ("images",))
    labels = subfolder(path, ("labels",))
    if labels is not None:
        layout.take_names(*_names_file(labels))
    parts = [p for p in sorted(path.iterdir()) if p.is_dir() and split_of(p.name) and subfolder(p, ("images",))]
    if images is not None and labels is not None:
        splits = [p for p in sorted(images.iterdir()) if p.is_dir() and split_of(p.name)]
        for folder in splits or [images]:
            layout.add_folder(folder, labels / folder.relative_to(images), split_of(folder.name))
    elif parts:
        for part in parts:
            inner = subfolder(part, ("images",)) or part
            layout.add_folder(inner, labels_beside(inner), split_of(part.name))
    elif mixed := split_folders(path):
        for folder in mixed:
            layout.add_folder(folder, folder, split_of(folder.name))
            layout.not_labels |= {folder / n for n in NAME_FILES}
            layout.take_names(*_names_file(folder))
    else:
        layout.label_folders[path] = False
        layout.images = [(p, None) for p in list_images(path)]
        layout.labels = {p: p.with_suffix(".txt") for p, _ in layout.images}
    return layout if any(label_there(p) is not None for p in layout.labels.values()) else None


def _unknown_keys(values: dict[str, Any], file: Path) -> list[str]:
    """The keys that have no meaning; ConfigError for one that looks like a slip of the pen."""
    strange = []
    for key in values:
        if key in _KEYS or key in _OTHER_KEYS:
            continue
        near = nearest(key, [k for k in (*_KEYS, *_OTHER_KEYS) if k not in values])
        if near or any(key.lower().startswith(s) for s in _SPLITS):
            hint = near[0] if near else next(s for s in _SPLITS if key.lower().startswith(s))
            raise ConfigError(f"unknown key '{key}' (nearest: {hint})", where=str(file), do=f"Write '{hint}'")
        strange.append(key)
    return strange


def _base(values: dict[str, Any], file: Path, top: Path | None) -> Path:
    text = values.get("path") or "."
    if not isinstance(text, str):
        raise ConfigError(f"'path' must be a folder, got {text!r}", where=str(file))
    base = absolute(file.parent / text.replace("\\", "/"))
    if not base.is_dir():
        raise DataError(
            f"'path' must be a folder relative to the file that names it, got '{text}' which is not there",
            where=str(file),
            do="Correct 'path', or leave it out if the images are beside the file",
        )
    if top is not None and not base.is_relative_to(top):
        raise _leaving("path", text, file)
    return base


def _leaving(key: str, text: str, file: Path) -> ConfigError:
    message = f"'{key}' of a file found in a folder must stay inside it, got '{text}'"
    return ConfigError(message, where=str(file), do="Name the file itself in place of its folder if you trust it")


def _entries(value: Any, split: str, file: Path) -> list[str]:
    entries = [] if value is None or value == "" else value if isinstance(value, list) else [value]
    if not all(isinstance(e, str) and e for e in entries):
        raise ConfigError(f"'{split}' must be a path or a list of paths, got {value!r:.80}", where=str(file))
    return [entry.replace("\\", "/") for entry in entries]


def _resolve(base: Path, entry: str, split: str, file: Path, top: Path | None) -> tuple[Path, Path, str]:
    """Images (folder or list), labels folder, and a note when the images were found elsewhere than written."""
    written = absolute(base / entry)
    leaves = top is not None and not written.is_relative_to(top)
    if written.exists() and not leaves:
        if written.is_dir() or written.suffix == ".txt":
            return written, _labels_for(written), ""
        raise DataError(f"'{split}' must be a folder or a .txt list, got '{entry}'", where=str(file))
    stripped = entry
    while stripped.startswith("../"):
        stripped = stripped[3:]
    inner, outer = absolute(base / stripped), absolute(base.parent / entry)
    if inner.is_dir():  # export services write "../train/images" for "train/images"
        return inner, _labels_for(inner), f"'{split}: {entry}' was read as '{stripped}'"
    if leaves:
        raise _leaving(split, entry, file)
    labels = labels_beside(written)
    shared = top is None or entry.lower().split("/")[0] == "images"
    if shared and outer.is_dir() and labels.is_dir():  # several label sets beside one folder of images
        return outer, labels, f"'{split}: {entry}' was read as '../{entry}'"
    raise DataError(
        f"'{split}' must be a folder or list that exists, got '{entry}'; looked at {written}, {inner} and {outer}",
        where=str(file),
    )


def _labels_for(images: Path) -> Path:
    labels = labels_beside(images)
    return labels if labels.is_dir() else images


def _names(values: dict[str, Any], file: Path) -> dict[int, str] | None:
    names, count = values.get("names"), values.get("nc")
    if names is None:
        return {i: f"class_{i}" for i in range(min(count, _MOST_CLASSES))} if isinstance(count, int) else None
    pairs = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(pairs, dict) or not pairs:
        raise ConfigError(f"'names' must be a list or an id: name mapping, got {names!r:.80}", where=str(file))
    wrong = [k for k in pairs if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < _MOST_CLASSES]
    if wrong:
        raise ConfigError(f"the keys of 'names' must be integers from 0 on, got {wrong[0]!r:.40}", where=str(file))
    strange = [v for v in pairs.values() if isinstance(v, bool) or not isinstance(v, (str, int, float, dt.date))]
    if strange:
        got = f"{strange[0]!r:.40}"
        do = "Put the name in quotes: YAML reads bare yes, no, on and off as truth values"
        raise ConfigError(f"'names' must hold text, got {got}", where=str(file), do=do)
    table = {k: str(v) for k, v in sorted(pairs.items())}
    if isinstance(count, int) and count != len(table):
        raise ConfigError(f"'nc' must be the number of names ({len(table)}), got {count}", where=str(file))
    return table


def _keypoint_shape(values: dict[str, Any], file: Path) -> tuple[int, int] | None:
    shape = values.get("kpt_shape")
    if shape is None:
        return None
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
    if not whole or not 1 <= shape[0] <= _MOST_KEYPOINTS or shape[1] not in {2, 3}:
        raise ConfigError(
            f"'kpt_shape' must be the number of keypoints and 2 or 3 numbers for each, got {shape!r:.60}",
            where=str(file),
        )
    return shape[0], shape[1]


def _keypoint_names(values: dict[str, Any], layout: Layout) -> dict[int, list[str]]:
    """The keypoints' names by class id, where they are as many as there are keypoints; else a finding."""
    given = values.get("kpt_names")
    if given is None:
        return {}
    count = (layout.keypoints or (0, 0))[0]
    named = given if isinstance(given, dict) else {}
    sound = {k: [str(n) for n in v] for k, v in named.items() if isinstance(v, list) and len(v) == count}
    if len(sound) < max(len(named), 1):
        message = f"'kpt_names' must give {count} names for each class id, got {given!r:.60}"
        layout.findings.append(finding("layout-unknown-key", message))
    return sound


def _mirror(values: dict[str, Any], layout: Layout) -> list[int] | None:
    """The keypoints' order in a mirror, where it is one of them all; else a finding."""
    order, count = values.get("flip_idx"), (layout.keypoints or (0, 0))[0]
    if not order or not count:
        return None
    if not isinstance(order, list) or any(type(i) is not int for i in order) or sorted(order) != list(range(count)):
        message = (
            f"'flip_idx' must be the {count} keypoints 0..{count - 1} in their order in a mirror, got {order!r:.60}; "
            "training that mirrors pictures will ask for it"
        )
        layout.findings.append(finding("layout-unknown-key", message))
        return None
    return order


def _names_file(folder: Path) -> tuple[dict[int, str] | None, Path]:
    """The class names of a folder's list, None where there is none, and the list."""
    found = [p for p in (*(folder / n for n in NAME_FILES), *list_files(folder, (".names",))) if p.is_file()]
    if not found:
        return None, folder
    names = [line.strip() for line in read_text(found[0]).splitlines() if line.strip()]
    return dict(enumerate(names)) or None, found[0]


def split_folders(path: Path) -> list[Path]:
    """The folders named like splits that hold pictures and their text files together; none where they overlap."""
    if has_label_pairs(path):
        return []
    found = [p for p in sorted(path.iterdir()) if p.is_dir() and split_of(p.name) and has_label_pairs(p)]
    return found if len({split_of(p.name) for p in found}) == len(found) else []


def has_label_pairs(folder: Path) -> bool:
    """Whether a folder holds an image with a text file of the same stem (cheap: names only)."""
    stems = {p.stem for p in folder.iterdir() if p.suffix.lower() == ".txt"}
    return any(p.suffix.lower() in IMAGE_SUFFIXES and p.stem in stems for p in folder.iterdir())
