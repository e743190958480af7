"""Networks: patterns to latents and back. They know nothing of scans, Lightning or hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Network

__all__ = ["build_network"]


def build_network(name: str, shape: tuple[int, int], latent_dim: int, channels: int) -> Network:
    """The network of that name.

    Parameters
    ----------
    name : {"compact", "resnet"}
        Which network.
    shape : (int, int)
        Rows and columns (h, w) of its input.
    latent_dim : int
        Number of latents.
    channels : int
        Input channels: 1, or 2 with the neighbouring scan positions as context.
    """
    if name == "resnet":
        from .resnet import ResNetAutoencoder

        return ResNetAutoencoder(shape, latent_dim, channels)
    from .compact import CompactAutoencoder

    return CompactAutoencoder(shape, latent_dim, channels)
