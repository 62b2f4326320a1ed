"""Damage in a JPEG that even a strict decoder can miss: a block of zero bytes inside the compressed picture.

The compressed data of a JPEG has no checksum, and a run of zeros is a sequence of valid codes. A decoder notices only
when the number of pixels no longer comes out, which it mostly but not always does.
"""

import numpy as np

__all__ = ["find_zeroed_block"]

_RUN = 64
_ZEROS = bytes(_RUN)
_END = b"\xff\xd9"
_SEQUENTIAL = {0xC0, 0xC1}
_TABLES, _SCAN = 0xC4, 0xDA
_BARE = {0x01, *range(0xD0, 0xD8)}
_LUMA_AC = 0x10  # class 1 (AC), identifier 0
_END_OF_BLOCK = 0x00


def find_zeroed_block(data: bytes | memoryview) -> int | None:
    """Where 64 zero bytes or more stand inside the compressed picture of a sound JPEG; None where there are none.

    Only where the code of zeros means a coefficient: 64 such bytes would be some 170 equal ones in a row. Progressive
    files, and those whose own tables give an empty block the code of zeros, can hold such runs rightly and give None.

    >>> find_zeroed_block(b"no JPEG")
    """
    # A run of 64 zeros holds whole words of zeros, which numpy finds ten times as fast as a search for the run.
    if np.frombuffer(data, dtype=np.uint64, count=len(data) // 8).all():
        return None
    data = bytes(data)
    start = _start_of_codes(data)
    if start is None:
        return None
    place = data.find(_ZEROS, start, data.rfind(_END))
    return None if place < 0 else place


def _start_of_codes(data: bytes) -> int | None:
    """Where the compressed data begins, if zeros in it mean coefficients (ITU T.81, annex B)."""
    place, first_symbol = 2, _END_OF_BLOCK
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _BARE:
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _SCAN:
            return place + 2 + length if first_symbol != _END_OF_BLOCK else None
        if 0xC0 <= marker <= 0xCF and marker not in _SEQUENTIAL | {_TABLES}:
            return None
        if marker == _TABLES:
            found = _first_symbol(data[place + 4 : place + 2 + length])
            first_symbol = first_symbol if found is None else found
        place += 2 + length
    return None


def _first_symbol(tables: bytes) -> int | None:
    """The symbol whose code is all zeros in the luma AC table, if that is among the tables of a segment."""
    place = 0
    while place + 17 < len(tables):
        count = sum(tables[place + 1 : place + 17])
        if tables[place] == _LUMA_AC:
            return tables[place + 17]
        place += 17 + count
    return None
