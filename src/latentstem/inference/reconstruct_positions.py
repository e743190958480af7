"""Reconstructions of some scan positions, without a pass over the scan."""

from __future__ import annotations

import numpy as np
import torch

from ..nn.autoencoder import Autoencoder
from ..nn.batches import PatternBatch
from ..nn.neighbourhood import NeighbourPositions
from ..nn.preprocessing import patterns_to_tensor
from ..nn.scan_scores import ScanScores
from ..scan.scan import Scan

__all__ = ["reconstruct_positions"]


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
