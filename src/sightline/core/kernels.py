"""Compiled kernels: numba's decorators, which do without their cache on disk where there is no place for one.

A package that is installed where nothing can be written, run by a user without a home, as in a hardened container, has
no such place: numba would refuse to import the kernels at all. They are compiled anew in each process then.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numba

__all__ = ["cache_folder", "cfunc", "njit"]

_NO_PLACE = "cannot cache function"  # how the sentence of numba's RuntimeError begins


Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def njit(**options: Any) -> Callable[[Kernel], Kernel]:
    """`numba.njit` with the given options; what cannot be cached is compiled without a cache, and said once."""
    return _with_or_without_cache(numba.njit, (), options)  # type: ignore[no-any-return]


def cfunc(signature: Any, **options: Any) -> Any:
    """`numba.cfunc`, as `njit` is `numba.njit`."""
    return _with_or_without_cache(numba.cfunc, (signature,), options)


def cache_folder() -> str | None:
    """Where compiled kernels are kept from one process to the next; None where they cannot be."""
    return _probe.stats.cache_path  # type: ignore[attr-defined,no-any-return] # it is numba's object by then


def _with_or_without_cache(kind: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    def decorate(function: Any) -> Any:
        try:
            return kind(*arguments, **options)(function)
        except RuntimeError as error:
            if not str(error).startswith(_NO_PLACE):
                raise
        _say_once()
        return kind(*arguments, **options | {"cache": False})(function)

    return decorate


@lru_cache(1)
def _say_once() -> None:
    message = "no folder for compiled kernels can be written: they are compiled anew in each run, which takes a while; "
    logging.getLogger("sightline").warning(message + "NUMBA_CACHE_DIR names another folder")


@njit(cache=True)
def _probe(value: int) -> int:
    """Only declared, never compiled: numba chooses the folder where it is."""
    return value + 1
