"""Interface of the networks."""

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
        Radius of the encoder's neighbourhood, in scan positions.
    counts : bool
        Whether the output is the square root of expected counts.
    format_version : int
        Format of the checkpoint the weights come from; selects the network's variant.
    """

    #: value of ``network=``
    name: ClassVar[str]
    #: whether trained weights can be used for another pattern shape
    shape_independent = False
    #: number of principal components that the encoder takes as input; 0 if it takes the network input
    n_components = 0
    #: optimiser of the weights
    optimiser: Literal["adamw", "muon"] = "adamw"

    def __init__(
        self,
        shape: tuple[int, int],
        latent_dim: int,
        *,
        context: int = 0,
        counts: bool = False,
        format_version: int = 3,
    ) -> None:
        super().__init__()
        self.shape, self.latent_dim = shape, latent_dim

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, k) of preprocessed patterns (B, h, w), if `n_components` is 0."""
        raise NotImplementedError

    def encode_scores(self, batch: ScoreBatch) -> Tensor:
        """Latents (B, k) of scores, if there are `n_components`."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, h, w) in the network's output space."""
        raise NotImplementedError

    def initialise(self, mean_patterns: Tensor, latents: Tensor, electron_value: Tensor | None) -> None:
        """Initialise weights from a sample of patterns.

        Parameters
        ----------
        mean_patterns : Tensor, shape (n, h, w)
            Neighbour means, in the decoder's output space.
        latents : Tensor, shape (n, k)
            Their latents before training.
        electron_value : Tensor or None
            Value of one electron in the decoder's output space, if known.
        """

    def rotate_latents(self, centre: Tensor, axes: Tensor) -> None:
        """Change the basis of the latent space: z becomes (z - centre) @ axes; decoded patterns do not change.

        Parameters
        ----------
        centre : Tensor, shape (k,), float64
        axes : Tensor, shape (k, k), float64
            One column for each new axis.
        """
        raise NotImplementedError
