"""Reconstructed patterns of a scan, in memory or straight to a file."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ..errors import ArgumentError, StorageError
from ..io.output_files import check_output, pattern_suffixes
from ..io.pattern_files import chunk_scan_shape, open_patterns, write_patterns
from ..nn.autoencoder import Autoencoder
from ..scan.scan import Scan
from ..util.disk import format_bytes, require_disk_space
from ..util.paths import local_path
from ..util.whole_file import atomic_write
from .block_predictor import BlockPredictor
from .blockwise import applied, in_memory

__all__ = ["reconstruct", "require_memory", "write"]

log = logging.getLogger("latentstem")

_LARGE = 1e9  # bytes from which on the size of a file is said
_SHARE = 0.8  # of the free memory that a result may take


def reconstruct(
    autoencoder: Autoencoder,
    scan: Scan,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    client: Any = None,
    progress: bool = False,
) -> Any:
    """Reconstructed patterns of a scan that fits the model; see `LatentModel.reconstruct`."""
    if out is not None:
        return open_patterns(
            write(autoencoder, scan, out, overwrite=overwrite, client=client, progress=progress)
        )
    require_memory(_size(scan))
    work = BlockPredictor(autoencoder, decode=True, source=scan.source)
    return in_memory(work, scan, client=client, progress=progress)


def write(
    autoencoder: Autoencoder,
    scan: Scan,
    out: str | Path,
    *,
    overwrite: bool = False,
    client: Any = None,
    progress: bool = False,
    like: Any = None,
) -> Path:
    """Write reconstructed patterns to a file, block by block; nothing is there until all of it is.

    Parameters
    ----------
    autoencoder, scan, out, overwrite, client, progress
        See `LatentModel.reconstruct`; the scan fits the model.
    like : Signal2D or DataCube, optional
        See `write_patterns`.

    Returns
    -------
    Path
    """
    path = local_path(out, StorageError).expanduser()
    check_output(path, pattern_suffixes(), overwrite, [scan])
    require_disk_space(path, _size(scan))
    if _size(scan) > _LARGE:
        told = f"{path} will take {format_bytes(_size(scan))} on the disk, less where the format compresses."
        print(told) if progress else log.info(told)
    work = BlockPredictor(autoencoder, decode=True, source=scan.source)
    tile = chunk_scan_shape(path, scan.scan_shape, scan.pattern_shape)
    with (
        atomic_write(path) as beside,
        closing(applied(work, scan, tile=tile, client=client, progress=progress)) as blocks,
    ):
        write_patterns(blocks, scan, beside, like)
    return path


def require_memory(nbytes: int) -> None:
    """Refuse a result that the free memory has no room for.

    Raises
    ------
    ArgumentError
    """
    free = psutil.virtual_memory().available
    if nbytes > _SHARE * free:
        raise ArgumentError(
            "the reconstructions do not fit into memory",
            expected=f"at most {format_bytes(_SHARE * free)}",
            received=format_bytes(nbytes),
            advice="Write them to a file block by block, with out='clean.zspy' (or .hspy, .h5, .npy, .npz).",
        )


def _size(scan: Scan) -> int:
    return scan.n_positions * 4 * int(np.prod(scan.pattern_shape))
