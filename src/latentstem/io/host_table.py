"""The table of host libraries, which `latentstem.hosts` fills: how lower layers find a host without importing it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

__all__ = ["HOSTS", "Host", "host_of", "host_that_writes"]


@dataclass(frozen=True)
class Host:
    """A host library, and the module of LatentSTEM with its functions.

    Parameters
    ----------
    label : str
        Its name in messages.
    library : str
        Package that is imported.
    packages : frozenset of str
        Packages whose classes are objects of this host.
    module : str
        The module of LatentSTEM, imported when it is first needed. It has the functions ``scan_from_object``, ``scan_from_file``,
        ``create_pattern_file``, ``open_pattern_file`` and ``save_latents``, and the methods that the host's class gets.
    class_module, class_name : str
        The class that gets the methods.
    writes : tuple of str
        Suffixes of the files that it writes.
    chunked : bool
        Whether those files store patterns in chunks.
    """

    label: str
    library: str
    packages: frozenset[str]
    module: str
    class_module: str
    class_name: str
    writes: tuple[str, ...]
    chunked: bool = False

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
