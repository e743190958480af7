"""A quick way to train, and what must not be executed, for tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

import latentstem

#: of the clone
ROOT = Path(__file__).resolve().parents[1]


def train(data: Any, **arguments: Any) -> latentstem.LatentModel:
    """A model after three epochs, of six steps each on the scan of the fixtures, unless told otherwise.

    At this rate each epoch is better than the one before.
    """
    quick = {"latent_dim": 4, "epochs": 3, "batch_size": 16, "validation_fraction": 0.1, "progress": False}
    quick |= {} if "config" in arguments or "resume_from" in arguments else {"learning_rate": 1e-3}
    return latentstem.train_autoencoder(data, **{**quick, **arguments})


def maps(model: latentstem.LatentModel, data: Any, **arguments: Any) -> np.ndarray:
    """Latents (Ny, Nx, k)."""
    return model.embed(data, **arguments).maps


def same_up_to_axes(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether one's latents (..., k) are linear in the other's: at its end, training turns their axes."""
    k = first.shape[-1]
    first, second = (latents.reshape(-1, k).astype(float) for latents in (first, second))
    known = np.column_stack([first, np.ones(len(first))])
    left = second - known @ np.linalg.lstsq(known, second, rcond=None)[0]
    return len(first) > 2 * k and bool(np.abs(left).max() < 1e-4 * second.std())


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Any) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.trace,)
