"""Poisson noise of counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Likelihood

__all__ = ["Poisson", "poisson_deviance"]

_MIN_COUNTS = 1e-20  # avoids division by 0
# floor of expected counts: 1% of their mean, but at most 1e-4, which has no effect at usual doses
_FLOOR_OF_MEAN, _MAX_FLOOR = 0.01, 1e-4


class Poisson(Likelihood):
    """Half the Poisson deviance of counts.

    The network gives the square root of the expected counts, for which the Fisher information is constant and which is
    never negative.
    """

    name = "poisson"
    counts = True

    def expected(self, output: Tensor) -> Tensor:
        """See `Likelihood.expected`."""
        return self.preprocessing.fitted_range[1] * output.square()

    def output(self, values: Tensor) -> Tensor:
        """See `Likelihood.output`."""
        return (values / self.preprocessing.fitted_range[1]).sqrt()

    def electron_value(self) -> Tensor:
        """See `Likelihood.electron_value`."""
        return (self.preprocessing.unit / self.preprocessing.fitted_range[1]).sqrt()

    def error(self, output: Tensor, values: Tensor, dose_fraction: float) -> Tensor:
        """See `Likelihood.error`."""
        pre = self.preprocessing
        expected = (dose_fraction * pre.fitted_range[1] / pre.unit) * output.square()
        floor = (_FLOOR_OF_MEAN * pre.mean_value / pre.unit).clamp(max=_MAX_FLOOR)
        return poisson_deviance(expected, values / pre.unit, floor)


def poisson_deviance(expected: Tensor, counts: Tensor, floor: Tensor | float = 1e-4) -> Tensor:
    r"""Half the Poisson deviance per pixel: the negative log-likelihood, less that of a perfect prediction.

    .. math:: \lambda - n + n \ln(n / \lambda)

    Parameters
    ----------
    expected : Tensor
        Expected counts, non-negative.
    counts : Tensor, same shape
        Recorded counts.
    floor : Tensor or float
        Added to the expected counts, to keep the logarithm finite where they are 0.
    """
    deviance: Tensor = _PoissonDeviance.apply(expected + floor, counts)
    return deviance


class _PoissonDeviance(torch.autograd.Function):
    """Half the deviance, computed with log1p, so that it is accurate in float32 also at high counts.

    ``n ln(n / lambda)`` has a rounding error of 10^-7 n, which at 10^6 counts is as large as the deviance.
    """

    @staticmethod
    def forward(ctx: Any, expected: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(expected, counts)
        difference = expected - counts
        smaller = torch.minimum(expected, counts).clamp_min_(_MIN_COUNTS)
        largest = torch.finfo(counts.dtype).max
        ratio = (difference.abs() / smaller).clamp_max_(largest)  # avoid inf * 0
        return difference.sub_(ratio.log1p_().mul_(difference.sign()).mul_(counts))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        expected, counts = ctx.saved_tensors
        return (counts / expected).neg_().add_(1).mul_(gradient), None
