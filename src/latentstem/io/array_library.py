"""Which array library an object belongs to."""

from __future__ import annotations

from typing import Any

__all__ = ["array_library"]


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
