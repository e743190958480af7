"""Which array library an object belongs to, and the files that its patterns are read from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..scan.scan import Scan

__all__ = ["array_library", "fingerprint", "stored_files"]

_MAX_DEPTH = 12  # of the search in a task of dask
_TASK_ATTRIBUTES = ("args", "kwargs", "value", "dsk", "array")  # in which dask's tasks keep what they read


def array_library(data: Any) -> str | None:
    """The library of an array, recognised by the names of its classes, so that nothing is imported; None if unknown."""
    libraries = {
        ("numpy", "ndarray"): "numpy",
        ("numpy", "memmap"): "numpy",
        ("torch", "Tensor"): "torch",
        ("h5py", "Dataset"): "h5py",
        ("zarr", "Array"): "zarr",
        ("dask", "Array"): "dask",
    }
    names = ((cls.__module__.partition(".")[0], cls.__name__) for cls in type(data).__mro__)
    return next((libraries[name] for name in names if name in libraries), None)


def stored_files(array: Any) -> set[str]:
    """Paths of the files that an array is read from; empty for data in memory.

    Parameters
    ----------
    array : array of any library, or an object with ``files``
        A memory map may also be the base of a view. The tasks of a dask array are searched.
    """
    library = array_library(array)
    if library == "numpy":
        while isinstance(array, np.ndarray):
            if isinstance(array, np.memmap) and array.filename is not None:
                return {os.fspath(array.filename)}
            array = array.base
        return set()
    if library == "h5py":
        return {array.file.filename}
    if library == "zarr":
        path = _zarr_path(array.store)
        return set() if path is None else {path}
    if library == "dask":
        files: set[str] = set()
        _add_files(list(array.dask.values()), files, {}, _MAX_DEPTH)
        return files
    return set(getattr(array, "files", ()))


def _add_files(obj: Any, files: set[str], seen: dict[int, Any], depth: int) -> None:
    """Add the files that an object in a task of dask reads or names."""
    if depth == 0 or id(obj) in seen:
        return
    seen[id(obj)] = obj  # the reference keeps the id from being used again
    if isinstance(obj, Path) or (isinstance(obj, str) and os.path.isabs(obj) and os.path.exists(obj)):
        files.add(str(obj))
    elif isinstance(obj, (list, tuple, set, frozenset)):
        for item in obj:
            _add_files(item, files, seen, depth - 1)
    elif isinstance(obj, dict):
        _add_files(list(obj.values()), files, seen, depth)
    elif type(obj).__module__.startswith("dask."):
        _add_files([getattr(obj, name, None) for name in _TASK_ATTRIBUTES], files, seen, depth)
    else:
        files |= stored_files(obj)


def _zarr_path(store: Any) -> str | None:
    """The folder or file of a zarr store."""
    path = getattr(store, "path", None) or getattr(getattr(store, "store", None), "path", None)
    return path if isinstance(path, str) and os.path.exists(path) else None


def fingerprint(scan: Scan) -> dict[str, Any] | None:
    """Fingerprint of a scan's data: files with modification times and sizes, dataset name, shape, dtype.

    Returns
    -------
    dict or None
        Plain values; None for data in memory.
    """
    dataset = getattr(scan.source, "dataset", "")
    files = sorted(os.path.abspath(path) for path in scan.files if os.path.exists(path))
    if not files or not (scan.source.files or dataset):
        return None
    return {
        "files": [[path, *_mtime_and_size(path)] for path in files],
        "dataset": dataset,
        "shape": list(scan.source.shape),
        "dtype": str(scan.dtype),
    }


def _mtime_and_size(path: str) -> tuple[int, int]:
    """Newest modification time in nanoseconds and size in bytes, of a file or of all files in a folder."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    stats = [os.stat(file) for file in files or [path]]
    return max(stat.st_mtime_ns for stat in stats), sum(stat.st_size for stat in stats)
