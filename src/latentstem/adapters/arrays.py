"""Arrays as pattern sources: numpy, memory maps, torch, h5py, zarr and dask.

Nothing is copied before it is asked for, and nothing the user holds is ever changed.
"""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FileError, UnsupportedDataError, said
from ..scan import Axis, PatternSource
from .validate import Layout, check_dtype, check_stored, layout_of

__all__ = ["ChunkedSource", "MemorySource", "default_axes", "library_of", "memory_map", "source_of"]

_SLAB_BYTES = 256 * 2**20  # storage chunks larger than this are read in parts
_CACHE_BYTES = 128 * 2**20  # decompressed chunks that are kept; always the last one
_MAPPED_BYTES = 128 * 2**20  # that are read of a memory map before its pages are given back

Box = tuple[tuple[int, int], ...]  # start and stop along each stored scan axis


class MemorySource:
    """Patterns in memory or in a memory map: read at random.

    Parameters
    ----------
    array : ndarray, shape (Ny, Nx, H, W)
        Any strides and byte order. ``source.array`` is this array, or None if its byte order is not native.
    file : tuple, optional
        Arguments of `np.memmap` that map the stored array again in another process.
    """

    chunks = (1, 1)

    def __init__(self, array: np.ndarray, file: tuple[Any, ...] | None = None) -> None:
        self._array, self._file = array, file
        self.shape: tuple[int, int, int, int] = array.shape  # type: ignore[assignment]
        self.dtype = array.dtype.newbyteorder("=")
        self.array = array if array.dtype.isnative else None
        self._mapping, self._mapped = _mapping_of(array), 0

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat scan positions, a copy of shape (n, H, W) in native byte order."""
        rows, columns = np.divmod(indices, self.shape[1])
        patterns = self._array[rows, columns].astype(self.dtype, copy=False)
        if (
            self._mapping is not None
        ):  # what was read of a file counts as memory of this process until given back
            self._mapped += patterns.nbytes
            if self._mapped > _MAPPED_BYTES:
                self._mapping.madvise(mmap.MADV_DONTNEED)
                self._mapped = 0
        return patterns

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is None:
            return MemorySource, (self._array,)
        return _map_again, (self._file, self.shape[:2])


def _map_again(file: tuple[Any, ...], scan_shape: tuple[int, int]) -> PatternSource:
    return source_of(np.memmap(*file), scan_shape)


class ChunkedSource:
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
        if library_of(store) != "dask":  # a dask chunk is computed whole, whatever is read of it
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
            if library_of(self._store) == "dask":
                from dask.base import compute

                # not on a cluster that happens to be the default: it may not see the file
                parts = compute(*parts, scheduler=None if _is_on_cluster(self._store) else "threads")
            return [np.asarray(part) for part in parts]
        except MemoryError:
            raise
        except Exception as error:  # whatever the library that reads them raises
            raise FileError(
                "patterns cannot be read",
                expected="an open file with complete storage chunks, in a format that is installed",
                received=said(error),
                advice="The file may be damaged, closed or moved; `pip install hdf5plugin` adds the filters of detectors.",
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_cache": OrderedDict()}
        if library_of(self._store) == "h5py":  # an open file does not travel to another process
            state["_store"] = (os.path.abspath(self._store.file.filename), self._store.name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self._store, tuple):
            import h5py

            filename, name = self._store
            self._store = h5py.File(filename, "r")[name]


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


def source_of(array: Any, scan_shape: tuple[int, int] | None = None) -> PatternSource:
    """Patterns of any array, validated.

    Parameters
    ----------
    array : ndarray, memmap, torch.Tensor, h5py.Dataset, zarr.Array or dask array
        Shape (Ny, Nx, H, W) or (Ny, Nx, 1, H, W), or a stack (N, H, W) or (N, 1, H, W) with `scan_shape`.
    scan_shape : (int, int), optional
        Scan rows and columns. A 4-D array (N, 1, H, W) is a stack unless `scan_shape` is (N, 1).

    Returns
    -------
    PatternSource

    Raises
    ------
    UnsupportedDataError, DataTypeError, ScanDimensionError, ScanShapeError, PatternShapeError
    """
    library = library_of(array)
    if library == "torch":
        array, library = _numpy_of_tensor(array), "numpy"
    if library is None or not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise _unsupported(array, "")
    if isinstance(array, np.ma.MaskedArray):
        raise _unsupported(array, "Give array.data, and what is masked as scan_mask or pattern_mask.")
    if any(n != n for n in array.shape):
        raise _unsupported(array, "Call array.compute_chunk_sizes() first: its shape is not known.")
    check_dtype(array.dtype)
    layout = layout_of(array.shape, scan_shape)
    if library == "dask":
        array = _store_of(array)
        library = library_of(array)
    if library in ("h5py", "zarr"):
        check_stored(array)
    if library == "h5py":
        mapped = memory_map(array)
        array, library = (array, library) if mapped is None else (mapped, "numpy")
    if library != "numpy":
        return ChunkedSource(array, layout)
    stored = (
        array.reshape(*array.shape[: layout.n_scan_axes], *layout.shape[2:]) if layout.singleton else array
    )
    return MemorySource(np.asarray(stored).reshape(layout.shape), _file_of(array))


def _store_of(array: Any) -> Any:
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
    return store if same and library_of(store) in ("h5py", "zarr") else array


def library_of(data: Any) -> str | None:
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


def _unsupported(data: Any, advice: str) -> UnsupportedDataError:
    return UnsupportedDataError(
        "array",
        expected="a numpy, memmap, torch, h5py, zarr or dask array",
        received=f"{type(data).__module__}.{type(data).__qualname__}",
        advice=advice or "Convert with np.asarray(data).",
    )


def _numpy_of_tensor(tensor: Any) -> np.ndarray:
    """A view of a tensor in memory; a copy only where it lives on a GPU or has a dtype that numpy lacks."""
    if str(tensor.layout) != "torch.strided":
        raise _unsupported(tensor, "Give tensor.to_dense().")
    array = tensor.detach()
    try:
        array = array.cpu()
        array = array.float() if str(array.dtype) == "torch.bfloat16" else array
        return array.resolve_conj().resolve_neg().numpy()
    except (NotImplementedError, RuntimeError, TypeError):  # without data, or quantised
        raise _unsupported(
            tensor, "Give a tensor of integers or floating-point numbers, with data."
        ) from None


def memory_map(dataset: Any) -> np.ndarray | None:
    """The data of a contiguous, uncompressed HDF5 dataset as a memory map of the file."""
    offset = dataset.id.get_offset()
    file = dataset.file
    if dataset.chunks is not None or offset is None or dataset.external or file.mode != "r":
        return None
    if file.driver not in ("sec2", "stdio") or not os.path.isfile(file.filename):
        return None
    return np.memmap(file.filename, dataset.dtype, "r", offset, dataset.shape)


def _file_of(array: np.ndarray) -> tuple[Any, ...] | None:
    """Arguments that map a memory-mapped file again; None for views and copy-on-write maps."""
    held: Any = array
    if not (isinstance(array, np.memmap) and isinstance(held.base, mmap.mmap)) or held.mode == "c":
        return None
    if held.filename is None or not os.path.isfile(held.filename):
        return None
    order = "C" if held.flags.c_contiguous else "F"
    return os.fspath(held.filename), held.dtype, "r", held.offset, held.shape, order


def _mapping_of(array: np.ndarray) -> mmap.mmap | None:
    """The map of a file that is mapped for reading only, so that its pages can be given back without loss."""
    held: Any = array
    while held is not None and not isinstance(held, np.memmap):
        held = getattr(held, "base", None)
    if held is None or held.mode != "r" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    mapping = getattr(held, "_mmap", None)
    return mapping if isinstance(mapping, mmap.mmap) else None


def default_axes(shape: tuple[int, int, int, int]) -> tuple[Axis, Axis, Axis, Axis]:
    """Axes of uncalibrated data: scan rows and columns, detector rows and columns."""
    y, x, ky, kx = (Axis(name, size) for name, size in zip(("y", "x", "ky", "kx"), shape, strict=True))
    return y, x, ky, kx
