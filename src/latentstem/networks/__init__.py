"""Networks: patterns to latents and back. They know nothing of scans, Lightning or hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Network

__all__ = ["build_network"]


def build_network(
    name: str,
    shape: tuple[int, int],
    latent_dim: int,
    *,
    context: int = 0,
    counts: bool = False,
    smooth: bool = False,
) -> Network:
    """The network of that name.

    Parameters
    ----------
    name : {"compact", "resnet"}
        Which network.
    shape : (int, int)
        Rows and columns (h, w) of its output.
    latent_dim : int
        Number of latents.
    context : int
        Radius of the neighbourhood that a ``compact`` network sees, in scan positions.
    counts : bool
        Whether the output is the square root of expected counts.
    smooth : bool
        Whether a ``compact`` network is one of format 1; see `CompactAutoencoder`.
    """
    if name == "resnet":
        from .resnet import ResNetAutoencoder

        return ResNetAutoencoder(shape, latent_dim)
    from .compact import CompactAutoencoder

    return CompactAutoencoder(shape, latent_dim, context=context, counts=counts, smooth=smooth)
