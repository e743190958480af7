"""Classes that are chosen by name: to add one, add a module to its package."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

__all__ = ["named_classes"]

Base = TypeVar("Base")


def named_classes(package: str, base: type[Base]) -> dict[str, type[Base]]:
    """The subclasses of `base` with a ``name`` of their own, by this name, in all modules of a package (a dotted name)."""
    classes: dict[str, type[Base]] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{info.name}")).values():
            if isinstance(value, type) and issubclass(value, base) and "name" in vars(value):
                classes[vars(value)["name"]] = value
    return classes
