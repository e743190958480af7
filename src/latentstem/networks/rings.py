"""The neighbourhood of a scan position, by distance, and weighted means over it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["RingMeans", "neighbourhood"]

_MEANS = 3  # from wide to narrow
_NARROWER = 0.7  # from one to the next, in the logarithm of the weight, for each ring


def neighbourhood(radius: int) -> tuple[np.ndarray, np.ndarray]:
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


class RingMeans(nn.Module):
    """Weighted means of a pattern's scores and its neighbours', the weights learnt for each component and distance.

    A component that varies fast over the specimen needs a narrow mean, one that is mostly noise a wide one; three
    means of each start from different widths.

    Parameters
    ----------
    components : int
        Scores q of each pattern.
    radius : int
        See `neighbourhood`; without neighbours there is one mean, the scores themselves.
    """

    def __init__(self, components: int, radius: int) -> None:
        super().__init__()
        rings = int(neighbourhood(radius)[1].max(initial=-1)) + 1
        self.means = _MEANS if rings else 1
        start = -_NARROWER * torch.outer(torch.arange(self.means), torch.arange(rings + 1)).float()
        self.log_weight = nn.Parameter(start[:, :, None].repeat(1, 1, components))

    def forward(self, scores: Tensor, rings: Tensor | None = None, members: Tensor | None = None) -> Tensor:
        """Means (B, means * q).

        Parameters
        ----------
        scores : Tensor, shape (B, q)
            Of the patterns themselves.
        rings : Tensor, shape (B, R, q), optional
            Sums over the alike neighbours on each ring; without it, a mean is the pattern's own scores.
        members : Tensor, shape (B, R), optional
            How many those are.
        """
        if rings is None or members is None:
            return scores.repeat(1, self.means)
        weight = self.log_weight.exp()
        total = [
            scores * own + (rings * ring).sum(1)
            for own, ring in zip(weight[:, 0], weight[:, 1:], strict=True)
        ]
        norm = [own + members @ ring for own, ring in zip(weight[:, 0], weight[:, 1:], strict=True)]
        return torch.cat([a / b for a, b in zip(total, norm, strict=True)], 1)
