"""Scans in files of arrays: ``.npy``, ``.npz``, ``torch.save``, zarr arrays and HyperSpy's ``.zspy``."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ..errors import FileError, format_exception
from ..scan.scan import Axis, Scan
from ..util.formatting import format_bytes
from .file_format import FileFormat, ScanShape, find_scan_array, not_installed_error
from .hdf5 import scan_from_hyperspy_group
from .series import scan_from_array

__all__ = ["NPY", "NPZ", "TORCH", "ZARR", "is_zarr_store", "npz_array"]


def _npz_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
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

    The size is checked first, because a small file can expand to any size: a FileError says if the array does not fit
    into memory.
    """
    (shape, dtype), free = _npz_header(path, name), psutil.virtual_memory().available
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
    name = find_scan_array(names, lambda name: _npz_header(path, name)[0], path)
    scan = scan_from_array(npz_array(path, name), scan_shape)
    return _with_stored_axes(scan, npz_array(path, "axes")) if "axes" in names else scan


def _with_stored_axes(scan: Scan, stored: np.ndarray) -> Scan:
    """The scan with the axes that `write_patterns` stores, if they fit."""
    if stored.ndim or stored.dtype.kind != "U":
        return scan
    y, x, ky, kx = (Axis(**axis) for axis in json.loads(str(stored)))
    is_fitting = (y.size, x.size, ky.size, kx.size) == scan.source.shape
    return replace(scan, axes=(y, x, ky, kx)) if is_fitting else scan


def _read_torch(path: Path, scan_shape: ScanShape) -> Scan:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise FileError(
            "tensor file cannot be read",
            expected="a tensor, or a dict with one tensor, saved with torch.save",
            received=f"{path} ({format_exception(error)})",
            advice="Files with other pickled objects are refused; save the tensor alone: "
            "torch.save(tensor, path).",
        ) from error
    tensors = content if isinstance(content, dict) else {"tensor": content}
    tensors = {str(key): value for key, value in tensors.items() if isinstance(value, torch.Tensor)}
    tensor = tensors[find_scan_array(tensors, lambda name: tuple(tensors[name].shape), path)]
    is_strided = tensor.layout is torch.strided
    if is_strided and tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise FileError(
            "the tensor is expanded",
            expected="one stored value for each detector pixel of each pattern",
            received=f"{path} with a tensor of shape {tuple(tensor.shape)}, expanded from fewer values",
            advice="Save it whole: torch.save(tensor.contiguous(), path).",
        )
    return scan_from_array(tensor, scan_shape)


def is_zarr_store(path: Path) -> bool:
    """Whether a folder is a zarr array, or has the suffix of HyperSpy's stores."""
    return path.suffix == ".zspy" or (path / ".zarray").is_file() or (path / "zarr.json").is_file()


def _read_zarr(path: Path, scan_shape: ScanShape) -> Scan:
    try:
        import zarr
    except ImportError as error:
        raise not_installed_error(path, "zarr") from error
    path = path.absolute()  # workers of a cluster may run in another folder
    store: Any = str(path) if path.is_dir() else zarr.storage.ZipStore(str(path), mode="r")
    root = zarr.open(store, mode="r")
    if hasattr(root, "dtype"):
        return scan_from_array(root, scan_shape)
    return scan_from_hyperspy_group(root["Experiments"], path, scan_shape)


NPY = FileFormat((".npy",), _read_npy)
NPZ = FileFormat((".npz",), _read_npz)
TORCH = FileFormat((".pt", ".pth"), _read_torch)
ZARR = FileFormat((".zspy",), _read_zarr, folders=True)
