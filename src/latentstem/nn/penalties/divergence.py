"""Penalty on latents of low variance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Penalty

__all__ = ["VariancePenalty"]


class VariancePenalty(Penalty):
    r"""Penalty on latents that hardly vary from pattern to pattern, which prevents mode collapse.

    .. math:: L_{div} = \frac{1}{k} \sum_j \max(0, 1 - \sqrt{\mathrm{var}_i\, a_{ij} + 10^{-6}})

    The variance term of VICReg (Bardes, Ponce, LeCun, ICLR 2022, eq. 1): bounded, zero as soon as each latent
    has a standard deviation of 1, and strongest for the least active latent.
    """

    name = "divergence"
    weight = "lambda_div"

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to the scalar term, between 0 and 1."""
        if len(latents) < 2:
            return latents.new_zeros(())
        return F.relu(1 - torch.sqrt(latents.var(0) + 1e-6)).mean()
