"""Patterns in a few principal components: what the encoder sees, and which neighbouring scan positions are alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .preprocessing import Preprocessing
from .random_init import randomised_svd

__all__ = ["N_COMPARED", "PrincipalComponents"]

#: leading components that patterns are compared in
N_COMPARED = 16

_THRESHOLD = 2.1  # mean squared distance, in units of its noise, up to which two patterns are alike
_PIXEL_FLOOR = 0.05  # share of the mean variance that every pixel is given at least
_DAMPING = 0.3  # of components weaker than the sixteenth
_ROUNDING = 1e-6  # relative change of the input that is none
_PART = 128  # patterns of a sample that are looked at together
_NOISE_SHARE = 0.02  # of a component's noise that its scale is at least


class PrincipalComponents(nn.Module):
    r"""Scores of patterns, and which patterns are alike up to noise.

    A score s is how much of a principal component is in a pattern, centred and on a common scale. The components are
    those of Poisson-weighted patterns (Keenan and Kotula, Surf. Interface Anal. 36, 203, 2004).

    Two scan positions i, j are alike if their distance in the leading q = 16 scores is no more than noise explains,

    .. math:: \frac{1}{q} \sum_a \frac{(s_{ia} - s_{ja})^2}{v_{ia} + v_{ja}} < 2.1,

    with the variances v of their noise, so that a mean over alike neighbours stops at grain boundaries and leaves a
    single deviating position to itself. The variance follows from the pattern, as for counts, times one factor that is
    estimated where the data are not counts.

    Parameters
    ----------
    preprocessing : Preprocessing
        Detector values to what the components are of.
    components : int
        How many; 0 where the network sees the patterns themselves.
    radius : int
        Neighbours up to this many scan positions away are looked at; 0 looks at none.
    """

    directions: Tensor
    centre: Tensor
    gain: Tensor
    noise: Tensor

    def __init__(self, preprocessing: Preprocessing, components: int, radius: int) -> None:
        super().__init__()
        self.radius, self._preprocessing = radius, [preprocessing]  # in a list: saved where it belongs
        pixels = preprocessing.shape[0] * preprocessing.shape[1]
        self.register_buffer("directions", torch.zeros(pixels, components))
        self.register_buffer("centre", torch.zeros(components))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("noise", torch.zeros(components))

    @property
    def count(self) -> int:
        """How many components there are, q."""
        return int(self.directions.shape[1])

    @torch.no_grad()
    def scores(self, values: Tensor) -> Tensor:
        """Scores (B, q) of detector values (B, h, w)."""
        return self._input(values) @ self.directions - self.centre

    @torch.no_grad()
    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, q) of detector values (B, h, w), and the variances (B, 16) of the leading ones' noise."""
        x = self._input(values)
        return x @ self.directions - self.centre, self._variance(x, self.directions[:, :N_COMPARED])

    def is_similar(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """Whether scores (..., q) with their variances (..., 16) are those of like patterns, shape (...)."""
        (s, v), (t, w) = first, second
        apart = s[..., :N_COMPARED] - t[..., :N_COMPARED]
        return (apart.square() / (v + w + 1e-30)).mean(-1) < _THRESHOLD

    @torch.no_grad()
    def fit(self, single: Tensor, mean: Tensor, *, counts: bool, seed: int) -> None:
        """Find the components.

        Parameters
        ----------
        single : Tensor, shape (n, h, w)
            Detector values of a sample of patterns.
        mean : Tensor, shape (n, h, w)
            Each averaged with its neighbours on the scan.
        counts : bool
            Whether values are electron counts; else their noise is estimated from how patterns differ from their
            neighbours' mean.
        seed : int
            Seed of the randomised decomposition.
        """
        average = self._mean_of(self._input, mean)
        level = self._mean_of(lambda part: self._signal(self._input(part)), mean)
        weight = (level + _PIXEL_FLOOR * level.mean()).sqrt().clamp_min(1e-30)
        weighted = torch.cat([(self._input(part) - average) / weight for part in mean.split(_PART)])
        count = min(self.directions.shape[1], *(n - 1 for n in weighted.shape))
        directions = randomised_svd(weighted, count, seed) / weight[:, None]
        del weighted
        self.gain.fill_(1.0)
        noise = self._noise(single, directions)
        if not (counts and self._preprocessing[0].linear):
            apart = [
                (self._input(own) - self._input(smooth)) @ directions
                for own, smooth in zip(single.split(_PART), mean.split(_PART), strict=True)
            ]
            ratio = torch.cat(apart).square().median(0).values / noise.median(0).values.clamp_min(1e-30)
            # In a tenth of the components, neighbours differ by noise alone; 0.455 is the median of chi squared.
            self.gain.copy_(ratio.quantile(0.1) / 0.455)
        spread = torch.cat([self._input(part) @ directions for part in mean.split(_PART)]).std(0)
        damping = (
            _DAMPING * spread[min(N_COMPARED, count) - 1] + _NOISE_SHARE * (self.gain * noise.mean(0)).sqrt()
        )
        largest = self._mean_of(lambda part: self._input(part).square(), mean)
        real = spread > _ROUNDING * (largest @ directions.square()).sqrt()
        self.directions.zero_()[:, :count] = torch.where(real, directions / (spread + damping + 1e-30), 0.0)
        self.centre.copy_(average @ self.directions)
        self.measure_noise(single)

    @torch.no_grad()
    def measure_noise(self, single: Tensor) -> None:
        """Take the mean noise of scores from a sample of detector values (n, h, w)."""
        self.noise.copy_(self._noise(single, self.directions).mean(0).sqrt())

    def _noise(self, values: Tensor, directions: Tensor) -> Tensor:
        """Variances (n, q) of the noise of the scores of detector values (n, h, w)."""
        return torch.cat([self._variance(self._input(part), directions) for part in values.split(_PART)])

    def _mean_of(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """Mean over patterns of a function (n, h, w) -> (n, h * w), a part at a time: a sample may be large."""
        parts = [function(part).sum(0) for part in values.split(_PART)]
        return torch.stack(parts).sum(0) / len(values)

    def _variance(self, x: Tensor, directions: Tensor) -> Tensor:
        electron = 1 / self._preprocessing[0].scale if self._preprocessing[0].linear else 1.0
        return electron * self.gain * (self._signal(x) @ directions.square())

    def _input(self, values: Tensor) -> Tensor:
        preprocessing = self._preprocessing[0]
        return torch.where(preprocessing.detector.used > 0, preprocessing(values), 0.0).flatten(1)

    def _signal(self, x: Tensor) -> Tensor:
        """What the noise grows with: how far the input is from that of an empty pixel."""
        preprocessing = self._preprocessing[0]
        empty = preprocessing(torch.zeros_like(preprocessing.detector.used)[None])
        return (x - torch.where(preprocessing.detector.used > 0, empty, 0.0).flatten(1)).abs()
