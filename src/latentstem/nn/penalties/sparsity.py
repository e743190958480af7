"""Penalty that makes latents sparse."""

from __future__ import annotations

from torch import Tensor

from .base import Penalty

__all__ = ["L1Penalty"]


class L1Penalty(Penalty):
    r"""L1 norm of the latents, which makes them sparse.

    .. math:: L_1(a) = \frac{1}{B} \sum_i \sum_j |a_{ij}|

    with latents j of pattern i in a batch of B: the sparsity penalty of Ludacka et al. (2024) and of sparse
    autoencoders in general.
    """

    name = "l1"
    weight = "lambda_act"

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to the scalar term."""
        return latents.abs().sum(1).mean()
