"""Cache of a scan that is slow to read: a one-time copy as a .npy file with fast random access."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..scan.scan import Scan
from ..scan.series import Series
from ..util.disk import require_disk_space
from ..util.formatting import format_bytes
from ..util.whole_file import require_writable_folder, storage_errors
from .arrays import as_pattern_source
from .source_files import fingerprint

__all__ = ["cache_scan"]

log = logging.getLogger("latentstem")

_BLOCK_BYTES = 64 * 2**20  # written per journal entry (or one storage chunk, if larger)
_N_CHECKED = 3  # patterns of a finished copy that are compared with the scan


def cache_scan(scan: Scan, folder: str | Path, *, progress: bool = False) -> Scan:
    """Copy the scan to a .npy file in `folder`, if needed, and return the scan read from there.

    The copy is made once, block by block; blocks from an interrupted copy are checked and kept. The file name contains a
    hash of source file, modification time, size, dataset, shape and dtype, so that an outdated copy is not used.

    Parameters
    ----------
    scan : Scan
        A scan with random access, or one that is not in a file, is returned unchanged.
    folder : str or Path
        Folder of the copy.
    progress : bool
        Say how large it is, and show a progress bar.

    Returns
    -------
    Scan
        With the same axes, masks and name.

    Raises
    ------
    ArgumentError
        If there is no room for it on the disk.
    StorageError
        If it cannot be written. The next call continues from what was written.
    """
    if isinstance(scan, Series):
        return scan.with_scans([cache_scan(part, folder, progress=progress) for part in scan.scans])
    if scan.source.array is not None:
        return scan
    source = fingerprint(scan)
    if source is None:
        log.warning(
            "cache_dir is ignored: the data are not in a file, so a copy could not be identified later."
        )
        return scan
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(folder) / f"{Path(source['files'][0][0]).stem}-{digest}.npy"
    require_writable_folder(path.parent)
    with _file_lock(path):
        if not _is_valid_cache(path, scan):
            _CacheWriter(path, scan).write(progress)
    return replace(scan, source=as_pattern_source(np.load(path, mmap_mode="r")))


class _CacheWriter:
    """Writer of an unfinished copy: ``.part`` holds the patterns, ``.journal`` one line per finished block."""

    def __init__(self, path: Path, scan: Scan) -> None:
        self._path, self._scan = path, scan
        self._part, self._journal = path.with_suffix(".part"), path.with_suffix(".journal")
        pattern = int(np.prod(scan.pattern_shape)) * scan.dtype.itemsize
        self._pattern_bytes = pattern
        self._blocks = list(scan.blocks(max(1, _BLOCK_BYTES // pattern)))

    def write(self, progress: bool) -> None:
        """Write what is missing, and give the file its name."""
        done = self._completed_blocks()
        remaining = (
            self._scan.nbytes - sum(len(self._blocks[number]) for number in done) * self._pattern_bytes
        )
        missing = remaining if self._part.exists() else self._scan.nbytes
        require_disk_space(self._path, missing)
        line = f"Copying {format_bytes(remaining)} to {self._path}, once, so that patterns can be read at random."
        log.info(line)
        if progress:
            print(line)
        with storage_errors(self._path), self._open() as file, self._journal.open("a") as journal:
            start = file.tell()
            bar = tqdm(total=self._scan.nbytes, initial=self._scan.nbytes - remaining, disable=not progress,
                       unit="B", unit_scale=True, desc="cache")  # fmt: skip
            with bar:
                for number, positions in enumerate(self._blocks):
                    if number in done:
                        continue
                    patterns = self._scan.read(positions)
                    for run in _consecutive_slices(positions):
                        file.seek(start + int(positions[run][0]) * self._pattern_bytes)
                        file.write(np.ascontiguousarray(patterns[run]).data)
                    file.flush()
                    os.fsync(file.fileno())
                    journal.write(f"{number} {zlib.crc32(np.ascontiguousarray(patterns).data)}\n")
                    journal.flush()
                    bar.update(patterns.nbytes)
        os.replace(self._part, self._path)
        self._journal.unlink()

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        """The unfinished file, behind its header."""
        new = not self._part.exists()
        with self._part.open("w+b" if new else "r+b") as file:
            if new:
                shape = (*self._scan.scan_shape, *self._scan.pattern_shape)
                np.lib.format.write_array_header_1_0(file, {
                    "descr": np.lib.format.dtype_to_descr(self._scan.dtype), "fortran_order": False, "shape": shape,
                })  # fmt: skip
                start = file.tell()
                file.truncate(start + self._scan.nbytes)
            else:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
            yield file

    def _completed_blocks(self) -> set[int]:
        """Blocks that an earlier run has written, and whose checksums are right."""
        if not (self._part.exists() and self._journal.exists()):
            self._part.unlink(missing_ok=True)
            self._journal.unlink(missing_ok=True)
            return set()
        journal = {}
        for line in self._journal.read_text().splitlines():
            with contextlib.suppress(ValueError):  # the last line may be torn
                number, check = map(int, line.split())
                journal[number] = check
        try:
            source = as_pattern_source(np.lib.format.open_memmap(self._part, mode="r"))
        except (ValueError, OSError):
            self._part.unlink()
            self._journal.unlink()
            return set()
        done = {
            number
            for number, check in journal.items()
            if number < len(self._blocks) and zlib.crc32(source.read(self._blocks[number]).data) == check
        }
        log.info(
            "Continuing an interrupted copy: %d of %d blocks are already there.", len(done), len(self._blocks)
        )
        return done


def _consecutive_slices(positions: np.ndarray) -> list[slice]:
    """Stretches of consecutive positions."""
    edges = [0, *(np.flatnonzero(np.diff(positions) != 1) + 1).tolist(), len(positions)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _is_valid_cache(path: Path, scan: Scan) -> bool:
    """Whether there is a finished copy, and some of its patterns are those of the scan."""
    if not path.is_file():
        return False
    try:
        source = as_pattern_source(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:
        return False
    at = np.unique(np.linspace(0, scan.n_positions - 1, _N_CHECKED).astype(int))
    same = source.shape == scan.source.shape and source.dtype == scan.dtype
    # compare bytes, because NaN != NaN
    return same and source.read(at).tobytes() == scan.read(at).tobytes()


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Lock: another process that needs the same copy waits until it is finished."""
    with path.with_suffix(".lock").open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
