"""What a user would reach for first, PCA (by SVD) and NMF, and how to score any denoiser.

A score must not reward a method for reproducing the noise. So each held-out pattern is made into two with
independent noise: one is given to the method, the other is what its reconstruction is compared with.
Patterns are flat here, shape (n, p): n scan positions, p detector pixels.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

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

#: numbers of components that are tried
SIZES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
NMF_SIZES = (4, 8, 16, 32)
_FLOORS = (0.01, 0.03, 0.1, 0.3)
_NMF_ITERATIONS = 50


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A linear model of patterns: shares of a few factors.

    Parameters
    ----------
    name : str
        What it is called in a report.
    factors : ndarray, shape (k, p), float32
        Orthonormal and in the order of their weight (SVD), or non-negative (NMF).
    weight : ndarray, shape (p,), float32
        What the pixels are divided by before they are decomposed.
    nonnegative : bool
        Whether the shares must not be negative.
    """

    name: str
    factors: np.ndarray
    weight: np.ndarray
    nonnegative: bool = False

    def shares(self, patterns: np.ndarray, components: int | None = None) -> np.ndarray:
        """How much of each factor there is in patterns (n, p): shape (n, k), float32."""
        weighted, factors = patterns / self.weight, self.factors[:components]
        if not self.nonnegative:
            return weighted @ factors.T
        from sklearn.decomposition import non_negative_factorization

        with _unconverged_is_fine():
            return non_negative_factorization(
                np.maximum(weighted, 0, dtype=np.float32),
                H=factors,
                n_components=len(factors),
                init="custom",
                update_H=False,
                max_iter=_NMF_ITERATIONS,
            )[0]

    def reconstruct(self, patterns: np.ndarray, components: int | None = None) -> np.ndarray:
        """Patterns (n, p) as the first `components` factors have them."""
        return (self.shares(patterns, components) @ self.factors[:components]) * self.weight


def svd(patterns: np.ndarray, components: int, *, poisson: bool = False, seed: int = 0) -> Decomposition:
    """Randomised singular value decomposition of patterns, not centred, as HyperSpy has it.

    Parameters
    ----------
    patterns : ndarray, shape (n, p), float32
        What to fit.
    components : int
        Number of factors k; cut down to what n and p allow.
    poisson : bool
        Divide by the square roots of the mean pattern and of each pattern's total first, which makes the
        noise of counts even (Keenan and Kotula, Surf. Interface Anal. 36, 203, 2004).
    seed : int
        Seed of the random projection.
    """
    from sklearn.utils.extmath import randomized_svd

    weight, scale = _weights(patterns, poisson)
    weighted = patterns / weight / scale
    factors = randomized_svd(weighted, min(components, *patterns.shape), n_iter=4, random_state=seed)[2]
    name = "PCA (SVD), Poisson-weighted" if poisson else "PCA (SVD)"
    return Decomposition(name, factors.astype(np.float32), weight)


def nmf(patterns: np.ndarray, components: int, *, poisson: bool = False, seed: int = 0) -> Decomposition:
    """Non-negative matrix factorisation of patterns; parameters as for `svd`. Negative values count as 0."""
    from sklearn.decomposition import NMF

    weight, scale = _weights(patterns, poisson)
    weighted = np.maximum(patterns / weight / scale, 0, dtype=np.float32)
    weighted /= weighted.mean() or 1.0
    model = NMF(min(components, *patterns.shape), init="nndsvda", max_iter=_NMF_ITERATIONS, random_state=seed)
    with _unconverged_is_fine():
        model.fit(weighted)
    name = "NMF, Poisson-weighted" if poisson else "NMF"
    return Decomposition(name, model.components_.astype(np.float32), weight, nonnegative=True)


def thin(
    patterns: np.ndarray, variance: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two patterns with independent noise of each one: to give to a method, and to compare its result with.

    Both expect what the pattern expects, and have twice its variance. Counts are split binomially, each half
    doubled; to other values, noise as strong as theirs is added once and subtracted once, which leaves the
    two uncorrelated (data fission: Leiner et al., J. Am. Stat. Assoc. 120, 135, 2025).

    Parameters
    ----------
    patterns : ndarray, shape (n, p)
        As recorded.
    variance : ndarray, shape (p,), or None
        Variance of the noise of each pixel; None for counts.
    rng : Generator
        Source of randomness.

    Returns
    -------
    given, target : ndarray, shape (n, p), float32
    """
    if variance is None:
        counts = np.rint(patterns).astype(np.int64)
        half = rng.binomial(counts, 0.5)
        return (2 * half).astype(np.float32), (2 * (counts - half)).astype(np.float32)
    noise = rng.normal(size=patterns.shape) * np.sqrt(variance)
    return (patterns + noise).astype(np.float32), (patterns - noise).astype(np.float32)


def noise_variance(scan: Scan, to_values: Callable[[np.ndarray], np.ndarray], rows: int = 64) -> np.ndarray:
    """Variance of the noise of each pixel, from how patterns differ from the mean of their two neighbours.

    The half of the positions where they differ least is used, which leaves out grain boundaries; for each
    half of the pixels it is chosen by the other half, so that it is not chosen for its noise.

    Parameters
    ----------
    scan : Scan
        Data that are not counts.
    to_values : callable
        Stored patterns (n, H, W) to values (n, p).
    rows : int
        How many lines of the scan are looked at, at most.

    Returns
    -------
    ndarray, shape (p,), float64, positive
    """
    (ny, nx), excluded = scan.scan_shape, scan.scan_mask
    lines = np.arange(ny * nx).reshape(ny, nx)
    if nx < ny:
        lines = lines.T
    found = []
    for line in lines[np.linspace(0, len(lines) - 1, min(rows, len(lines))).astype(int)]:
        keep = line if excluded is None else line[~excluded.ravel()[line]]
        if len(keep) >= 3:
            values = to_values(scan.read(keep))
            found.append((values[1:-1] - (values[:-2] + values[2:]) / 2) ** 2 / 1.5)
    if not found:
        return np.full(to_values(scan.read(np.array([0]))).shape[1], 1e-30)
    squares = np.concatenate(found)
    variance = np.empty(squares.shape[1])
    for half in (0, 1):
        others = squares[:, 1 - half :: 2].sum(1)
        variance[half::2] = squares[others <= np.median(others), half::2].mean(0, dtype=np.float64)
    return np.maximum(variance, max(1e-6 * float(variance.max()), 1e-30))


def clip(predicted: np.ndarray, target: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Predicted counts with a floor, because a negative prediction has no likelihood.

    The floor is a fraction of the mean pattern: of four fractions, the one that suits the method best.

    Parameters
    ----------
    predicted, target : ndarray, shape (n, p)
        Reconstructions of the given halves of `thin`, and the other halves.
    mean : ndarray, shape (p,)
        The mean pattern.
    """
    floor = np.maximum(mean, 1e-3 * max(float(mean.mean()), 1e-9))
    choices = (np.maximum(predicted, fraction * floor) for fraction in _FLOORS)
    return min(choices, key=lambda choice: loss(choice, target, None).sum())


def loss(predicted: np.ndarray, target: np.ndarray, variance: np.ndarray | None) -> np.ndarray:
    """How badly reconstructions predict the half they have not seen, summed over pixels, shape (n,).

    For counts the Poisson deviance of that half: twice the log-likelihood that is missing to a perfect
    prediction. Else the squared error, each pixel in units of its noise variance.

    Parameters
    ----------
    predicted, target : ndarray, shape (n, p)
        Reconstructions of the given halves of `thin` (counts: positive, see `clip`), and the other halves.
    variance : ndarray, shape (p,), or None
        As for `thin`.
    """
    if variance is not None:
        return np.sum((predicted - target) ** 2 / variance, 1, dtype=np.float64)
    # both are on the scale of the whole pattern, and the deviance is proportional to the scale
    return np.sum(predicted - target + xlogy(target, target) - xlogy(target, predicted), 1, dtype=np.float64)


def squared_error(
    predicted: np.ndarray, target: np.ndarray, variance: np.ndarray | None, noise: np.ndarray
) -> np.ndarray:
    """Unbiased estimate of the squared error against *noise-free* patterns, as a share of the recorded noise.

    0 is perfect, 1 is no better than the pattern as recorded; single values scatter. The
    expectation of (predicted - target)^2 is the squared error and the target's variance, which is known, or
    estimated by the count itself.

    Parameters
    ----------
    predicted, target, variance
        As for `loss`.
    noise : ndarray, shape (n, p) or (p,)
        Variance of the recorded noise, which errors are measured by; it must not come from `target`.

    Returns
    -------
    ndarray, shape (n,)
    """
    twice = 2 * (target if variance is None else variance)
    return np.mean(((predicted - target) ** 2 - twice) / noise, 1, dtype=np.float64)


def _weights(patterns: np.ndarray, poisson: bool) -> tuple[np.ndarray, np.ndarray]:
    """What pixels (p,) and patterns (n, 1) are divided by."""
    if not poisson:
        return np.ones(patterns.shape[1], np.float32), np.ones((len(patterns), 1), np.float32)
    pixels, totals = patterns.mean(0), patterns.sum(1, keepdims=True)
    pixels, totals = (np.maximum(v, 1e-6 * max(float(v.max()), 1e-30)) for v in (pixels, totals))
    return np.sqrt(pixels).astype(np.float32), np.sqrt(totals / totals.mean()).astype(np.float32)


@contextlib.contextmanager
def _unconverged_is_fine() -> Iterator[None]:
    """A few dozen iterations are what is compared; that they could go on is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
