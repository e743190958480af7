"""Latent axes: after training, the latent basis is changed to the principal axes of the decoded patterns."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..nn.autoencoder import Autoencoder
from ..nn.scan_scores import ScanScores

__all__ = ["principal_latent_axes"]

_MAX_SAMPLE_PATTERNS = 4096
_MAX_DECODED_VALUES = 2**22  # detector values that are decoded together
_RELATIVE_ROUNDING = 1e-5  # relative difference of decoded patterns that are equal up to rounding
_MIN_RELATIVE_WEIGHT = 1e-4  # of a latent without effect, so that the metric stays invertible


@torch.no_grad()
def principal_latent_axes(
    autoencoder: Autoencoder, scores: ScanScores, positions: np.ndarray, seed: int
) -> dict[str, Tensor] | None:
    """Principal axes of the latent space, measured by distances between decoded patterns.

    In these axes the latents are centred and uncorrelated, ordered by how much they change the patterns, and have mean
    variance 1. The decoder is approximated by its best linear fit.

    Parameters
    ----------
    autoencoder : Autoencoder
        The trained autoencoder; its network takes scores.
    scores : ScanScores
    positions : ndarray of int
        Flat training positions, of which a sample is decoded.
    seed : int

    Returns
    -------
    dict or None
        ``centre`` (k,) and ``axes`` (k, k), float64, for `Network.rotate_latents`; None if the latents are all equal
        or not finite.
    """
    network = autoencoder.network
    sample = np.sort(np.random.default_rng([seed, 6]).permutation(positions)[:_MAX_SAMPLE_PATTERNS])
    pixels = int(np.prod(network.shape))
    parts = np.array_split(sample, -(-len(sample) * pixels // _MAX_DECODED_VALUES))
    latents = torch.cat([network.encode_scores(scores(part)) for part in parts]).double()
    centre = latents.mean(0)
    latents -= centre
    covariance = latents.T @ latents / len(latents)
    if not torch.isfinite(covariance).all():
        return None
    decoder_slope = torch.zeros(latents.shape[1], pixels, dtype=torch.float64)
    mean_square_output = 0.0
    for part in latents.split([len(part) for part in parts]):
        decoded = network.decode((part + centre).float()).flatten(1).double()
        decoder_slope += part.T @ decoded
        mean_square_output += float(decoded.square().sum()) / len(latents)
    decoder_slope = torch.linalg.pinv(covariance * len(latents), hermitian=True) @ decoder_slope
    metric = decoder_slope @ decoder_slope.T
    metric += _MIN_RELATIVE_WEIGHT * metric.diagonal().mean() * torch.eye(len(metric), dtype=torch.float64)
    if not (np.isfinite(mean_square_output) and torch.isfinite(metric).all()):
        return None
    metric_values, metric_vectors = torch.linalg.eigh(metric)
    metric_root = metric_vectors * metric_values.clamp_min(0).sqrt() @ metric_vectors.T
    variances, directions = torch.linalg.eigh(metric_root @ covariance @ metric_root)
    if not variances.sum() > _RELATIVE_ROUNDING**2 * mean_square_output:
        return None
    scale = variances.mean().sqrt()
    axes = (metric_root @ directions).flip(1) / scale
    axes *= torch.where(((latents @ axes) ** 3).sum(0) < 0, -1.0, 1.0)  # sign: positive skewness
    return {"centre": centre, "axes": axes}
