"""Reconstruct a scan, in memory or into a file."""

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
from ..util.disk import require_disk_space
from ..util.formatting import format_bytes
from ..util.paths import local_path
from ..util.whole_file import atomic_write
from .block_predictor import BlockPredictor
from .blockwise import predict, predict_blocks

__all__ = ["reconstruct", "require_memory", "write_reconstruction"]

log = logging.getLogger("latentstem")

_MIN_BYTES_REPORTED = 1e9  # file size above which it is reported
_MAX_MEMORY_FRACTION = 0.8  # of the free memory that a result may take


def reconstruct(
    autoencoder: Autoencoder,
    scan: Scan,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    client: Any = None,
    progress: bool = False,
) -> Any:
    """Reconstruct a scan that fits the model; see `LatentModel.reconstruct`."""
    if out is not None:
        options = {"overwrite": overwrite, "client": client, "progress": progress}
        return open_patterns(write_reconstruction(autoencoder, scan, out, **options))
    require_memory(_result_bytes(scan))
    predictor = BlockPredictor(autoencoder, decode=True, source=scan.source)
    return predict(predictor, scan, client=client, progress=progress)


def write_reconstruction(
    autoencoder: Autoencoder,
    scan: Scan,
    out: str | Path,
    *,
    overwrite: bool = False,
    client: Any = None,
    progress: bool = False,
    template: Any = None,
) -> Path:
    """Write the reconstructions of a scan to a file block by block; the file appears when it is complete.

    Parameters
    ----------
    autoencoder, scan, out, overwrite, client, progress
        See `LatentModel.reconstruct`; the scan must fit the model.
    template : Signal2D or DataCube, optional
        See `write_patterns`.

    Returns
    -------
    Path
        Path of the file.
    """
    path = local_path(out, StorageError).expanduser()
    check_output(path, pattern_suffixes(), overwrite, [scan])
    require_disk_space(path, _result_bytes(scan))
    if _result_bytes(scan) > _MIN_BYTES_REPORTED:
        message = f"{path} will take {format_bytes(_result_bytes(scan))} on the disk, less where the format compresses."
        print(message) if progress else log.info(message)
    predictor = BlockPredictor(autoencoder, decode=True, source=scan.source)
    chunk: tuple[int, int] | None = chunk_scan_shape(path, scan.scan_shape, scan.pattern_shape)
    if chunk == (1, 1) and path.suffix.lower() != ".npz":
        chunk = None  # this file can be written in any order, so the order of the input is used
    with (
        atomic_write(path) as temporary,
        closing(predict_blocks(predictor, scan, chunk=chunk, client=client, progress=progress)) as blocks,
    ):
        write_patterns(blocks, scan, temporary, template)
    return path


def require_memory(nbytes: int) -> None:
    """Raise if the result does not fit into free memory.

    Raises
    ------
    ArgumentError
        If it needs more than 80% of the free memory.
    """
    free = psutil.virtual_memory().available
    if nbytes > _MAX_MEMORY_FRACTION * free:
        raise ArgumentError(
            "the reconstructions do not fit into memory",
            expected=f"at most {format_bytes(_MAX_MEMORY_FRACTION * free)}",
            received=format_bytes(nbytes),
            advice="Write them to a file block by block, with out='clean.zspy' (or .hspy, .h5, .npy, .npz).",
        )


def _result_bytes(scan: Scan) -> int:
    return scan.n_positions * 4 * int(np.prod(scan.pattern_shape))
