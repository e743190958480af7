"""Interface of the penalties."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

__all__ = ["Penalty"]


class Penalty(nn.Module):
    """A term of the objective that depends on the latents alone.

    It is a mean over patterns, so that its effect does not change with the batch size, and costs O(B k).
    """

    #: name in logs and the history
    name: ClassVar[str]
    #: field of `TrainingConfig` with its weight
    weight: ClassVar[str]

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, k) to the scalar term."""
        raise NotImplementedError
