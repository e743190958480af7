"""Patterns in chunks: HDF5 and zarr datasets, and dask arrays."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FileError, format_exception
from ..scan.validation import Layout

__all__ = ["ChunkedSource", "PicklableStore", "array_library", "dask_source"]

_SLAB_BYTES = 256 * 2**20  # storage chunks larger than this are read in parts
_CACHE_BYTES = 64 * 2**20  # decompressed chunks that are kept; always the last one
Box = tuple[tuple[int, int], ...]  # start and stop along each stored scan axis


class PicklableStore:
    """Something that reads from ``_store``, which is opened again by path and key in another process."""

    _store: Any

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if array_library(self._store) == "h5py":  # an open file does not travel
            state["_store"] = (os.path.abspath(self._store.file.filename), self._store.name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self._store, tuple):
            import h5py

            filename, name = self._store
            self._store = h5py.File(filename, "r")[name]


class ChunkedSource(PicklableStore):
    """Patterns in a chunked store (h5py, zarr) or a lazy array (dask): read by whole chunks.

    The chunks that were read last are kept, so that walking through a chunk decompresses it once.

    Parameters
    ----------
    store : h5py.Dataset, zarr.Array or dask.array.Array
        Anything with shape, dtype, chunks and basic slicing.
    layout : Layout
        How its axes make a scan.
    """

    array: np.ndarray | None = None

    def __init__(self, store: Any, layout: Layout) -> None:
        self._store, self._layout = store, layout
        self.shape = layout.shape
        self.dtype = store.dtype.newbyteorder("=")
        sizes = [_chunk_sizes(store, axis) for axis in range(layout.n_scan_axes)]
        pattern_bytes = self.dtype.itemsize * self.shape[2] * self.shape[3]
        if array_library(store) != "dask":  # a dask chunk is computed whole, whatever is read of it
            sizes = _bounded(sizes, pattern_bytes)
        largest = [max(size) for size in sizes]
        self.chunks = _scan_chunks(largest, self.shape[1])
        self._edges = [np.concatenate([[0], np.cumsum(size)]) for size in sizes]
        self._cached_boxes = max(1, _CACHE_BYTES // (pattern_bytes * int(np.prod(largest))))
        self._cache: OrderedDict[Box, np.ndarray] = OrderedDict()

    @property
    def dataset(self) -> str:
        """Name of the dataset in its file, or of the lazy computation."""
        return str(getattr(self._store, "name", "") or "")

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat scan positions, shape (n, H, W), in native byte order."""
        out = np.empty((len(indices), *self.shape[2:]), self.dtype)
        where = np.divmod(indices, self.shape[1]) if self._layout.n_scan_axes == 2 else (indices,)
        one_by_one = self.chunks == (1, 1)
        groups = self._runs(where) if one_by_one else self._by_chunk(where)
        for first in range(0, len(groups), self._cached_boxes):
            some = groups[first : first + self._cached_boxes]
            boxes = [box for box, _ in some]
            slabs = self._fetch(boxes) if one_by_one else self._cached(boxes)
            for (box, members), slab in zip(some, slabs, strict=True):
                out[members] = slab[
                    tuple(w[members] - start for w, (start, _) in zip(where, box, strict=True))
                ]
        return out

    def _by_chunk(self, where: Sequence[np.ndarray]) -> list[tuple[Box, np.ndarray]]:
        """The storage chunks that hold these positions, and which positions each of them holds."""
        chunk = [
            np.searchsorted(edges, w, side="right") - 1 for edges, w in zip(self._edges, where, strict=True)
        ]
        return [
            (
                tuple(
                    (int(edges[c[m[0]]]), int(edges[c[m[0]] + 1]))
                    for edges, c in zip(self._edges, chunk, strict=True)
                ),
                m,
            )
            for m in _groups(chunk, step=0)
        ]

    def _runs(self, where: Sequence[np.ndarray]) -> list[tuple[Box, np.ndarray]]:
        """Neighbouring positions that one call can read, where each pattern is stored by itself."""
        return [(tuple((int(w[m[0]]), int(w[m[-1]]) + 1) for w in where), m) for m in _groups(where, step=1)]

    def _cached(self, boxes: list[Box]) -> list[np.ndarray]:
        missing = [box for box in boxes if box not in self._cache]
        slabs = {box: self._cache[box] for box in boxes if box in self._cache}
        slabs.update(zip(missing, self._fetch(missing), strict=True))
        for box in boxes:
            self._cache[box] = slabs[box]
            self._cache.move_to_end(box)
        while len(self._cache) > self._cached_boxes:
            self._cache.popitem(last=False)
        return [slabs[box] for box in boxes]

    def _fetch(self, boxes: list[Box]) -> list[np.ndarray]:
        singleton = (0,) if self._layout.singleton else ()
        try:
            selections = [tuple(slice(*span) for span in box) + singleton for box in boxes]
            parts = [self._store[selection] for selection in selections]
            if array_library(self._store) == "dask":
                parts = list(_computed(parts, _is_on_cluster(self._store)))
            return [np.asarray(part) for part in parts]
        except MemoryError:
            raise
        except Exception as error:  # whatever the library that reads them raises
            raise FileError(
                "patterns cannot be read",
                expected="an open file with complete storage chunks, in a format that is installed",
                received=format_exception(error),
                advice="The file may be damaged, closed or moved; `pip install hdf5plugin` adds the filters of detectors.",
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cache": OrderedDict()}


def _computed(parts: Sequence[Any], on_cluster: bool) -> tuple[np.ndarray, ...]:
    """Parts of a lazy array, not on a cluster that happens to be the default: it may not see the file."""
    from dask.base import compute
    from dask.config import get

    # loader processes have no threads of the parent's to wait for, and say so in dask's configuration
    here = "synchronous" if get("scheduler", None) == "synchronous" else "threads"
    found: tuple[np.ndarray, ...] = compute(*parts, scheduler=None if on_cluster else here)
    return found


def _is_on_cluster(array: Any) -> bool:
    """Whether chunks of a dask array are held by the workers of a cluster."""
    first = (
        next(iter(layer.values()), None)
        for layer in array.dask.layers.values()
        if isinstance(layer, dict) or type(layer).__name__ == "MaterializedLayer"
    )
    return any(type(value).__module__.startswith("distributed") for value in first)


def _groups(keys: Sequence[np.ndarray], step: int) -> list[np.ndarray]:
    """Members with equal keys; the last key may also grow by `step` from one member to the next."""
    order = np.lexsort(tuple(reversed(keys)))
    if not len(order):
        return []
    *outer, last = (np.diff(key[order]) for key in keys)
    new = (last < 0) | (last > step)
    for change in outer:
        new |= change != 0
    return np.split(order, np.flatnonzero(new) + 1)


def _chunk_sizes(store: Any, axis: int) -> list[int]:
    """Lengths of the storage chunks along one axis."""
    if store.chunks is None:
        return [1] * store.shape[axis]
    size, n = store.chunks[axis], store.shape[axis]
    if not isinstance(size, int):
        return [int(s) for s in size if s]  # dask lists them
    return [min(size, n - start) for start in range(0, n, size)]


def _bounded(sizes: list[list[int]], pattern_bytes: int) -> list[list[int]]:
    """Chunks cut into halves, first along the first axis, until one of them is of moderate size."""
    while pattern_bytes * int(np.prod([max(size) for size in sizes])) > _SLAB_BYTES:
        axis = next((i for i, size in enumerate(sizes) if max(size) > 1), None)
        if axis is None:
            break
        sizes[axis] = [half for n in sizes[axis] for half in ((n + 1) // 2, n // 2) if half]
    return sizes


def _scan_chunks(largest: list[int], nx: int) -> tuple[int, int]:
    """Scan rows and columns that are stored together."""
    if len(largest) == 2:
        return largest[0], largest[1]
    (n,) = largest
    return (1, n) if nx % n == 0 else (-(-n // nx), nx)


def dask_source(array: Any) -> Any:
    """The HDF5 or zarr dataset that a dask array does nothing but read, chunk by chunk; else the array itself.

    Lazy HyperSpy signals are such arrays: their dataset is read by its own chunks, and is opened again by other
    processes.
    """
    from dask.array import core

    original = f"original-{array.name}"
    if set(array.dask.layers) != {original, array.name}:
        return array
    store = array.dask.layers[original].get(original)
    tasks = list(array.dask.layers[array.name].values())
    reads = all(getattr(task, "func", None) in (core.getter, core.getter_nofancy) for task in tasks[:1])
    same = reads and getattr(store, "shape", None) == array.shape and store.dtype == array.dtype
    return store if same and array_library(store) in ("h5py", "zarr") else array


def array_library(data: Any) -> str | None:
    """The array library whose class `data` is or extends; told by name, so that nothing is imported."""
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
