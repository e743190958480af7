"""Write diffraction patterns to files block by block.

HyperSpy or py4DSTEM write the file without the patterns; the patterns are then written into it in place.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import FileError
from ..scan.scan import Block, Scan
from .host_table import HOSTS, Host

__all__ = [
    "PATTERN_DTYPE",
    "RawFileArray",
    "chunk_scan_shape",
    "lazy_patterns",
    "open_patterns",
    "pattern_formats",
    "write_patterns",
]

_CHUNK_BYTES = 2**22  # of patterns in one chunk of .hspy and .zspy
PATTERN_DTYPE = np.dtype("<f4")  # of all patterns that are written
_ZIP_HEADER_BYTES = 30  # of a zip entry, before its name


class WritableArray(Protocol):
    """Anything whose items can be set: a dataset of h5py or zarr, or `RawFileArray`."""

    shape: tuple[int, ...]

    def __setitem__(self, where: Any, values: np.ndarray) -> None: ...


class PatternFormat(NamedTuple):
    """A file format for patterns."""

    library: str  # package that writes it
    #: From the path of a new file, the scan, the template (see `write_patterns`) and the scan shape of a chunk (see
    #: `chunk_scan_shape`) to a context manager that gives the array to write to.
    create: Callable[[Path, Scan, Any, tuple[int, int]], AbstractContextManager[WritableArray]]
    open: Callable[[Path], Any]  # from a path to the patterns, read-only, not loaded
    is_chunked: bool = False  # whether patterns are stored in chunks


def pattern_formats() -> dict[str, PatternFormat]:
    """The formats by the suffix of their files."""
    hosts = {suffix: _host_format(host) for host in HOSTS for suffix in host.writes}
    return {".npy": _NPY, ".npz": _NPZ, **hosts}


def _host_format(host: Host) -> PatternFormat:
    return PatternFormat(
        host.library,
        lambda *arguments: host.functions.create_pattern_file(*arguments),
        lambda path: host.functions.open_pattern_file(path),
        host.chunked,
    )


def chunk_scan_shape(
    path: Path, scan_shape: tuple[int, int], pattern_shape: tuple[int, int]
) -> tuple[int, int]:
    """Scan rows and columns of one storage chunk in this format; (1, 1) for contiguous formats.

    A chunk has about 4 MB, so that training can read chunks in shuffled order quickly.
    """
    if not pattern_formats()[path.suffix.lower()].is_chunked:
        return 1, 1
    count = max(1, _CHUNK_BYTES // (4 * pattern_shape[0] * pattern_shape[1]))
    rows = min(scan_shape[0], max(1, int(count**0.5)))
    return rows, min(scan_shape[1], max(1, count // rows))


def write_patterns(
    blocks: Iterable[tuple[Block, np.ndarray]], scan: Scan, path: Path, template: Any = None
) -> None:
    """Write patterns from an iterator of blocks.

    Parameters
    ----------
    blocks : iterable of (Block, ndarray)
        Patterns (ny, nx, H, W) and their block; for ``.npz`` in scan order.
    scan : Scan
        The scan; its axes are stored if the format has axes.
    path : Path
        Path of a new file.
    template : Signal2D or DataCube, optional
        Object of the writing library whose class, metadata, axes, calibration and shape the file gets.
    """
    chunk = chunk_scan_shape(path, scan.scan_shape, scan.pattern_shape)
    with pattern_formats()[path.suffix.lower()].create(path, scan, template, chunk) as target:
        for block, values in blocks:
            _write_block(target, block, values, scan.scan_shape)


def open_patterns(path: Path) -> Any:
    """The patterns in a file that `write_patterns` wrote, read-only, not loaded.

    A memory map of ``.npy``, ``.npz`` and ``.h5``, the dataset of ``.hspy``, the array of ``.zspy``. A FileError says if
    no format has this suffix.
    """
    formats = pattern_formats()
    if path.suffix.lower() not in formats:
        raise FileError(
            "not a file of patterns",
            expected=f"one of {', '.join(formats)}",
            received=str(path),
            advice="Give a file that reconstruct(out=...) wrote.",
        )
    return formats[path.suffix.lower()].open(path)


def lazy_patterns(path: Path) -> Any:
    """The patterns in a file as a dask array; each task opens the file again."""
    import dask.array as da

    patterns = open_patterns(path)
    chunks = getattr(patterns, "chunks", None) or ("auto",) * (patterns.ndim - 2) + (-1, -1)
    return da.from_array(_LazyFile(path.absolute(), patterns.shape), chunks=chunks)


class _LazyFile:
    """Array for dask that opens the file for each read, because dask would copy a memory map into memory."""

    dtype = PATTERN_DTYPE

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.files, self.shape, self.ndim = {str(path)}, shape, len(shape)
        self._path = path

    def __getitem__(self, where: Any) -> np.ndarray:
        return np.array(open_patterns(self._path)[where])


def _write_block(
    target: WritableArray, block: Block, values: np.ndarray, scan_shape: tuple[int, int]
) -> None:
    """Write a block; if the target holds a stack (N, H, W), row by row."""
    rows, columns = block
    if target.shape[:2] == scan_shape:
        target[rows, columns] = values.reshape(*values.shape[:2], *target.shape[2:])
        return
    for y, row in zip(range(rows.start, rows.stop), values, strict=True):
        first = y * scan_shape[1] + columns.start
        target[first : first + len(row)] = row.reshape(len(row), *target.shape[1:])


class RawFileArray:
    """Stack of patterns (N, H, W) in a ``.npy`` file, written in place; pages of a memory map would stay in memory.

    Parameters
    ----------
    file : binary file
        At its start. An existing ``.npy`` file of this shape and dtype keeps its patterns.
    shape : (Ny, Nx, H, W)
        Shape of the array in the file.
    dtype : dtype
    """

    def __init__(self, file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        _write_header(file, shape, dtype)
        self.shape = (shape[0] * shape[1], *shape[2:])
        self._file, self._start, self._dtype = file, file.tell(), dtype
        self._pattern_bytes = dtype.itemsize * int(np.prod(shape[2:]))
        file.truncate(self._start + self.shape[0] * self._pattern_bytes)

    def __setitem__(self, where: slice, patterns: np.ndarray) -> None:
        self._file.seek(self._start + where.start * self._pattern_bytes)
        self._file.write(np.ascontiguousarray(patterns, self._dtype).data)


class _AppendedArray:
    """Array in an entry of a zip archive, to which blocks are appended in scan order."""

    def __init__(self, file: Any, shape: tuple[int, ...]) -> None:
        self._file, self.shape = file, shape

    def __setitem__(self, where: Any, values: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(values, PATTERN_DTYPE).data)


def _write_header(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


@contextmanager
def _create_npy(path: Path, scan: Scan, template: Any, chunk: tuple[int, int]) -> Iterator[WritableArray]:
    with open(path, "wb") as file:
        yield RawFileArray(file, (*scan.scan_shape, *scan.pattern_shape), PATTERN_DTYPE)


@contextmanager
def _create_npz(path: Path, scan: Scan, template: Any, chunk: tuple[int, int]) -> Iterator[WritableArray]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("axes.npy", "w") as entry:
            axes = json.dumps([axis.as_dict() for axis in scan.axes])
            np.lib.format.write_array(entry, np.array(axes), allow_pickle=False)
        with archive.open("data.npy", "w", force_zip64=True) as entry:
            shape = (*scan.scan_shape, *scan.pattern_shape)
            _write_header(entry, shape, PATTERN_DTYPE)
            yield _AppendedArray(entry, shape)


def _memmap_npz(path: Path) -> np.memmap:
    """The array ``data`` of an uncompressed ``.npz`` file as a memory map."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        file.seek(archive.getinfo("data.npy").header_offset)
        header = file.read(_ZIP_HEADER_BYTES)
        file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return np.memmap(path, dtype, "r", file.tell(), shape)


_NPY = PatternFormat("numpy", _create_npy, lambda path: np.load(path, mmap_mode="r"))
_NPZ = PatternFormat("numpy", _create_npz, _memmap_npz)
