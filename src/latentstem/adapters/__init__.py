"""Adapters: every kind of data becomes a `Scan`. Host libraries are imported in here and nowhere else."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from ..errors import UnsupportedDataError
from ..scan import Scan
from .arrays import default_axes, source_of
from .chunks import library_of
from .series import scan_of_array, series_of_list
from .validate import check_open

__all__ = ["open_scan"]

_READ = (
    "a py4DSTEM DataCube, a HyperSpy Signal2D (or a pyxem signal), a numpy, memmap, h5py, zarr, dask or "
    "torch array, or the path of a file"
)


def open_scan(data: Any, scan_shape: tuple[int, int] | None = None) -> Scan:
    """View data of any kind that is read as a `Scan`; see :func:`latentstem.as_scan`.

    The kind is told from the modules that define the class of `data`, so that no host is imported.

    Parameters
    ----------
    data : Scan, SimulatedScan, DataCube, Signal2D, array or path, or a list of such
        The data.
    scan_shape : (int, int), optional
        Scan rows and columns.

    Returns
    -------
    Scan

    Raises
    ------
    UnsupportedDataError
        If `data` is of a kind that is not read.
    """
    check_open(data)
    roots = {cls.__module__.partition(".")[0] for cls in type(data).__mro__}
    if isinstance(data, Scan):
        return _same_scan(data, scan_shape)
    if isinstance(data, (list, tuple)):
        return series_of_list(data, scan_shape)
    if isinstance(data, (str, os.PathLike)):
        from .files import scan_of_file

        return scan_of_file(data, scan_shape)
    if "hyperspy" in roots:
        from .signals import scan_of_signal

        return scan_of_signal(data, scan_shape)
    if roots & {"py4DSTEM", "emdfile"}:
        from .py4dstem import scan_of_datacube

        return scan_of_datacube(data, scan_shape)
    if type(data).__module__ == "latentstem.simulation":
        return _scan_of_simulation(data, scan_shape)
    library = library_of(data)
    if library is not None:
        if library == "h5py":
            from .hdf5 import scan_of_dataset

            return scan_of_dataset(data, scan_shape)
        return scan_of_array(data, scan_shape)
    raise UnsupportedDataError(
        "data cannot be read as a scan",
        expected=_READ,
        received=f"{type(data).__module__}.{type(data).__qualname__}",
        advice=_advice(data, roots),
    )


def _same_scan(scan: Scan, scan_shape: tuple[int, int] | None) -> Scan:
    if scan_shape is not None:
        from .validate import layout_of

        layout_of(scan.source.shape, scan_shape)
    return scan


def _scan_of_simulation(simulated: Any, scan_shape: tuple[int, int] | None) -> Scan:
    source = source_of(simulated.counts, scan_shape or simulated.counts.shape[:2])
    y, x, ky, kx = default_axes(source.shape)
    axes = (
        replace(y, scale=simulated.scan_step, units="nm"),
        replace(x, scale=simulated.scan_step, units="nm"),
        *(
            replace(
                k,
                scale=simulated.pixel_size,
                offset=-simulated.pixel_size * (k.size - 1) / 2,
                units="1/angstrom",
            )
            for k in (ky, kx)
        ),
    )
    return Scan(source, axes, name="simulated scan")  # type: ignore[arg-type]


def _advice(data: Any, roots: set[str]) -> str:
    if roots & {"h5py", "zarr"}:
        names: list[str] = []
        data.visit(names.append)
        arrays = [name for name in names if hasattr(data[name], "shape")]
        return f"Give one of the arrays in this file or group: {', '.join(arrays[:8]) or 'there is none'}."
    if "cupy" in roots:
        return "Bring the array to the CPU with data.get()."
    return "Convert to an array with np.asarray(data) if it can be."
