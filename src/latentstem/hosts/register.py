"""Adds ``train_autoencoder``, ``embed`` and ``reconstruct`` to the hosts' classes, whichever is imported first.

A host that is already imported gets the methods at once. For a later import, a finder on ``sys.meta_path`` adds the
methods after the host's module has been executed; nothing else is changed.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..io.host_table import HOSTS

__all__ = ["METHODS", "install"]

METHODS = ("train_autoencoder", "embed", "reconstruct")

_reported_conflicts: set[str] = set()  # names of methods, each warned about once


def install() -> None:
    """Install the import hook; safe to call twice."""
    if not any(_is_hook(finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HostImportHook())
    for host in HOSTS:
        if host.class_module in sys.modules:
            # import_module waits for another thread that is importing it
            add_methods(importlib.import_module(host.class_module))


def add_methods(module: ModuleType) -> None:
    """Add the methods to a host module's class, unless the class has others of these names."""
    host = next(host for host in HOSTS if host.class_module == module.__name__)
    host_class = getattr(module, host.class_name, None)
    if host_class is None:  # still importing, or an unknown version of the host
        return
    functions = host.functions
    for name in METHODS:
        existing_method = getattr(host_class, name, None)
        module_name = str(getattr(existing_method, "__module__", ""))
        if existing_method is None or module_name.startswith("latentstem."):
            setattr(host_class, name, getattr(functions, name))
        elif (label := f"{host.class_name}.{name}") not in _reported_conflicts:
            _reported_conflicts.add(label)
            arguments = "data" if name == "train_autoencoder" else "data, model"
            warnings.warn(
                f"{label} already exists with another meaning and is left alone; "
                f"call latentstem.{name}({arguments}) instead.",
                stacklevel=2,
            )


class _HostImportHook(MetaPathFinder):
    """Import hook: lets the other finders find a host's module, and adds the methods once it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in {host.class_module for host in HOSTS}:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _patch_loader(spec.loader)
                return spec
        return None


def _patch_loader(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        add_methods(module)

    loader.exec_module = exec_module


def _is_hook(finder: Any) -> bool:
    # by name, because a second import of this module makes another class
    return (type(finder).__module__, type(finder).__qualname__) == (__name__, _HostImportHook.__qualname__)
