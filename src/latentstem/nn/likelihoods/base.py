"""What every likelihood does."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..preprocessing import Preprocessing

__all__ = ["Likelihood"]


class Likelihood:
    """How far recorded values are from those that the network expects, and what the network's output means.

    Parameters
    ----------
    preprocessing : Preprocessing
        Its statistics say what one electron is, and how large values are.
    """

    #: what ``reconstruction=`` calls it
    name: ClassVar[str]
    #: whether the network gives the square root of expected counts
    counts = False

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def expected(self, output: Tensor) -> Tensor:
        """The network's output (B, h, w) to expected detector values."""
        return self.preprocessing.inverse(output)

    def output(self, values: Tensor) -> Tensor:
        """Detector values (B, h, w) to the output of a network that expects them."""
        return self.preprocessing(values)

    def unit(self) -> Tensor | None:
        """What one electron makes in the network's output, where that is known."""
        return None

    def error(self, output: Tensor, values: Tensor, fraction: float) -> Tensor:
        """Error of each pixel, shape (B, h, w).

        Parameters
        ----------
        output : Tensor, shape (B, h, w)
            The network's output.
        values : Tensor, shape (B, h, w)
            Recorded detector values.
        fraction : float
            Of the dose that `values` have, less than 1 where counts were split.
        """
        raise NotImplementedError
