"""Penalties on latents. Each is a file with a class that extends `Penalty`, and a field of `TrainingConfig`."""

from __future__ import annotations

from ...util.registry import named_classes
from .base import Penalty

__all__ = ["Penalty", "penalties"]


def penalties() -> dict[str, Penalty]:
    """One of each penalty, by name."""
    return {name: kind() for name, kind in sorted(named_classes(__name__, Penalty).items())}
