"""Which of the open scans a widget works on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from .state import Session, sessions_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["ScanChoice"]


class ScanChoice(QComboBox):
    """The open scans of a viewer; the active one is chosen, and the chosen one becomes the active one.

    ``changed`` is emitted when another scan is chosen, and when the chosen one gets or loses a model or work to do.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose scans.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self._listening: Session | None = None
        for signal in self._signals():
            signal.connect(self._list)
        self.activated.connect(self._on_activated)
        self._list()

    @property
    def session(self) -> Session | None:
        """The chosen scan."""
        return self._sessions.active

    def let_go(self) -> None:
        """Listen no more."""
        for signal in self._signals():
            signal.disconnect(self._list)
        self._listen(None)

    def _signals(self) -> tuple[Any, ...]:
        return self._sessions.added, self._sessions.removed, self._sessions.active_changed

    def _list(self, *_: Any) -> None:
        self.clear()
        for session in self._sessions:
            self.addItem(session.name, session)
        active = self._sessions.active
        self.setCurrentIndex(-1 if active is None else list(self._sessions).index(active))
        self._listen(active)
        self.changed.emit()

    def _listen(self, session: Session | None) -> None:
        for listening, connect in ((self._listening, False), (session, True)):
            if listening is not None:
                for signal in (listening.events.busy, listening.events.model):
                    signal.connect(self._tell) if connect else signal.disconnect(self._tell)
        self._listening = session

    def _tell(self, *_: Any) -> None:
        self.changed.emit()

    def _on_activated(self, index: int) -> None:
        self._sessions.active = list(self._sessions)[index]
