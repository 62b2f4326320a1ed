"""Package doors whose names are loaded when first used, so that a door costs only what is taken through it."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["door"]


def door(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose own imports stand under `if TYPE_CHECKING:`.

    Those imports, which type checkers read, are the table of what is where, so that each name is written once beside
    `__all__`. Python loads none of them with the package. `__getattr__` raises AttributeError for a name that is not
    among them, so `from package import module` still finds modules. No name may be that of a module beside it: Python
    puts the module in its place as soon as that is loaded.
    """
    spec = importlib.util.find_spec(package)
    source = spec.loader.get_source(package) if spec is not None else None  # type: ignore[union-attr]
    places = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for block in ast.parse(source or "").body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, original = places[name]
        if module == package:
            return importlib.import_module(f"{package}.{original}")
        return getattr(importlib.import_module(module), original)

    return load, lambda: sorted(sys.modules[package].__all__)
