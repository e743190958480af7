"""Binomial thinning of counts."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["thin_counts"]

_MAX_RANDOM_BITS = 15  # counts of a pixel thinned with one random bit each; the rest with `torch.binomial`


def thin_counts(counts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split counts into two by binomial thinning with probability 1/2.

    The halves of Poisson counts are independent Poisson counts of half the dose, so a network that predicts one from
    the other cannot learn noise.

    Parameters
    ----------
    counts : Tensor, float32 or float64
        Non-negative integers.
    generator : torch.Generator
        Source of randomness, on the tensor's device.

    Returns
    -------
    first, second : Tensor, same shape and dtype
        They sum to `counts`.
    """
    low_counts = counts.clamp(max=_MAX_RANDOM_BITS)
    random_bits = torch.empty(-(-counts.numel() // 4), dtype=torch.int64, device=counts.device)
    random_bits = random_bits.random_(-(2**63), None, generator=generator).view(torch.int16)[: counts.numel()]
    bit_mask = (
        torch.bitwise_left_shift(torch.ones_like(random_bits), low_counts.flatten().to(torch.int16)) - 1
    )
    first = _popcount(random_bits & bit_mask).view_as(counts).to(counts.dtype)
    remaining = counts - low_counts
    if remaining.any():
        nonzero = remaining > 0
        n = remaining[nonzero]
        first[nonzero] += torch.binomial(n, torch.full_like(n, 0.5), generator=generator)
    return first, counts - first


def _popcount(numbers: Tensor) -> Tensor:
    """Number of set bits in non-negative int16 values (SWAR popcount)."""
    numbers = numbers - ((numbers >> 1) & 0x5555)
    numbers = (numbers & 0x3333) + ((numbers >> 2) & 0x3333)
    numbers = (numbers + (numbers >> 4)) & 0x0F0F
    return (numbers + (numbers >> 8)) & 0x1F
