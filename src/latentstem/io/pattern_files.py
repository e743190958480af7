"""Diffraction patterns written to files block by block, so that they are never whole in memory.

HyperSpy and py4DSTEM write everything but the patterns; these are put into the file in place.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import FileError
from ..scan.scan import Block, Scan
from .host_table import host_that_writes
from .output_files import pattern_suffixes

__all__ = ["lazy_patterns", "open_patterns", "storage_tile", "write_patterns"]

_CHUNK_BYTES = 2**22  # of patterns in one chunk of .hspy and .zspy
_FLOAT = np.dtype("<f4")
_LOCAL_HEADER = 30  # bytes of a zip entry before its name


class Target(Protocol):
    """Anything whose items can be set: a dataset of h5py or zarr, or `_Plain`."""

    shape: tuple[int, ...]

    def __setitem__(self, where: Any, values: np.ndarray) -> None: ...


def storage_tile(path: Path, scan_shape: tuple[int, int], pattern_shape: tuple[int, int]) -> tuple[int, int]:
    """Scan rows and columns of patterns that are stored together in such a file; (1, 1) where that does not matter.

    About 4 MB, so that training reads whole chunks in shuffled order at a good rate.
    """
    host = host_that_writes(path.suffix.lower())
    if host is None or not host.chunked:
        return 1, 1
    count = max(1, _CHUNK_BYTES // (4 * pattern_shape[0] * pattern_shape[1]))
    side = max(1, int(count**0.5))
    rows = min(scan_shape[0], side)
    return rows, min(scan_shape[1], max(1, count // rows))


def write_patterns(
    blocks: Iterable[tuple[Block, np.ndarray]], scan: Scan, path: Path, like: Any = None
) -> None:
    """Write patterns as they come.

    Parameters
    ----------
    blocks : iterable of (Block, ndarray)
        Patterns (ny, nx, H, W) and their place; in the order of the scan for ``.npz``.
    scan : Scan
        What they are of; its axes go into the file where the format has axes.
    path : Path
        Of a file that is not there yet.
    like : Signal2D or DataCube, optional
        Gives the file its class, metadata, axes or calibration if that is of the library that writes it, and its shape.
    """
    suffix = path.suffix.lower()
    shape = (*scan.scan_shape, *scan.pattern_shape)
    opened: AbstractContextManager[Target]
    if suffix == ".npz":
        _write_npz(blocks, shape, scan, path)
        return
    host = host_that_writes(suffix)
    if host is None:
        opened = _npy(path, shape)
    else:
        tile = storage_tile(path, scan.scan_shape, scan.pattern_shape)
        opened = host.functions.pattern_file(path, scan, like, tile)
    with opened as target:
        for block, values in blocks:
            _put(target, block, values, scan.scan_shape)


def open_patterns(path: Path) -> Any:
    """The patterns in a file that `write_patterns` wrote, read-only, not loaded.

    Returns
    -------
    np.memmap, h5py.Dataset or zarr.Array
        A memory map of ``.npy``, ``.npz`` and ``.h5``; the dataset of ``.hspy``, the array of ``.zspy``.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, mmap_mode="r")
    if suffix == ".npz":
        return _map_npz(path)
    host = host_that_writes(suffix)
    if host is None:
        raise FileError(
            "not a file of patterns",
            expected=f"one of {', '.join(pattern_suffixes())}",
            received=str(path),
            advice="Give a file that reconstruct(out=...) wrote.",
        )
    return host.functions.open_pattern_file(path)


def lazy_patterns(path: Path) -> Any:
    """The same as a dask array, whose tasks open the file by its path."""
    import dask.array as da

    held = open_patterns(path)
    chunks = getattr(held, "chunks", None) or ("auto",) * (held.ndim - 2) + (-1, -1)
    return da.from_array(_ByPath(path.absolute(), held.shape), chunks=chunks)


class _ByPath:
    """Patterns in a file. (Of a memory map, dask would make a copy in memory.)"""

    dtype = _FLOAT

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self.ndim = str(path), shape, len(shape)

    def __getitem__(self, where: Any) -> np.ndarray:
        return np.array(open_patterns(Path(self.path))[where])


def _put(target: Target, block: Block, values: np.ndarray, scan_shape: tuple[int, int]) -> None:
    """Put a block into its place, also where the target has the scan in one row."""
    rows, columns = block
    if target.shape[:2] == scan_shape:
        target[rows, columns] = values.reshape(*values.shape[:2], *target.shape[2:])
        return
    for y, row in zip(range(rows.start, rows.stop), values, strict=True):
        first = y * scan_shape[1] + columns.start
        target[first : first + len(row)] = row.reshape(len(row), *target.shape[1:])


class _Plain:
    """Patterns one after the other in a file; written, not mapped, so that they do not stay in memory."""

    def __init__(self, file: Any, shape: tuple[int, ...]) -> None:
        self._file, self._start, self.shape = file, file.tell(), shape
        file.truncate(self._start + _FLOAT.itemsize * int(np.prod(shape)))

    def __setitem__(self, where: tuple[slice, slice], values: np.ndarray) -> None:
        rows, columns = where
        pattern = _FLOAT.itemsize * int(np.prod(self.shape[2:]))
        for y, row in zip(range(rows.start, rows.stop), values, strict=True):
            self._file.seek(self._start + (y * self.shape[1] + columns.start) * pattern)
            self._file.write(np.ascontiguousarray(row, _FLOAT).data)


def _header(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"descr": _FLOAT.str, "fortran_order": False, "shape": shape}


@contextmanager
def _npy(path: Path, shape: tuple[int, ...]) -> Iterator[Target]:
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, _header(shape))
        yield _Plain(file, shape)


def _write_npz(
    blocks: Iterable[tuple[Block, np.ndarray]], shape: tuple[int, ...], scan: Scan, path: Path
) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("axes.npy", "w") as entry:
            axes = json.dumps([axis.as_dict() for axis in scan.axes])
            np.lib.format.write_array(entry, np.array(axes), allow_pickle=False)
        with archive.open("data.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array_header_1_0(entry, _header(shape))
            for _, values in blocks:
                entry.write(np.ascontiguousarray(values, _FLOAT).data)


def _map_npz(path: Path) -> np.memmap:
    """The array ``data`` of an uncompressed ``.npz`` file as a memory map."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        file.seek(archive.getinfo("data.npy").header_offset)
        header = file.read(_LOCAL_HEADER)
        file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return np.memmap(path, dtype, "r", file.tell(), shape)
