"""Text of others: what JSON may hold, and what no table could."""

import pytest

from sightline.core.text import parse_json


def test_integers_are_those_that_64_bits_hold():
    assert parse_json("[9223372036854775807, -9223372036854775808]", bounded=True) == [2**63 - 1, -(2**63)]
    assert parse_json("9223372036854775808") == 2**63
    for text in ("9223372036854775808", '{"a": [-9223372036854775809]}', "1" * 25, "1" * 5000):
        with pytest.raises(ValueError, match="digits"):
            parse_json(text, bounded=True)


def test_halves_of_surrogate_pairs_are_written_out():
    assert parse_json(b'{"\\ud800": "\\ud83d\\ude00"}') == {"\\ud800": "😀"}
