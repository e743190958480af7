"""Reconstructions of some scan positions, without a pass over the scan."""

from __future__ import annotations

import numpy as np
import torch

from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..nn.neighbourhood import neighbour_offsets
from ..nn.preprocessing import patterns_to_tensor
from ..nn.scan_scores import ScanScores
from ..scan.scan import Scan

__all__ = ["reconstruct_positions"]


def reconstruct_positions(
    autoencoder: Autoencoder, scan: Scan, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Recorded and reconstructed patterns; only these and the neighbours that the model needs are read.

    Parameters
    ----------
    autoencoder : Autoencoder
        Trained on patterns of this shape.
    scan : Scan
        With its masks.
    positions : ndarray of int, shape (n,)
        Flat scan positions that are not excluded.

    Returns
    -------
    recorded, reconstructed : ndarray, shape (n, H, W)
    """
    components = autoencoder.principal_components
    (ny, nx), offsets = scan.scan_shape, neighbour_offsets(components.radius)[0]
    rows, columns = (p[:, None] + offset for p, offset in zip(divmod(positions, nx), offsets.T, strict=True))
    on_scan = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    read = np.union1d(positions, (rows * nx + columns)[on_scan])
    patterns = scan.read(read)
    scores, variances = components(autoencoder.values(patterns_to_tensor(patterns)))
    excluded = np.zeros(scan.scan_shape, bool) if scan.scan_mask is None else scan.scan_mask
    known = ScanScores(
        components, _scattered(scores, read, ny * nx), _scattered(variances, read, ny * nx), excluded
    )
    recorded = patterns[np.searchsorted(read, positions)]
    batch = PatternBatch(patterns_to_tensor(recorded), known(positions))
    return recorded, autoencoder.decode_patterns(autoencoder.encode_batch(batch)).numpy()


def _scattered(values: torch.Tensor, positions: np.ndarray, count: int) -> torch.Tensor:
    """Values (n, q) at their positions in an array (count, q) whose other rows take no memory."""
    every = np.zeros((count, values.shape[1]), np.float32)
    every[positions] = values.numpy()
    return torch.from_numpy(every)
