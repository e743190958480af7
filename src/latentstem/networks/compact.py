"""The default network: convolutions on an early down-sampled pattern, beside a linear path that starts from PCA."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Network

__all__ = ["CompactAutoencoder"]

_PATCH = 4  # detector pixels that share one place on the convolutional grid


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(F.gelu(x))


class CompactAutoencoder(Network):
    """Pixel-unshuffle by four, residual convolutions, one linear layer to the latents, and the mirror of it.

    Parameters
    ----------
    shape, latent_dim, channels
        See `Network`.
    """

    def __init__(self, shape: tuple[int, int], latent_dim: int, channels: int = 1) -> None:
        super().__init__(shape, latent_dim, channels)
        self.grid = tuple(-(-side // _PATCH) for side in shape)
        width = 32
        flat = width * self.grid[0] * self.grid[1]
        self.reduce = nn.Conv2d(channels * _PATCH**2, width, 1)
        self.encoder = nn.Sequential(_Residual(width), _Residual(width))
        self.embed = nn.Linear(flat, latent_dim)
        self.expand = nn.Linear(latent_dim, flat)
        self.decoder = nn.Sequential(_Residual(width), _Residual(width))
        self.head = nn.Conv2d(width, _PATCH**2, 1)
        self.register_buffer("mean_input", torch.zeros(channels, *shape))
        self.register_buffer("mean_output", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(()))

    def encode(self, x: Tensor) -> Tensor:
        """Network input (B, C, h, w) to latents (B, k)."""
        x = (x - self.mean_input) / self.spread
        pad = [self.grid[1] * _PATCH - self.shape[1], self.grid[0] * _PATCH - self.shape[0]]
        x = F.pixel_unshuffle(F.pad(x, (0, pad[0], 0, pad[1])), _PATCH)
        return self.embed(F.gelu(self.encoder(self.reduce(x))).flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, h, w)."""
        x = self.decoder(self.expand(z).unflatten(1, (-1, *self.grid)))
        x = F.pixel_shuffle(self.head(F.gelu(x)), _PATCH)[:, 0, : self.shape[0], : self.shape[1]]
        return self.mean_output + self.spread * x

    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Start from the mean pattern."""
        self.mean_input.copy_(x.mean(0))
        self.mean_output.copy_(y.mean(0))
        self.spread.copy_((y - y.mean(0)).std().clamp_min(1e-6))
