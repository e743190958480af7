"""Selection of one of the open scans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from ..layers.sessions import sessions_of
from ..model.session import Session

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["ScanSelector"]


class ScanSelector(QComboBox):
    """The open scans of a viewer, of which the selected one is the active one.

    ``changed`` is emitted when another scan is selected, and when the selected one gets another model or starts or
    ends a job.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self._connected: Session | None = None
        for signal in self._signals():
            signal.connect(self._update)
        self.activated.connect(self._on_activated)
        self._update()

    @property
    def session(self) -> Session | None:
        """Session of the selected scan."""
        return self._sessions.active

    def detach(self) -> None:
        """Disconnect from the viewer."""
        for signal in self._signals():
            signal.disconnect(self._update)
        self._connect(None)

    def _signals(self) -> tuple[Any, ...]:
        return self._sessions.added, self._sessions.removed, self._sessions.active_changed

    def _update(self, *_: Any) -> None:
        self.clear()
        for session in self._sessions:
            self.addItem(session.name, session)
        active = self._sessions.active
        self.setCurrentIndex(-1 if active is None else list(self._sessions).index(active))
        self._connect(active)
        self.changed.emit()

    def _connect(self, session: Session | None) -> None:
        if self._connected is not None:
            self._connected.events.busy.disconnect(self._on_state)
            self._connected.events.model.disconnect(self._on_state)
        if session is not None:
            session.events.busy.connect(self._on_state)
            session.events.model.connect(self._on_state)
        self._connected = session

    def _on_state(self, *_: Any) -> None:
        self.changed.emit()

    def _on_activated(self, index: int) -> None:
        self._sessions.active = list(self._sessions)[index]
