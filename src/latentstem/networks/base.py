"""What every network does."""

from __future__ import annotations

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
    channels : int
        Input channels C.
    """

    #: whether weights made for one pattern shape serve another
    any_shape = False

    def __init__(self, shape: tuple[int, int], latent_dim: int, channels: int = 1) -> None:
        super().__init__()
        self.shape, self.latent_dim, self.channels = shape, latent_dim, channels

    def encode(self, x: Tensor) -> Tensor:
        """Network input (B, C, h, w) to latents (B, k)."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, h, w) in the network's output space."""
        raise NotImplementedError

    def initialise(self, x: Tensor, smooth: Tensor, y: Tensor, unit: Tensor | None) -> None:
        """Start from a sample.

        Parameters
        ----------
        x : Tensor, shape (n, C, h, w)
            Inputs.
        smooth : Tensor, shape (n, h, w)
            Each pattern averaged with its neighbours, as input.
        y : Tensor, shape (n, h, w)
            The same, as the decoder should give it.
        unit : Tensor or None
            What one electron makes in the decoder's output, where that is known.
        """
