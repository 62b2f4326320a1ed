"""How long work says how far it is."""

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[int, int | None, str], None]
"""Called with how many are done, of how many (None where nobody knows), and what is being done ("reading files")."""
