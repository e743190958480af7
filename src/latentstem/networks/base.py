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

    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Start from a sample of inputs (n, C, h, w) and of what the decoder should give for them (n, h, w)."""
