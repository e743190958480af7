"""Residuals of reconstructions, and scan positions where these are typical, smallest and largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..scan.passes import read_blocks

if TYPE_CHECKING:
    from ..inference.embedding import Embedding
    from ..inference.model import LatentModel
    from ..scan.scan import Scan

__all__ = ["example_positions", "residual", "sample_chi_squared", "unsmoothed_latents"]

_MAX_CANDIDATES = 1024  # about the number of patterns from which examples are selected
_PATTERNS_PER_BATCH = 256


def example_positions(chi_squared: np.ndarray) -> dict[str, tuple[int, int]]:
    """Scan row and column where chi squared (Ny, Nx) is typical (the median), best and worst; NaN is no candidate."""
    ranked = np.argsort(chi_squared, axis=None, kind="stable")[: int(np.isfinite(chi_squared).sum())]
    flat = {"typical": ranked[len(ranked) // 2], "best": ranked[0], "worst": ranked[-1]}
    return {name: divmod(int(position), chi_squared.shape[1]) for name, position in flat.items()}


def unsmoothed_latents(embedding: Embedding) -> np.ndarray:
    """Latents (Ny, Nx, k) as the encoder gives them, which are those that the decoder takes."""
    return embedding.maps if embedding.unsmoothed is None else embedding.unsmoothed


def sample_chi_squared(model: LatentModel, scan: Scan, embedding: Embedding) -> np.ndarray:
    """Chi squared per pixel (Ny, Nx) of about a thousand patterns from all parts of a scan, else NaN; see `residual`."""
    latents = unsmoothed_latents(embedding).reshape(scan.n_positions, -1)
    chi_squared = np.full(scan.n_positions, np.nan)
    stride = max(1, round(scan.n_positions / _MAX_CANDIDATES))
    sample = np.concatenate(list(scan.blocks(32))[::stride])
    sample = sample[~scan.excluded.ravel()[sample]]
    for positions, patterns in read_blocks(scan, sample, _PATTERNS_PER_BATCH):
        difference = residual(patterns, model.decode(latents[positions]))
        chi_squared[positions] = np.nanmean(difference**2, axis=(1, 2))
    return chi_squared.reshape(scan.scan_shape)


def residual(patterns: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Residual divided by the square root of the reconstruction.

    For counts the unit is the standard deviation of the Poisson noise. The divisor is at least the square root of a
    tenth of the pattern's mean, so that single electrons in dark regions do not dominate. All arrays have shape (n, H, W);
    the result is NaN where the reconstruction is exactly 0: excluded pixels.
    """
    expected = np.asarray(reconstructed, dtype=np.float64)
    floor = 0.1 * np.abs(expected).mean((1, 2), keepdims=True)
    root = np.sqrt(np.maximum(expected, np.maximum(floor, np.finfo(np.float64).tiny)))
    return np.where(expected == 0, np.nan, (patterns - expected) / root)
