"""Scans in zarr stores: single arrays, and ``.zspy`` of HyperSpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..scan.scan import Scan
from .file_format import FileFormat, ScanShape, not_installed_error
from .hdf5 import scan_from_hyperspy_group
from .series import scan_from_array

__all__ = ["ZARR", "is_zarr_store"]


def is_zarr_store(path: Path) -> bool:
    """Whether a folder is a zarr array, or has the suffix of HyperSpy's stores."""
    return path.suffix == ".zspy" or (path / ".zarray").is_file() or (path / "zarr.json").is_file()


def _read(path: Path, scan_shape: ScanShape) -> Scan:
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


ZARR = FileFormat((".zspy",), _read, folders=True)
