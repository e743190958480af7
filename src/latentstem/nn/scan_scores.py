"""Scores of all patterns of a scan, and of the similar neighbours of each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..scan.passes import read_blocks
from ..scan.scan import Scan
from .batches import ScoreBatch
from .detector import Detector
from .neighbourhood import NeighbourPositions
from .preprocessing import patterns_to_tensor
from .principal_components import N_COMPARED, PrincipalComponents

__all__ = ["ScanScores"]


class ScanScores:
    """Scores of the patterns of a scan, or of a block of one.

    Parameters
    ----------
    components : PrincipalComponents
        Principal components and similarity test.
    scores : Tensor, shape (Ny * Nx, q)
        Scores of the patterns, row-major over the scan.
    variances : Tensor, shape (Ny * Nx, v)
        Noise variances of the leading scores.
    excluded : ndarray, shape (Ny, Nx), bool
        Scan positions that are not used as neighbours.
    """

    def __init__(
        self, components: PrincipalComponents, scores: Tensor, variances: Tensor, excluded: np.ndarray
    ) -> None:
        self._components, self._scores, self._variances = components, scores, variances
        self._neighbours_of = NeighbourPositions(excluded, components.radius)

    @classmethod
    def measure(cls, scan: Scan, components: PrincipalComponents, detector: Detector) -> ScanScores:
        """Compute the scores of a whole scan, in one pass over its storage."""
        scores = torch.zeros(scan.n_positions, components.count, dtype=torch.float32)
        variances = torch.zeros(scan.n_positions, min(components.count, N_COMPARED), dtype=torch.float32)
        positions = np.arange(scan.n_positions if components.count else 0)
        for block, patterns in read_blocks(scan, positions):
            index = torch.from_numpy(block)
            scores[index], variances[index] = components(detector(patterns_to_tensor(patterns)))
        return cls(components, scores, variances, scan.excluded)

    def __call__(self, positions: np.ndarray) -> ScoreBatch:
        """Scores at flat scan positions, with those of their similar neighbours."""
        centre_index = torch.from_numpy(positions)
        centre_scores = self._scores[centre_index]
        if not self._neighbours_of.count:
            return ScoreBatch.without_neighbours(centre_scores, 0)
        is_valid, neighbours = self._neighbours_of(positions)
        # replace excluded neighbours, which may be NaN
        neighbour_index = torch.from_numpy(np.where(is_valid, neighbours, positions[:, None]))
        neighbour_scores = self._scores[neighbour_index]
        is_similar = self._components.is_similar(
            (centre_scores[:, None], self._variances[centre_index][:, None]),
            (neighbour_scores, self._variances[neighbour_index]),
        )
        weight = (torch.from_numpy(is_valid) & is_similar).float()
        # not a matrix product, which would start threads in the prefetch thread; see `prefetch`
        sums = self._sum_rings(neighbour_scores * weight[:, :, None])
        if not torch.isfinite(sums).all():  # patterns with NaN are never similar, but 0 * NaN is NaN
            sums = self._sum_rings(neighbour_scores.nan_to_num(0.0, 0.0, 0.0) * weight[:, :, None])
        return ScoreBatch(centre_scores, sums, self._sum_rings(weight))

    def _sum_rings(self, values: Tensor) -> Tensor:
        """Sums over the neighbours of each ring, from values (B, J, ...) to (B, R, ...)."""
        return torch.stack([ring.sum(1) for ring in values.split(self._neighbours_of.ring_sizes, 1)], 1)
