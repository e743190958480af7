"""Reconstruct a scan, in memory or into a file, or some of its positions."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from ..errors import ArgumentError, StorageError
from ..io.output_files import check_output, pattern_suffixes
from ..io.pattern_files import chunk_scan_shape, open_patterns, write_patterns
from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..nn.neighbourhood import NeighbourPositions
from ..nn.preprocessing import patterns_to_tensor
from ..nn.scan_scores import ScanScores
from ..scan.scan import Scan
from ..util.disk import require_disk_space
from ..util.formatting import format_bytes
from ..util.paths import local_path
from ..util.whole_file import atomic_write
from .block_predictor import BlockPredictor
from .blockwise import predict, predict_blocks

__all__ = ["reconstruct", "reconstruct_positions", "write_reconstruction"]

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


def reconstruct_positions(
    autoencoder: Autoencoder, scan: Scan, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Recorded and reconstructed patterns (n, H, W) at flat scan positions (n,) that are not excluded.

    Only these patterns and the neighbours that the model needs are read.
    """
    components, excluded = autoencoder.principal_components, scan.excluded
    is_valid, neighbours = NeighbourPositions(excluded, components.radius)(positions)
    needed = np.union1d(positions, neighbours[is_valid])
    patterns = scan.read(needed)
    scores, variances = (
        _scatter(values, needed, scan.n_positions)
        for values in components(autoencoder.values(patterns_to_tensor(patterns)))
    )
    recorded = patterns[np.searchsorted(needed, positions)]
    score_batch = ScanScores(components, scores, variances, excluded)(positions)
    batch = PatternBatch(patterns_to_tensor(recorded), score_batch)
    return recorded, autoencoder.decode_patterns(autoencoder.encode_batch(batch)).numpy()


def _scatter(values: torch.Tensor, positions: np.ndarray, n_positions: int) -> torch.Tensor:
    """Put values (n, q) at their positions into an array (n_positions, q) whose other rows take no memory."""
    scattered = np.zeros((n_positions, values.shape[1]), np.float32)
    scattered[positions] = values.numpy()
    return torch.from_numpy(scattered)


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
