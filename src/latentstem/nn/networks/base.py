"""What every network does."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from ..batches import ScoreBatch

__all__ = ["Network"]


class Network(nn.Module):
    """An encoder and a decoder.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns (h, w) of the patterns, at least 8 x 8.
    latent_dim : int
        Number of latents k.
    context : int
        Radius of the neighbourhood that the encoder sees, in scan positions.
    counts : bool
        Whether the output is the square root of expected counts.
    format_version : int
        Of the checkpoint format that the weights are from: a network goes on as it began.
    """

    #: what ``network=`` calls it
    name: ClassVar[str]
    #: whether weights made for one pattern shape serve another
    shape_independent = False
    #: how many principal components the encoder sees of a pattern; 0 where it sees the preprocessed pattern
    n_components = 0
    #: what its weights are trained with
    optimiser: Literal["adamw", "muon"] = "adamw"

    def __init__(
        self,
        shape: tuple[int, int],
        latent_dim: int,
        *,
        context: int = 0,
        counts: bool = False,
        format_version: int = 2,
    ) -> None:
        super().__init__()
        self.shape, self.latent_dim = shape, latent_dim

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, k) of preprocessed patterns (B, h, w), of a network that sees those."""
        raise NotImplementedError

    def encode_scores(self, batch: ScoreBatch) -> Tensor:
        """Latents (B, k) of scores, of a network that has `n_components`."""
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
