"""Doors that load what is taken through them: the names are there, and no module of the same name can hide one."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import sightline

DOORS = [
    name
    for _, name, is_package in pkgutil.walk_packages(sightline.__path__, "sightline.")
    if is_package and "door" in vars(importlib.import_module(name))
]


def test_there_are_doors_to_check():
    assert {"sightline.audit", "sightline.evaluate", "sightline.testing"} <= set(DOORS)


@pytest.mark.parametrize("package", ["sightline", *DOORS])
def test_every_name_is_loaded_and_none_is_hidden_by_a_module(package):
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    for part in pkgutil.iter_modules(module.__path__):
        hides = part.name in module.__all__ and f"{package}.{part.name}" != getattr(
            getattr(module, part.name), "__name__", None
        )
        assert not hides, f"{package}.{part.name} is a module and something else"
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        module.no_such_name  # noqa: B018


def test_a_door_loads_nothing_by_itself():
    code = "import sightline.audit, sys; print(*(m for m in sys.modules if m.startswith('sightline.audit.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
