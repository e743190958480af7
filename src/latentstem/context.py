"""Which neighbouring scan positions show the same thing as a position: the context of its pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .preprocessing import Detector

if TYPE_CHECKING:
    from .training.reader import Batch

__all__ = ["Context"]

_DIRECTIONS = 16  # principal components that patterns are compared in
_THRESHOLD = 2.1  # mean squared distance, in units of its noise, up to which two patterns are alike
_PIXEL_FLOOR = 0.05  # share of the mean variance that every pixel is given at least


class Context(nn.Module):
    r"""Tells which patterns are alike, up to noise.

    Two scan positions i, j are alike if their distance in the leading principal components is no more than noise
    explains,

    .. math:: \frac{1}{q} \sum_a \frac{(s_{ia} - s_{ja})^2}{v_{ia} + v_{ja}} < 2.1,

    with scores s and their noise variances v, so that a mean over alike neighbours stops at grain boundaries and
    leaves a single deviating position to itself. The components are those of Poisson-weighted patterns (Keenan and
    Kotula, Surf. Interface Anal. 36, 203, 2004); the noise of a score follows from the detector values, as for
    counts, times one fitted factor.

    Parameters
    ----------
    detector : Detector
        Crop, mask and bin.
    radius : int
        Neighbours up to this many scan positions away are looked at; 0 looks at none.
    """

    directions: Tensor
    gain: Tensor

    def __init__(self, detector: Detector, radius: int) -> None:
        super().__init__()
        self.radius, self._detector = (
            radius,
            [detector],
        )  # in a list: its buffers are saved with the preprocessing
        pixels = detector.shape[0] * detector.shape[1]
        self.register_buffer("directions", torch.zeros(pixels, min(_DIRECTIONS, pixels)))
        self.register_buffer("gain", torch.ones(()))

    @torch.no_grad()
    def forward(self, patterns: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and their noise variances, each (B, q), of patterns (B, H, W)."""
        values = self._detector[0](patterns).flatten(1)
        return values @ self.directions, self.gain * (values.abs() @ self.directions.square())

    def alike(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """Whether scores (..., q) with their noise are those of like patterns, shape (...)."""
        (s, v), (t, w) = first, second
        return ((s - t).square() / (v + w + 1e-30)).mean(-1) < _THRESHOLD

    @torch.no_grad()
    def fit(self, sample: Batch, *, counts: bool, seed: int) -> None:
        """Find the components.

        Parameters
        ----------
        sample : Batch
            Patterns with the sum of all their neighbours.
        counts : bool
            Whether values are electron counts; else the noise is estimated from how patterns differ from their
            neighbours' mean.
        seed : int
            Seed of the randomised decomposition.
        """
        single = self._detector[0](sample.patterns).flatten(1)
        mean = single
        if sample.neighbours is not None and sample.members is not None:
            mean = (single + self._detector[0](sample.neighbours).flatten(1)) / (1 + sample.members)[:, None]
        level = mean.abs().mean(0)
        weight = (level + _PIXEL_FLOOR * level.mean()).sqrt().clamp_min(1e-30)
        weighted = (mean - mean.mean(0)) / weight
        q = min(self.directions.shape[1], len(weighted) - 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            components = torch.svd_lowrank(weighted, q=min(q + 8, *weighted.shape), niter=3)[2][:, :q]
        self.directions.zero_()[:, :q] = components / weight[:, None]
        self.gain.fill_(1.0)
        if not counts:
            difference, noise = (single - mean) @ self.directions, single.abs() @ self.directions.square()
            ratio = difference.square().median(0).values / noise.median(0).values.clamp_min(1e-30)
            self.gain.copy_(ratio[:q].mean() / 0.455)  # the median of chi squared with one degree of freedom
