"""Neighbours of a scan position grouped by distance (rings), and weighted means over them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .batches import ScoreBatch

__all__ = ["NeighbourPositions", "RingMeans", "neighbour_offsets", "ring_count"]

_N_MEANS = 3  # number of weighted means, from wide to narrow
_LOG_WEIGHT_STEP = 0.7  # initial decrease of the log weight per ring, from each mean to the next


def neighbour_offsets(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the neighbours of a scan position, and the ring of each.

    Parameters
    ----------
    radius : int
        Largest offset along each axis, in scan positions.

    Returns
    -------
    offsets : ndarray, shape (J, 2), int
        Rows and columns, for J = (2 radius + 1)^2 - 1 neighbours, the nearest first.
    ring_index : ndarray, shape (J,), int
        Neighbours at equal distance have the same index; 0 is the nearest.
    """
    offsets_1d = range(-radius, radius + 1)
    offsets = [(dy, dx) for dy in offsets_1d for dx in offsets_1d if (dy, dx) != (0, 0)]
    array = np.array(offsets, int).reshape(-1, 2)
    ring_index = np.unique((array**2).sum(1), return_inverse=True)[1]
    nearest_first = np.argsort(ring_index, kind="stable")
    return array[nearest_first], ring_index[nearest_first]


def ring_count(radius: int) -> int:
    """Number of rings within a radius, in scan positions."""
    return int(neighbour_offsets(radius)[1].max(initial=-1)) + 1


class NeighbourPositions:
    """Flat scan positions of the neighbours of scan positions.

    Parameters
    ----------
    excluded : ndarray, shape (Ny, Nx), bool
        Scan positions that are not used as neighbours.
    radius : int
        See `neighbour_offsets`.

    Attributes
    ----------
    ring_sizes : list of int
        Number of neighbours on each ring.
    count : int
        Number of neighbours, J.
    """

    def __init__(self, excluded: np.ndarray, radius: int) -> None:
        self._excluded = excluded
        self._offsets, ring_index = neighbour_offsets(radius)
        self.ring_sizes: list[int] = np.bincount(ring_index).tolist()
        self.count = len(ring_index)

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether each neighbour is on the scan and not excluded, and its flat position; shape (n, J)."""
        (ny, nx), (y, x) = self._excluded.shape, np.divmod(positions, self._excluded.shape[1])
        y, x = y[:, None] + self._offsets[:, 0], x[:, None] + self._offsets[:, 1]
        is_valid = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        neighbours = np.where(is_valid, y * nx + x, 0)
        return is_valid & ~self._excluded.ravel()[neighbours], neighbours


class RingMeans(nn.Module):
    """Weighted means of scores over a pattern and its similar neighbours, with a learnt weight per component and ring.

    A component that varies quickly over the specimen needs a narrow mean, a noisy one a wide mean; three means with
    different initial widths are used.

    Parameters
    ----------
    components : int
        Number of scores q of each pattern.
    radius : int
        Radius of the neighbourhood; 0: the only mean is the scores themselves.

    Attributes
    ----------
    n_means : int
        Number of means of each score.
    """

    def __init__(self, components: int, radius: int) -> None:
        super().__init__()
        rings = ring_count(radius)
        self.n_means = _N_MEANS if rings else 1
        initial = -_LOG_WEIGHT_STEP * torch.outer(torch.arange(self.n_means), torch.arange(rings + 1)).float()
        self.log_weight = nn.Parameter(initial[:, :, None].repeat(1, 1, components))

    def forward(self, batch: ScoreBatch) -> Tensor:
        """Means (B, n_means * q) over each pattern and its similar neighbours."""
        scores, ring_sums, ring_counts = batch
        means = []
        for weight in self.log_weight.exp():
            total = scores * weight[0] + (ring_sums * weight[1:]).sum(1)
            means.append(total / (weight[0] + ring_counts @ weight[1:]))
        return torch.cat(means, 1)
