"""Scans in ``.npy`` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..scan.scan import Scan
from .file_format import FileFormat, ScanShape
from .series import scan_from_array

__all__ = ["NPY"]


def _read(path: Path, scan_shape: ScanShape) -> Scan:
    return scan_from_array(np.load(path, mmap_mode="r", allow_pickle=False), scan_shape)


NPY = FileFormat((".npy",), _read)
