"""Arrays as pattern sources: numpy, memory maps, torch, h5py, zarr and dask.

Nothing is copied before it is asked for, and nothing the user holds is ever changed.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np

from ..errors import UnsupportedDataError
from ..scan.scan import PatternSource
from ..scan.validation import check_dataset_integrity, check_dtype, find_layout
from .chunks import ChunkedSource, array_library, dask_source

__all__ = ["ArraySource", "as_pattern_source", "memmap_hdf5"]

_MAPPED_BYTES = 128 * 2**20  # that are read of a memory map before its pages are given back


class ArraySource:
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
            return ArraySource, (self._array,)
        return _map_again, (self._file, self.shape[:2])


def _map_again(file: tuple[Any, ...], scan_shape: tuple[int, int]) -> PatternSource:
    return as_pattern_source(np.memmap(*file), scan_shape)


def as_pattern_source(array: Any, scan_shape: tuple[int, int] | None = None) -> PatternSource:
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
    library = array_library(array)
    if library == "torch":
        array, library = _numpy_of_tensor(array), "numpy"
    if library is None or not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise _unsupported(array, "")
    if isinstance(array, np.ma.MaskedArray):
        raise _unsupported(array, "Give array.data, and what is masked as scan_mask or pattern_mask.")
    if any(n != n for n in array.shape):
        raise _unsupported(array, "Call array.compute_chunk_sizes() first: its shape is not known.")
    check_dtype(array.dtype)
    layout = find_layout(array.shape, scan_shape)
    if library == "dask":
        array = dask_source(array)
        library = array_library(array)
    if library in ("h5py", "zarr"):
        check_dataset_integrity(array)
    if library == "h5py":
        mapped = memmap_hdf5(array)
        array, library = (array, library) if mapped is None else (mapped, "numpy")
    if library != "numpy":
        return ChunkedSource(array, layout)
    stored = (
        array.reshape(*array.shape[: layout.n_scan_axes], *layout.shape[2:]) if layout.singleton else array
    )
    return ArraySource(np.asarray(stored).reshape(layout.shape), _file_of(array))


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


def memmap_hdf5(dataset: Any) -> np.ndarray | None:
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
