"""Which files data are read from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..scan.scan import Scan
from .chunks import array_library

__all__ = ["fingerprint", "source_files"]

_CONTAINERS = (list, tuple, set, frozenset)
_DEPTH = 12


def source_files(data: Any) -> set[str]:
    """Paths of the files that a scan, a host's object or an array reads from; empty for what is in memory.

    Parameters
    ----------
    data : Scan, Signal2D, DataCube, array or Path, or a list of such
        A lazy array is searched for what its tasks read. A signal in memory is of the file that it was loaded from.
    """
    found: set[str] = set()
    _search(data, found, {}, _DEPTH)
    return found


def _search(thing: Any, found: set[str], seen: dict[int, Any], depth: int) -> None:
    if isinstance(thing, str) and os.path.isabs(thing) and os.path.exists(thing):
        found.add(thing)
    if depth == 0 or id(thing) in seen or isinstance(thing, (str, bytes, int, float, type(None), np.dtype)):
        return
    seen[id(thing)] = thing  # held, so that no other object gets its number
    library = array_library(thing)
    inside: list[Any] = []
    if isinstance(thing, Path):
        found.add(str(thing))
    elif hasattr(thing, "tmp_parameters"):  # a signal in memory, from a file
        parts = [thing.tmp_parameters.get_item(name, "") for name in ("folder", "filename", "extension")]
        found.update([os.path.join(parts[0], f"{parts[1]}.{parts[2].lstrip('.')}")] if parts[1] else [])
    if isinstance(thing, np.memmap) and thing.filename is not None:
        found.add(os.fspath(thing.filename))
    elif library == "numpy":
        inside = [thing.base] if isinstance(thing.base, np.ndarray) else []
    elif library == "h5py":
        found.add(thing.file.filename)
    elif library == "zarr":
        found.update(filter(None, [_folder(thing.store)]))
    elif library == "dask":
        inside = list(thing.dask.values())
    elif isinstance(thing, _CONTAINERS):
        inside = list(thing)
    elif isinstance(thing, dict):
        inside = [os.path.abspath(value) if key == "path" else value for key, value in thing.items()]
    elif _holds_patterns(thing):
        inside = [getattr(thing, name, None) for name in _PARTS]
    for part in inside:
        _search(part, found, seen, depth - 1)


#: attributes in which sources, signals, datacubes and dask's tasks keep what they read
_PARTS = (
    "source", "scans", "metadata", "data", "args", "kwargs", "value", "dsk",
    "_array", "_store", "_scans", "_datasets", "array",
)  # fmt: skip


def _holds_patterns(thing: Any) -> bool:
    root = type(thing).__module__.partition(".")[0]
    return root in {"latentstem", "hyperspy", "pyxem", "py4DSTEM", "emdfile", "dask"}


def _folder(store: Any) -> str | None:
    """The folder or file of a zarr store."""
    path = getattr(store, "path", None) or getattr(getattr(store, "store", None), "path", None)
    return path if isinstance(path, str) and os.path.exists(path) else None


def fingerprint(scan: Scan) -> dict[str, Any] | None:
    """What tells the patterns of a scan from those of any other: files with their dates and sizes, dataset, layout.

    Returns
    -------
    dict or None
        Plain values; None for what is not in files alone.
    """
    files = sorted(os.path.abspath(path) for path in source_files(scan) if os.path.exists(path))
    if not files:
        return None
    return {
        "files": [[path, *_date_and_size(path)] for path in files],
        "dataset": getattr(scan.source, "dataset", ""),
        "shape": list(scan.source.shape),
        "dtype": str(scan.dtype),
    }


def _date_and_size(path: str) -> tuple[int, int]:
    """Newest date in nanoseconds and size in bytes, of a file or of all files in a folder."""
    inside = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    stats = [os.stat(file) for file in inside or [path]]
    return max(stat.st_mtime_ns for stat in stats), sum(stat.st_size for stat in stats)
