"""What is open and what is known of it: plain evented state without Qt, shared by all widgets of a viewer."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from psygnal import Signal, evented

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from latentstem import Embedding, LatentModel, Scan

__all__ = ["KEY", "Session", "Sessions", "sessions_of"]

#: where the metadata of a layer hold its `Session`
KEY = "latentstem"

_OBJECTS = ("scan", "model", "embedding", "region", "selection", "images")


@evented(equality_operators=dict.fromkeys(_OBJECTS, operator.is_))
@dataclass(eq=False, repr=False)
class Session:
    """One open scan and what is known of it. Plain state: no Qt, no napari.

    Setting an attribute to another object or value emits ``session.events.<attribute>`` with (new, old). Set them in
    the GUI's thread only: widgets listen. Arrays are replaced, never changed in place.

    Parameters
    ----------
    scan : Scan
        Read lazily, from disk or from memory.
    name : str
        What its layers are called after.
    model : LatentModel, optional
        Trained on this scan, or loaded for it.
    embedding : Embedding, optional
        Latents of this scan: maps (Ny, Nx, k) float32, NaN where a position is excluded.
    position : (int, int)
        Scan position under the marker: row, column.
    region : ndarray, shape (Ny, Nx), bool, optional
        Scan positions that are averaged while the key is held; None for the one under the marker alone.
    selection : ndarray, shape (Ny, Nx), bool, optional
        Scan positions chosen in latent space or on the map.
    busy : str
        What is going on ("training", "embedding"); empty when idle.
    message : str
        Last error or note for the user.
    images : dict of str to ndarray (Ny, Nx)
        Virtual images by kind, NaN where they have not been computed yet.
    closed : bool
        Whether its last layer is gone: whatever works on the scan stops.
    """

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


class Sessions:
    """The open scans of one viewer.

    A layer belongs to the session in its metadata; a scan is open as long as it has a layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Held weakly.
    """

    added = Signal(object)
    removed = Signal(object)
    active_changed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = ref(viewer)
        self._sessions: list[Session] = []
        self._active: Session | None = None
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_selected)
        for layer in viewer.layers:
            self._adopt(layer)
        self._on_selected()

    @property
    def viewer(self) -> Viewer | None:
        """The viewer itself, without the proxy that napari gives to plugins; None once it is gone."""
        return self._viewer()

    @property
    def active(self) -> Session | None:
        """The scan in use: that of the layer selected last; another kind of layer leaves it as it is."""
        return self._active

    @active.setter
    def active(self, session: Session | None) -> None:
        if session is not self._active:
            self._active = session
            self.active_changed.emit(session)

    def __iter__(self) -> Any:
        return iter(tuple(self._sessions))

    def __len__(self) -> int:
        return len(self._sessions)

    @staticmethod
    def of_layer(layer: Layer | None) -> Session | None:
        """The session a layer belongs to."""
        session = None if layer is None else layer.metadata.get(KEY)
        return session if isinstance(session, Session) else None

    def layers_of(self, session: Session) -> list[Layer]:
        """Layers of a session, from the bottom up."""
        viewer = self.viewer
        return [] if viewer is None else [layer for layer in viewer.layers if self.of_layer(layer) is session]

    def open(self, scan: Scan, name: str) -> Session:
        """Take a scan into the viewer; add its first layer next.

        The name gets a number where another open scan has it.
        """
        session = Session(scan, name)
        self._add(session)
        return session

    def _add(self, session: Session) -> None:
        taken, name = {other.name for other in self._sessions}, session.name
        number = 1
        while session.name in taken:
            number += 1
            session.name = f"{name} [{number}]"
        session.closed = False
        self._sessions.append(session)
        self.added.emit(session)
        if self._active is None:
            self.active = session

    def _adopt(self, layer: Layer) -> None:
        session = self.of_layer(layer)
        if session is not None and session not in self._sessions:
            self._add(session)

    def _on_inserted(self, event: Any) -> None:
        self._adopt(event.value)

    def _on_removed(self, event: Any) -> None:
        session = self.of_layer(event.value)
        if session in self._sessions and not self.layers_of(session):
            self._sessions.remove(session)
            session.closed = True
            if self._active is session:
                self.active = self._sessions[-1] if self._sessions else None
            self.removed.emit(session)

    def _on_selected(self, event: Any = None) -> None:
        viewer = self.viewer
        session = None if viewer is None else self.of_layer(viewer.layers.selection.active)
        if session is not None:
            self.active = session


_OF_VIEWER: WeakKeyDictionary[Any, Sessions] = WeakKeyDictionary()


def sessions_of(viewer: Any) -> Sessions:
    """The open scans of a viewer, or of the proxy of one that napari gives to plugins."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _OF_VIEWER:
        _OF_VIEWER[viewer] = Sessions(viewer)
    return _OF_VIEWER[viewer]
