"""Pictures that show little, that are out of line with their data set, or whose names are at odds with their order."""

from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.audit.result import AuditOptions
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.core.frames import EACH_CLASS
from sightline.data import finding, list_images

__all__ = ["check_outliers", "check_pairs"]

_FEWEST = 8  # images; fewer have no middle to be far from
_SCORE = 4.0  # robust standard scores (distance from the median / 1.4826 MAD)
_LEAST_SPREAD = 0.2  # of log sharpness: frames of one camera hardly differ, and each difference would stand out
_ASPECT = 4.0  # sides' ratio below which no picture is oddly long
_COLOUR_SPREAD = 5.0  # times the median distance from the data set's mean colour

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def check_outliers(dataset: Dataset, scan: Scan, options: AuditOptions) -> list[Finding]:
    """Dark, bright, flat, blurred and blocky pictures, and odd sizes and colours; each is an info."""
    sizes = dataset.images.select("image_id", "width", "height")
    images = scan.images.drop_nulls("brightness").join(sizes, on="image_id", how="left", maintain_order="left")
    if images.is_empty():
        return []
    values = {c: images[c].cast(pl.Float64).fill_null(np.nan).to_numpy() for c in images.columns if c not in _NO_NUMBER}
    found = [*_show_little(values, options), _blocky(values, options)]
    shows_nothing = np.logical_or.reduce([where for where, _, _ in found[:3]])
    if images.height >= _FEWEST:
        # Of a very long picture the small copy has too few rows to judge its sharpness by.
        narrow = _aspect(values) > _ASPECT
        found += [_blurred(values, shows_nothing | narrow, options), _odd_size(values, options)]
        found.append(_odd_colour(values, shows_nothing, options))
    rows = images.select("path", "image_id").rows()
    return [
        finding(code, messages[row], path=rows[row][0], image_id=rows[row][1])
        for where, code, messages in found
        for row in np.flatnonzero(where).tolist()
    ]


_NO_NUMBER = frozenset({"path", "split", "group", "sha256", "kind", "hash", "thumbnail"})
_Marked = tuple[Bools, str, list[str]]


def _show_little(values: dict[str, Floats], options: AuditOptions) -> list[_Marked]:
    brightness, contrast = values["brightness"], values["contrast"]
    dark = brightness + 3 * contrast < options.extreme_luma
    bright = 255 - brightness + 3 * contrast < options.extreme_luma
    flat = (contrast < options.flat_contrast) & ~dark & ~bright
    messages = [
        f"mean luma {b:.0f} of 255, standard deviation {c:.1f}" for b, c in zip(brightness, contrast, strict=True)
    ]
    return [(dark, "image-dark", messages), (bright, "image-bright", messages), (flat, "image-flat", messages)]


def _blocky(values: dict[str, Floats], options: AuditOptions) -> _Marked:
    quality, blocks = values["jpeg_quality"], values["blockiness"]
    low, visible = quality <= options.blocky_quality, blocks >= options.blockiness
    messages = [
        f"JPEG of quality {q:.0f}" if is_low else f"steps across 8 × 8 borders are {b:.1f} times the others"
        for q, b, is_low in zip(quality, blocks, low, strict=True)
    ]
    return low | visible, "image-blocky", messages


def _blurred(values: dict[str, Floats], leave_out: Bools, options: AuditOptions) -> _Marked:
    sharpness = values["sharpness"]
    level = np.log(sharpness + 0.1)
    # Against the picture's own contrast too: a hazy picture is not a blurred one.
    own = np.log((sharpness + 0.1) / (values["contrast"] ** 2 + 1))
    far = (_scores(level) < -_SCORE) & (_scores(own) < -_SCORE / 2)
    middle = np.median(level)
    blurred = far & (level < middle - np.log(options.blur_factor)) & ~leave_out
    messages = [f"{np.exp(middle - v):.0f} times less sharp than the middle image" for v in level]
    return _few(blurred, options), "image-blurred", messages


def _odd_size(values: dict[str, Floats], options: AuditOptions) -> _Marked:
    width, height = values["width"], values["height"]
    area, aspect = width * height, _aspect(values)
    ratio = area / np.median(area)
    odd = np.maximum(ratio, 1 / ratio) > options.odd_size_factor
    long = (aspect > _ASPECT) & (aspect > options.odd_aspect_factor * np.median(aspect))
    messages = [f"{w:.0f} × {h:.0f} pixels" for w, h in zip(width, height, strict=True)]
    return _few(odd | long, options), "image-odd-size", messages


def _odd_colour(values: dict[str, Floats], leave_out: Bools, options: AuditOptions) -> _Marked:
    red, green, blue = values["red"], values["green"], values["blue"]
    plane = np.stack([red - green, (red + green) / 2 - blue])
    distance = np.hypot(*(plane - np.median(plane, axis=1, keepdims=True)))
    odd = (distance > options.odd_colour) & (distance > _COLOUR_SPREAD * np.median(distance)) & ~leave_out
    messages = [f"mean colour ({r:.0f}, {g:.0f}, {b:.0f})" for r, g, b in zip(red, green, blue, strict=True)]
    return _few(odd, options), "image-odd-colour", messages


def _aspect(values: dict[str, Floats]) -> Floats:
    return np.asarray(np.maximum(values["width"], values["height"]) / np.minimum(values["width"], values["height"]))


def _scores(values: Floats) -> Floats:
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.asarray((values - middle) / max(float(spread), _LEAST_SPREAD))


def _few(where: Bools, options: AuditOptions) -> Bools:
    """The marked images, or none when they are so many that they are a kind of their own."""
    return where if where.sum() <= max(options.outlier_share * len(where), 1) else np.zeros_like(where)


def check_pairs(dataset: Dataset, _scan: Scan, _options: AuditOptions) -> list[Finding]:
    """Folders of images and masks that sort differently, and stems that occur in several folders."""
    # Of a benchmark's own layout, with pictures of its own beside the masks, nobody pairs by position.
    return (_order(dataset) if dataset.format == "masks" else []) + _shared_stems(dataset)


def _order(dataset: Dataset) -> list[Finding]:
    """One finding for each pair of folders whose sorted lists, put side by side, join an image with another's mask."""
    parts: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    pairs = dataset.images.drop_nulls("mask_path").select("path", "mask_path")
    for image, mask in pairs.iter_rows():
        parts[_folder(image), _folder(mask)].append((image, mask))
    found = []
    for (images, masks), files in parts.items():
        first, second = [i for i, _ in files], [m for _, m in files]
        if EACH_CLASS in masks.split("/"):
            continue  # several folders, of which each has its own order
        if images != masks:  # all of the folders' files: pairing by position would take them all
            first = _listed(dataset.root, images) or first
            second = _listed(dataset.root, masks) or second
        place = {path: i for i, path in enumerate(sorted(first))}, {path: i for i, path in enumerate(sorted(second))}
        wrong = [(i, m) for i, m in files if place[0].get(i) != place[1].get(m)]
        if wrong:
            image, mask = wrong[0]
            at = place[0].get(image, 0)
            other = sorted(second)[at] if at < len(second) else "no mask at all"
            message = (
                f"sorted by name, {len(wrong)} of {len(files)} images stand at another place than their masks: "
                f"{image} would be paired with {other} instead of {mask}"
            )
            found.append(finding("pair-order-differs", message, path=images, count=len(wrong)))
    return found


def _listed(root: Path, folder: str) -> list[str]:
    return [f"{folder}/{p.name}" if folder != "." else p.name for p in list_images(root / folder)]


def _folder(path: str) -> str:
    return PurePosixPath(path).parent.as_posix()


def _shared_stems(dataset: Dataset) -> list[Finding]:
    """One finding if images in different folders share a stem. Frames of sequences are always named alike."""
    images = dataset.images.filter(pl.col("frame").is_null()).with_columns(
        folder=pl.col("path").str.extract(r"^(.*)/[^/]*$").fill_null("."),
        stem=pl.col("path").str.extract(r"([^/]*?)(?:\.[^./]*)?$"),
    )
    shared = images.filter(pl.col("folder").n_unique().over("stem") > 1)
    if shared.is_empty():
        return []
    stems = shared.group_by("stem").agg(pl.col("split").drop_nulls().n_unique(), pl.col("path").sort().head(2))
    first = stems.sort("stem").row(0, named=True)
    across = int(np.count_nonzero(stems["split"].to_numpy() > 1))
    more = f"; {across} of them are in different splits" if across else ""
    one, other = first["path"]
    message = f"{stems.height} names occur in more than one folder, such as {one} and {other}{more}"
    return [finding("image-stem-in-two-folders", message, path=one, count=stems.height)]
