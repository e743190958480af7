"""Samples of a scan's patterns, from which statistics, principal components and networks start."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..scan.scan import Scan
from .detector import Detector
from .neighbourhood import NeighbourPositions
from .preprocessing import patterns_to_tensor

__all__ = ["sample_values", "sample_with_neighbour_means"]

_MAX_SAMPLE_PATTERNS = 4096
_MAX_SAMPLE_VALUES = 2**26  # limit on sampled detector values (at least 16 patterns are used)
_MAX_BATCH_VALUES = 2**23  # detector values that are read together
_MEAN_RADIUS = 2  # radius of the neighbour means, in scan positions
_MAX_READ_PATTERNS = 1024  # patterns of a block and of its neighbours that are read together
_MAX_READ_VALUES = 2**25  # detector values of these


def sample_values(scan: Scan, positions: np.ndarray, detector: Detector, seed: int = 0) -> Iterator[Tensor]:
    """Detector values of a random sample of patterns, in batches (B, h, w).

    Parameters
    ----------
    scan : Scan
    positions : ndarray of int
        Flat scan positions; at most 4096 of them (of large patterns fewer) are read.
    detector : Detector
        Crop, mask and bin.
    seed : int
        Seed of the sample.
    """
    limit = min(_MAX_SAMPLE_PATTERNS, max(16, _MAX_SAMPLE_VALUES // int(np.prod(detector.shape))))
    if len(positions) > limit:
        positions = np.random.default_rng(seed).choice(positions, limit, replace=False)
    for block in scan.blocks_of(positions, max(1, _MAX_BATCH_VALUES // int(np.prod(scan.pattern_shape)))):
        yield detector(patterns_to_tensor(scan.read(block)))


def sample_with_neighbour_means(
    scan: Scan, positions: np.ndarray, detector: Detector
) -> tuple[Tensor, Tensor]:
    """Detector values of a sample of patterns, and their neighbour means.

    Parameters
    ----------
    scan : Scan
        Its excluded positions are not used as neighbours.
    positions : ndarray of int
        Flat scan positions, sorted.
    detector : Detector
        Crop, mask and bin.

    Returns
    -------
    patterns, neighbour_means : Tensor, shape (n, h, w), float32
    """
    neighbours_of = NeighbourPositions(scan.excluded, _MEAN_RADIUS)
    patterns, means = (torch.empty(len(positions), *detector.shape, dtype=torch.float32) for _ in range(2))
    n_read = min(_MAX_READ_PATTERNS, _MAX_READ_VALUES // int(np.prod(scan.pattern_shape)))
    for block in scan.blocks_of(positions, max(1, n_read // (1 + neighbours_of.count))):
        is_valid, neighbours = neighbours_of(block)
        needed = np.unique(np.concatenate([block, neighbours[is_valid]]))
        values = detector(patterns_to_tensor(scan.read(needed)))
        centres = values[torch.from_numpy(np.searchsorted(needed, block))]
        total = centres.clone()
        for valid, index in zip(is_valid.T, neighbours.T, strict=True):
            total[torch.from_numpy(valid)] += values[torch.from_numpy(np.searchsorted(needed, index[valid]))]
        index_in_sample = torch.from_numpy(np.searchsorted(positions, block))
        patterns[index_in_sample] = centres
        means[index_in_sample] = total / torch.from_numpy(1 + is_valid.sum(1))[:, None, None]
    return patterns, means
