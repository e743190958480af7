"""Validation of shape, dtype and `scan_shape` of input data."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import (
    ArgumentText,
    DataTypeError,
    DataValueError,
    PatternShapeError,
    ScanDimensionError,
    ScanShapeError,
)

__all__ = [
    "MIN_PATTERN_SIZE",
    "Layout",
    "check_axis_units",
    "check_dtype",
    "check_range",
    "check_scan_shape",
    "find_layout",
]

MIN_PATTERN_SIZE = 8  # detector rows, and columns
_MAX_POSITIONS, _MAX_PIXELS = 2**30, 2**28  # far beyond real data; damaged headers exceed them
_MIN_DETECTOR_SIZE = 32  # if the scan axes are this long and the patterns tiny, the axes are probably swapped
_MIN_MAGNITUDE, _MAX_MAGNITUDE = 1e-30, 1e30  # of the largest value: float32 must not overflow or underflow
_MIN_RELATIVE_RANGE = 2**-17  # smallest accepted range relative to the largest magnitude: 64 float32 steps
_GIVE_SCAN_SHAPE = "For a stack of patterns (N, H, W) give {scan_shape}."
_SWAP_CALLS = (
    "data.transpose(2, 3, 0, 1) (in HyperSpy: signal.transpose(); in py4DSTEM: "
    "py4DSTEM.DataCube(datacube.data.transpose(2, 3, 0, 1)))"
)
_LENGTHS = ("pm", "angstrom", "nm", "um")
_EXPECTED_AXES = "Expected axes are two scan axes, then two diffraction axes: (Ny, Nx, H, W)."


class Layout(NamedTuple):
    """How stored axes map to a scan."""

    shape: tuple[int, int, int, int]  #: (Ny, Nx, H, W), of the scan
    n_scan_axes: int  #: stored scan axes: 2, or 1 for a stack of patterns
    singleton: bool  #: whether an axis of length 1 follows the scan axes


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype if it is integer or real floating point, else raise `DataTypeError`."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iuf":
        return dtype
    advice = {
        "c": "Patterns are intensities: take np.abs(data) ** 2 of complex amplitudes.",
        "O": "Stack the patterns into one array of numbers: np.stack(list(data)).",
        "b": "Convert binary patterns with data.astype(np.uint8).",
        "V": "Choose one field of a structured (or RGB) array.",
    }.get(dtype.kind, "Convert with data.astype(np.float32).")
    raise DataTypeError(
        "dtype of the diffraction patterns",
        expected="integers or real floating point numbers",
        received=str(dtype),
        advice=advice,
    )


def check_range(minimum: float, maximum: float) -> None:
    """Raise `DataValueError` if single precision, in which networks compute, cannot represent values of this range."""
    largest, received = max(abs(minimum), abs(maximum)), f"values from {minimum:g} to {maximum:g}"
    if not _MIN_MAGNITUDE <= largest <= _MAX_MAGNITUDE:
        raise DataValueError(
            "values out of the range of single precision",
            expected=f"a largest magnitude from {_MIN_MAGNITUDE:g} to {_MAX_MAGNITUDE:g}",
            received=received,
            advice=f"Change the unit: data / {largest:.3g}, as floating-point numbers.",
        )
    if maximum - minimum < _MIN_RELATIVE_RANGE * largest:
        raise DataValueError(
            "the range of values is too small",
            expected=f"a range of at least {_MIN_RELATIVE_RANGE:.1g} of the largest magnitude, for single precision",
            received=f"{received}, a range of {maximum - minimum:g}",
            advice="Subtract the detector's offset first: data - data.min(), in double precision.",
        )


def check_scan_shape(scan_shape: Any) -> tuple[int, int]:
    """The scan shape as two Python integers; a `ScanShapeError` if it is not two positive integers."""
    try:
        ny, nx = (operator.index(n) for n in scan_shape)
    except (TypeError, ValueError):
        ny = nx = 0
    if ny < 1 or nx < 1:
        raise ScanShapeError(
            "scan_shape",
            expected="two positive integers (Ny, Nx), scan rows and columns",
            received=repr(scan_shape),
            advice=ArgumentText("For a line scan of 100 positions give {scan_shape}.", scan_shape=(1, 100)),
            argument="scan_shape",
        )
    return ny, nx


def find_layout(shape: tuple[int, ...], scan_shape: Any = None) -> Layout:
    """Find how the axes of the data map to a scan.

    Parameters
    ----------
    shape : tuple of int
        (Ny, Nx, H, W), (Ny, Nx, 1, H, W), or a stack (N, H, W) or (N, 1, H, W).
    scan_shape : (int, int), optional
        Scan rows and columns. Needed for a stack; for 4-D data it has to agree with the first two axes.

    Raises
    ------
    ScanDimensionError
        Not 3-D or 4-D, or the axes look swapped.
    ScanShapeError
        `scan_shape` is missing, malformed, or does not fit.
    PatternShapeError
        Patterns below 8 x 8 pixels.
    """
    shape = tuple(int(n) for n in shape)
    requested_shape = None if scan_shape is None else check_scan_shape(scan_shape)
    singleton = len(shape) == 5 and shape[2] == 1
    if len(shape) == 4 and shape[1] == 1:  # a single pattern is refused below
        singleton = requested_shape != shape[:2] and (requested_shape is not None or shape[0] != 1)
    if len(shape) not in (3, 4) and not singleton:
        raise ScanDimensionError(
            "number of dimensions",
            expected="4-D data",
            received=_describe_shape(shape),
            advice=_dimension_advice(shape),
        )
    height, width = shape[-2:]
    if len(shape) == 3 or (singleton and len(shape) == 4):
        ny, nx = _scan_shape_of_stack(shape, requested_shape)
        n_scan_axes = 1
    else:
        ny, nx = shape[:2]
        n_scan_axes = 2
        if requested_shape is not None and requested_shape != (ny, nx):
            raise ScanShapeError(
                ArgumentText("{scan_shape} contradicts the data", scan_shape=None),
                expected=f"({ny}, {nx}), the scan axes of data of shape {shape}",
                received=str(requested_shape),
                advice=ArgumentText(
                    "Leave {scan_shape} out; it is for stacks of patterns (N, H, W).", scan_shape=None
                ),
                argument="scan_shape",
                candidates=((ny, nx),),
            )
    _check_pattern_shape((ny, nx, height, width))
    if ny * nx > _MAX_POSITIONS or height * width > _MAX_PIXELS:
        raise ScanDimensionError(
            "data are too large",
            expected=f"at most {_MAX_POSITIONS:,} scan positions and {_MAX_PIXELS:,} detector pixels",
            received=f"data of shape {shape}",
            advice="If the recording does not have this shape, the file is damaged: copy or export it again.",
        )
    if ny * nx < 2:
        raise ScanDimensionError(
            "too few diffraction patterns",
            expected="at least 2 scan positions",
            received=f"{ny * nx}, data of shape {shape}",
            advice="An autoencoder learns from many patterns of one scan; give the whole scan.",
        )
    return Layout((ny, nx, height, width), n_scan_axes, singleton)


def check_axis_units(units: Sequence[str], shape: tuple[int, ...]) -> None:
    """Raise `ScanDimensionError` if the units of the four axes of a scan show that scan and detector are swapped."""
    scan, pattern = set(units[:2]), set(units[2:])
    is_reciprocal_scan = all(unit.startswith("1/") for unit in scan)
    is_reciprocal_pattern = all(unit.startswith("1/") or unit in ("mrad", "rad") for unit in pattern)
    is_length_pattern = pattern <= set(_LENGTHS) - {"um"}  # a camera's pixels are micrometres
    is_length_scan = bool(scan & set(_LENGTHS))
    if not ((is_reciprocal_scan and not is_reciprocal_pattern) or (is_length_pattern and not is_length_scan)):
        return
    scan_units, pattern_units = (
        " and ".join(sorted(u or "pixels" for u in part)) for part in (scan, pattern)
    )
    raise ScanDimensionError(
        "the units of the axes say that scan and detector are swapped",
        expected="scan axes with a length (nm), then diffraction axes with a reciprocal length or an angle (1/nm, mrad)",
        received=f"scan axes in {scan_units}, diffraction axes in {pattern_units}, data of shape {shape}",
        advice=f"Give {_SWAP_CALLS}; or correct the units, if the axes are right.",
    )


def _describe_shape(shape: tuple[int, ...]) -> str:
    return f"{len(shape)}-D data of shape {shape}"


def _dimension_advice(shape: tuple[int, ...]) -> str:
    if len(shape) > 4 and sum(n != 1 for n in shape) == 4:
        return f"{_EXPECTED_AXES} Remove the axes of length 1 with data.squeeze()."
    if len(shape) > 4:
        return f"{_EXPECTED_AXES} Select one scan of the series, such as data[0]."
    if len(shape) == 2:
        return f"{_EXPECTED_AXES} This looks like a single image or pattern."
    return ArgumentText(f"{_EXPECTED_AXES} {_GIVE_SCAN_SHAPE}", scan_shape=("Ny", "Nx"))


def _check_pattern_shape(shape: tuple[int, int, int, int]) -> None:
    ny, nx, height, width = shape
    if min(height, width) >= MIN_PATTERN_SIZE:
        return
    swap = _SWAP_CALLS
    if min(ny, nx) >= _MIN_DETECTOR_SIZE and min(height, width) > 1:
        raise ScanDimensionError(
            "axes look swapped",
            expected="two scan axes, then two diffraction axes",
            received=f"shape {shape}, which reads as a {ny} x {nx} scan of {height} x {width} patterns",
            advice=f"If the diffraction axes come first, give {swap}.",
        )
    hint = f" If the diffraction axes come first, give {swap}." if min(ny, nx) >= MIN_PATTERN_SIZE else ""
    raise PatternShapeError(
        "diffraction patterns are too small",
        expected=f"at least {MIN_PATTERN_SIZE} x {MIN_PATTERN_SIZE} pixels",
        received=f"{height} x {width}, data of shape {shape}",
        advice=f"The last two axes have to be the detector's.{hint}",
    )


def _scan_shape_of_stack(shape: tuple[int, ...], requested_shape: tuple[int, int] | None) -> tuple[int, int]:
    n = shape[0]
    if requested_shape is None:
        ny = nx = round(math.sqrt(n))
    else:
        ny, nx = requested_shape
        if ny * nx == n:
            return requested_shape
    candidates = _closest_scan_shapes(n, ny / nx if requested_shape else 1.0)
    hint = _flyback_hint(n, ny, nx)
    advice = f"{n} patterns fill {{scan_shape}}."
    if requested_shape is None:
        if ny * nx == n > 0:
            advice = f"{n} is a square number: {{scan_shape}} fit."
        raise ScanShapeError(
            ArgumentText("a stack of patterns needs {scan_shape}", scan_shape=None),
            expected=ArgumentText("{scan_shape}, scan rows and columns", scan_shape=("Ny", "Nx")),
            received=ArgumentText(
                f"no {{scan_shape}}, {_describe_shape(shape)}: {n} patterns in one row", scan_shape=None
            ),
            advice=ArgumentText(f"{hint} {advice}".lstrip(), scan_shape=list(candidates)),
            argument="scan_shape",
            candidates=candidates,
            hint=hint,
        )
    if len(shape) == 3 and ny * nx == shape[2] != shape[1]:
        candidates, hint = (), "The scan looks to be the last axis: give np.moveaxis(data, -1, 0)."
        advice = ""
    raise ScanShapeError(
        ArgumentText("{scan_shape} does not fit the number of patterns", scan_shape=None),
        expected=f"{ny} x {nx} = {ny * nx} patterns",
        received=f"{n}, data of shape {shape}",
        advice=ArgumentText(f"{hint} {advice}".strip(), scan_shape=list(candidates)),
        argument="scan_shape",
        candidates=candidates,
        hint=hint,
    )


def _flyback_hint(n: int, ny: int, nx: int) -> str:
    """Hint if the number of patterns is off by one frame, line or column, as when flyback frames are recorded."""
    scan = f"{ny} x {nx}"
    if n == ny * nx + 1:
        return f"That is one frame more than {scan}: drop it with data[1:] or data[:-1]."
    if n == ny * nx - 1:
        return f"That is one frame less than {scan}: the last one may be missing."
    if n == (ny + 1) * nx:
        return f"That is one scan line more than {scan} (a flyback line?): drop it with data[{nx}:] or data[:-{nx}]."
    if n == ny * (nx + 1):
        return (
            f"That is one frame more in each line than {scan} (flyback frames?): "
            f"the scan shape is ({ny}, {nx + 1}); exclude the flyback column with scan_mask."
        )
    return ""


def _closest_scan_shapes(n: int, aspect: float) -> tuple[tuple[int, int], ...]:
    """Up to four factorisations of n, closest to the requested aspect ratio Ny / Nx first."""
    divisors = {divisor for d in range(1, math.isqrt(n) + 1) if n % d == 0 for divisor in (d, n // d)}
    closest = sorted(divisors, key=lambda d: (abs(math.log(d * d / n / aspect)), d))[:4]
    return tuple((d, n // d) for d in closest)
