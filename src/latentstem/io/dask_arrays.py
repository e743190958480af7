"""Dask arrays: the datasets that they read, and the computation of their chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .source_files import array_library

__all__ = ["compute_dask", "dask_source"]


def compute_dask(array: Any, selections: Sequence[tuple[Any, ...]]) -> tuple[np.ndarray, ...]:
    """Parts of a dask array.

    Computed with local threads, even if a dask cluster is the default scheduler: the cluster may not see the file. An
    array whose chunks are on the workers of a cluster is computed there.
    """
    from dask.base import compute
    from dask.config import get

    # forked loader processes do not have the parent's threads; they set dask to "synchronous"
    scheduler = "synchronous" if get("scheduler", None) == "synchronous" else "threads"
    results: tuple[np.ndarray, ...] = compute(
        *(array[selection] for selection in selections),
        scheduler=None if _is_on_cluster(array) else scheduler,
    )
    return results


def _is_on_cluster(array: Any) -> bool:
    """Whether chunks of a dask array are on the workers of a cluster."""
    first_results = (
        next(iter(layer.values()), None)
        for layer in array.dask.layers.values()
        if isinstance(layer, dict) or type(layer).__name__ == "MaterializedLayer"
    )
    return any(type(value).__module__.startswith("distributed") for value in first_results)


def dask_source(array: Any) -> Any:
    """The HDF5 or zarr dataset behind a dask array that only reads it; otherwise the dask array.

    Lazy HyperSpy signals are such arrays: their dataset is read by its own chunks, and is opened again by other
    processes.
    """
    from dask.array import core

    original = f"original-{array.name}"
    if set(array.dask.layers) != {original, array.name}:
        return array
    store = array.dask.layers[original].get(original)
    tasks = list(array.dask.layers[array.name].values())
    only_reads = all(getattr(task, "func", None) in (core.getter, core.getter_nofancy) for task in tasks[:1])
    is_same = only_reads and getattr(store, "shape", None) == array.shape and store.dtype == array.dtype
    return store if is_same and array_library(store) in ("h5py", "zarr") else array
