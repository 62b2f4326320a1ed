"""One network of each family: what tests of all of them run on, besides `yolo11n`, which they always take."""

import re

from sightline import models

_SIZES = "tnsmbclxe"


def smallest_of_each(suffixes: tuple[str, ...] = ("",)) -> list[str]:
    """The smallest size of each registered family of YOLO with one of these suffixes, and the models of objects that
    have no sizes; `yolo11n` and what needs an optional package left out."""
    families: dict[tuple[str, str], str] = {}
    for name in models.list_models():
        sized = re.fullmatch(r"(yolo\d+)([a-z])(-[a-z]+)?", name)
        family, size, suffix = (sized[1], sized[2], sized[3] or "") if sized else (name, "", "")
        if name.startswith(("hf:", "smp:")) or models.stated_costs()[name].task == "semantic":
            continue
        if suffix in suffixes:
            best = families.get((family, suffix), name)
            earlier = re.fullmatch(r"yolo\d+([a-z]).*", best)
            smaller = earlier is None or _SIZES.index(size or "t") <= _SIZES.index(earlier[1])
            families[family, suffix] = name if smaller else best
    return sorted(set(families.values()) - {"yolo11n"})
