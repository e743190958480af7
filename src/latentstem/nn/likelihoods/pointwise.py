"""Errors of preprocessed pixels, for data that are not counts."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .base import Likelihood

__all__ = ["Huber", "MeanAbsoluteError", "MeanSquaredError"]


class MeanSquaredError(Likelihood):
    """Squared error: the negative log-likelihood of Gaussian noise of one variance."""

    name = "mse"

    def error(self, output: Tensor, values: Tensor, dose_fraction: float) -> Tensor:
        """See `Likelihood.error`."""
        return (output - self.preprocessing(values)).square()


class MeanAbsoluteError(Likelihood):
    """Absolute error: the negative log-likelihood of Laplacian noise."""

    name = "mae"

    def error(self, output: Tensor, values: Tensor, dose_fraction: float) -> Tensor:
        """See `Likelihood.error`."""
        return (output - self.preprocessing(values)).abs()


class Huber(Likelihood):
    """Squared error that turns linear at 0.1 (Huber, Ann. Math. Stat. 35, 73, 1964)."""

    name = "huber"

    def error(self, output: Tensor, values: Tensor, dose_fraction: float) -> Tensor:
        """See `Likelihood.error`."""
        return F.huber_loss(output, self.preprocessing(values), reduction="none", delta=0.1)
