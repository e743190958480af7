"""Figures over a scan, with errors that allow for neighbouring scan positions being alike."""

from __future__ import annotations

import numpy as np

__all__ = ["latent_agreement", "mean_and_error", "ratio_and_error", "tiles"]


def latent_agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """How alike the latents of two models are.

    Parameters
    ----------
    first, second : ndarray, shape (n, k)
        Latents of the same n scan positions.

    Returns
    -------
    dict
        ``matched``: mean absolute correlation after the best one-to-one matching, weighted by spread: 1 where
        latents are the same up to order, sign and scale. ``linear``: share of the variance of one that a
        linear map of the other explains, the mean of both directions.
    """
    from scipy.optimize import linear_sum_assignment

    def explained(x: np.ndarray, y: np.ndarray) -> float:
        left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        return float(1 - (left**2).sum() / max((y**2).sum(), 1e-30))

    first, second = (z.astype(np.float64) - z.mean(0, dtype=np.float64) for z in (first, second))
    spreads = np.outer(*(np.sqrt((z**2).sum(0)) for z in (first, second)))
    correlation = np.abs(first.T @ second) / np.maximum(spreads, 1e-30)
    rows, columns = linear_sum_assignment(-correlation * np.sqrt(spreads))
    weights = np.sqrt(spreads)[rows, columns]
    matched = float((correlation[rows, columns] * weights).sum() / max(weights.sum(), 1e-30))
    return {"matched": matched, "linear": (explained(first, second) + explained(second, first)) / 2}


def mean_and_error(values: np.ndarray, blocks: np.ndarray) -> dict[str, float]:
    """Mean over scan positions, and its standard error from blocks of neighbouring ones, which are alike.

    Parameters
    ----------
    values : ndarray, shape (n,)
        One value for each scan position; NaN is left out.
    blocks : ndarray of int, shape (n,)
        Which block each position is in.
    """
    keep = np.isfinite(values)
    values, (_, blocks) = values[keep], np.unique(blocks[keep], return_inverse=True)
    if not len(values):
        return {"mean": float("nan"), "standard_error": float("nan")}
    mean, count = float(values.mean()), int(blocks.max()) + 1
    sums = np.bincount(blocks, values - mean)
    error = float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(values)) if count > 1 else float("inf")
    return {"mean": mean, "standard_error": error}


def tiles(scan_shape: tuple[int, int], per_side: int = 8) -> np.ndarray:
    """Number of the tile that each scan position is in, shape (Ny, Nx): `per_side` tiles along each axis."""
    y, x = (np.arange(n) * min(per_side, n) // n for n in scan_shape)
    return y[:, None] * per_side + x


def ratio_and_error(own: np.ndarray, other: np.ndarray, blocks: np.ndarray) -> dict[str, float]:
    """Ratio of two means over scan positions, with its standard error (linearised), as `mean_and_error`."""
    below = float(other.mean())
    if below <= 0:
        return {"mean": float("nan"), "standard_error": float("nan")}
    ratio = float(own.mean()) / below
    return {
        "mean": ratio,
        "standard_error": mean_and_error((own - ratio * other) / below, blocks)["standard_error"],
    }
