"""The open scans of a viewer, and which of them is active."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from psygnal import Signal

from ..model.session import Session

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

__all__ = ["SESSION_KEY", "Sessions", "sessions_of"]

#: key of a layer's metadata under which its `Session` is found
SESSION_KEY = "latentstem"


class Sessions:
    """The open scans of one viewer.

    A layer belongs to the session in its metadata; a scan is open as long as it has a layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Referenced weakly.
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
            self._add_session_of(layer)
        self._on_selected()

    @property
    def viewer(self) -> Viewer:
        """The viewer itself, without the proxy that napari gives to plugins."""
        return self._viewer()

    @property
    def active(self) -> Session | None:
        """The session of the layer that was selected last; layers without a session do not count."""
        return self._active

    @active.setter
    def active(self, session: Session | None) -> None:
        if session is not self._active:
            self._active = session
            self.active_changed.emit(session)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._sessions))

    def __len__(self) -> int:
        return len(self._sessions)

    @staticmethod
    def of_layer(layer: Layer | None) -> Session | None:
        """The session a layer belongs to."""
        session = None if layer is None else layer.metadata.get(SESSION_KEY)
        return session if isinstance(session, Session) else None

    def layers_of(self, session: Session) -> list[Layer]:
        """Layers of a session, from bottom to top."""
        viewer = self._viewer()
        return [] if viewer is None else [layer for layer in viewer.layers if self.of_layer(layer) is session]

    def _add(self, session: Session) -> None:
        """Add a session, with a number after its name if another open scan has the same name."""
        used_names, name = {other.name for other in self._sessions}, session.name
        number = 1
        while session.name in used_names:
            number += 1
            session.name = f"{name} [{number}]"
        session.closed = False
        self._sessions.append(session)
        self.added.emit(session)
        if self._active is None:
            self.active = session

    def _add_session_of(self, layer: Layer) -> None:
        session = self.of_layer(layer)
        if session is not None and session not in self._sessions:
            self._add(session)

    def _on_inserted(self, event: Any) -> None:
        self._add_session_of(event.value)

    def _on_removed(self, event: Any) -> None:
        session = self.of_layer(event.value)
        if session is not None and session in self._sessions and not self.layers_of(session):
            self._sessions.remove(session)
            session.closed = True
            if self._active is session:
                self.active = self._sessions[-1] if self._sessions else None
            self.removed.emit(session)

    def _on_selected(self, event: Any = None) -> None:
        viewer = self._viewer()
        session = None if viewer is None else self.of_layer(viewer.layers.selection.active)
        if session is not None:
            self.active = session


_SESSIONS: WeakKeyDictionary[Any, Sessions] = WeakKeyDictionary()


def sessions_of(viewer: Any) -> Sessions:
    """The open scans of a viewer, or of the proxy of a viewer that napari gives to plugins."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _SESSIONS:
        _SESSIONS[viewer] = Sessions(viewer)
    return _SESSIONS[viewer]
