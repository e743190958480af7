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

__all__ = ["reconstruct", "write_reconstruction"]

log = logging.getLogger("latentstem")

_MIN_BYTES_REPORTED = 1e9  # file size above which it is reported
_MAX_MEMORY_FRACTION = 0.8  # of the free memory that a result may take


def reconstruct(
    autoencoder: Autoencoder,
    scan: Scan,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Any:
    """Reconstruct a scan that fits the model; see `LatentModel.reconstruct`. Options are `client` and `progress`."""
    if out is not None:
        return open_patterns(write_reconstruction(autoencoder, scan, out, overwrite=overwrite, **options))
    _require_memory(_result_bytes(scan))
    return predict(BlockPredictor(autoencoder, decode=True, source=scan.source), scan, **options)


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

    Parameters are those of `LatentModel.reconstruct`, and the `template` of `write_patterns`; the scan must fit the model.
    """
    path, nbytes = local_path(out, StorageError).expanduser(), _result_bytes(scan)
    check_output(path, pattern_suffixes(), overwrite, [scan])
    require_disk_space(path, nbytes)
    if nbytes > _MIN_BYTES_REPORTED:
        message = f"{path} will take {format_bytes(nbytes)} on the disk, less where the format compresses."
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


def _require_memory(nbytes: int) -> None:
    """Raise `ArgumentError` if the result needs more than 80% of the free memory."""
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
