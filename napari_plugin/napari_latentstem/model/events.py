"""Events that a background job on a scan reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from latentstem import Embedding, LatentModel

__all__ = ["Comparing", "Embedded", "Event", "Failed", "Finished", "Progress", "Stopped", "Validated"]


@dataclass(frozen=True)
class Progress:
    """Progress of training.

    Parameters
    ----------
    step, steps : int
        Number of the last step, and number of steps of the run.
    seconds_left : float
        Estimated time to the end of the run.
    train_loss : float
        Loss of this step.
    """

    step: int
    steps: int
    seconds_left: float
    train_loss: float


@dataclass(frozen=True, eq=False)
class Validated:
    """A validation has finished.

    Parameters
    ----------
    epoch : int
        Its number, from 0.
    history : dict of str to list of float
        All metrics so far; see `LatentModel.history`.
    latent_maps : ndarray, shape (Ny, Nx, k), float32
        Latents of a subset of the scan, so that they cost little time: a coarse grid of positions, each repeated over
        its grid cell, or a few storage blocks of a scan that is streamed from disk. NaN elsewhere.
    """

    epoch: int
    history: dict[str, list[float]]
    latent_maps: np.ndarray


@dataclass(frozen=True)
class Comparing:
    """The model is trained, and is being compared with PCA and NMF."""


@dataclass(frozen=True, eq=False)
class Finished:
    """Training has finished."""

    model: LatentModel


@dataclass(frozen=True, eq=False)
class Stopped:
    """The job was stopped; `model` is the best one so far, or None if it was stopped before the first step."""

    model: LatentModel | None


@dataclass(frozen=True, eq=False)
class Failed:
    """The job has failed."""

    error: BaseException


@dataclass(frozen=True, eq=False)
class Embedded:
    """The latents of a scan have been computed with a model."""

    model: LatentModel
    embedding: Embedding


Event = Progress | Validated | Comparing | Finished | Stopped | Failed | Embedded
