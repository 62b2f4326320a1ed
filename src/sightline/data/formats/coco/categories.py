"""The categories of COCO files as the classes of a data set."""

from typing import Any

import polars as pl

from sightline.core.dataset import CLASSES_SCHEMA
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.coco.document import Document, Problem
from sightline.data.formats.shared.image_tables import integers

__all__ = ["read_classes", "without_empty_twins"]

_KEPT = ("thing", "keypoint_names", "skeleton", "mirror")


def read_classes(documents: list[Document]) -> tuple[list[dict[int, int]], pl.DataFrame, list[Finding]]:
    """Per file the map from category id to class id, the classes table, and the findings.

    Categories of one name are one class across files. Within a file, where they are two to COCO, the second is a class
    "name (id 5)", which `without_empty_twins` removes where it turns out to have no object. What a category says of its
    keypoints is taken from the first file with them.
    """
    findings: list[Finding] = []
    by_name: dict[str, int] = {}  # name → category id
    about: dict[str, dict[str, Any]] = {}  # name → what the table keeps
    pairs_of = []
    groups: dict[str, set[str]] = {}  # supercategory → names below it
    for document in documents:
        entries, index, problems = document.entries("categories")
        ids, bad = integers([e.get("id") for e in entries])
        pairs: dict[int, str] = {}
        for i, number, wrong, entry in zip(index.tolist(), ids.tolist(), bad.tolist(), entries, strict=True):
            name = entry.get("name")
            if not wrong and number not in pairs and (name is None or not str(name).strip() or isinstance(name, int)):
                name = str(name) if isinstance(name, int) and not isinstance(name, bool) else f"category_{number}"
                message = f"categories[{i}] (id {number}) has no name of text; it is called '{name}'"
                problems.append(Problem("class-names-missing", i, message))
            if not wrong and isinstance(name, str) and pairs.get(number, name) != name:
                message = f"categories[{i}]: id {number} is that of '{pairs[number]:.40}' already, got '{name:.40}'"
                problems.append(Problem("class-conflict", i, message))
                continue
            if wrong or not isinstance(name, str) or not name:
                message = (
                    f"categories[{i}] must have an id of its own and a name, got {entry.get('id')!r:.20}, {name!r:.40}"
                )
                problems.append(Problem("label-malformed", i, message))
                continue
            if number not in pairs and name in pairs.values():
                same = [next(n for n, known in pairs.items() if known == name), number]
                message = f"categories[{i}]: '{name}' is the name of two ids, {same[0]} and {same[1]}"
                problems.append(Problem("class-duplicate-name", i, message, facts={"ids": same, "name": name}))
                name = name if by_name[name] == number else _twin(name, number)
            pairs[number] = name
            if by_name.setdefault(name, number) != number:
                message = f"categories[{i}]: '{name}' has id {number} here and {by_name[name]} in another file"
                problems.append(Problem("class-conflict", i, message))
            groups.setdefault(str(entry.get("supercategory") or ""), set()).add(name)
            problems += _merge(about.setdefault(name, {}), entry, i)
        findings += document.findings("categories", problems)
        pairs_of.append(pairs)
    order = sorted(by_name, key=lambda name: by_name[name])
    slots = {name: i for i, name in enumerate(order)}
    columns: dict[str, Any] = {"class_id": range(len(order)), "name": order, "source_id": [by_name[n] for n in order]}
    columns |= {key: [about[n].get(key) for n in order] for key in _KEPT}
    classes = pl.DataFrame(columns, schema=CLASSES_SCHEMA)
    above = [name for name in order if groups.get(name, set()) - {name}]
    if above and len(above) < len(order):
        shown = ", ".join(repr(name) for name in above)
        below = sum(len(groups[name] - {name}) for name in above)
        message = f"the categories {shown} are the supercategory of {below} others"
        findings.append(finding("class-grouping", message, count=len(above), facts={"classes": above}))
    return [{i: slots[name] for i, name in pairs.items()} for pairs in pairs_of], classes, findings


def _twin(name: str, number: int) -> str:
    return f"{name} (id {number})"


def without_empty_twins(
    classes: pl.DataFrame, objects: pl.DataFrame, findings: list[Finding]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both tables without the classes that have no object and share their name with one that has, or with an earlier
    one; the class that is left takes the name.
    """
    used = set(objects["class_id"].unique())
    rows = {row["name"]: row for row in classes.iter_rows(named=True)}
    for facts in (f.facts for f in findings if f.code == "class-duplicate-name"):
        name, other = facts["name"], _twin(facts["name"], facts["ids"][1])
        if {name, other} <= rows.keys() and not {rows[name]["class_id"], rows[other]["class_id"]} <= used:
            row = rows.pop(other)
            if row["class_id"] in used:
                rows[name] = row | {"name": name}
    kept_ids = {row["class_id"]: new for new, row in enumerate(rows.values())}
    if len(kept_ids) == classes.height:
        return classes, objects
    for row in rows.values():
        row["class_id"] = kept_ids[row["class_id"]]
    renumbered = objects.with_columns(pl.col("class_id").replace_strict(kept_ids, return_dtype=pl.Int32))
    return pl.DataFrame(list(rows.values()), schema=CLASSES_SCHEMA), renumbered


def _merge(known: dict[str, Any], entry: dict[str, Any], index: int) -> list[Problem]:
    """Add what a category says of itself to what is known of its class, and return what is wrong or contradicts."""
    problems = []
    said: dict[str, Any] = {}
    if "isthing" in entry:
        said["thing"] = bool(entry["isthing"])
    names, skeleton = entry.get("keypoints"), entry.get("skeleton")
    if isinstance(names, list) and set(map(type, names)) <= {str}:
        said["keypoint_names"] = names or None
    elif names is not None:
        message = f"categories[{index}]: 'keypoints' must be a list of names, got {names!r:.40}"
        problems.append(Problem("label-malformed", index, message))
    if skeleton is not None:
        # The pairs count from 1, against everything else in COCO.
        said["skeleton"] = _pairs(skeleton, len(said.get("keypoint_names") or ()))
        if said["skeleton"] is None and skeleton != []:
            message = (
                f"categories[{index}]: 'skeleton' must be pairs of keypoint numbers from 1 on, got {skeleton!r:.40}"
            )
            problems.append(Problem("label-malformed", index, message))
    order = entry.get("flip_idx")
    if isinstance(order, list) and set(map(type, order)) == {int} and sorted(order) == list(range(len(order))):
        said["mirror"] = order
    for key, value in said.items():
        if value is not None and known.setdefault(key, value) != value:
            message = (
                f"categories[{index}]: '{key.partition('_')[0]}' of '{entry['name']}' differs from what was said before"
            )
            problems.append(Problem("class-conflict", index, message))
    return problems


def _pairs(skeleton: Any, count: int) -> list[list[int]] | None:
    """0-based pairs of keypoints; None where there are none or one of them is no pair of the `count` keypoints."""
    if not isinstance(skeleton, list) or not skeleton:
        return None
    sound = all(
        isinstance(pair, list)
        and len(pair) == 2
        and set(map(type, pair)) <= {int}
        and 1 <= min(pair) <= max(pair) <= count
        for pair in skeleton
    )
    return [[a - 1, b - 1] for a, b in skeleton] if sound else None
