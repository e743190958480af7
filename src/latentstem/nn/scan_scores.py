"""Scores of all patterns of a scan, and of the similar neighbours of each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..scan.passes import read_blocks
from ..scan.scan import Scan
from .batches import ScoreBatch
from .neighbourhood import neighbour_offsets
from .preprocessing import Detector, patterns_to_tensor
from .principal_components import N_COMPARED, PrincipalComponents

__all__ = ["ScanScores", "sample_with_neighbour_means"]

_READ = 512  # patterns that are read together, at most ...
_READ_VALUES = 2**24  # ... and detector values
_SAMPLED = 2  # neighbours up to so many scan positions away smooth the sample


class ScanScores:
    """Scores of the patterns of a scan, or of a part of one.

    Parameters
    ----------
    components : PrincipalComponents
        What the scores are in, and which of them are similar.
    scores : Tensor, shape (Ny * Nx, q)
        Of the patterns, row-major over the scan.
    variances : Tensor, shape (Ny * Nx, v)
        Of the noise of the leading scores.
    excluded : ndarray, shape (Ny, Nx), bool
        Scan positions that are nobody's neighbours.
    """

    def __init__(
        self, components: PrincipalComponents, scores: Tensor, variances: Tensor, excluded: np.ndarray
    ) -> None:
        self._components, self._scores, self._variances, self._excluded = (
            components,
            scores,
            variances,
            excluded,
        )
        self._offsets, ring = neighbour_offsets(components.radius)
        self._sizes = np.bincount(ring).tolist()  # neighbours on each ring

    @classmethod
    def measure(cls, scan: Scan, components: PrincipalComponents, detector: Detector) -> ScanScores:
        """Find the scores of a whole scan, in one pass over its storage."""
        scores = torch.zeros(scan.n_positions, components.count)
        variances = torch.zeros(scan.n_positions, min(components.count, N_COMPARED))
        positions = np.arange(scan.n_positions if components.count else 0)
        for block, patterns in read_blocks(scan, positions):
            index = torch.from_numpy(block)
            scores[index], variances[index] = components(detector(patterns_to_tensor(patterns)))
        return cls(components, scores, variances, _excluded(scan))

    def __call__(self, positions: np.ndarray) -> ScoreBatch:
        """Scores at flat scan positions, with those of their similar neighbours."""
        own = self._scores[torch.from_numpy(positions)]
        if not self._sizes:
            return ScoreBatch.without_neighbours(own, 0)
        exists, flat = _neighbours(self._excluded, positions, self._offsets)
        flat = np.where(exists, flat, positions[:, None])  # what is excluded may be NaN
        centre, around = torch.from_numpy(positions), torch.from_numpy(flat)
        others = self._scores[around]
        similar = self._components.is_similar(
            (own[:, None], self._variances[centre][:, None]), (others, self._variances[around])
        )
        members = (torch.from_numpy(exists) & similar).float()
        # not as a product of matrices, which has threads of its own beside those of a training step; see `prefetch`
        sums = self._by_ring(others * members[:, :, None])
        if not torch.isfinite(sums).all():  # a pattern of NaN is similar to none, but 0 times NaN is NaN
            sums = self._by_ring(others.nan_to_num(0.0, 0.0, 0.0) * members[:, :, None])
        return ScoreBatch(own, sums, self._by_ring(members))

    def _by_ring(self, each: Tensor) -> Tensor:
        return torch.stack([ring.sum(1) for ring in each.split(self._sizes, 1)], 1)


def sample_with_neighbour_means(
    scan: Scan, positions: np.ndarray, detector: Detector
) -> tuple[Tensor, Tensor]:
    """Detector values of a sample of patterns, and of each averaged with its neighbours.

    Parameters
    ----------
    scan : Scan
        Where from. Excluded positions are nobody's neighbours.
    positions : ndarray of int
        Flat scan positions, sorted.
    detector : Detector
        Crop, mask and bin.

    Returns
    -------
    single, mean : Tensor, shape (n, h, w), float32
    """
    excluded, (offsets, _) = _excluded(scan), neighbour_offsets(_SAMPLED)
    single, mean = (torch.empty(len(positions), *detector.shape, dtype=torch.float32) for _ in range(2))
    for part in scan.blocks_of(positions, max(1, 2 * _at_once(scan) // (1 + len(offsets)))):
        exists, neighbours = _neighbours(excluded, part, offsets)
        wanted = np.unique(np.concatenate([part, neighbours[exists]]))
        values = detector(patterns_to_tensor(scan.read(wanted)))
        own = values[torch.from_numpy(np.searchsorted(wanted, part))]
        total = own.clone()
        for there, at in zip(exists.T, neighbours.T, strict=True):
            total[torch.from_numpy(there)] += values[torch.from_numpy(np.searchsorted(wanted, at[there]))]
        place = torch.from_numpy(np.searchsorted(positions, part))
        single[place] = own
        mean[place] = total / torch.from_numpy(1 + exists.sum(1))[:, None, None]
    return single, mean


def _excluded(scan: Scan) -> np.ndarray:
    return np.zeros(scan.scan_shape, bool) if scan.scan_mask is None else scan.scan_mask


def _at_once(scan: Scan) -> int:
    """Patterns that are read and looked at together, so that they take no more than some 0.2 GB."""
    return max(1, min(_READ, _READ_VALUES // int(np.prod(scan.pattern_shape))))


def _neighbours(
    excluded: np.ndarray, positions: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each neighbour is on the scan and not excluded, and its flat position; shape (n, neighbours)."""
    (ny, nx), (y, x) = excluded.shape, np.divmod(positions, excluded.shape[1])
    y, x = y[:, None] + offsets[:, 0], x[:, None] + offsets[:, 1]
    exists = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    flat = np.where(exists, y * nx + x, 0)
    return exists & ~excluded.ravel()[flat], flat
