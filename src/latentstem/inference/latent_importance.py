"""Latent importance: how much each latent matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .embedding import Embedding
    from .model import LatentModel

__all__ = ["by_decoding", "by_variance"]

_N_SAMPLE_POSITIONS = 32


def by_decoding(model: LatentModel, embedding: Embedding) -> np.ndarray:
    """Share of each latent in the differences between decoded patterns, shape (k,); all 0 if no latent changes them.

    Each latent in turn is set to its median; its importance is the mean squared change of the square root of the
    decoded intensity, over a sample of scan positions. (The Poisson variance of a square root is nearly constant,
    Anscombe, Biometrika 35, 246, 1948.)
    """
    latents = _valid_latents(embedding)
    median = np.median(latents, axis=0)
    if len(latents) > _N_SAMPLE_POSITIONS:
        sample = np.random.default_rng(0).choice(len(latents), _N_SAMPLE_POSITIONS, replace=False)
        latents = latents[sample]
    decoded = _signed_sqrt(model.decode(latents))
    changes = np.zeros(embedding.latent_dim)
    for latent in range(embedding.latent_dim):
        modified = latents.copy()
        modified[:, latent] = median[latent]
        changes[latent] = ((_signed_sqrt(model.decode(modified)) - decoded) ** 2).mean(dtype=np.float64)
    return _normalise(changes)


def by_variance(embedding: Embedding) -> np.ndarray:
    """Share of each latent in the total variance, shape (k,); needs no model."""
    return _normalise(_valid_latents(embedding).var(0, dtype=np.float64))


def _valid_latents(embedding: Embedding) -> np.ndarray:
    """Latents (n, k) of the scan positions that are not excluded."""
    latents = embedding.maps.reshape(-1, embedding.latent_dim)
    return latents[np.isfinite(latents).all(1)]


def _signed_sqrt(patterns: np.ndarray) -> np.ndarray:
    return np.sign(patterns) * np.sqrt(np.abs(patterns))


def _normalise(values: np.ndarray) -> np.ndarray:
    total = float(values.sum())
    return values / total if total > 0 else np.zeros_like(values)
