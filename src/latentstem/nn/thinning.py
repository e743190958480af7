"""Splitting counts: a pattern as two independent patterns of lower dose."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["thin_counts"]

_COINS = 15  # electrons of a pixel that are each sent by a random bit; the number of further ones is drawn


def thin_counts(counts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
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
    few = counts.clamp(max=_COINS)
    coins = torch.empty(-(-counts.numel() // 4), dtype=torch.int64, device=counts.device)
    coins = coins.random_(-(2**63), None, generator=generator).view(torch.int16)[: counts.numel()]
    thrown = torch.bitwise_left_shift(torch.ones_like(coins), few.flatten().to(torch.int16)) - 1
    first = _bits_set(coins & thrown).view_as(counts).float()
    more = counts - few
    if more.any():
        where = more > 0
        left = more[where]
        first[where] += torch.binomial(left, torch.full_like(left, 0.5), generator=generator)
    return first, counts - first


def _bits_set(numbers: Tensor) -> Tensor:
    """How many bits are set in each of non-negative int16 numbers: sums of neighbouring bits, pairs, fours, bytes."""
    numbers = numbers - ((numbers >> 1) & 0x5555)
    numbers = (numbers & 0x3333) + ((numbers >> 2) & 0x3333)
    numbers = (numbers + (numbers >> 4)) & 0x0F0F
    return (numbers + (numbers >> 8)) & 0x1F
