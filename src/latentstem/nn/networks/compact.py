"""The default network: an MLP from principal component scores to latents, and a convolutional decoder."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor, nn

from ..batches import ScoreBatch
from ..motion import Motion
from ..neighbourhood import RingMeans
from ..stored_names import keep_stored_names
from .base import Network

__all__ = ["CompactAutoencoder"]

_N_COMPONENTS = 128  # principal components used as encoder input
_UPSAMPLING = 4  # detector pixels per pixel of the decoder's grid, along each axis
_N_FEATURE_MAPS = 16
_N_CONTROL_POINTS = 6  # of the diffuse background, along each axis
_MAX_LOG_FACTOR = 4.0  # clip value of the log background factor, for latents far outside the training data
_NEGATIVE_SLOPE = 0.003  # slope for negative changes (as in a leaky ReLU)
_HIDDEN_WIDTH = 128  # minimum width of the dense layers
_STORED_PREFIXES = {  # names in checkpoints
    "ring_means.": "around.",
    "encoder_mlp.": "bend.",
    "decoder_mlp.": "expand.",
    "background_mlp.": "diffuse.",
}


def _mlp(widths: list[int], activation: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), activation]
    return nn.Sequential(*layers[:-1])


def _spline_basis(pixels: int) -> Tensor:
    """Cubic B-splines at the pixels of one axis, (pixels, _N_CONTROL_POINTS)."""
    knots = np.concatenate([[0.0] * 3, np.linspace(0, 1, _N_CONTROL_POINTS - 2), [1.0] * 3])
    pixel_centres = (np.arange(pixels) + 0.5) / pixels
    return torch.from_numpy(BSpline.design_matrix(pixel_centres, knots, 3).toarray()).float()


def _pixel_shuffle(x: Tensor) -> Tensor:
    """Put the pixels (B, _UPSAMPLING^2, h, w) of each grid pixel side by side: (B, h * _UPSAMPLING, w * _UPSAMPLING).

    Same as `torch.nn.functional.pixel_shuffle`, but twice as fast for channels-last tensors.
    """
    return (
        x.permute(0, 2, 3, 1)
        .unflatten(3, (_UPSAMPLING, _UPSAMPLING))
        .transpose(2, 3)
        .flatten(3)
        .flatten(1, 2)
    )


class _AddInQuadrature(torch.autograd.Function):
    """Square root of the expected intensity: add background and positive change as intensities.

    For background b and change c: sqrt(b^2 + max(c, 0)^2) + _NEGATIVE_SLOPE min(c, 0). A custom autograd function, to
    save passes over memory.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, level: Tensor, background: Tensor, log_factor: Tensor, unit: Tensor
    ) -> Tensor:
        change, factor = x + level, log_factor.exp()
        scaled_background, positive_change = factor * background, change.clamp_min(0)
        root = scaled_background.square().addcmul_(positive_change, positive_change).add_(1e-9).sqrt_()
        ctx.save_for_backward(change, factor, scaled_background, positive_change, root, unit)
        return root.add(change, alpha=_NEGATIVE_SLOPE).sub_(positive_change, alpha=_NEGATIVE_SLOPE).mul_(unit)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        change, factor, scaled_background, positive_change, root, unit = ctx.saved_tensors
        gradient = gradient * unit
        background_gradient = gradient / root
        change_gradient = background_gradient * positive_change
        background_gradient.mul_(scaled_background)
        change_gradient.addcmul_(gradient, change.lt(0).to(gradient.dtype), value=_NEGATIVE_SLOPE)
        level_gradient = change_gradient.sum(0)
        unscaled_background_gradient = (background_gradient * factor).sum(0)
        log_factor_gradient = background_gradient.mul_(scaled_background)
        return change_gradient, level_gradient, unscaled_background_gradient, log_factor_gradient, None


class CompactAutoencoder(Network):
    """A small network on principal component scores.

    The encoder's input is the scores of a pattern and their means over similar neighbours; latents are the sum of a
    linear layer and a small MLP. The decoder is an MLP up to a grid coarser by 4 than the detector, then convolutional,
    so that features common to all diffraction spots are learnt once.

    For counts, the output is the square root of the expected intensity, which has two parts: a background per pixel
    times a smooth factor that depends on the latents (diffuse scattering depends on thickness), and the decoder's
    output. Negative decoder output is nearly suppressed: most pixels are empty in most patterns, and there the
    decoder's noise would dominate the error.

    Parameters
    ----------
    shape, latent_dim, context, counts, format_version
        See `Network`. Checkpoints of format 1 have the activation function GELU, later ones ReLU, which is faster and
        as good.
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
        format_version: int = 3,
    ) -> None:
        super().__init__(shape, latent_dim)
        self.counts = counts
        self.activation = nn.GELU("tanh") if format_version == 1 else nn.ReLU()
        self.grid = (-(-shape[0] // _UPSAMPLING), -(-shape[1] // _UPSAMPLING))
        self.n_components = min(max(_N_COMPONENTS, latent_dim), shape[0] * shape[1])
        width = max(_HIDDEN_WIDTH, latent_dim)
        self.ring_means = RingMeans(self.n_components, context)
        n_inputs = 1 + self.ring_means.n_means if context else 1
        self.linear = nn.Linear(n_inputs * self.n_components, latent_dim, bias=False)
        self.encoder_mlp = _mlp([n_inputs * self.n_components, width, width, latent_dim], self.activation)
        self.decoder_mlp = _mlp(
            [latent_dim, width, width, _N_FEATURE_MAPS * self.grid[0] * self.grid[1]], self.activation
        )
        self.first = nn.Conv2d(_N_FEATURE_MAPS, _N_FEATURE_MAPS, 3, padding=1)
        self.second = nn.Conv2d(_N_FEATURE_MAPS, _N_FEATURE_MAPS, 3, padding=1)
        self.head = nn.Conv2d(_N_FEATURE_MAPS, _UPSAMPLING**2, 3, padding=1)
        self.background_mlp = _mlp([latent_dim, width // 2, _N_CONTROL_POINTS**2], self.activation)
        self.level = nn.Parameter(torch.zeros(shape))
        self.background = nn.Parameter(torch.zeros(shape))
        self.motion = Motion(latent_dim, shape) if format_version > 2 else None
        for layer in (self.second, self.encoder_mlp[-1], self.background_mlp[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            leading = torch.eye(latent_dim, self.n_components)
            initial_weights = [1.0] if n_inputs == 1 else [0.1, *[0.9 / (n_inputs - 1)] * (n_inputs - 1)]
            self.linear.weight.copy_(torch.cat([weight * leading for weight in initial_weights], 1))
            self.head.weight.mul_(0.1)
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.unit: Tensor
        self.rows: Tensor
        self.columns: Tensor
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("rows", _spline_basis(shape[0]), persistent=False)
        self.register_buffer("columns", _spline_basis(shape[1]), persistent=False)
        keep_stored_names(self, _STORED_PREFIXES)

    def encode_scores(self, batch: ScoreBatch) -> Tensor:
        """Scores (B, q) and their neighbours' ring sums to latents (B, k)."""
        x = batch.scores
        if self.linear.in_features > self.n_components:
            x = torch.cat([x, self.ring_means(batch)], 1)
        return self.linear(x) + self.encoder_mlp(x)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, k) to patterns (B, h, w)."""
        # permuted, so that the memory format is channels last
        x = self.decoder_mlp(z).unflatten(1, (*self.grid, _N_FEATURE_MAPS)).permute(0, 3, 1, 2)
        x = x + self.second(self.activation(self.first(self.activation(x))))
        x = _pixel_shuffle(self.head(self.activation(x)))[:, : self.shape[0], : self.shape[1]]
        output = self._with_background(x, z)
        return output if self.motion is None else self.motion(output, z)

    def _with_background(self, x: Tensor, z: Tensor) -> Tensor:
        if not self.counts:
            return self.unit * (self.background + self.level + x)
        control = (
            self.background_mlp(z)
            .clamp(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR)
            .unflatten(1, (_N_CONTROL_POINTS, _N_CONTROL_POINTS))
        )
        log_factor = self.rows @ control @ self.columns.T
        output: Tensor = _AddInQuadrature.apply(x, self.level, self.background, log_factor, self.unit)
        return output

    def initialise(self, mean_patterns: Tensor, latents: Tensor, electron_value: Tensor | None) -> None:
        """Initialise the background with the median pattern, the level with the mean above it, and the shifts."""
        self.unit.copy_(mean_patterns.std().clamp_min(1e-6) if electron_value is None else electron_value)
        if self.motion is not None:
            self.motion.initialise(mean_patterns, latents)
            mean_patterns = self.motion.undo(mean_patterns, latents)
        patterns = mean_patterns / self.unit
        background, mean = patterns.median(0).values, patterns.mean(0)
        if self.counts:
            background = (background.square() + 1e-3).sqrt()
            mean = patterns.square().mean(0)
            mean = (mean + 0.01 * mean.mean()).sqrt()
        level = mean - background
        if self.counts:  # in square-root space, intensities add in quadrature
            positive_level = (mean.square() - background.square()).clamp_min(0).sqrt()
            level = torch.where(level < 0, level / _NEGATIVE_SLOPE, positive_level)
        self.background.copy_(background)
        self.level.copy_(level)

    @torch.no_grad()
    def rotate_latents(self, centre: Tensor, axes: Tensor) -> None:
        """Change the latent basis by changing the encoder's last and the decoder's first layers; see `Network`."""
        last_layer, inverse_axes = cast(nn.Linear, self.encoder_mlp[-1]), torch.linalg.inv(axes).T
        for layer in (self.linear, last_layer):
            layer.weight.copy_(axes.T @ layer.weight.double())
        last_layer.bias.copy_(axes.T @ (last_layer.bias.double() - centre))
        first_layers = [cast(nn.Linear, self.decoder_mlp[0]), cast(nn.Linear, self.background_mlp[0])]
        for first_layer in first_layers if self.motion is None else [*first_layers, self.motion.linear]:
            weight = first_layer.weight.double()
            first_layer.bias.copy_(first_layer.bias.double() + weight @ centre)
            first_layer.weight.copy_(weight @ inverse_axes)
