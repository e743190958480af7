"""State of one open scan, shared by all widgets of a viewer."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from psygnal import SignalGroupDescriptor

if TYPE_CHECKING:
    from latentstem import Embedding, LatentModel, Scan

__all__ = ["Session"]

_COMPARED_BY_IDENTITY = ("scan", "model", "embedding", "region", "selection", "images")


@dataclass(eq=False, repr=False)
class Session:
    """One open scan and what is known about it.

    Assigning a different value to an attribute emits ``session.events.<attribute>`` with (new, old). Assign in the GUI
    thread only, because widgets listen. Arrays are replaced, never changed in place.

    Parameters
    ----------
    scan : Scan
        Read lazily, from disk or from memory.
    name : str
        Prefix of the names of its layers.
    model : LatentModel, optional
        Trained on this scan, or loaded for it.
    embedding : Embedding, optional
        Latents of this scan: maps (Ny, Nx, k) float32, NaN at excluded positions.
    position : (int, int)
        Scan position under the marker: row, column.
    region : ndarray, shape (Ny, Nx), bool, optional
        Scan positions to average over while the user holds a key; None if none are drawn.
    selection : ndarray, shape (Ny, Nx), bool, optional
        Scan positions selected in latent space or on the map.
    busy : str
        The running job ("training", "embedding"); empty when idle.
    message : str
        Last error message.
    images : dict of str to ndarray (Ny, Nx)
        Virtual images by kind, NaN at positions that have not been read yet.
    closed : bool
        Whether its last layer has been removed: all jobs on the scan stop.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(_COMPARED_BY_IDENTITY, operator.is_)
    )

    scan: Scan
    name: str
    model: LatentModel | None = None
    embedding: Embedding | None = None
    position: tuple[int, int] = (0, 0)
    region: np.ndarray | None = None
    selection: np.ndarray | None = None
    busy: str = ""
    message: str = ""
    images: dict[str, np.ndarray] = field(default_factory=dict)
    closed: bool = False

    def __repr__(self) -> str:
        return f"Session({self.name!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        """The session itself: a duplicated layer shows the same scan."""
        return self
