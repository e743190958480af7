"""What the docked widgets share: they let go of the viewer when they are closed."""

from __future__ import annotations

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QLabel, QWidget

__all__ = ["Dock", "Note"]


class Dock(QWidget):
    """A widget in a dock of napari, which takes it out of the dock, and does not close it, to be rid of it."""

    stopped = False

    def stop(self) -> None:
        """End what goes on and let go of the viewer; done once."""

    def event(self, event: QEvent) -> bool:
        """Stop when closed, or taken out of the dock."""
        out = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if (out or event.type() == QEvent.Type.Close) and not self.stopped:
            self.stopped = True
            self.stop()
        return super().event(event)


class Note(QLabel):
    """Text of some lines, that can be copied; takes no room while it is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setVisible(False)

    def setText(self, text: str) -> None:
        """Show a text, or nothing."""
        super().setText(text)
        self.setVisible(bool(text) and self.parent() is not None)
