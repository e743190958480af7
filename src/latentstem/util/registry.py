"""Classes that are chosen by name: to add one, add a module to its package."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

__all__ = ["named_classes"]

Base = TypeVar("Base")


def named_classes(package: str, base: type[Base]) -> dict[str, type[Base]]:
    """The named classes in the modules of a package, by their ``name``.

    Parameters
    ----------
    package : str
        Dotted name of a package; all of its modules are imported.
    base : type
        Base class of the classes; those without a ``name`` of their own are left out.
    """
    classes: dict[str, type[Base]] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{info.name}")).values():
            if isinstance(value, type) and issubclass(value, base) and "name" in vars(value):
                classes[vars(value)["name"]] = value
    return classes
