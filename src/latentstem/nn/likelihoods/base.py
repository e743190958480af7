"""Interface of the likelihoods."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..preprocessing import Preprocessing

__all__ = ["Likelihood"]


class Likelihood:
    """Error of a prediction, and the meaning of the network's output.

    Parameters
    ----------
    preprocessing : Preprocessing
        Its statistics give the electron value and the range of values.
    """

    #: value of ``reconstruction=``
    name: ClassVar[str]
    #: whether the network's output is the square root of expected counts
    counts = False

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def expected(self, output: Tensor) -> Tensor:
        """Convert the network's output (B, h, w) to expected detector values."""
        return self.preprocessing.inverse(output)

    def output(self, values: Tensor) -> Tensor:
        """Network output for which `expected` gives these detector values (B, h, w)."""
        return self.preprocessing(values)

    def electron_value(self) -> Tensor | None:
        """Value of one electron in the network's output, if known."""
        return None

    def error(self, output: Tensor, values: Tensor, dose_fraction: float) -> Tensor:
        """Error of each pixel, shape (B, h, w).

        Parameters
        ----------
        output : Tensor, shape (B, h, w)
            The network's output.
        values : Tensor, shape (B, h, w)
            Recorded detector values.
        dose_fraction : float
            Dose of `values` relative to the recorded patterns; 0.5 for thinned counts.
        """
        raise NotImplementedError
