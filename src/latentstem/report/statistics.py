"""Means over a scan, with standard errors that allow for correlated neighbours."""

from __future__ import annotations

import numpy as np

__all__ = ["block_numbers", "latent_agreement", "mean_and_error", "ratio_and_error"]

_BLOCKS_PER_SIDE = 8  # along each scan axis


def latent_agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Agreement between the latents of two models.

    Parameters
    ----------
    first, second : ndarray, shape (n, k)
        Latents of the same n scan positions.

    Returns
    -------
    dict
        ``matched``: mean absolute correlation after the best one-to-one matching, weighted by standard deviation: 1 if
        latents are the same up to order, sign and scale. ``linear``: fraction of the variance of one that a
        linear map of the other explains, the mean of both directions.
    """
    from scipy.optimize import linear_sum_assignment

    def explained_variance(x: np.ndarray, y: np.ndarray) -> float:
        residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        return float(1 - (residual**2).sum() / max((y**2).sum(), 1e-30))

    first, second = (z.astype(np.float64) - z.mean(0, dtype=np.float64) for z in (first, second))
    std_products = np.outer(*(np.sqrt((z**2).sum(0)) for z in (first, second)))
    correlation = np.abs(first.T @ second) / np.maximum(std_products, 1e-30)
    rows, columns = linear_sum_assignment(-correlation * np.sqrt(std_products))
    weights = np.sqrt(std_products)[rows, columns]
    matched = float((correlation[rows, columns] * weights).sum() / max(weights.sum(), 1e-30))
    return {
        "matched": matched,
        "linear": (explained_variance(first, second) + explained_variance(second, first)) / 2,
    }


def mean_and_error(values: np.ndarray, blocks: np.ndarray) -> dict[str, float]:
    """Mean over scan positions and its standard error, computed from blocks because neighbours are correlated.

    `values` (n,) has one value for each scan position, `blocks` (n,) its block number; NaN is ignored.
    """
    is_finite = np.isfinite(values)
    values, (_, blocks) = values[is_finite], np.unique(blocks[is_finite], return_inverse=True)
    if not len(values):
        return {"mean": float("nan"), "standard_error": float("nan")}
    mean, count = float(values.mean()), int(blocks.max()) + 1
    sums = np.bincount(blocks, values - mean)
    error = float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(values)) if count > 1 else float("inf")
    return {"mean": mean, "standard_error": error}


def block_numbers(scan_shape: tuple[int, int]) -> np.ndarray:
    """Block number of each scan position, shape (Ny, Nx), from 0 to 63."""
    y, x = (np.arange(n) * min(_BLOCKS_PER_SIDE, n) // n for n in scan_shape)
    return y[:, None] * _BLOCKS_PER_SIDE + x


def ratio_and_error(numerator: np.ndarray, denominator: np.ndarray, blocks: np.ndarray) -> dict[str, float]:
    """Ratio of two means over scan positions, with its standard error (linearised), as `mean_and_error`."""
    divisor = float(denominator.mean())
    if divisor <= 0:
        return {"mean": float("nan"), "standard_error": float("nan")}
    ratio = float(numerator.mean()) / divisor
    return {**mean_and_error((numerator - ratio * denominator) / divisor, blocks), "mean": ratio}
