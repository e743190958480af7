"""HyperSpy signals as scans.

The array axes of a signal are its navigation axes, then its signal axes, each from slow to fast; HyperSpy
lists them from fast to slow. Axes are therefore taken by their position in the array, never by their name.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from ..errors import ScanDimensionError, UnsupportedDataError
from ..io.arrays import as_pattern_source
from ..io.navigation_axes import EXPECTED_AXES, axes_error, describe_axes, ragged_error
from ..io.units import normalise_units
from ..scan.scan import Axis, Scan, default_axes
from ..scan.series import Series, located_errors, make_series

__all__ = ["get_title", "is_series_signal", "scan_from_signal", "split_series"]


def scan_from_signal(signal: Any, scan_shape: tuple[int, int] | None = None) -> Scan:
    """View a HyperSpy signal as a `Scan`.

    Parameters
    ----------
    signal : Signal2D
        Any subclass, eager or lazy, with two navigation axes; or with one, and `scan_shape`; or with three: a series.
    scan_shape : (int, int), optional
        Scan rows and columns (Ny, Nx) of a signal with one navigation axis.

    Raises
    ------
    ScanDimensionError, UnsupportedDataError
        For other axes, and for a ragged signal or a non-uniform axis.
    """
    manager = signal.axes_manager
    dimensions = manager.navigation_dimension, manager.signal_dimension
    if is_series_signal(signal):
        return _series_of_signal(signal)
    if signal.ragged:
        raise ragged_error(repr(signal))
    if dimensions not in (((2, 2), (1, 2)) if scan_shape else ((2, 2),)):
        is_unfolded = bool(signal.metadata.get_item("_HyperSpy.Folding.unfolded", False))
        raise axes_error(*dimensions, repr(signal), is_unfolded=is_unfolded)
    if not manager.axes_are_aligned_with_data:
        raise ScanDimensionError(
            "the navigation axes are not the first axes of the data array",
            expected=EXPECTED_AXES + " in this order",
            received=describe_axes(*dimensions, repr(signal)),
            advice="Align them with signal.transpose(navigation_axes=(0, 1), signal_axes=(2, 3)).",
        )
    stored_axes = (*manager.navigation_axes[::-1], *manager.signal_axes[::-1])
    non_uniform = [str(axis.name) for axis in stored_axes if not axis.is_uniform]
    if non_uniform:
        raise UnsupportedDataError(
            "non-uniform axis",
            expected="uniform axes, with one scale and one offset",
            received=f"non-uniform {', '.join(non_uniform)}",
            advice="Interpolate with signal.interpolate_on_axis, or convert_to_uniform_axis() of the axis.",
        )
    source = as_pattern_source(signal.data, scan_shape)
    y, x, ky, kx = default_axes(source.shape)
    if manager.navigation_dimension == 2:
        y, x = _calibrated_axis(y, stored_axes[0]), _calibrated_axis(x, stored_axes[1])
    axes = (y, x, _calibrated_axis(ky, stored_axes[-2]), _calibrated_axis(kx, stored_axes[-1]))
    return Scan(source, axes, name=get_title(signal) or "scan", loaded_from=_original_file(signal))


def is_series_signal(signal: Any) -> bool:
    """Whether a signal has three navigation axes, before two signal axes."""
    manager = signal.axes_manager
    dimensions = manager.navigation_dimension, manager.signal_dimension
    return dimensions == (3, 2) and manager.axes_are_aligned_with_data and not signal.ragged


def split_series(signal: Any) -> list[Any]:
    """The signals along the slowest navigation axis of a series, as views."""
    return [signal.inav[:, :, scan_index] for scan_index in range(len(signal.data))]


def _series_of_signal(signal: Any) -> Series:
    """The scans along the slowest navigation axis."""
    scans = []
    for scan_index, scan_signal in enumerate(split_series(signal)):
        with located_errors(scan_index, len(signal.data)):
            scans.append(scan_from_signal(scan_signal))
    axis = signal.axes_manager.navigation_axes[2]
    series_axis = _calibrated_axis(Axis("step", len(scans)), axis) if axis.is_uniform else None
    name = get_title(signal) or "scan"
    return make_series(scans, series_axis).renamed(name, {}, _original_file(signal))


def _calibrated_axis(default: Axis, axis: Any) -> Axis:
    name = str(axis.name) if isinstance(axis.name, str) else default.name
    units = normalise_units(axis.units)
    return replace(default, name=name, scale=float(axis.scale), offset=float(axis.offset), units=units)


def _original_file(signal: Any) -> frozenset[str]:
    """Path of the file that a signal was loaded from."""
    folder, name, extension = (
        signal.tmp_parameters.get_item(key, "") for key in ("folder", "filename", "extension")
    )
    return frozenset({os.path.join(folder, f"{name}.{extension.lstrip('.')}")} if name else ())


def get_title(signal: Any) -> str:
    """Title of a signal; empty if it has none."""
    return str(signal.metadata.get_item("General.title", ""))
