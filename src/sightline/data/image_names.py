"""Which image of a data set a name or a number from somewhere else means."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import PurePosixPath

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError

__all__ = ["ImageNames"]

_LAST_NUMBER = re.compile(r"(\d{1,18})\D*$")


class ImageNames:
    """The images of a data set by what others call them: paths, file names with and without suffix, numbers."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._paths: list[str] = dataset.images["path"].to_list()
        self.id_of: dict[str, int] = dict(dataset.images.select("path", "image_id").iter_rows())

    def path_of(self, name: str, digest: str | None = None) -> str | None:
        """The image whose path shares most of its last parts with `name`, at least the file name or its stem.

        `digest` is the SHA-256 of the file that was meant; it decides between equals. None where no image has the
        name, DataError where several have it.

        >>> from sightline.core.dataset import dataset_from_rows
        >>> rows = [{"image_id": i, "path": p, "width": 8, "height": 8} for i, p in enumerate(["a/x.png", "b/x.png"])]
        >>> data = dataset_from_rows(rows, [], [{"class_id": 0, "name": "car"}], root=".", name="d", task="detect",
        ...                          format="yolo")
        >>> ImageNames(data).path_of("elsewhere/b/x.png")
        'b/x.png'
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts:
            return None
        here = self._by_name.get(parts[-1], [])
        best = _most_shared(parts, here, lambda path: PurePosixPath(path).parts)
        if not here:
            best = _most_shared(parts, self._by_stem.get(parts[-1], []), _parts_of_stem)
        if len(best) > 1 and digest is not None:
            best = [path for path, other in self.dataset.file_digests(best).items() if other == digest]
        if len(best) > 1:
            message = f"the name of a predicted image must fit one image, got '{name}' for '{best[0]}' and '{best[1]}'"
            raise DataError(message, do="Keep the folders in the names of the images.")
        return best[0] if best else None

    def paths_of_numbers(self, numbers: Iterable[int], where: str | None = None) -> dict[int, str]:
        """The images of ids: the source's own where it has such, else the numbers that end the file names.

        DataError, at `where`, where an id is no image's, or the data set has neither.
        """
        wanted = sorted(set(numbers))
        if self.dataset.source_image_ids:
            table = {image_id: path for path, image_id in self.id_of.items()}
            rule = "image_id must be one of the data set's"
        else:
            table = self._by_number
            shown = ", ".join(repr(PurePosixPath(p).name) for p in self._paths[:2])
            rule = (
                f"image_id must be a number in the name of an image, since a data set in {self.dataset.format} format "
                f"has no ids (names such as {shown})"
            )
        strange = [n for n in wanted if n not in table]
        if strange:
            raise DataError(f"{rule}, got {strange[0]}", where=where, do="Name the image of each entry as file_name.")
        return {n: table[n] for n in wanted}

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped(self._paths, lambda path: PurePosixPath(path).name)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped(self._paths, lambda path: PurePosixPath(path).stem)

    @cached_property
    def _by_number(self) -> dict[int, str]:
        """Images by the last number of their stem; none where two have the same, for then it is no numbering."""
        found = [(match, path) for path in self._paths if (match := _LAST_NUMBER.search(PurePosixPath(path).stem))]
        table = {int(match[1]): path for match, path in found}
        return table if len(table) == len(found) else {}


def _grouped(paths: list[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return groups


def _parts_of_stem(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).with_suffix("").parts


def _most_shared(parts: tuple[str, ...], paths: list[str], parts_of: Callable[[str], tuple[str, ...]]) -> list[str]:
    shared = [_shared_tail(parts, parts_of(path)) for path in paths]
    return [path for path, length in zip(paths, shared, strict=True) if length == max(shared)]


def _shared_tail(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
