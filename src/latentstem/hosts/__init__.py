"""Hosts: the libraries whose objects users hold. Each has an entry here, and a module with its functions."""

from __future__ import annotations

from ..io.host_table import HOSTS, Host

HOSTS[:] = [
    Host(
        label="HyperSpy",
        library="hyperspy",
        packages=frozenset({"hyperspy"}),
        module="latentstem.hosts.hyperspy",
        class_module="hyperspy.signal",
        class_name="BaseSignal",
        writes=(".hspy", ".zspy"),
        chunked=True,
    ),
    Host(
        label="py4DSTEM",
        library="py4DSTEM",
        packages=frozenset({"py4DSTEM", "emdfile"}),
        module="latentstem.hosts.py4dstem",
        class_module="py4DSTEM.datacube.datacube",
        class_name="DataCube",
        writes=(".h5",),
    ),
]
