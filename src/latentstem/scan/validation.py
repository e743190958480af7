"""Is this a scan? Shape, dtype and `scan_shape` are checked here, for every adapter."""

from __future__ import annotations

import math
import operator
import os
from typing import Any, NamedTuple

import numpy as np

from ..errors import (
    DataTypeError,
    DataValueError,
    FileError,
    PatternShapeError,
    ScanDimensionError,
    ScanShapeError,
)

__all__ = [
    "Layout",
    "check_dataset_integrity",
    "check_dtype",
    "check_file_open",
    "check_range",
    "check_scan_shape",
    "find_layout",
]

MIN_PATTERN = 8  # pixels: below, there is nothing to learn
_MAX_POSITIONS, _MAX_PIXELS = 2**30, 2**28  # no microscope comes near; a damaged header does
_COMPRESSION = 10_000  # times smaller than the data that a file may be, and
_ANY_SIZE = 2**36  # bytes that any file may claim: a new dataset is empty at first
_MOST_CHUNKS = 200_000  # that are looked at, in a second or less
_SCAN_LIKE_DETECTOR = 32  # scan axes at least this long, with a tiny "pattern", look like a detector
_LEAST, _MOST = 1e-30, 1e30  # largest magnitude, so that float32 has room for what is computed
_APART = 2**-17  # least difference of values, in units of the largest: 64 steps of float32
_NO_SCAN = "Expected axes are two scan axes, then two diffraction axes: (Ny, Nx, H, W)."


class Layout(NamedTuple):
    """How the axes of stored data make a scan."""

    shape: tuple[int, int, int, int]  #: (Ny, Nx, H, W)
    n_scan_axes: int  #: stored scan axes: 2, or 1 for a stack of patterns
    singleton: bool  #: whether an axis of length 1 follows the scan axes


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype, if diffraction patterns can have it: an integer or a real floating point number.

    Raises
    ------
    DataTypeError
    """
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
    """Whether single precision, in which networks compute, can hold values of this range.

    Raises
    ------
    DataValueError
    """
    largest, received = max(abs(minimum), abs(maximum)), f"values from {minimum:g} to {maximum:g}"
    if not _LEAST <= largest <= _MOST:
        raise DataValueError(
            "values out of the range of single precision",
            expected=f"a largest magnitude from {_LEAST:g} to {_MOST:g}",
            received=received,
            advice=f"Change the unit: data / {largest:.3g}, as floating-point numbers.",
        )
    if maximum - minimum < _APART * largest:
        raise DataValueError(
            "the values hardly differ",
            expected=f"a range of at least {_APART:.1g} of the largest magnitude, for single precision",
            received=f"{received}, a range of {maximum - minimum:g}",
            advice="Subtract the detector's offset first: data - data.min(), in double precision.",
        )


def check_file_open(data: Any) -> None:
    """Refuse an h5py dataset whose file has been closed.

    Raises
    ------
    FileError
    """
    if type(data).__module__.startswith("h5py") and not data:
        raise FileError(
            "the HDF5 file is closed",
            expected="a dataset of an open file",
            received="a dataset whose file has been closed",
            advice="Open it again, and keep it open: h5py.File(path, 'r').",
        )


def check_dataset_integrity(array: Any) -> None:
    """Refuse an h5py dataset or zarr array that cannot hold what it claims, or whose chunks are pickles.

    Raises
    ------
    FileError
    """
    codecs = [*(getattr(array, "filters", None) or ()), getattr(array, "compressor", None)]
    if any(getattr(codec, "codec_id", "") == "pickle" for codec in codecs):
        raise FileError(
            "chunks are pickles",
            expected="chunks of numbers, compressed or not",
            received=f"a zarr array with the codecs {', '.join(map(repr, codecs))}",
            advice="Write it anew without the codec 'pickle', which would run code from the file.",
        )
    file = getattr(array, "file", None)  # of h5py
    if file is None or file.mode != "r" or array.is_virtual or array.external:
        return  # what is being written is not all in the file yet
    if not os.path.isfile(file.filename):
        return
    stored, nbytes = os.path.getsize(file.filename), math.prod(array.shape) * array.dtype.itemsize
    if nbytes > max(_ANY_SIZE, _COMPRESSION * stored):
        raise FileError(
            "data are larger than their file can hold",
            expected=f"at most {_COMPRESSION:,} times the {stored:,} bytes of the file",
            received=f"{array.name} of shape {array.shape}, {nbytes:,} bytes",
            advice="The file is damaged or was never filled: copy or export it again.",
        )
    if array.chunks is not None and _has_stray_chunks(array, stored):
        raise FileError(
            "storage chunks lie nowhere in their file",
            expected="an index of chunks that are in the file",
            received=f"{array.name} of {file.filename}, with chunks that are not",
            advice="The file is damaged: copy or export it again.",
        )


def _has_stray_chunks(dataset: Any, stored: int) -> bool:
    """Whether the index of chunks is damaged: HDF5 itself crashes on some of those."""
    looked_at = 0

    def stray(chunk: Any) -> bool | None:
        nonlocal looked_at
        looked_at += 1
        fine = 0 < chunk.byte_offset and 0 < chunk.size and chunk.byte_offset + chunk.size <= stored
        if not fine:
            return True
        return False if looked_at == _MOST_CHUNKS else None

    return bool(dataset.id.chunk_iter(stray))


def check_scan_shape(scan_shape: Any) -> tuple[int, int]:
    """The scan shape as two Python integers.

    Raises
    ------
    ScanShapeError
        If it is not two positive integers.
    """
    try:
        ny, nx = (operator.index(n) for n in scan_shape)
    except (TypeError, ValueError):
        ny = nx = 0
    if ny < 1 or nx < 1:
        raise ScanShapeError(
            "scan_shape",
            expected="two positive integers (Ny, Nx), scan rows and columns",
            received=repr(scan_shape),
            advice="For a line scan of 100 positions give scan_shape=(1, 100).",
        )
    return ny, nx


def find_layout(shape: tuple[int, ...], scan_shape: Any = None) -> Layout:
    """How data of this shape makes a scan.

    Parameters
    ----------
    shape : tuple of int
        (Ny, Nx, H, W), (Ny, Nx, 1, H, W), or a stack (N, H, W) or (N, 1, H, W).
    scan_shape : (int, int), optional
        Scan rows and columns. Needed for a stack; for 4-D data it has to agree with the first two axes.

    Returns
    -------
    Layout

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
    asked = None if scan_shape is None else check_scan_shape(scan_shape)
    singleton = (len(shape) == 5 and shape[2] == 1) or (
        len(shape) == 4 and shape[1] == 1 and asked != shape[:2]
    )
    if singleton and len(shape) == 4 and asked is None and shape[0] == 1:
        singleton = False  # one pattern: said below
    if len(shape) not in (3, 4) and not singleton:
        raise ScanDimensionError(
            "number of dimensions",
            expected="4-D data",
            received=_dimensions(shape),
            advice=_dimension_advice(shape),
        )
    height, width = shape[-2:]
    if len(shape) == 3 or (singleton and len(shape) == 4):
        ny, nx = _scan_shape_of_stack(shape, asked)
        n_scan_axes = 1
    else:
        ny, nx = shape[:2]
        n_scan_axes = 2
        if asked is not None and asked != (ny, nx):
            raise ScanShapeError(
                "scan_shape contradicts the data",
                expected=f"({ny}, {nx}), the scan axes of data of shape {shape}",
                received=str(asked),
                advice="Leave scan_shape out; it is for stacks of patterns (N, H, W).",
            )
    _check_pattern_shape((ny, nx, height, width))
    if ny * nx > _MAX_POSITIONS or height * width > _MAX_PIXELS:
        raise ScanDimensionError(
            "data are too large",
            expected=f"at most {_MAX_POSITIONS:,} scan positions and {_MAX_PIXELS:,} detector pixels",
            received=f"data of shape {shape}",
            advice="If that is not the shape of the recording, the file is damaged: copy or export it again.",
        )
    if ny * nx < 2:
        raise ScanDimensionError(
            "too few diffraction patterns",
            expected="at least 2 scan positions",
            received=f"{ny * nx}, data of shape {shape}",
            advice="An autoencoder learns from many patterns of one scan; give the whole scan.",
        )
    return Layout((ny, nx, height, width), n_scan_axes, singleton)


def _dimensions(shape: tuple[int, ...]) -> str:
    return f"{len(shape)}-D data of shape {shape}"


def _dimension_advice(shape: tuple[int, ...]) -> str:
    if len(shape) > 4 and sum(n != 1 for n in shape) == 4:
        return f"{_NO_SCAN} Remove the axes of length 1 with data.squeeze()."
    if len(shape) > 4:
        return f"{_NO_SCAN} Select one scan of the series, such as data[0]."
    if len(shape) == 2:
        return f"{_NO_SCAN} This looks like a single image or pattern."
    return f"{_NO_SCAN} For a stack of patterns (N, H, W) give scan_shape=(Ny, Nx)."


def _check_pattern_shape(shape: tuple[int, int, int, int]) -> None:
    ny, nx, height, width = shape
    if min(height, width) >= MIN_PATTERN:
        return
    swap = "data.transpose(2, 3, 0, 1) (in HyperSpy: signal.transpose())"
    if min(ny, nx) >= _SCAN_LIKE_DETECTOR and min(height, width) > 1:
        raise ScanDimensionError(
            "axes look swapped",
            expected="two scan axes, then two diffraction axes",
            received=f"shape {shape}, which reads as a {ny} x {nx} scan of {height} x {width} patterns",
            advice=f"If the diffraction axes come first, give {swap}.",
        )
    hint = f" If the diffraction axes come first, give {swap}." if min(ny, nx) >= MIN_PATTERN else ""
    raise PatternShapeError(
        "diffraction patterns are too small",
        expected=f"at least {MIN_PATTERN} x {MIN_PATTERN} pixels",
        received=f"{height} x {width}, data of shape {shape}",
        advice=f"The last two axes have to be the detector's.{hint}",
    )


def _scan_shape_of_stack(shape: tuple[int, ...], asked: tuple[int, int] | None) -> tuple[int, int]:
    n = shape[0]
    if asked is None:
        raise ScanShapeError(
            "a stack of patterns needs scan_shape",
            expected="scan_shape=(Ny, Nx), scan rows and columns",
            received=f"no scan_shape, {_dimensions(shape)}: {n} patterns in one row",
            advice=_without_scan_shape(n),
        )
    if asked[0] * asked[1] == n:
        return asked
    ny, nx = asked
    if len(shape) == 3 and ny * nx == shape[2] != shape[1]:
        advice = "The scan looks to be the last axis: give np.moveaxis(data, -1, 0)."
    else:
        advice = f"{_surplus(n, ny, nx)}{_offer(n, ny / nx)}"
    raise ScanShapeError(
        "scan_shape does not fit the number of patterns",
        expected=f"{ny} x {nx} = {ny * nx} patterns",
        received=f"{n}, data of shape {shape}",
        advice=advice,
    )


def _without_scan_shape(n: int) -> str:
    side = round(math.sqrt(n))
    if side * side == n:
        return f"{n} is a square number: scan_shape=({side}, {side}) for a square scan. {_offer(n, 1.0)}"
    return f"{_surplus(n, side, side)}{_offer(n, 1.0)}"


def _surplus(n: int, ny: int, nx: int) -> str:
    """What one frame, line or column too many looks like: the flyback of the scan, recorded too."""
    scan = f"{ny} x {nx}"
    if n == ny * nx + 1:
        return f"That is one frame more than {scan}: drop it with data[1:] or data[:-1]. "
    if n == ny * nx - 1:
        return f"That is one frame less than {scan}: the last one may be missing. "
    if n == (ny + 1) * nx:
        return (
            f"That is one scan line more than {scan} (a flyback line?): "
            f"drop it with data[{nx}:] or data[:-{nx}]. "
        )
    if n == ny * (nx + 1):
        return (
            f"That is one frame more in each line than {scan} (flyback frames?): "
            f"give scan_shape=({ny}, {nx + 1}) and exclude the flyback column with scan_mask. "
        )
    return ""


def _offer(n: int, aspect: float) -> str:
    """The factorisations of n nearest to the aspect ratio Ny / Nx that was asked for."""
    low = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    divisors = sorted({*low, *(n // d for d in low)})
    nearest = sorted(divisors, key=lambda d: (abs(math.log(d * d / n / aspect)), d))[:4]
    return f"{n} patterns fill scan_shape=" + ", ".join(f"({d}, {n // d})" for d in nearest) + "."
