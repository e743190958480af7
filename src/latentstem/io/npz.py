"""Scans in ``.npy`` and ``.npz`` files; the size of ``.npz`` is checked first, because a small file can expand to any size."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ..errors import FileError
from ..scan.scan import Axis, Scan
from ..util.formatting import format_bytes
from .file_format import FileFormat, ScanShape, find_scan_array
from .series import scan_from_array

__all__ = ["NPY", "NPZ", "npz_array", "npz_header"]


def npz_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of one array in a ``.npz`` file, without reading the array."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        return shape, dtype


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array in a ``.npz`` file; pickled data are refused.

    Raises
    ------
    FileError
        If the array does not fit into memory.
    """
    (shape, dtype), free = npz_header(path, name), psutil.virtual_memory().available
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > free:
        raise FileError(
            "an array does not fit into memory",
            expected=f"at most {format_bytes(free)}: arrays in .npz files are read as a whole",
            received=f"{path} with {name} {shape} {dtype}, {format_bytes(nbytes)}",
            advice="Unpack it: the .npy files inside are read in parts.",
        )
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]


def _read_npy(path: Path, scan_shape: ScanShape) -> Scan:
    return scan_from_array(np.load(path, mmap_mode="r", allow_pickle=False), scan_shape)


def _read_npz(path: Path, scan_shape: ScanShape) -> Scan:
    if not zipfile.is_zipfile(path):
        raise OSError("not a complete zip archive")
    with np.load(path, allow_pickle=False) as arrays:
        names = list(arrays)
    name = find_scan_array(names, lambda name: npz_header(path, name)[0], path)
    scan = scan_from_array(npz_array(path, name), scan_shape)
    return _with_stored_axes(scan, npz_array(path, "axes")) if "axes" in names else scan


def _with_stored_axes(scan: Scan, stored: np.ndarray) -> Scan:
    """The scan with the axes that `write_patterns` stores, if they fit."""
    if stored.ndim or stored.dtype.kind != "U":
        return scan
    y, x, ky, kx = (Axis(**axis) for axis in json.loads(str(stored)))
    is_fitting = (y.size, x.size, ky.size, kx.size) == scan.source.shape
    return replace(scan, axes=(y, x, ky, kx)) if is_fitting else scan


NPY = FileFormat((".npy",), _read_npy)
NPZ = FileFormat((".npz",), _read_npz)
