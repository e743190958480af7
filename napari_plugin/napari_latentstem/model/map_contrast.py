"""Contrast of maps over the scan, and RGB composites of latent maps."""

from __future__ import annotations

import numpy as np

__all__ = ["composite", "robust_limits"]

_SAMPLED_POSITIONS = 20_000  # from which contrast limits are computed


def robust_limits(image: np.ndarray, clip: float = 0.5) -> tuple[float, float]:
    """Contrast limits that exclude `clip` percent of the finite values at each end; never equal."""
    values = image.reshape(-1)
    values = values[:: max(1, values.size // _SAMPLED_POSITIONS)]
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(values, (clip, 100 - clip)))
    return (low, high) if high > low else (low, low + max(1e-6, 1e-6 * abs(low)))


def composite(maps: np.ndarray, channels: tuple[int, int, int], clip: float = 0.5) -> np.ndarray:
    """Three latent maps as red, green and blue.

    Parameters
    ----------
    maps : ndarray, shape (Ny, Nx, k)
        Latents; NaN at excluded positions, which become transparent.
    channels : (int, int, int)
        Numbers of the three latents.
    clip : float
        Percentage of positions saturated at each end of each channel.

    Returns
    -------
    ndarray, shape (Ny, Nx, 4), float32, between 0 and 1
    """
    selected = maps[..., list(channels)]
    limits = np.array([robust_limits(selected[..., channel], clip) for channel in range(3)], np.float32)
    scaled = np.clip((selected - limits[:, 0]) / (limits[:, 1] - limits[:, 0]), 0, 1)
    is_finite = np.isfinite(scaled).all(-1, keepdims=True)
    return np.concatenate([np.where(is_finite, scaled, 0), is_finite], axis=-1).astype(np.float32)
