"""The default network: principal components and small dense layers to the latents, convolutions back to the pattern."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Network

__all__ = ["CompactAutoencoder"]

_PATCH = 4  # detector pixels that share one place on the decoder's grid
_MAPS = 16  # feature maps on that grid
_SLOPE = 0.03  # what is left of changes below the background
_WIDTH = 128  # of the dense layers, at least


def _dense(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.GELU("tanh")]
    return nn.Sequential(*layers[:-1])


class CompactAutoencoder(Network):
    """A small network that starts from principal components.

    The encoder projects each input channel, weighted by its noise, onto components that start as the principal
    components of the sample; two dense layers beside a linear path make latents of them. The decoder is dense up to a
    grid of 4 x 4 pixels and convolutional from there, so that what all spots have in common is learnt once.

    The output is a background, learnt for each pixel, plus what the decoder adds. For counts, what it takes away counts
    little: most detector pixels are empty in most patterns, and there the decoder's own noise would be most of the
    error.

    Parameters
    ----------
    shape, latent_dim, channels
        See `Network`.
    """

    def __init__(self, shape: tuple[int, int], latent_dim: int, channels: int = 1) -> None:
        super().__init__(shape, latent_dim, channels)
        self.grid = (-(-shape[0] // _PATCH), -(-shape[1] // _PATCH))
        components, width = max(64, latent_dim), max(_WIDTH, latent_dim)
        self.components = components
        self.project = nn.ModuleList(
            nn.Linear(shape[0] * shape[1], components, bias=False) for _ in range(channels)
        )
        self.linear = nn.Linear(channels * components, latent_dim, bias=False)
        self.bend = _dense(channels * components, width, width, latent_dim)
        self.expand = _dense(latent_dim, width, width, _MAPS * self.grid[0] * self.grid[1])
        self.first = nn.Conv2d(_MAPS, _MAPS, 3, padding=1)
        self.second = nn.Conv2d(_MAPS, _MAPS, 3, padding=1)
        self.head = nn.Conv2d(_MAPS, _PATCH**2, 3, padding=1)
        self.level = nn.Parameter(torch.zeros(shape))
        self.background = nn.Parameter(torch.zeros(shape))
        for layer in (self.second, self.bend[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.mean: Tensor
        self.noise: Tensor
        self.unit: Tensor
        self.slope: Tensor
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("noise", torch.ones(shape))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("slope", torch.ones(()))

    def encode(self, x: Tensor) -> Tensor:
        """Network input (B, C, h, w) to latents (B, k)."""
        x = ((x - self.mean) / self.noise).flatten(2)
        features = torch.cat([layer(x[:, channel]) for channel, layer in enumerate(self.project)], 1)
        return self.linear(features) + self.bend(features)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, h, w)."""
        x = self.expand(z).unflatten(1, (*self.grid, _MAPS)).permute(0, 3, 1, 2)  # channels last in memory
        x = x + self.second(F.gelu(self.first(F.gelu(x, approximate="tanh")), approximate="tanh"))
        x = F.pixel_shuffle(self.head(F.gelu(x, approximate="tanh")), _PATCH)
        change = self.level + x[:, 0, : self.shape[0], : self.shape[1]]
        return self.unit * (self.background + torch.maximum(change, self.slope * change))

    def initialise(self, x: Tensor, smooth: Tensor, y: Tensor, unit: Tensor | None) -> None:
        """Start from the principal components of the sample, and from its mean pattern over its median."""
        pooled = (smooth - smooth.mean(0)).flatten(1)
        noise = (x[:, 0] - smooth).flatten(1).square().mean(0)
        noise = (noise + 0.05 * noise.mean()).sqrt().clamp_min(1e-12)
        self.mean.copy_(smooth.mean(0))
        self.noise.copy_(noise.reshape(self.shape))
        self.unit.copy_(y.std().clamp_min(1e-6) if unit is None else unit)

        weighted = pooled / noise
        count = min(self.components, len(weighted) - 1, weighted.shape[1])
        directions = torch.svd_lowrank(weighted, q=min(count + 6, *weighted.shape), niter=3)[2][:, :count]
        spread = (weighted @ directions).std(0)
        start = torch.zeros(self.components, weighted.shape[1])
        start[:count] = (directions / (spread + 0.3 * spread[min(15, count - 1)] + 1e-12)).T
        share = (
            (1.0,) if self.channels == 1 else (0.1, 0.9)
        )  # of a pattern alone, and of it with its neighbours
        first = torch.eye(self.latent_dim, self.components)
        self.linear.weight.copy_(torch.cat([part * first for part in share], 1))
        for layer in self.project:
            layer.load_state_dict({"weight": start})

        y = y / self.unit
        background, mean = y.median(0).values, y.mean(0)
        if unit is not None:  # square roots of counts
            background, mean = (background.square() + 1e-3).sqrt(), y.square().mean(0)
            mean = (mean + 0.01 * mean.mean()).sqrt()
            self.slope.fill_(_SLOPE)
        level = mean - background
        self.background.copy_(background)
        self.level.copy_(torch.where(level < 0, level / self.slope, level))
        self.head.weight.mul_(0.1)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
