"""Arrays as pattern sources: numpy, memory maps, torch, h5py, zarr and dask.

Data are copied only when read; the user's arrays are never changed.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np

from ..errors import UnsupportedDataError
from ..scan.scan import PatternSource
from ..scan.validation import check_dtype, find_layout
from .chunks import ChunkedSource, dask_source
from .integrity import check_dataset_integrity
from .source_files import array_library, stored_files

__all__ = ["ArraySource", "as_pattern_source", "check_and_map"]

_MAX_RESIDENT_BYTES = 128 * 2**20  # that are read from a memory map before its pages are released


class ArraySource:
    """Patterns in memory or in a memory map, with fast random access.

    Parameters
    ----------
    array : ndarray, shape (Ny, Nx, H, W)
        Any strides and byte order. ``source.array`` is this array, or None if its byte order is not native.
    memmap_args : tuple, optional
        Arguments of `np.memmap`, to open the file again in another process.
    """

    chunks = (1, 1)

    def __init__(self, array: np.ndarray, memmap_args: tuple[Any, ...] | None = None) -> None:
        self._array, self._memmap_args = array, memmap_args
        self.shape: tuple[int, int, int, int] = array.shape  # type: ignore[assignment]
        self.dtype = array.dtype.newbyteorder("=")
        self.array = array if array.dtype.isnative else None
        self._mmap, self._bytes_read = _read_only_mmap(array), 0

    @property
    def files(self) -> set[str]:
        """Path of the memory-mapped file; empty for data in memory."""
        return stored_files(self._array)

    @property
    def is_read_by_path(self) -> bool:
        """Whether the pickled source holds a path, not patterns: another process maps the file."""
        return self._memmap_args is not None

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Patterns at flat scan positions, a copy of shape (n, H, W) in native byte order."""
        rows, columns = np.divmod(indices, self.shape[1])
        patterns = self._array[rows, columns].astype(self.dtype, copy=False)
        if self._mmap is not None:  # pages read from the file count as this process's memory until released
            self._bytes_read += patterns.nbytes
            if self._bytes_read > _MAX_RESIDENT_BYTES:
                self._mmap.madvise(mmap.MADV_DONTNEED)
                self._bytes_read = 0
        return patterns

    def __reduce__(self) -> tuple[Any, ...]:
        if self._memmap_args is None:
            return ArraySource, (self._array,)
        return _reopen_memmap, (self._memmap_args, self.shape[:2])


def _reopen_memmap(memmap_args: tuple[Any, ...], scan_shape: tuple[int, int]) -> PatternSource:
    return as_pattern_source(np.memmap(*memmap_args), scan_shape)


def as_pattern_source(array: Any, scan_shape: tuple[int, int] | None = None) -> PatternSource:
    """Validate an array of any library and wrap it as a pattern source.

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
        array, library = _tensor_to_numpy(array), "numpy"
    if library is None or not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise _unsupported_error(array)
    if isinstance(array, np.ma.MaskedArray):
        raise _unsupported_error(array, "Give array.data, and the mask as scan_mask or pattern_mask.")
    if any(n != n for n in array.shape):  # NaN: a dask array of unknown length
        raise _unsupported_error(array, "Call array.compute_chunk_sizes() first: its shape is not known.")
    check_dtype(array.dtype)
    layout = find_layout(array.shape, scan_shape)
    if library == "dask":
        array = dask_source(array)
    array = check_and_map(array)
    if array_library(array) != "numpy":
        return ChunkedSource(array, layout)
    patterns = (
        array.reshape(*array.shape[: layout.n_scan_axes], *layout.shape[2:]) if layout.singleton else array
    )
    return ArraySource(np.asarray(patterns).reshape(layout.shape), _memmap_args(array))


def _unsupported_error(data: Any, advice: str = "Convert with np.asarray(data).") -> UnsupportedDataError:
    return UnsupportedDataError(
        "array",
        expected="a numpy, memmap, torch, h5py, zarr or dask array",
        received=f"{type(data).__module__}.{type(data).__qualname__}",
        advice=advice,
    )


def _tensor_to_numpy(tensor: Any) -> np.ndarray:
    """A view of a tensor; a copy only if it is on a GPU or has a dtype that numpy lacks."""
    if str(tensor.layout) != "torch.strided":
        raise _unsupported_error(tensor, "Give tensor.to_dense().")
    array = tensor.detach()
    try:
        array = array.cpu()
        array = array.float() if str(array.dtype) == "torch.bfloat16" else array
        return array.resolve_conj().resolve_neg().numpy()
    except (NotImplementedError, RuntimeError, TypeError):  # a tensor without data, or a quantised one
        raise _unsupported_error(
            tensor, "Give a tensor of integers or floating-point numbers, with data."
        ) from None


def check_and_map(array: Any) -> Any:
    """A dataset in a file, checked; a memory map of the file if it is a contiguous, uncompressed HDF5 dataset."""
    library = array_library(array)
    if library in ("h5py", "zarr"):
        check_dataset_integrity(array)
    if library != "h5py":
        return array
    offset, file = array.id.get_offset(), array.file
    if array.chunks is not None or offset is None or array.external or file.mode != "r":
        return array
    if file.driver not in ("sec2", "stdio") or not os.path.isfile(file.filename):
        return array
    return np.memmap(file.filename, array.dtype, "r", offset, array.shape)


def _memmap_args(array: np.ndarray) -> tuple[Any, ...] | None:
    """Arguments of `np.memmap` that open the file again; None for views and copy-on-write maps."""
    base: Any = array
    if not (isinstance(array, np.memmap) and isinstance(base.base, mmap.mmap)) or base.mode == "c":
        return None
    if base.filename is None or not os.path.isfile(base.filename):
        return None
    order = "C" if base.flags.c_contiguous else "F"
    return os.fspath(base.filename), base.dtype, "r", base.offset, base.shape, order


def _read_only_mmap(array: np.ndarray) -> mmap.mmap | None:
    """The mmap object of a read-only memory map; its pages can be released without losing data."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    if base is None or base.mode != "r" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    mapping = getattr(base, "_mmap", None)
    return mapping if isinstance(mapping, mmap.mmap) else None
