"""The neighbourhood of a scan position, by distance, and weighted means over it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .batches import ScoreBatch

__all__ = ["RingMeans", "neighbour_offsets", "ring_count"]

_MEANS = 3  # from wide to narrow
_NARROWER = 0.7  # from one to the next, in the logarithm of the weight, for each ring


def neighbour_offsets(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps to the neighbours of a scan position, and which ring each is on.

    Parameters
    ----------
    radius : int
        Neighbours up to so many scan positions away along each axis.

    Returns
    -------
    steps : ndarray, shape (J, 2), int
        Rows and columns, for J = (2 radius + 1)^2 - 1 neighbours, the nearest first.
    ring : ndarray, shape (J,), int
        Neighbours at the same distance share a ring; 0 is the nearest.
    """
    around = range(-radius, radius + 1)
    steps = np.array([(dy, dx) for dy in around for dx in around if (dy, dx) != (0, 0)], int).reshape(-1, 2)
    ring = np.unique((steps**2).sum(1), return_inverse=True)[1]
    nearest_first = np.argsort(ring, kind="stable")
    return steps[nearest_first], ring[nearest_first]


def ring_count(radius: int) -> int:
    """How many rings there are within a radius, in scan positions."""
    return int(neighbour_offsets(radius)[1].max(initial=-1)) + 1


class RingMeans(nn.Module):
    """Weighted means of a pattern's scores and its neighbours', the weights learnt for each component and distance.

    A component that varies fast over the specimen needs a narrow mean, one that is mostly noise a wide one; three
    means of each start from different widths.

    Parameters
    ----------
    components : int
        Scores q of each pattern.
    radius : int
        See `neighbour_offsets`; without neighbours there is one mean, the scores themselves.
    """

    def __init__(self, components: int, radius: int) -> None:
        super().__init__()
        rings = ring_count(radius)
        self.means = _MEANS if rings else 1
        start = -_NARROWER * torch.outer(torch.arange(self.means), torch.arange(rings + 1)).float()
        self.log_weight = nn.Parameter(start[:, :, None].repeat(1, 1, components))

    def forward(self, batch: ScoreBatch) -> Tensor:
        """Means (B, means * q) over each pattern and its similar neighbours."""
        scores, ring_sums, ring_counts = batch
        weight = self.log_weight.exp()
        total = [
            scores * own + (ring_sums * ring).sum(1)
            for own, ring in zip(weight[:, 0], weight[:, 1:], strict=True)
        ]
        norm = [own + ring_counts @ ring for own, ring in zip(weight[:, 0], weight[:, 1:], strict=True)]
        return torch.cat([a / b for a, b in zip(total, norm, strict=True)], 1)
