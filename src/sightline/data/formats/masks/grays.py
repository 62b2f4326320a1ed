"""Gray masks that mean two classes although they hold more than two values: mixed exports, soft or compressed edges."""

from collections import Counter
from collections.abc import Collection, Mapping

from sightline.core.findings import Finding
from sightline.data.codes import finding

__all__ = ["two_classes", "without_shades"]

_SHADES, _BINARY_SHARE = 32, 0.9  # more values than this, and nearly all pixels 0 or 255: a binary mask, resized
_MIDDLE = range(64, 192)  # no set has so many classes that as many as _SHADES of them lie here
_NEAR_END = 32  # what compression leaves around 0 and 255 stays within this
_HALF = 128
_CHOICES = (1, 64, 128, 192, 255)
_BYTE = 255


def two_classes(pixels: Mapping[str, Mapping[int, int]], lossy: Collection[str]) -> tuple[int | None, list[Finding]]:
    """The value from which on pixels are foreground, where masks are of two classes and hold other values than two.

    `pixels` counts each mask's values by path, `lossy` are those stored as JPEG. None where the values are classes.
    """
    binary, ones = (sorted(p for p, v in pixels.items() if top in v and set(v) <= {0, top}) for top in (_BYTE, 1))
    if binary and ones and all(set(v) <= {0, 1} or set(v) <= {0, _BYTE} for v in pixels.values()):
        return 1, _mixed(binary, ones)
    soft = [path for path, values in pixels.items() if _is_soft(values, path in lossy)]
    total = Counter[int]()
    for values in pixels.values():
        total.update(values)
    filled = [path for path, values in pixels.items() if set(values) != {0}]
    if len(soft) * 2 < len(filled) or not soft or max(total) > _BYTE:
        return None, []
    return _HALF, [_soft(soft, total)]


def without_shades(pixels: Mapping[int, int]) -> set[int]:
    """The values in use, less the shades that resizing or compression leaves between 0 and 255 (see the audit)."""
    ends = pixels.get(0, 0), pixels.get(_BYTE, 0)
    binary = min(ends) > 0 and sum(ends) >= _BINARY_SHARE * sum(pixels.values())
    return {0, _BYTE} if binary and len(pixels) > _SHADES else set(pixels)


def _is_soft(values: Mapping[int, int], lossy: bool) -> bool:
    if sum(value in values for value in _MIDDLE) >= _SHADES:
        return True
    near = all(value <= _NEAR_END or value >= _BYTE - _NEAR_END for value in values)
    return lossy and near and min(values) <= _NEAR_END and max(values) >= _BYTE - _NEAR_END


def _mixed(binary: list[str], ones: list[str]) -> list[Finding]:
    few, many, own, others = (ones, binary, 1, _BYTE) if len(ones) <= len(binary) else (binary, ones, _BYTE, 1)
    message = f"the mask's foreground is {own}, that of {len(many)} others {others}; both are read as foreground"
    return [finding("mask-mixed-values", message, path=path, facts={"own": own, "others": others}) for path in few]


def _soft(soft: list[str], total: Mapping[int, int]) -> Finding:
    pixels = sum(total.values())
    shares = {t: sum(n for value, n in total.items() if value >= t) / pixels for t in _CHOICES}
    listed = ", ".join(f"{t} keeps {share:.1%}" for t, share in shares.items())
    message = (
        f"{len(soft)} masks hold grays between background and foreground ({len(total)} values in all); they are read "
        f"with `threshold: {_HALF}`. Of all pixels as foreground, {listed}"
    )
    facts = {"threshold": _HALF, "shares": {str(t): share for t, share in shares.items()}}
    return finding("mask-soft", message, path=soft[0], count=len(soft), facts=facts)
