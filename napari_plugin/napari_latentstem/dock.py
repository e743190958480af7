"""What the docked widgets share: they let go of the viewer when they are closed."""

from __future__ import annotations

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

__all__ = ["Dock"]


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
