"""Series of scans from 5-D arrays."""

from __future__ import annotations

from typing import Any

from ..errors import ScanDimensionError
from ..scan.scan import Axis, PatternSource, Scan, default_axes
from ..scan.series import Series, located_errors, make_series
from ..scan.validation import check_dtype, find_layout
from .arrays import as_pattern_source, check_and_map
from .chunks import ChunkedSource
from .source_files import array_library

__all__ = ["is_series_array", "scan_from_array", "series_from_array"]

_MAX_SCANS = 100_000  # of a series; damaged files exceed it

Axes = tuple[Axis, Axis, Axis, Axis]


def is_series_array(array: Any) -> bool:
    """Whether an array is (T, Ny, Nx, H, W); (Ny, Nx, 1, H, W) is a single scan."""
    shape: tuple[int, ...] = getattr(array, "shape", ())
    return len(shape) == 5 and shape[0] > 1 and shape[2] > 1


def scan_from_array(array: Any, scan_shape: tuple[int, int] | None = None) -> Scan:
    """An array without calibration as a scan, or as a series of scans."""
    if is_series_array(array):
        return series_from_array(array)
    source = as_pattern_source(array, scan_shape)
    return Scan(source, default_axes(source.shape))


def series_from_array(array: Any, axes: Axes | None = None, series_axis: Axis | None = None) -> Series:
    """A series from an array (T, Ny, Nx, H, W), without copying.

    Parameters
    ----------
    array : ndarray, memmap, torch.Tensor, h5py.Dataset, zarr.Array or dask array
    axes : tuple of Axis, optional
        The four axes of each scan.
    series_axis : Axis, optional
        The axis along the series.
    """
    if array_library(array) != "torch":
        check_dtype(array.dtype)
    if len(array) > _MAX_SCANS:
        raise ScanDimensionError(
            "series is too long",
            expected=f"at most {_MAX_SCANS:,} scans",
            received=f"5-D data of shape {tuple(array.shape)}",
            advice="If the recording does not have this shape, the file is damaged; otherwise give a part of it.",
        )
    array = check_and_map(array)
    scans = []
    for scan_index in range(len(array)):
        with located_errors(scan_index, len(array)):
            source: PatternSource
            if array_library(array) in ("h5py", "zarr"):
                source = ChunkedSource(array, find_layout(array.shape[1:]), scan_index)
            else:
                source = as_pattern_source(array[scan_index])
        scans.append(Scan(source, axes or default_axes(source.shape)))
    return make_series(scans, series_axis)
