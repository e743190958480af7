"""The default network: principal components and small dense layers to the latents, convolutions back to the pattern."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor, nn

from ..batches import ScoreBatch
from ..neighbourhood import RingMeans
from ..stored_names import keep_stored_names
from .base import Network

__all__ = ["CompactAutoencoder"]

_COMPONENTS = 128  # that the encoder sees
_PATCH = 4  # detector pixels that share one place on the decoder's grid
_MAPS = 16  # feature maps on that grid
_KNOTS = 6  # control points of the diffuse background along each axis
_MOST = 4.0  # logarithm of the background's factor, at most: latents of what was never seen may be far off
_SLOPE = 0.003  # what is left of changes below the background
_WIDTH = 128  # of the dense layers, at least
_STORED = {  # names in checkpoints
    "ring_means.": "around.",
    "encoder_mlp.": "bend.",
    "decoder_mlp.": "expand.",
    "background_mlp.": "diffuse.",
}


def _dense(widths: list[int], activation: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), activation]
    return nn.Sequential(*layers[:-1])


def _splines(pixels: int) -> Tensor:
    """Cubic B-splines at the pixels of one axis, (pixels, _KNOTS)."""
    knots = np.concatenate([[0.0] * 3, np.linspace(0, 1, _KNOTS - 2), [1.0] * 3])
    places = (np.arange(pixels) + 0.5) / pixels
    return torch.from_numpy(BSpline.design_matrix(places, knots, 3).toarray()).float()


def _unshuffle(x: Tensor) -> Tensor:
    """Pixels (B, _PATCH^2, h, w) of each place on the grid to (B, h * _PATCH, w * _PATCH).

    As `torch.nn.functional.pixel_shuffle`, which takes twice as long with channels last in memory.
    """
    return x.permute(0, 2, 3, 1).unflatten(3, (_PATCH, _PATCH)).transpose(2, 3).flatten(3).flatten(1, 2)


class _AddInQuadrature(torch.autograd.Function):
    """Square root of the expected intensity: what is above the background is added to it as intensities are.

    For a background b and a change c, sqrt(b^2 + max(c, 0)^2) + _SLOPE min(c, 0), in few passes over the pixels.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, level: Tensor, background: Tensor, log_factor: Tensor, unit: Tensor
    ) -> Tensor:
        change, factor = x + level, log_factor.exp()
        below, above = factor * background, change.clamp_min(0)
        root = below.square().addcmul_(above, above).add_(1e-9).sqrt_()
        ctx.save_for_backward(change, factor, below, above, root, unit)
        return root.add(change, alpha=_SLOPE).sub_(above, alpha=_SLOPE).mul_(unit)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        change, factor, below, above, root, unit = ctx.saved_tensors
        gradient = gradient * unit
        of_below = gradient / root
        of_change = of_below * above
        of_below.mul_(below)
        of_change.addcmul_(gradient, change.lt(0).to(gradient.dtype), value=_SLOPE)
        return of_change, of_change.sum(0), (of_below * factor).sum(0), of_below.mul_(below), None


class CompactAutoencoder(Network):
    """A small network that starts from principal components.

    The encoder sees scores: how much of each principal component is in a pattern, and in the mean over its alike
    neighbours. A linear path and two dense layers make latents of them. The decoder is dense up to a grid of 4 x 4
    pixels and convolutional from there, so that what all spots have in common is learnt once.

    For counts, the output is the square root of the expected intensity, a sum of two parts: a background, learnt for
    each pixel, times a smooth factor that depends on the latents, as diffuse scattering does on the thickness; and what
    the decoder adds. What it takes away counts next to nothing: most detector pixels are empty in most patterns, and
    there the decoder's own noise would be most of the error.

    Parameters
    ----------
    shape, latent_dim, context, counts, format_version
        See `Network`. The layers of format 1 have GELU between them, later ones ReLU, which is faster and no worse.
    """

    name = "compact"
    optimiser = "muon"

    def __init__(
        self,
        shape: tuple[int, int],
        latent_dim: int,
        *,
        context: int = 0,
        counts: bool = False,
        format_version: int = 2,
    ) -> None:
        super().__init__(shape, latent_dim)
        self.counts = counts
        self.activation = nn.GELU("tanh") if format_version == 1 else nn.ReLU()
        self.grid = (-(-shape[0] // _PATCH), -(-shape[1] // _PATCH))
        self.n_components = min(max(_COMPONENTS, latent_dim), shape[0] * shape[1])
        width = max(_WIDTH, latent_dim)
        self.ring_means = RingMeans(self.n_components, context)
        parts = 1 + self.ring_means.means if context else 1
        self.linear = nn.Linear(parts * self.n_components, latent_dim, bias=False)
        self.encoder_mlp = _dense([parts * self.n_components, width, width, latent_dim], self.activation)
        self.decoder_mlp = _dense(
            [latent_dim, width, width, _MAPS * self.grid[0] * self.grid[1]], self.activation
        )
        self.first = nn.Conv2d(_MAPS, _MAPS, 3, padding=1)
        self.second = nn.Conv2d(_MAPS, _MAPS, 3, padding=1)
        self.head = nn.Conv2d(_MAPS, _PATCH**2, 3, padding=1)
        self.background_mlp = _dense([latent_dim, width // 2, _KNOTS**2], self.activation)
        self.level = nn.Parameter(torch.zeros(shape))
        self.background = nn.Parameter(torch.zeros(shape))
        for layer in (self.second, self.encoder_mlp[-1], self.background_mlp[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            first = torch.eye(latent_dim, self.n_components)
            share = [1.0] if parts == 1 else [0.1, *[0.9 / (parts - 1)] * (parts - 1)]
            self.linear.weight.copy_(torch.cat([part * first for part in share], 1))
            self.head.weight.mul_(0.1)
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.unit: Tensor
        self.rows: Tensor
        self.columns: Tensor
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("rows", _splines(shape[0]), persistent=False)
        self.register_buffer("columns", _splines(shape[1]), persistent=False)
        keep_stored_names(self, _STORED)

    def encode_scores(self, batch: ScoreBatch) -> Tensor:
        """Scores (B, q), and those of their neighbours, to latents (B, k)."""
        x = batch.scores
        if self.linear.in_features > self.n_components:
            x = torch.cat([x, self.ring_means(batch)], 1)
        return self.linear(x) + self.encoder_mlp(x)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, h, w)."""
        x = (
            self.decoder_mlp(z).unflatten(1, (*self.grid, _MAPS)).permute(0, 3, 1, 2)
        )  # channels last in memory
        x = x + self.second(self.activation(self.first(self.activation(x))))
        x = _unshuffle(self.head(self.activation(x)))[:, : self.shape[0], : self.shape[1]]
        if not self.counts:
            return self.unit * (self.background + self.level + x)
        control = self.background_mlp(z).clamp(-_MOST, _MOST).unflatten(1, (_KNOTS, _KNOTS))
        log_factor = self.rows @ control @ self.columns.T
        output: Tensor = _AddInQuadrature.apply(x, self.level, self.background, log_factor, self.unit)
        return output

    def initialise(self, y: Tensor, unit: Tensor | None) -> None:
        """Start from the median pattern of the sample, and from its mean above that."""
        self.unit.copy_(y.std().clamp_min(1e-6) if unit is None else unit)
        y = y / self.unit
        background, mean = y.median(0).values, y.mean(0)
        if self.counts:
            background = (background.square() + 1e-3).sqrt()
            mean = y.square().mean(0)
            mean = (mean + 0.01 * mean.mean()).sqrt()
        level = mean - background
        if self.counts:  # intensities add
            above = (mean.square() - background.square()).clamp_min(0).sqrt()
            level = torch.where(level < 0, level / _SLOPE, above)
        self.background.copy_(background)
        self.level.copy_(level)

    @torch.no_grad()
    def set_axes(self, centre: Tensor, axes: Tensor) -> None:
        """Express latents in other axes, in the first and last layers that they pass; see `Network.set_axes`."""
        into, back = cast(nn.Linear, self.encoder_mlp[-1]), torch.linalg.inv(axes).T
        for layer in (self.linear, into):
            layer.weight.copy_(axes.T @ layer.weight.double())
        into.bias.copy_(axes.T @ (into.bias.double() - centre))
        for out in (cast(nn.Linear, self.decoder_mlp[0]), cast(nn.Linear, self.background_mlp[0])):
            weight = out.weight.double()
            out.bias.copy_(out.bias.double() + weight @ centre)
            out.weight.copy_(weight @ back)
