"""Base classes of the docked widgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QLabel, QWidget

from ..layers.sessions import sessions_of
from ..model.session import Session

if TYPE_CHECKING:
    import napari.viewer

__all__ = ["Dock", "Note", "ScanDock", "TextLabel"]


class Dock(QWidget):
    """A docked widget, which stops when it is closed or removed from its dock.

    napari removes the widget from its dock instead of closing it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Viewer of the scans.
    """

    stopped = False

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._build()

    def _build(self) -> None:
        """Create the widgets and the layout."""

    def stop(self) -> None:
        """Stop all jobs and disconnect from the viewer; called once."""

    def event(self, event: QEvent) -> bool:
        """Stop when closed or removed from the dock."""
        is_removed = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if (is_removed or event.type() == QEvent.Type.Close) and not self.stopped:
            self.stopped = True
            self.stop()
        return super().event(event)


class ScanDock(Dock):
    """A dock about the active scan; see `Dock`."""

    _session: Session | None = None

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._sessions.active_changed.connect(self._set_session)
        self._set_session(self._sessions.active)

    def stop(self) -> None:
        """Disconnect from the sessions."""
        self._set_session(None)
        self._sessions.active_changed.disconnect(self._set_session)

    def _callbacks(self) -> dict[str, Callable[..., Any]]:
        """Callbacks for changes of the active session's attributes, by attribute."""
        return {}

    def _on_session(self) -> None:
        """Another session has become active, or none."""

    def _set_session(self, session: Session | None) -> None:
        for attribute, callback in self._callbacks().items():
            if self._session is not None:
                self._session.events[attribute].disconnect(callback)
            if session is not None:
                session.events[attribute].connect(callback)
        self._session = session
        self._on_session()


class TextLabel(QLabel):
    """A label with selectable, wrapped text."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)


class Note(TextLabel):
    """A text label that takes no space while it is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.setVisible(False)

    def setText(self, text: str) -> None:
        """Set the text, and hide the label if it is empty."""
        super().setText(text)
        self.setVisible(bool(text) and self.parent() is not None)
