"""Baselines PCA (SVD) and NMF, and scoring of denoisers without clean data.

Each held-out pattern is split into two with independent noise, an input and a target. A method gets the input and is
scored against the target, so reproducing noise gives no advantage.

Patterns are flat here, shape (n, p): n scan positions, p detector pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..nn.likelihoods.poisson import poisson_deviance
from ..nn.random_init import randomised_svd
from ..nn.thinning import thin_counts
from ..scan.scan import Scan

__all__ = [
    "NMF_SIZES",
    "SIZES",
    "Decomposition",
    "clip",
    "loss",
    "nmf",
    "noise_variance",
    "squared_error",
    "svd",
    "thin",
]

#: numbers of components that are compared
SIZES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
NMF_SIZES = (4, 8, 16, 32)
_FLOOR_FRACTIONS = (0.01, 0.03, 0.1, 0.3)  # of the mean pattern, see `clip`
_NMF_ITERATIONS = 50
_MAX_NOISE_LINES = 64  # scan rows, or columns if these are longer, that give the noise variance


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A linear model: patterns as weighted sums of factors.

    Parameters
    ----------
    name : str
        Name in a report.
    factors : ndarray, shape (k, p), float32
        Orthonormal, in order of singular value (SVD), or non-negative (NMF).
    weight : ndarray, shape (p,), float32
        Pixel weights: patterns are divided by them before the decomposition.
    nonnegative : bool
        Whether coefficients must be non-negative.
    """

    name: str
    factors: np.ndarray
    weight: np.ndarray
    nonnegative: bool = False

    def reconstruct(self, patterns: np.ndarray, components: int | None = None) -> np.ndarray:
        """Reconstruct patterns (n, p) from the first `components` factors."""
        weighted, factors = patterns / self.weight, self.factors[:components]
        coefficients = _nmf_coefficients(weighted, factors) if self.nonnegative else weighted @ factors.T
        return (coefficients @ factors) * self.weight


def svd(patterns: np.ndarray, components: int, *, poisson: bool = False) -> Decomposition:
    """Randomised singular value decomposition of patterns, without centring, like HyperSpy.

    Parameters
    ----------
    components : int
        Number of factors k; cut down to what n and p allow.
    poisson : bool
        Divide by the square roots of the mean pattern and of each pattern's total first, so that Poisson noise
        becomes uniform (Keenan and Kotula, Surf. Interface Anal. 36, 203, 2004).
    """
    weight, scale = _poisson_weights(patterns, poisson)
    weighted = torch.from_numpy(patterns / weight / scale)
    factors = randomised_svd(weighted, min(components, *patterns.shape), seed=0).T.contiguous().numpy()
    name = "PCA (SVD), Poisson-weighted" if poisson else "PCA (SVD)"
    return Decomposition(name, factors.astype(np.float32), weight)


def nmf(patterns: np.ndarray, components: int, *, poisson: bool = False) -> Decomposition:
    """Non-negative matrix factorisation of patterns; parameters as for `svd`. Negative values count as 0."""
    from sklearn.decomposition import NMF

    weight, scale = _poisson_weights(patterns, poisson)
    weighted = np.maximum(patterns / weight / scale, 0, dtype=np.float32)
    weighted /= weighted.mean() or 1.0
    model = NMF(min(components, *patterns.shape), init="nndsvda", max_iter=_NMF_ITERATIONS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the number of iterations is fixed on purpose
        model.fit(weighted)
    name = "NMF, Poisson-weighted" if poisson else "NMF"
    return Decomposition(name, model.components_.astype(np.float32), weight, nonnegative=True)


def _nmf_coefficients(patterns: np.ndarray, factors: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import non_negative_factorization

    patterns = np.maximum(patterns, 0, dtype=np.float32)
    options = {"init": "custom", "update_H": False, "max_iter": _NMF_ITERATIONS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the number of iterations is fixed on purpose
        coefficients, _, _ = non_negative_factorization(
            patterns, H=factors, n_components=len(factors), **options
        )
    return coefficients


def thin(
    patterns: np.ndarray, variance: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split each pattern into an input and a target with independent noise.

    Both have the expectation of the pattern and twice its variance. Counts are split binomially, each half
    doubled; for other values, noise of equal strength is added to the input and subtracted from the target, which
    leaves the two uncorrelated (data fission: Leiner et al., J. Am. Stat. Assoc. 120, 135, 2025).

    Parameters
    ----------
    patterns : ndarray, shape (n, p)
        Recorded patterns.
    variance : ndarray, shape (p,), or None
        Variance of the noise of each pixel; None for counts.

    Returns
    -------
    inputs, target : ndarray, shape (n, p), float32
    """
    if variance is None:
        counts = torch.from_numpy(np.rint(patterns).astype(np.float64))
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        first, second = (2 * half.float().numpy() for half in thin_counts(counts, generator))
        return first, second
    noise = rng.normal(size=patterns.shape) * np.sqrt(variance)
    return (patterns + noise).astype(np.float32), (patterns - noise).astype(np.float32)


def noise_variance(scan: Scan, to_values: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Noise variance (p,) of each pixel, from differences between patterns and the mean of their two neighbours.

    Only the half of the positions with the smallest differences is used, which excludes grain boundaries. Positions for
    one half of the pixels are selected with the other half, to avoid selection bias.

    Parameters
    ----------
    scan : Scan
        Data that are not counts.
    to_values : callable
        Stored patterns (n, H, W) to values (n, p).
    """
    (ny, nx), excluded = scan.scan_shape, scan.excluded.ravel()
    lines = np.arange(ny * nx).reshape(ny, nx)
    if nx < ny:
        lines = lines.T
    squares_by_line = []
    for line in lines[np.linspace(0, len(lines) - 1, min(_MAX_NOISE_LINES, len(lines))).astype(int)]:
        positions = line[~excluded[line]]
        if len(positions) >= 3:
            values = to_values(scan.read(positions))
            squares_by_line.append((values[1:-1] - (values[:-2] + values[2:]) / 2) ** 2 / 1.5)
    if not squares_by_line:
        return np.full(to_values(scan.read(np.array([0]))).shape[1], 1e-30)
    squares = np.concatenate(squares_by_line)
    variance = np.empty(squares.shape[1])
    for half in (0, 1):
        selection_squares = squares[:, 1 - half :: 2].sum(1)
        is_selected = selection_squares <= np.median(selection_squares)
        variance[half::2] = squares[is_selected, half::2].mean(0, dtype=np.float64)
    return np.maximum(variance, max(1e-6 * float(variance.max()), 1e-30))


def clip(predicted: np.ndarray, target: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Predicted counts with a floor, because a negative prediction has no likelihood.

    The floor is a fraction of the mean pattern: of four fractions, the one that suits the method best.

    Parameters
    ----------
    predicted, target : ndarray, shape (n, p)
        Reconstructions of the inputs of `thin`, and its targets.
    mean : ndarray, shape (p,)
        The mean pattern.
    """
    floor = np.maximum(mean, 1e-3 * max(float(mean.mean()), 1e-9))
    candidates = (np.maximum(predicted, fraction * floor) for fraction in _FLOOR_FRACTIONS)
    return min(candidates, key=lambda candidate: loss(candidate, target, None).sum())


def loss(predicted: np.ndarray, target: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
    """Held-out loss of reconstructions, summed over pixels, shape (n,).

    For counts the Poisson deviance of the target: twice the difference in log-likelihood to a perfect prediction. Else
    the squared error, each pixel in units of its noise variance.

    Parameters
    ----------
    predicted, target : ndarray, shape (n, p)
        Reconstructions of the inputs of `thin` (counts: positive, see `clip`), and its targets.
    variance : ndarray, shape (p,), or None
        As for `thin`.
    """
    if variance is not None:
        return np.sum((predicted - target) ** 2 / variance, 1, dtype=np.float64)
    # the deviance is linear in the counts, and both arrays are doubled halves: this is twice that of the halves
    deviance = poisson_deviance(torch.from_numpy(predicted), torch.from_numpy(target), 0.0)
    return deviance.sum(1, dtype=torch.float64).numpy()


def squared_error(
    predicted: np.ndarray, target: np.ndarray, variance: np.ndarray | None, noise: np.ndarray
) -> np.ndarray:
    """Unbiased estimate of the squared error against *noise-free* patterns, divided by the variance of the noise.

    0 is perfect, 1 is as bad as the recorded pattern. Values of single patterns are noisy. The
    expectation of (predicted - target)^2 is the squared error and the target's variance, which is known, or
    estimated by the count itself.

    Parameters
    ----------
    predicted, target, variance
        As for `loss`.
    noise : ndarray, shape (n, p) or (p,)
        Variance of the noise of the recorded pattern, by which errors are divided; it must not come from `target`.
    """
    target_variance = 2 * (target if variance is None else variance)
    return np.mean(((predicted - target) ** 2 - target_variance) / noise, 1, dtype=np.float64)


def _poisson_weights(patterns: np.ndarray, poisson: bool) -> tuple[np.ndarray, np.ndarray]:
    """Divisors of pixels (p,) and of patterns (n, 1)."""
    if not poisson:
        return np.ones(patterns.shape[1], np.float32), np.ones((len(patterns), 1), np.float32)
    pixels, totals = patterns.mean(0), patterns.sum(1, keepdims=True)
    pixels, totals = (np.maximum(v, 1e-6 * max(float(v.max()), 1e-30)) for v in (pixels, totals))
    return np.sqrt(pixels).astype(np.float32), np.sqrt(totals / totals.mean()).astype(np.float32)
