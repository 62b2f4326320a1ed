"""Faults of labels and class lists in YOLO files, which hold one object a line."""

from collections.abc import Callable, Sequence
from typing import Any

import yaml

from sightline.synth.faults.site import Fault, Plant, Planted, Site

__all__ = ["LABEL_FAULTS"]

_SIDE = 320  # the generated images are square


def _row_added(code: str, row: Sequence[float | str]) -> Plant:
    def plant(site: Site) -> list[Planted]:
        label = site.label(site.pick())
        return [Planted(code, label, site.add_line(label, " ".join(map(str, row))))]

    return plant


def _row_repeated(code: str, shift: float) -> Plant:
    """The largest box once more, moved by a share of its width."""

    def plant(site: Site) -> list[Planted]:
        picture = site.pick()
        rows = site.rows(picture)
        largest = max(rows, key=lambda r: r[3] * r[4])
        site.write_rows(picture, [*rows, [largest[0], largest[1] + shift * largest[3], *largest[2:]]])
        return [Planted(code, site.label(picture), len(rows) + 1)]

    return plant


def _hardly_visible(site: Site) -> list[Planted]:
    """Boxes of 3 pixels, in a class that has none otherwise that small."""
    site.add_line(site.label(site.pick()), f"3 0.5 0.5 {3 / _SIDE} {3 / _SIDE}")
    return [Planted("label-small-at-size")]


def _rows_changed(code: str, change: Callable[[list[float]], list[float]], *, everywhere: bool) -> Plant:
    def plant(site: Site) -> list[Planted]:
        chosen = [*site.pictures("train"), *site.pictures("val")] if everywhere else [site.pick()]
        for picture in chosen:
            site.write_rows(picture, [change(row) for row in site.rows(picture)])
        return [Planted(code, None if everywhere else site.label(chosen[0]))]

    return plant


def _in_pixels(row: list[float]) -> list[float]:
    return [row[0], *(v * _SIDE for v in row[1:])]


def _names_changed(code: str, change: Callable[[dict[str, Any]], None]) -> Plant:
    def plant(site: Site) -> list[Planted]:
        content = yaml.safe_load(site.read("data.yaml"))
        change(content)
        site.write("data.yaml", yaml.safe_dump(content, sort_keys=False))
        return [Planted(code)]

    return plant


def _add_class(content: dict[str, Any], name: str) -> None:
    content["names"][len(content["names"])] = name


def _missing_file(site: Site) -> list[Planted]:
    picture = site.pick()
    site.remove(site.label(picture))
    return [Planted("label-missing-file", picture)]


def _empty_file(site: Site) -> list[Planted]:
    label = site.label(site.pick())
    site.write(label, "")
    return [Planted("label-empty-file", label)]


def _orphan(site: Site) -> list[Planted]:
    label = "labels/train/nobody.txt"
    site.write_rows("images/train/nobody.jpg", [[0, 0.5, 0.5, 0.2, 0.2]])
    return [Planted("label-orphan", label)]


def _imbalance(site: Site) -> list[Planted]:
    """One object of a class against hundreds: the rest of the rare classes become cars."""
    kept = False
    for picture in [*site.pictures("train"), *site.pictures("val")]:
        rows = site.rows(picture)
        for row in rows:
            keep, kept = row[0] == 1 and not kept, kept or row[0] == 1
            row[0] = 1 if keep else 0
        site.write_rows(picture, rows)
    return [Planted("class-imbalance")]


def _similar_name(site: Site) -> list[Planted]:
    content = yaml.safe_load(site.read("data.yaml"))
    _add_class(content, "Car ")
    site.write("data.yaml", yaml.safe_dump(content, sort_keys=False))
    picture = site.pick()
    site.write_rows(picture, [*site.rows(picture), [4, 0.5, 0.5, 0.1, 0.1]])
    return [Planted("class-similar-names")]


def _strong_baseline(site: Site) -> list[Planted]:
    """The object stands in the middle of every image, at one size: the mean box finds it without looking."""
    for picture in [*site.pictures("train"), *site.pictures("val")]:
        jitter = site.rng.uniform(-0.01, 0.01, 4)
        site.write_rows(picture, [[0, 0.5 + jitter[0], 0.5 + jitter[1], 0.4 + jitter[2], 0.4 + jitter[3]]])
    return [Planted("baseline-strong")]


def _filename_mismatch(site: Site) -> list[Planted]:
    file = sorted((site.root / "Annotations").rglob("*.xml"))[3]
    path = file.relative_to(site.root).as_posix()
    lines = site.lines(path)
    number = next(i for i, line in enumerate(lines) if "<filename>" in line)
    lines[number] = "  <filename>somebody_else.jpg</filename>"
    site.write_lines(path, lines)
    return [Planted("label-filename-mismatch", path, number + 1)]


def _difficult(site: Site) -> list[Planted]:
    file = sorted((site.root / "Annotations").rglob("*.xml"))[3]
    path = file.relative_to(site.root).as_posix()
    site.write(path, site.read(path).replace(b"<difficult>0<", b"<difficult>1<", 1))
    return [Planted("label-ignored")]


_UNUSED = ("class-unused",)
LABEL_FAULTS: dict[str, Fault] = {
    "label-malformed": Fault("yolo", _row_added("label-malformed", (0, 0.5, "half", 0.1, 0.1))),
    "label-missing-file": Fault("yolo", _missing_file),
    "label-empty-file": Fault("yolo", _empty_file),
    "label-orphan": Fault("yolo", _orphan),
    "label-degenerate-box": Fault("yolo", _row_added("label-degenerate-box", (0, 0.5, 0.5, 0, 0.1))),
    "label-out-of-bounds": Fault("yolo", _row_added("label-out-of-bounds", (0, 0.95, 0.5, 0.3, 0.1))),
    "label-not-normalised": Fault(
        "yolo",
        _rows_changed("label-not-normalised", _in_pixels, everywhere=True),
        ("label-out-of-bounds", "label-nothing-to-learn"),
    ),
    "label-mixed-coordinates": Fault(
        "yolo",
        _rows_changed("label-mixed-coordinates", _in_pixels, everywhere=False),
        ("label-not-normalised", "label-out-of-bounds"),
    ),
    "label-unknown-class": Fault("yolo", _row_added("label-unknown-class", (9, 0.5, 0.5, 0.1, 0.1))),
    "label-duplicate": Fault("yolo", _row_repeated("label-duplicate", 0.0)),
    "label-near-duplicate": Fault("yolo", _row_repeated("label-near-duplicate", 0.02)),
    "label-tiny": Fault("yolo", _row_added("label-tiny", (0, 0.5, 0.5, 1 / _SIDE, 8 / _SIDE))),
    "label-small-at-size": Fault("yolo", _hardly_visible),
    "label-extreme-aspect": Fault("yolo", _row_added("label-extreme-aspect", (0, 0.5, 0.5, 0.8, 4 / _SIDE))),
    "label-filename-mismatch": Fault("voc", _filename_mismatch),
    "label-ignored": Fault("voc", _difficult),
    "class-names-missing": Fault("yolo", _names_changed("class-names-missing", lambda c: c.pop("names"))),
    "class-unused": Fault("yolo", _names_changed("class-unused", lambda c: _add_class(c, "tram"))),
    "class-similar-names": Fault("yolo", _similar_name, ("split-class-absent",)),
    "class-imbalance": Fault("yolo", _imbalance, ("split-class-absent", *_UNUSED)),
    "class-off-by-one": Fault(
        "yolo",
        _rows_changed("class-off-by-one", lambda row: [row[0] + 1, *row[1:]], everywhere=True),
        ("label-unknown-class", *_UNUSED),
    ),
    "baseline-strong": Fault("yolo", _strong_baseline, _UNUSED),
}
