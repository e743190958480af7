"""Axes of the latent space: after training, latents are expressed in those along which patterns differ most."""

from __future__ import annotations

import numpy as np
import torch

from .module import Autoencoder
from .reader import Batch, PatternReader

__all__ = ["order_latents"]

_SAMPLE = 4096  # patterns that the axes are found from
_AT_ONCE = 2**22  # detector values of those that are decoded together
_ALIKE = 1e-5  # decoded patterns that differ no more than that, of their norm, differ by rounding
_LEAST = 1e-4  # weight of a latent that changes nothing, beside the mean of all: its axis must not be lost


@torch.no_grad()
def order_latents(module: Autoencoder, reader: PatternReader, positions: np.ndarray, seed: int) -> None:
    """Turn the latents so that distances are those between decoded patterns, and the axes their principal ones.

    Latents are then uncorrelated, in the order of how much they change the patterns, and centred; the mean of their
    variances is 1. What the network reconstructs stays the same. The decoder is taken to be linear here: the metric is
    that of the linear map that fits it best. Where the latents are all the same, or not finite, nothing is changed.

    Parameters
    ----------
    module : Autoencoder
        Its network has `set_axes`.
    reader : PatternReader
        Of the scan.
    positions : ndarray of int
        Flat scan positions that were trained on.
    seed : int
        Of the choice of those that are looked at.
    """
    chosen = np.sort(np.random.default_rng([seed, 6]).permutation(positions)[:_SAMPLE])
    pixels = int(np.prod(module.network.shape))
    parts = np.array_split(chosen, -(-len(chosen) * pixels // _AT_ONCE))
    latents = torch.cat([module.encode_batch(_scored(reader, part)) for part in parts]).double()
    centre = latents.mean(0)
    latents -= centre
    covariance = latents.T @ latents / len(latents)
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
        return
    weights, axes = torch.linalg.eigh(metric)
    root = axes * weights.clamp_min(0).sqrt() @ axes.T
    variances, turned = torch.linalg.eigh(root @ covariance @ root)
    if not variances.sum() > _ALIKE**2 * power:
        return
    scale = variances.mean().sqrt()
    turned = (root @ turned).flip(1) / scale
    turned *= torch.where(((latents @ turned) ** 3).sum(0) < 0, -1.0, 1.0)  # the long tail is positive
    module.network.set_axes(centre, turned)


def _scored(reader: PatternReader, positions: np.ndarray) -> Batch:
    return reader(positions, patterns=False)
