"""Classes that are found by name: to add one is to add a file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

__all__ = ["named_classes"]

Base = TypeVar("Base")


def named_classes(package: str, base: type[Base]) -> dict[str, type[Base]]:
    """The classes in the modules of a package that extend `base` and have a ``name`` of their own, by that name.

    Parameters
    ----------
    package : str
        Dotted name of a package; all of its modules are imported.
    base : type
        Class that they extend.
    """
    found: dict[str, type[Base]] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{info.name}")).values():
            if isinstance(value, type) and issubclass(value, base) and "name" in vars(value):
                found[vars(value)["name"]] = value
    return found
