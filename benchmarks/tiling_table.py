"""What tiles cost and change: for margins from none to what the network's reach needs, which pixels get another class.

The image is a mosaic of the pictures given, each beside its mirror images, so that it has no seams of its own. The
whole of it, fed to the network at once, is the truth. A row for each margin of centres, one for Hann windows; speed is
that of tiles over that of plain batches of tiles of the same size, in turn.

Run: python benchmarks/tiling_table.py MODEL PICTURE ... [--side 1024] [--tile 256] [--repeats 3]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sightline.infer import MapTiling, NetworkPredictor, TiledSegmenter, open_predictor
from sightline.media import as_rgb8, read_image
from sightline.ops.tiles import tile_boxes

Image = npt.NDArray[np.uint8]


def mosaic(pictures: list[Path], side: int) -> Image:
    """(side, side, 3) of the pictures, each mirrored beside and below itself."""
    rows: list[Image] = []
    number = 0
    while sum(len(row) for row in rows) < side:
        row: list[Image] = []
        while sum(part.shape[1] for part in row) < side:
            picture = as_rgb8(read_image(pictures[number % len(pictures)]))
            row += [picture, picture[:, ::-1]]
            number += 1
        height = min(len(part) for part in row)
        whole = np.concatenate([part[:height] for part in row], axis=1)[:, :side]
        rows += [whole, whole[::-1]]
    return np.ascontiguousarray(np.concatenate(rows)[:side])


def timed(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, in turn, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def plain_batches(predictor: NetworkPredictor, image: Image, tile: int, batch: int) -> Callable[[], object]:
    """The network on batches of tiles side by side, prepared and decided as pictures of their own."""
    starts = range(0, len(image) - tile + 1, tile)
    tiles = [image[y : y + tile, x : x + tile] for y in starts for x in starts]
    return lambda: [predictor(tiles[i : i + batch]) for i in range(0, len(tiles), batch)]


def joins(predictor: NetworkPredictor, side: int, tile: int, batch: int) -> dict[str, tuple[TiledSegmenter, int]]:
    """By name how tiles are joined, and how many there are."""
    found = {}
    for margin in range(0, tile // 2 - 15, 32):
        # Set after it was made: the constructor takes none but the margin at which nothing changes.
        tiled = TiledSegmenter(predictor, MapTiling(tile_hw=(tile, tile), join="hann"), batch=batch)
        tiled.margin_hw = (margin, margin)
        found[f"centres, margin {margin}"] = tiled, math.ceil(side / (tile - 2 * margin)) ** 2
    for overlap in (0.25, 0.5):
        tiling = MapTiling(tile_hw=(tile, tile), join="hann", overlap=overlap)
        count = len(tile_boxes((side, side), (tile, tile), overlap))
        found[f"Hann, overlap {overlap}"] = TiledSegmenter(predictor, tiling, batch=batch), count
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    image = mosaic(given.pictures, given.side)
    tile_hw = (given.tile, given.tile)
    predictor = open_predictor(given.model, size_hw=tile_hw)
    whole = open_predictor(given.model, size_hw=(given.side, given.side))([image])[0].class_ids
    plain = plain_batches(predictor, image, given.tile, given.batch)
    reach = TiledSegmenter(predictor, MapTiling(tile_hw=tile_hw), batch=given.batch).reach_hw
    print(f"{image.shape[0]} x {image.shape[1]} pixels, tiles of {given.tile}, measured reach {reach}")
    print("| join | of another class than in the whole image | tiles | speed of a tile, of plain batches |")
    print("|---|---:|---:|---:|")
    plain_tiles = (given.side // given.tile) ** 2
    for name, (tiled, count) in joins(predictor, given.side, given.tile, given.batch).items():
        differ = float((tiled([image])[0].class_ids != whole).mean())
        seconds = timed({"tiled": lambda tiled=tiled: tiled([image]), "plain": plain}, given.repeats)
        share = (seconds["plain"] / plain_tiles) / (seconds["tiled"] / count)
        print(f"| {name} | {differ:.5%} | {count} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()
