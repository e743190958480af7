"""Series of scans as they come: lists, and arrays of five dimensions."""

from __future__ import annotations

from typing import Any

from ..errors import ScanDimensionError
from ..scan.scan import Axis, PatternSource, Scan, default_axes
from ..scan.series import Series, located_errors, make_series
from ..scan.validation import check_dataset_integrity, check_dtype, find_layout
from .arrays import as_pattern_source, memmap_hdf5
from .chunks import ChunkedSource, PicklableStore, array_library

__all__ = ["is_series", "scan_from_array", "series_from_array"]

_MOST = 100_000  # scans of a series

Axes = tuple[Axis, Axis, Axis, Axis]


def is_series(array: Any) -> bool:
    """Whether an array is (T, Ny, Nx, H, W); (Ny, Nx, 1, H, W) is a single scan."""
    shape: tuple[int, ...] = getattr(array, "shape", ())
    return len(shape) == 5 and shape[0] > 1 and shape[2] > 1


def scan_from_array(array: Any, scan_shape: tuple[int, int] | None = None) -> Scan:
    """An array without calibration as a scan, or as a series of scans."""
    if is_series(array):
        return series_from_array(array)
    source = as_pattern_source(array, scan_shape)
    return Scan(source, default_axes(source.shape))


def series_from_array(array: Any, axes: Axes | None = None, step: Axis | None = None) -> Series:
    """The scans of an array (T, Ny, Nx, H, W), which stays where it is.

    Parameters
    ----------
    array : ndarray, memmap, torch.Tensor, h5py.Dataset, zarr.Array or dask array
    axes : tuple of Axis, optional
        The four axes of each scan.
    step : Axis, optional
        The axis along the series.
    """
    if array_library(array) != "torch":
        check_dtype(array.dtype)
    if len(array) > _MOST:
        raise ScanDimensionError(
            "series is too long",
            expected=f"at most {_MOST:,} scans",
            received=f"5-D data of shape {tuple(array.shape)}",
            advice="If that is not the shape of the recording, the file is damaged; else give a part of it.",
        )
    if array_library(array) in ("h5py", "zarr"):
        check_dataset_integrity(array)
    mapped = memmap_hdf5(array) if array_library(array) == "h5py" else None
    array = array if mapped is None else mapped
    scans = []
    for number in range(len(array)):
        with located_errors(number, len(array)):
            source = _source(array, number)
        scans.append(Scan(source, axes or default_axes(source.shape)))
    return make_series(scans, step)


def _source(array: Any, number: int) -> PatternSource:
    if array_library(array) in ("h5py", "zarr"):
        return ChunkedSource(_Frame(array, number), find_layout(array.shape[1:]))
    return as_pattern_source(array[number])  # a view


class _Frame(PicklableStore):
    """One scan of an array (T, Ny, Nx, H, W) in a file, read when it is asked for."""

    def __init__(self, store: Any, number: int) -> None:
        self._store, self._number = store, number
        self.shape, self.dtype = tuple(store.shape[1:]), store.dtype
        self.chunks = None if store.chunks is None else tuple(store.chunks[1:])

    def __getitem__(self, selection: tuple[Any, ...]) -> Any:
        where = (self._number, *selection)
        return self._store[where]
