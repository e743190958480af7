"""Splitting counts: a pattern as two independent patterns of lower dose."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["split_counts"]


def split_counts(counts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Send each electron to one of two patterns at random.

    Binomial thinning of Poisson counts gives two *independent* Poisson patterns of half the dose each: what is
    learnt by predicting one from the other cannot be noise.

    Parameters
    ----------
    counts : Tensor, shape (B, h, w), float32
        Non-negative integers.
    generator : torch.Generator
        Source of randomness, on the tensor's device.

    Returns
    -------
    first, second : Tensor, shape (B, h, w), float32
        They sum to `counts`.
    """
    first = torch.zeros_like(counts)
    hit = counts > 0
    values = counts[hit]
    first[hit] = torch.binomial(values, torch.full_like(values, 0.5), generator=generator)
    return first, counts - first
