"""Principal components of patterns: the encoder's input, and the test of which scan positions are similar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .preprocessing import Preprocessing
from .random_init import randomised_svd

__all__ = ["N_COMPARED", "PrincipalComponents"]

#: number of leading components used to compare patterns
N_COMPARED = 16

_SIMILARITY_THRESHOLD = 2.1  # largest mean squared distance of similar patterns, in noise variances
_MIN_RELATIVE_VARIANCE = 0.05  # of a pixel, relative to the mean variance
_WEAK_COMPONENT_DAMPING = 0.3  # fraction of the sixteenth component's scale that is added to each
_NOISE_DAMPING = 0.02  # fraction of a component's noise that is added to its scale
_RELATIVE_ROUNDING = 1e-6  # variation of a component, relative to its size, that is only rounding
_BATCH_SIZE = 128


class PrincipalComponents(nn.Module):
    r"""Principal component scores, and a test of whether two patterns are equal within noise.

    A score s is the projection of a pattern on a principal component, centred and scaled. The components are those of
    Poisson-weighted patterns (Keenan and Kotula, Surf. Interface Anal. 36, 203, 2004).

    Two scan positions i, j are similar if the distance of their leading q = 16 scores is explained by noise,

    .. math:: \frac{1}{q} \sum_a \frac{(s_{ia} - s_{ja})^2}{v_{ia} + v_{ja}} < 2.1,

    with the variances v of their noise, so a mean over similar neighbours stops at grain boundaries and excludes
    single-position defects. The variance is the Poisson variance of the pattern, times one factor that is 1 for counts
    and estimated for other data.

    Parameters
    ----------
    preprocessing : Preprocessing
        Preprocessing applied before the decomposition.
    components : int
        Number of components; 0 if the network takes patterns as input.
    radius : int
        Radius of the neighbourhood in scan positions; 0: no neighbours.
    """

    directions: Tensor
    centre: Tensor
    gain: Tensor
    noise: Tensor

    def __init__(self, preprocessing: Preprocessing, components: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        self._preprocessing = [preprocessing]  # in a list, so that it is not registered (and saved) twice
        pixels = preprocessing.shape[0] * preprocessing.shape[1]
        self.register_buffer("directions", torch.zeros(pixels, components))
        self.register_buffer("centre", torch.zeros(components))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("noise", torch.zeros(components))

    @property
    def count(self) -> int:
        """Number of components, q."""
        return int(self.directions.shape[1])

    @torch.no_grad()
    def scores(self, values: Tensor) -> Tensor:
        """Scores (B, q) of detector values (B, h, w)."""
        return self._preprocess(values) @ self.directions - self.centre

    @torch.no_grad()
    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, q) of detector values (B, h, w), and the variances (B, 16) of the leading ones' noise."""
        x = self._preprocess(values)
        return x @ self.directions - self.centre, self._score_variances(x, self.directions[:, :N_COMPARED])

    def is_similar(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """Whether patterns with these scores (..., q) and variances (..., 16) are similar, shape (...)."""
        (s, v), (t, w) = first, second
        difference = s[..., :N_COMPARED] - t[..., :N_COMPARED]
        return (difference.square() / (v + w + 1e-30)).mean(-1) < _SIMILARITY_THRESHOLD

    @torch.no_grad()
    def fit(self, patterns: Tensor, neighbour_means: Tensor, *, counts: bool, seed: int) -> None:
        """Compute the components of a sample.

        Parameters
        ----------
        patterns : Tensor, shape (n, h, w)
            Detector values of a sample of patterns.
        neighbour_means : Tensor, shape (n, h, w)
            The mean of each pattern and its neighbours.
        counts : bool
            Whether values are electron counts. Otherwise noise is estimated from the differences between patterns and
            their neighbour means.
        seed : int
            Seed of the randomised decomposition.
        """
        average = self._batched_mean(self._preprocess, neighbour_means)
        mean_signal = self._batched_mean(
            lambda batch: self._above_zero_level(self._preprocess(batch)), neighbour_means
        )
        weight = (mean_signal + _MIN_RELATIVE_VARIANCE * mean_signal.mean()).sqrt().clamp_min(1e-30)
        batches = neighbour_means.split(_BATCH_SIZE)
        weighted = torch.cat([(self._preprocess(batch) - average) / weight for batch in batches])
        count = min(self.directions.shape[1], *(n - 1 for n in weighted.shape))
        directions = randomised_svd(weighted, count, seed) / weight[:, None]
        del weighted
        self.gain.fill_(1.0)
        noise = self._noise_variances(patterns, directions)
        if not (counts and self._preprocessing[0].linear):
            differences = [
                (self._preprocess(single) - self._preprocess(mean)) @ directions
                for single, mean in zip(patterns.split(_BATCH_SIZE), batches, strict=True)
            ]
            ratio = torch.cat(differences).square().median(0).values / noise.median(0).values.clamp_min(1e-30)
            # Assume that in at least a tenth of the components neighbours differ only by noise; 0.455 is the median
            # of chi squared with one degree of freedom.
            self.gain.copy_(ratio.quantile(0.1) / 0.455)
        std = torch.cat([self._preprocess(batch) @ directions for batch in batches]).std(0)
        damping = (
            _WEAK_COMPONENT_DAMPING * std[min(N_COMPARED, count) - 1]
            + _NOISE_DAMPING * (self.gain * noise.mean(0)).sqrt()
        )
        mean_square = self._batched_mean(lambda batch: self._preprocess(batch).square(), neighbour_means)
        is_significant = std > _RELATIVE_ROUNDING * (mean_square @ directions.square()).sqrt()
        scaled = torch.where(is_significant, directions / (std + damping + 1e-30), 0.0)
        self.directions.zero_()[:, :count] = scaled
        self.centre.copy_(average @ self.directions)
        self.fit_noise(patterns)

    @torch.no_grad()
    def fit_noise(self, patterns: Tensor) -> None:
        """Set the mean noise of the scores from a sample of detector values (n, h, w)."""
        self.noise.copy_(self._noise_variances(patterns, self.directions).mean(0).sqrt())

    def _noise_variances(self, values: Tensor, directions: Tensor) -> Tensor:
        """Noise variances (n, q) of the scores of detector values (n, h, w)."""
        batches = values.split(_BATCH_SIZE)
        return torch.cat([self._score_variances(self._preprocess(batch), directions) for batch in batches])

    def _batched_mean(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """Mean over patterns of a function (n, h, w) -> (n, h * w), computed in batches, to bound memory."""
        sums = [function(batch).sum(0) for batch in values.split(_BATCH_SIZE)]
        return torch.stack(sums).sum(0) / len(values)

    def _score_variances(self, x: Tensor, directions: Tensor) -> Tensor:
        preprocessing = self._preprocessing[0]
        electron_value = 1 / preprocessing.scale if preprocessing.linear else 1.0
        return electron_value * self.gain * (self._above_zero_level(x) @ directions.square())

    def _preprocess(self, values: Tensor) -> Tensor:
        preprocessing = self._preprocessing[0]
        return torch.where(preprocessing.detector.used > 0, preprocessing(values), 0.0).flatten(1)

    def _above_zero_level(self, x: Tensor) -> Tensor:
        """Network input above that of a detector value of zero; the noise variance is proportional to it."""
        preprocessing = self._preprocessing[0]
        zero_level = preprocessing(torch.zeros_like(preprocessing.detector.used)[None])
        return (x - torch.where(preprocessing.detector.used > 0, zero_level, 0.0).flatten(1)).abs()
