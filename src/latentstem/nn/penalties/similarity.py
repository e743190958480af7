"""Penalty on similar latents."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Penalty

__all__ = ["CosineSimilarityPenalty"]


class CosineSimilarityPenalty(Penalty):
    r"""Mean cosine similarity of the latents of two patterns: low values make latents diverse.

    .. math:: L_{sim} = \frac{1}{B(B-1)} \sum_{i \ne j} \frac{a_i \cdot a_j}{|a_i| |a_j|}
              = \frac{|\sum_i \hat a_i|^2 - B}{B(B-1)}

    over the B patterns with latents :math:`a_i` that are not all zero. The contrastive regularisation of Ludacka et al.
    (2024), as a mean instead of a sum, so that it does not grow with the batch.
    """

    name = "similarity"
    weight = "lambda_sim"

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to the scalar term, between -1/(B-1) and 1; 0 where there is no pair."""
        norms = latents.norm(dim=1, keepdim=True)
        directions = torch.where(norms > 1e-12, latents / norms.clamp_min(1e-12), 0.0)
        count = (norms > 1e-12).sum()
        similarity = (directions.sum(0).square().sum() - count) / (count * (count - 1)).clamp_min(1)
        return torch.where(count > 1, similarity, 0.0)
