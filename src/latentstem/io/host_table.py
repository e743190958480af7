"""The table of host libraries, which `latentstem.hosts` fills: how lower layers find a host without importing it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

__all__ = ["HOSTS", "Host", "host_of", "host_that_writes"]


@dataclass(frozen=True)
class Host:
    """A host library, and the module of LatentSTEM with its functions.

    The module has the functions ``scan_from_object``, ``scan_from_file``, ``create_pattern_file``, ``open_pattern_file``
    and ``save_latents``, and the methods that the host's class gets.
    """

    label: str  # its name in messages
    library: str  # package that is imported
    packages: frozenset[str]  # packages whose classes are objects of this host
    module: str  # of LatentSTEM, imported when it is first needed
    class_module: str  # of the class that gets the methods
    class_name: str
    writes: tuple[str, ...]  # suffixes of the files that it writes
    chunked: bool = False  # whether those files store patterns in chunks

    @property
    def functions(self) -> Any:
        """The module of LatentSTEM with the functions of this host; it imports the host."""
        return importlib.import_module(self.module)


#: filled by `latentstem.hosts`; files are offered to the hosts in this order
HOSTS: list[Host] = []


def host_of(data: Any) -> Host | None:
    """The host of an object, found by the package of its class, so that nothing is imported."""
    packages = {cls.__module__.partition(".")[0] for cls in type(data).__mro__}
    return next((host for host in HOSTS if host.packages & packages), None)


def host_that_writes(suffix: str) -> Host | None:
    """The host that writes files of this suffix; None if no host does."""
    return next((host for host in HOSTS if suffix in host.writes), None)
