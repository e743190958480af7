"""View any supported 4D-STEM data as a `Scan`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UnsupportedDataError
from ..scan.scan import Scan
from ..scan.series import Series, located_errors, make_series, one_value_per_scan
from ..scan.validation import check_axis_units, find_layout
from ..util.argument_checks import reject_unknown_kwargs
from .files import scan_from_file
from .hdf5 import scan_from_dataset
from .host_table import host_of
from .integrity import check_file_open
from .series import scan_from_array
from .source_files import array_library

__all__ = ["as_scan", "open_scan"]

_SUPPORTED_DATA = (
    "a py4DSTEM DataCube, a HyperSpy Signal2D (or a pyxem signal), a numpy, memmap, h5py, zarr, dask or "
    "torch array, or the path of a file"
)


@reject_unknown_kwargs()
def as_scan(
    data: Any, scan_shape: tuple[int, int] | None = None, *, scan_mask: Any = None, pattern_mask: Any = None
) -> Scan:
    """View any 4D-STEM data as a `Scan`.

    Parameters
    ----------
    data : DataCube, Signal2D, array or path, or a list of such
        A py4DSTEM ``DataCube``, a HyperSpy ``Signal2D`` or subclass (lazy or not), a numpy, memmap, h5py, zarr, dask or
        torch array of shape (Ny, Nx, H, W), (N, H, W) or (N, 1, H, W), or the path of a file. A list of such, or an
        array (T, Ny, Nx, H, W), is a series of scans.
    scan_shape : (int, int), optional
        Scan rows and columns; needed where the data have one scan axis only. For a series, one for all scans, or a
        list.
    scan_mask : array of bool, shape (Ny, Nx), optional
        True excludes the scan position. For a series, a list: one for each scan, or None.
    pattern_mask : array of bool, shape (H, W), optional
        True excludes the detector pixel.

    Returns
    -------
    Scan
        For a series, a `latentstem.scan.series.Series`: its ``scans`` on one canvas.

    Raises
    ------
    UnsupportedDataError, ScanDimensionError, ScanShapeError, PatternShapeError, DataTypeError, MaskError, FileError
        Each says what was expected, what was received and what to do.
    """
    return open_scan(data, scan_shape).with_masks(scan_mask, pattern_mask)


def open_scan(data: Any, scan_shape: tuple[int, int] | None = None) -> Scan:
    """View any supported data as a `Scan`, and check its axes; see `as_scan`."""
    scan = _open(data, scan_shape)
    check_axis_units([axis.units for axis in scan.axes], scan.source.shape)
    return scan


def _open(data: Any, scan_shape: tuple[int, int] | None) -> Scan:
    """View any supported data as a `Scan`.

    The type is recognised by the names of its classes and their modules, so no library is imported. For an object of
    another type, its method ``as_scan(scan_shape)`` is called, if it has one.
    """
    check_file_open(data)
    if isinstance(data, Scan):
        if scan_shape is not None:
            find_layout(data.source.shape, scan_shape)
        return data
    if isinstance(data, (list, tuple)):
        return _series_from_list(data, scan_shape)
    if isinstance(data, (str, os.PathLike)):
        return scan_from_file(data, scan_shape)
    host = host_of(data)
    if host is not None:
        scan: Scan = host.functions.scan_from_object(data, scan_shape)
        return scan
    library = array_library(data)
    if library == "h5py":
        return scan_from_dataset(data, scan_shape)
    if library is not None:
        return scan_from_array(data, scan_shape)
    if hasattr(type(data), "as_scan"):
        opened: Scan = data.as_scan(scan_shape)
        return opened
    raise UnsupportedDataError(
        "data cannot be read as a scan",
        expected=_SUPPORTED_DATA,
        received=f"{type(data).__module__}.{type(data).__qualname__}",
        advice=_advice(data),
    )


def _series_from_list(items: Sequence[Any], scan_shape: Any = None) -> Series:
    """The scans of a list; a series among them contributes each of its scans."""
    if any(isinstance(item, (list, tuple)) or getattr(item, "ndim", 3) < 3 for item in items):
        raise UnsupportedDataError(
            "a list of patterns or of numbers",
            expected="a list of scans",
            received=f"builtins.{type(items).__name__} of {type(items[0]).__name__}",
            advice="Stack patterns into one array with np.stack(data).",
        )
    is_single_shape = scan_shape is not None and all(isinstance(n, (int, np.integer)) for n in scan_shape)
    shapes = (
        [scan_shape] * len(items)
        if is_single_shape
        else one_value_per_scan("scan_shape", scan_shape, len(items))
    )
    scans: list[Scan] = []
    for scan_index, (item, shape) in enumerate(zip(items, shapes, strict=True)):
        with located_errors(scan_index, len(items)):
            scan = open_scan(item, shape)
        scans += scan.scans if isinstance(scan, Series) else [scan]
    return make_series(scans)


def _advice(data: Any) -> str:
    package_names = {cls.__module__.partition(".")[0] for cls in type(data).__mro__}
    if package_names & {"h5py", "zarr"}:
        names: list[str] = []
        data.visit(names.append)
        arrays = [name for name in names if hasattr(data[name], "shape")]
        return f"Give one of the arrays in this file or group: {', '.join(arrays[:8]) or 'there is none'}."
    if "cupy" in package_names:
        return "Bring the array to the CPU with data.get()."
    return "Convert to an array with np.asarray(data) if it can be."
