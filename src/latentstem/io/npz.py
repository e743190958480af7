"""Arrays in ``.npz`` files, looked at before they are read: a few kilobytes can stand for any size."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ..errors import FileError

__all__ = ["npz_array", "npz_header"]


def npz_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of one array, without reading it."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        return shape, dtype


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array; nothing is unpickled.

    Raises
    ------
    FileError
        If it does not fit into memory.
    """
    (shape, dtype), free = npz_header(path, name), psutil.virtual_memory().available
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > free:
        raise FileError(
            "an array does not fit into memory",
            expected=f"at most {free / 1e9:.3g} GB in an .npz file, whose arrays are read whole",
            received=f"{path} with {name} {shape} {dtype}, {nbytes / 1e9:.3g} GB",
            advice="Unpack it: the .npy files inside are read in parts.",
        )
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]
