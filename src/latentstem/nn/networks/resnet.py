"""The reference architecture: residual blocks at full resolution, and non-negative, sparse latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Network

__all__ = ["ResNetAutoencoder"]

_CHANNELS = 128  # of the residual blocks
_MIN_SIZE = 4  # rows and columns of the map that is flattened into the latents


class _Residual(nn.Module):
    """Three convolutions with a skip connection, then one without."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv_norm_relu(width, width),
            _conv_norm_relu(width, width),
            _conv_norm_relu(width, width, relu=False),
        )
        self.identity = _conv_norm_relu(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.identity(F.relu(self.body(x) + x))


def _conv_norm_relu(width_in: int, width_out: int, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(width_in, width_out, 3, padding=1), nn.BatchNorm2d(width_out)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class ResNetAutoencoder(Network):
    """Residual autoencoder of the kind used for scanning electron diffraction.

    The encoder runs two convolutions and three residual blocks, each followed by pooling by four but never
    below 4 x 4, and pools the rest to 4 x 4, so that the number of parameters does not depend on the pattern
    shape. Latents pass a ReLU: they are non-negative, and sparse under an L1 penalty. The decoder mirrors it
    and ends at the pattern's own size.

    It follows the networks of Ludacka et al. (2024), "Imaging and structure analysis of ferroelectric
    domains, domain walls, and vortices by scanning electron diffraction", without their single-channel map of
    4 x 4 before the latents, which limits the information to 16 numbers, and without a fixed
    decoder size of 256 x 256.

    Parameters
    ----------
    shape, latent_dim, **options
        See `Network`. `latent_dim` up to 1024 adds capacity.
    """

    name = "resnet"
    shape_independent = True

    def __init__(self, shape: tuple[int, int], latent_dim: int, **options: Any) -> None:
        super().__init__(shape, latent_dim, **options)
        half = _CHANNELS // 2
        self.stem = nn.Sequential(_conv_norm_relu(1, half), _conv_norm_relu(half, _CHANNELS))
        self.down = nn.ModuleList(_Residual(_CHANNELS) for _ in range(3))
        self.squeeze = _conv_norm_relu(_CHANNELS, half)
        self.embed = nn.Linear(half * _MIN_SIZE**2, latent_dim)
        self.expand = nn.Linear(latent_dim, _CHANNELS * _MIN_SIZE**2)
        self.up = nn.ModuleList(_Residual(_CHANNELS) for _ in range(3))
        self.head = nn.Conv2d(_CHANNELS, 1, 3, padding=1)

    def encode(self, x: Tensor) -> Tensor:
        """Preprocessed patterns (B, h, w) to non-negative latents (B, k)."""
        x = self.stem(x[:, None])
        for block in self.down:
            x = block(x)
            x = F.adaptive_avg_pool2d(x, (max(_MIN_SIZE, x.shape[-2] // 4), max(_MIN_SIZE, x.shape[-1] // 4)))
        return F.relu(self.embed(F.adaptive_avg_pool2d(self.squeeze(x), _MIN_SIZE).flatten(1)))

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, h, w)."""
        x = self.expand(z).unflatten(1, (_CHANNELS, _MIN_SIZE, _MIN_SIZE))
        for block, stride in zip(self.up, (16, 4, 1), strict=True):
            size = tuple(max(_MIN_SIZE, -(-side // stride)) if stride > 1 else side for side in self.shape)
            x = block(F.interpolate(x, size, mode="bilinear", align_corners=False))
        return self.head(x)[:, 0]

    def initialise(self, mean_patterns: Tensor, latents: Tensor, electron_value: Tensor | None) -> None:
        """Initialise the output bias with the mean value, and the latent bias above 0, against dead ReLUs."""
        with torch.no_grad():
            nn.init.constant_(self.head.bias, mean_patterns.mean().item())  # type: ignore[arg-type]
            self.embed.bias.fill_(0.1)
