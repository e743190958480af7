"""What every network does."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

__all__ = ["Network"]


class Network(nn.Module):
    """An encoder and a decoder.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns (h, w) of the patterns, at least 8 x 8.
    latent_dim : int
        Number of latents k.
    """

    #: whether weights made for one pattern shape serve another
    any_shape = False
    #: how many principal components the encoder sees of a pattern; 0 where it sees the preprocessed pattern
    components = 0
    #: what its weights are trained with
    optimiser: Literal["adamw", "muon"] = "adamw"

    def __init__(self, shape: tuple[int, int], latent_dim: int) -> None:
        super().__init__()
        self.shape, self.latent_dim = shape, latent_dim

    def encode(self, x: Tensor, rings: Tensor | None = None, members: Tensor | None = None) -> Tensor:
        """Latents (B, k) of preprocessed patterns (B, h, w), or of scores (B, q) amid their neighbours'.

        Parameters
        ----------
        x : Tensor, shape (B, h, w) or (B, q)
            Scores if the network has `components`.
        rings, members : Tensor, optional
            See `RingMeans.forward`.
        """
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, h, w) in the network's output space."""
        raise NotImplementedError

    def initialise(self, y: Tensor, unit: Tensor | None) -> None:
        """Start from a sample.

        Parameters
        ----------
        y : Tensor, shape (n, h, w)
            Patterns averaged with their neighbours, as the decoder should give them.
        unit : Tensor or None
            What one electron makes in the decoder's output, where that is known.
        """

    def set_axes(self, centre: Tensor, axes: Tensor) -> None:
        """Express latents in other axes: z becomes (z - centre) @ axes, and decodes to the same pattern.

        Parameters
        ----------
        centre : Tensor, shape (k,), float64
        axes : Tensor, shape (k, k), float64
            One column for each axis.
        """
        raise NotImplementedError
