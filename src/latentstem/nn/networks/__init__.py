"""Networks: patterns to latents and back. Each is a file with a class that extends `Network` and has a ``name``."""

from __future__ import annotations

from typing import Any

from ...util.registry import named_classes
from .base import Network

__all__ = ["Network", "build_network"]


def build_network(name: str, shape: tuple[int, int], latent_dim: int, **options: Any) -> Network:
    """Create the network of that name; see `Network` for its parameters."""
    return named_classes(__name__, Network)[name](shape, latent_dim, **options)
