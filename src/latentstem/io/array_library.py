"""Which array library an object belongs to."""

from __future__ import annotations

from typing import Any

__all__ = ["array_library"]


def array_library(data: Any) -> str | None:
    """The array library whose class `data` is or extends; found by class name, without importing the library."""
    kinds = {
        ("numpy", "ndarray"): "numpy",
        ("numpy", "memmap"): "numpy",
        ("torch", "Tensor"): "torch",
        ("h5py", "Dataset"): "h5py",
        ("zarr", "Array"): "zarr",
        ("dask", "Array"): "dask",
    }
    names = ((cls.__module__.partition(".")[0], cls.__name__) for cls in type(data).__mro__)
    return next((kinds[name] for name in names if name in kinds), None)
