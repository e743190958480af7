"""Axes of the latent space: after training, latents are expressed in those along which patterns differ most."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..nn.autoencoder import Autoencoder
from ..nn.scan_scores import ScanScores

__all__ = ["latent_axes"]

_SAMPLE = 4096  # patterns that the axes are found from
_AT_ONCE = 2**22  # detector values of those that are decoded together
_ALIKE = 1e-5  # decoded patterns that differ no more than that, of their norm, differ by rounding
_LEAST = 1e-4  # weight of a latent that changes nothing, beside the mean of all: its axis must not be lost


@torch.no_grad()
def latent_axes(
    module: Autoencoder, scores: ScanScores, positions: np.ndarray, seed: int
) -> dict[str, Tensor] | None:
    """Axes in which distances between latents are those between decoded patterns, the principal ones of these.

    In them latents are uncorrelated, in the order of how much they change the patterns, and centred; the mean of their
    variances is 1. The decoder is taken to be linear here: the metric is that of the linear map that fits it best.

    Parameters
    ----------
    module : Autoencoder
        Its network sees scores.
    scores : ScanScores
        Of the scan.
    positions : ndarray of int
        Flat scan positions that were trained on.
    seed : int
        Of the choice of those that are looked at.

    Returns
    -------
    dict or None
        ``centre`` (k,) and ``axes`` (k, k), float64, for `Network.set_axes`; None where the latents are all the same,
        or not finite.
    """
    chosen = np.sort(np.random.default_rng([seed, 6]).permutation(positions)[:_SAMPLE])
    pixels = int(np.prod(module.network.shape))
    parts = np.array_split(chosen, -(-len(chosen) * pixels // _AT_ONCE))
    latents = torch.cat([module.network.encode_scores(scores(part)) for part in parts]).double()
    centre = latents.mean(0)
    latents -= centre
    covariance = latents.T @ latents / len(latents)
    if not torch.isfinite(covariance).all():
        return None
    change = torch.zeros(latents.shape[1], pixels, dtype=torch.float64)  # of the patterns, with each latent
    power = 0.0
    for part in latents.split([len(part) for part in parts]):
        decoded = module.network.decode((part + centre).float()).flatten(1).double()
        change += part.T @ decoded
        power += float(decoded.square().sum()) / len(latents)
    change = torch.linalg.pinv(covariance * len(latents), hermitian=True) @ change
    metric = change @ change.T
    metric += _LEAST * metric.diagonal().mean() * torch.eye(len(metric), dtype=torch.float64)
    if not (np.isfinite(power) and torch.isfinite(metric).all()):
        return None
    weights, axes = torch.linalg.eigh(metric)
    root = axes * weights.clamp_min(0).sqrt() @ axes.T
    variances, turned = torch.linalg.eigh(root @ covariance @ root)
    if not variances.sum() > _ALIKE**2 * power:
        return None
    scale = variances.mean().sqrt()
    turned = (root @ turned).flip(1) / scale
    turned *= torch.where(((latents @ turned) ** 3).sum(0) < 0, -1.0, 1.0)  # the long tail is positive
    return {"centre": centre, "axes": turned}
