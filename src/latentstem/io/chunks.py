"""Patterns in storage chunks: HDF5 and zarr datasets, and dask arrays."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FileError, format_exception
from ..scan.validation import Layout
from .source_files import array_library, stored_files

__all__ = ["ChunkedSource", "dask_source"]

_MAX_READ_BYTES = 256 * 2**20  # storage chunks larger than this are read in parts
_CHUNK_CACHE_BYTES = 64 * 2**20  # of decompressed chunks in memory; the last chunk is always kept
ChunkSlice = tuple[tuple[int, int], ...]  # start and stop along each stored scan axis


class ChunkedSource:
    """Patterns in a chunked store (h5py, zarr) or a lazy array (dask): read by whole chunks.

    Recently read chunks are cached, so reading a chunk's patterns one after another decompresses it once. An h5py dataset
    is pickled as the names of its file and of the dataset, and opened again when unpickled.

    Parameters
    ----------
    store : h5py.Dataset, zarr.Array or dask.array.Array
        Anything with shape, dtype, chunks and basic slicing.
    layout : Layout
        How its axes map to a scan.
    scan_index : int, optional
        Which scan of a store (T, Ny, Nx, H, W) to read.
    """

    array: np.ndarray | None = None

    def __init__(self, store: Any, layout: Layout, scan_index: int | None = None) -> None:
        self._store, self._layout = store, layout
        self._scan_index = () if scan_index is None else (scan_index,)
        self.shape = layout.shape
        self.dtype = store.dtype.newbyteorder("=")
        sizes = [_chunk_sizes(store, axis + len(self._scan_index)) for axis in range(layout.n_scan_axes)]
        pattern_bytes = self.dtype.itemsize * self.shape[2] * self.shape[3]
        if array_library(store) != "dask":  # dask always computes whole chunks
            sizes = _split_large_chunks(sizes, pattern_bytes)
        largest = [max(size) for size in sizes]
        self.chunks = _chunk_scan_shape(largest, self.shape[1])
        self._edges = [np.concatenate([[0], np.cumsum(size)]) for size in sizes]
        self._max_cached = max(1, _CHUNK_CACHE_BYTES // (pattern_bytes * int(np.prod(largest))))
        self._cache: OrderedDict[ChunkSlice, np.ndarray] = OrderedDict()

    @property
    def files(self) -> set[str]:
        """Paths of the files that patterns are read from."""
        return stored_files(self._store)

    @property
    def is_read_by_path(self) -> bool:
        """Whether the pickled source holds paths, not patterns: another process reads the files."""
        return array_library(self._store) != "dask" and bool(self.files)

    @property
    def dataset(self) -> str:
        """Name of the dataset in its file, or of the lazy computation, with the index of the scan in a series."""
        return "/".join([str(getattr(self._store, "name", "") or ""), *map(str, self._scan_index)])

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat scan positions, shape (n, H, W), in native byte order."""
        out = np.empty((len(indices), *self.shape[2:]), self.dtype)
        coordinates = np.divmod(indices, self.shape[1]) if self._layout.n_scan_axes == 2 else (indices,)
        stored_singly = self.chunks == (1, 1)
        groups = self._group(coordinates, merge_consecutive=stored_singly)
        for first in range(0, len(groups), self._max_cached):
            next_groups = groups[first : first + self._max_cached]
            chunks = [chunk for chunk, _ in next_groups]
            arrays = self._read_uncached(chunks) if stored_singly else self._read_cached(chunks)
            for (chunk, group), data in zip(next_groups, arrays, strict=True):
                offsets = (
                    coordinate[group] - start
                    for coordinate, (start, _) in zip(coordinates, chunk, strict=True)
                )
                out[group] = data[tuple(offsets)]
        return out

    def _group(
        self, coordinates: Sequence[np.ndarray], merge_consecutive: bool
    ) -> list[tuple[ChunkSlice, np.ndarray]]:
        """Storage chunks of these positions, or runs of consecutive ones, and the indices of the positions in each."""
        axes = [
            (edges, np.searchsorted(edges, coordinate, side="right") - 1)
            for edges, coordinate in zip(self._edges, coordinates, strict=True)
        ]
        return [
            (tuple((int(edges[i[group[0]]]), int(edges[i[group[-1]] + 1])) for edges, i in axes), group)
            for group in _split_sorted([i for _, i in axes], step=int(merge_consecutive))
        ]

    def _read_cached(self, chunks: list[ChunkSlice]) -> list[np.ndarray]:
        arrays = {chunk: self._cache[chunk] for chunk in chunks if chunk in self._cache}
        missing = [chunk for chunk in chunks if chunk not in arrays]
        arrays.update(zip(missing, self._read_uncached(missing), strict=True))
        for chunk in chunks:
            self._cache[chunk] = arrays[chunk]
            self._cache.move_to_end(chunk)
        while len(self._cache) > self._max_cached:
            self._cache.popitem(last=False)
        return [arrays[chunk] for chunk in chunks]

    def _read_uncached(self, chunks: list[ChunkSlice]) -> list[np.ndarray]:
        singleton = (0,) if self._layout.singleton else ()
        try:
            selections = [
                (*self._scan_index, *(slice(*span) for span in chunk), *singleton) for chunk in chunks
            ]
            if array_library(self._store) == "dask":
                return [np.asarray(part) for part in _compute_dask(self._store, selections)]
            return [np.asarray(self._store[selection]) for selection in selections]
        except MemoryError:
            raise
        except Exception as error:  # whatever the library that reads them raises
            raise FileError(
                "patterns cannot be read",
                expected="an open, complete file whose compression filters are installed",
                received=format_exception(error),
                advice="The file may be damaged, closed or moved; `pip install hdf5plugin` adds the filters of detectors.",
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_cache": OrderedDict()}
        if array_library(self._store) == "h5py":  # an open file cannot be pickled
            state["_store"] = (os.path.abspath(self._store.file.filename), self._store.name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self._store, tuple):
            import h5py

            filename, name = self._store
            self._store = h5py.File(filename, "r")[name]


def _split_sorted(keys: Sequence[np.ndarray], step: int) -> list[np.ndarray]:
    """Groups of indices with equal keys; within a group the last key may grow by up to `step` from one to the next."""
    order = np.lexsort(tuple(reversed(keys)))
    if not len(order):
        return []
    *outer, last = (np.diff(key[order]) for key in keys)
    starts_group = (last < 0) | (last > step)
    for change in outer:
        starts_group |= change != 0
    return np.split(order, np.flatnonzero(starts_group) + 1)


def _chunk_sizes(store: Any, axis: int) -> list[int]:
    """Lengths of the storage chunks along one axis."""
    if store.chunks is None:
        return [1] * store.shape[axis]
    size, n = store.chunks[axis], store.shape[axis]
    if not isinstance(size, int):
        return [int(s) for s in size if s]  # dask lists the lengths
    return [min(size, n - start) for start in range(0, n, size)]


def _split_large_chunks(sizes: list[list[int]], pattern_bytes: int) -> list[list[int]]:
    """Halve chunks, starting with the first axis, until each is below `_MAX_READ_BYTES`."""
    while pattern_bytes * int(np.prod([max(size) for size in sizes])) > _MAX_READ_BYTES:
        axis = next((i for i, size in enumerate(sizes) if max(size) > 1), None)
        if axis is None:
            break
        sizes[axis] = [half for n in sizes[axis] for half in ((n + 1) // 2, n // 2) if half]
    return sizes


def _chunk_scan_shape(largest: list[int], nx: int) -> tuple[int, int]:
    """Scan rows and columns of one storage chunk."""
    if len(largest) == 2:
        return largest[0], largest[1]
    (n,) = largest
    return (1, n) if nx % n == 0 else (-(-n // nx), nx)


def _compute_dask(array: Any, selections: Sequence[tuple[Any, ...]]) -> tuple[np.ndarray, ...]:
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
