"""Cache of a scan that is slow to read: a one-time copy as a ``.npy`` file, which can be read at random."""

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

import numpy as np
from tqdm.auto import tqdm

from ..scan.scan import Scan
from ..scan.series import Series
from ..util.disk import require_disk_space
from ..util.formatting import format_bytes
from ..util.whole_file import require_writable_folder, storage_errors
from .arrays import as_pattern_source
from .pattern_files import RawFileArray
from .source_files import fingerprint

__all__ = ["cache_scan"]

log = logging.getLogger("latentstem")

_BLOCK_BYTES = 64 * 2**20  # of patterns per journal entry; one storage chunk, if that is larger
_N_COMPARED = 3  # patterns of a finished copy that are compared with the scan


def cache_scan(scan: Scan, folder: str | Path, *, progress: bool = False) -> Scan:
    """A scan that is read from a copy in `folder`; the copy is made if it does not exist.

    The copy is written block by block; blocks of an interrupted copy are checked and kept. The file name contains a hash
    of the scan's files, their modification times and sizes, dataset, shape and dtype, so that no outdated copy is used.

    Parameters
    ----------
    scan : Scan
        A scan with random access, or one that is not in a file, is returned unchanged.
    folder : str or Path
        Folder of the copy.
    progress : bool
        Print how large the copy is, and show a progress bar.

    Returns
    -------
    Scan
        The scan with the same axes, masks and name, read from the copy.

    Raises
    ------
    ArgumentError
        If the disk has no room for the copy.
    StorageError
        If the copy cannot be written. The next call continues it.
    """
    if isinstance(scan, Series):
        return scan.with_scans([cache_scan(part, folder, progress=progress) for part in scan.scans])
    if scan.source.array is not None:
        return scan
    identity = fingerprint(scan)
    if identity is None:
        log.warning(
            "cache_dir is ignored: the data are not in a file, so a copy could not be identified later."
        )
        return scan
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(folder) / f"{Path(identity['files'][0][0]).stem}-{digest}.npy"
    require_writable_folder(path.parent)
    with _file_lock(path):
        if not _is_valid_cache(path, scan):
            _write_copy(path, scan, progress)
    return replace(scan, source=as_pattern_source(np.load(path, mmap_mode="r")))


def _write_copy(path: Path, scan: Scan, progress: bool) -> None:
    """Write a copy, or the missing blocks of an interrupted one.

    Until it is complete, ``.part`` holds the patterns, and ``.journal`` one line per written block.
    """
    part, journal = path.with_suffix(".part"), path.with_suffix(".journal")
    pattern_bytes = int(np.prod(scan.pattern_shape)) * scan.dtype.itemsize
    blocks = list(scan.blocks(max(1, _BLOCK_BYTES // pattern_bytes)))
    written_blocks = _written_blocks(part, journal, blocks)
    n_written = sum(len(blocks[number]) for number in written_blocks)
    remaining_bytes = scan.nbytes - n_written * pattern_bytes
    require_disk_space(path, remaining_bytes)
    message = (
        f"Copying {format_bytes(remaining_bytes)} to {path}, once, so that patterns can be read at random."
    )
    log.info(message)
    if progress:
        print(message)
    bar = tqdm(total=scan.nbytes, initial=n_written * pattern_bytes, disable=not progress,
               unit="B", unit_scale=True, desc="cache")  # fmt: skip
    with storage_errors(path), bar, journal.open("a") as journal_file:
        with part.open("r+b" if written_blocks else "w+b") as file:
            copy = RawFileArray(file, (*scan.scan_shape, *scan.pattern_shape), scan.dtype)
            for number, positions in enumerate(blocks):
                if number in written_blocks:
                    continue
                patterns = np.ascontiguousarray(scan.read(positions))
                edges = [0, *(np.flatnonzero(np.diff(positions) != 1) + 1).tolist(), len(positions)]
                for first, stop in itertools.pairwise(edges):  # runs of consecutive positions
                    start = int(positions[first])
                    copy[start : start + stop - first] = patterns[first:stop]
                file.flush()
                os.fsync(file.fileno())
                journal_file.write(f"{number} {zlib.crc32(patterns.data)}\n")
                journal_file.flush()
                bar.update(patterns.nbytes)
    os.replace(part, path)
    journal.unlink()


def _written_blocks(part: Path, journal: Path, blocks: list[np.ndarray]) -> set[int]:
    """Numbers of the blocks that an earlier run has written and whose checksums are right."""
    try:
        lines = journal.read_text().splitlines()
        source = as_pattern_source(np.lib.format.open_memmap(part, mode="r"))
    except (ValueError, OSError):  # there is no interrupted copy, or it is damaged
        part.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
        return set()
    written = set()
    for line in lines:
        with contextlib.suppress(ValueError, IndexError):  # the last line may be cut off
            number, checksum = map(int, line.split())
            if zlib.crc32(source.read(blocks[number]).data) == checksum:
                written.add(number)
    log.info("Continuing an interrupted copy: %d of %d blocks are written.", len(written), len(blocks))
    return written


def _is_valid_cache(path: Path, scan: Scan) -> bool:
    """Whether the copy exists, and a few of its patterns are those of the scan."""
    if not path.is_file():
        return False
    try:
        source = as_pattern_source(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:
        return False
    positions = np.unique(np.linspace(0, scan.n_positions - 1, _N_COMPARED).astype(int))
    is_same = source.shape == scan.source.shape and source.dtype == scan.dtype
    # compare bytes, because NaN != NaN
    return is_same and source.read(positions).tobytes() == scan.read(positions).tobytes()


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """A lock, so that another process that needs the same copy waits until it is written."""
    with path.with_suffix(".lock").open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
