"""How much each latent carries of what a model draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .embedding import Embedding
    from .model import LatentModel

__all__ = ["carried", "spread"]

_SAMPLE = 32  # scan positions whose patterns are decoded with each latent held


def carried(model: LatentModel, embedding: Embedding, seed: int = 0) -> np.ndarray:
    """Share of each latent in what tells the decoded patterns of a scan apart.

    One latent at a time is held at its median, and the mean squared change of the square root of the decoded intensity
    is taken over a sample of scan positions; the square root makes a count's noise equal everywhere (Anscombe).

    Parameters
    ----------
    model : LatentModel
        The model of the latents.
    embedding : Embedding
        Latents of a scan.
    seed : int
        Chooses the sample.

    Returns
    -------
    ndarray, shape (k,), float64
        Adds up to 1, or is 0 where nothing makes a difference.
    """
    latents = _known(embedding)
    held = np.median(latents, axis=0)
    if len(latents) > _SAMPLE:
        latents = latents[np.random.default_rng(seed).choice(len(latents), _SAMPLE, replace=False)]
    whole = _root(model.decode(latents))
    changes = np.zeros(embedding.latent_dim)
    for latent in range(embedding.latent_dim):
        without = latents.copy()
        without[:, latent] = held[latent]
        changes[latent] = ((_root(model.decode(without)) - whole) ** 2).mean(dtype=np.float64)
    return _shares(changes)


def spread(embedding: Embedding) -> np.ndarray:
    """Share of each latent in the variance of all of them, shape (k,): where the model is not at hand."""
    return _shares(_known(embedding).var(0, dtype=np.float64))


def _known(embedding: Embedding) -> np.ndarray:
    """Latents (n, k) of the scan positions that are not excluded."""
    latents = embedding.maps.reshape(-1, embedding.latent_dim)
    return latents[np.isfinite(latents).all(1)]


def _root(patterns: np.ndarray) -> np.ndarray:
    return np.sign(patterns) * np.sqrt(np.abs(patterns))


def _shares(values: np.ndarray) -> np.ndarray:
    total = float(values.sum())
    return values / total if total > 0 else np.zeros_like(values)
