r"""The objective, reconstruction(y, y_hat) + lambda_act * L1(a) + lambda_sim * L_sim + lambda_div * L_div.

Every term is a mean over patterns, so that its effect does not change with the batch size, and costs O(B k).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Activation", "Divergence", "Objective", "Similarity", "poisson_deviance"]

_LEAST = 1e-20  # counts that are divided by


class Activation(nn.Module):
    r"""L1 norm of the latents, which makes them sparse.

    .. math:: L_1(a) = \frac{1}{B} \sum_i \sum_j |a_{ij}|

    with latents j of pattern i in a batch of B: the sparsity penalty of Ludacka et al. (2024) and of sparse
    autoencoders at large.
    """

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to the scalar term."""
        return latents.abs().sum(1).mean()


class Similarity(nn.Module):
    r"""Mean pairwise cosine similarity of the embeddings: the contrastive term, which makes them diverse.

    .. math:: L_{sim} = \frac{1}{B(B-1)} \sum_{i \ne j} \frac{a_i \cdot a_j}{|a_i| |a_j|}
              = \frac{|\sum_i \hat a_i|^2 - B}{B(B-1)}

    over the B embeddings that are not zero. The contrastive regularisation of Ludacka et al. (2024), as a
    mean instead of a sum, so that it does not grow with the batch.
    """

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to the scalar term, between -1/(B-1) and 1; 0 where there is no pair."""
        norms = latents.norm(dim=1, keepdim=True)
        units = torch.where(norms > 1e-12, latents / norms.clamp_min(1e-12), 0.0)
        count = (norms > 1e-12).sum()
        pairs = (units.sum(0).square().sum() - count) / (count * (count - 1)).clamp_min(1)
        return torch.where(count > 1, pairs, 0.0)


class Divergence(nn.Module):
    r"""Penalty on latents that hardly vary from pattern to pattern, which prevents mode collapse.

    .. math:: L_{div} = \frac{1}{k} \sum_j \max(0, 1 - \sqrt{\mathrm{var}_i\, a_{ij} + 10^{-6}})

    The variance term of VICReg (Bardes, Ponce, LeCun, ICLR 2022, eq. 1): bounded, zero as soon as each latent
    spreads by one, and strongest for the least active latent.
    """

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to the scalar term, between 0 and 1."""
        if len(latents) < 2:
            return latents.new_zeros(())
        return F.relu(1 - torch.sqrt(latents.var(0) + 1e-6)).mean()


def poisson_deviance(expected: Tensor, counts: Tensor, floor: Tensor | float = 1e-4) -> Tensor:
    r"""Half the Poisson deviance per pixel: the negative log-likelihood, less that of a perfect prediction.

    .. math:: \lambda - n + n \ln(n / \lambda)

    Parameters
    ----------
    expected : Tensor
        Expected counts, non-negative.
    counts : Tensor, same shape
        Observed counts.
    floor : Tensor or float
        Is added to the expected counts, which keeps the logarithm finite where nothing is expected.
    """
    deviance: Tensor = _Deviance.apply(expected + floor, counts)
    return deviance


class _Deviance(torch.autograd.Function):
    """Exact to single precision also where many counts are predicted well: the logarithm is of one plus a difference.

    ``n ln(n / lambda)`` itself is rounded to 10^-7 n, which at 10^6 counts is all there is.
    """

    @staticmethod
    def forward(ctx: Any, expected: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(expected, counts)
        difference = expected - counts
        smaller = torch.minimum(expected, counts).clamp_min_(_LEAST)
        ratio = (difference.abs() / smaller).clamp_max_(
            torch.finfo(counts.dtype).max
        )  # infinity times no counts
        return difference.sub_(ratio.log1p_().mul_(difference.sign()).mul_(counts))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        expected, counts = ctx.saved_tensors
        return (counts / expected).neg_().add_(1).mul_(gradient), None


_POINTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda predicted, target: (predicted - target).square(),
    "mae": lambda predicted, target: (predicted - target).abs(),
    "huber": lambda predicted, target: F.huber_loss(predicted, target, reduction="none", delta=0.1),
}


class Objective(nn.Module):
    """The weighted sum of reconstruction and latent terms; each is returned by name.

    Parameters
    ----------
    reconstruction : {"mse", "mae", "huber", "poisson"}
        Pointwise reconstruction term, averaged over the used pixels; ``huber`` turns linear at 0.1.
    lambda_act, lambda_sim, lambda_div : float
        Weights of `Activation`, `Similarity` and `Divergence`. A term of weight 0 is not computed.
    """

    def __init__(self, reconstruction: str, lambda_act: float, lambda_sim: float, lambda_div: float) -> None:
        super().__init__()
        self.reconstruction = reconstruction
        self.weights = {"l1": lambda_act, "similarity": lambda_sim, "divergence": lambda_div}
        self.terms = nn.ModuleDict(
            {"l1": Activation(), "similarity": Similarity(), "divergence": Divergence()}
        )

    def forward(
        self, predicted: Tensor, target: Tensor, used: Tensor, latents: Tensor, floor: Tensor | float = 1e-4
    ) -> dict[str, Tensor]:
        """Terms by name, with their weighted sum as ``loss``.

        Parameters
        ----------
        predicted, target : Tensor, shape (B, h, w)
            Expected and observed counts for ``poisson``, else patterns in the preprocessed space.
        used : Tensor, shape (h, w)
            1 for pixels that count, 0 for excluded ones.
        latents : Tensor, shape (B, k)
        floor : Tensor or float
            Of the expected counts, for ``poisson``; see `poisson_deviance`.
        """
        if self.reconstruction == "poisson":
            error = poisson_deviance(predicted, target, floor)
        else:
            error = _POINTWISE[self.reconstruction](predicted, target)
        values = {self.reconstruction: (error.sum(0) * used).sum() / (used.sum() * len(target))}
        total = values[self.reconstruction]
        for name, term in self.terms.items():
            if self.weights[name]:
                values[name] = term(latents)
                total = total + self.weights[name] * values[name]
        return {"loss": total, **values}
