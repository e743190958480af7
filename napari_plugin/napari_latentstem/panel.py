"""All of LatentSTEM in one dock: train, latent maps, patterns, latent space, model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from .dock import Dock
from .latent_space_widget import LatentSpaceWidget
from .layers import show_scale_bar
from .maps_widget import MapsWidget
from .model_widget import ModelWidget
from .patterns_widget import PatternsWidget
from .state import Session, sessions_of
from .train_widget import TrainWidget

if TYPE_CHECKING:
    import napari.viewer

__all__ = ["Panel"]

_TABS = {
    "Train": TrainWidget,
    "Latent maps": MapsWidget,
    "Patterns": PatternsWidget,
    "Latent space": LatentSpaceWidget,
    "Model": ModelWidget,
}


class _Column(QScrollArea):
    """As wide as what it holds needs to be; scrolls up and down where the window is low."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(widget)

    def minimumSizeHint(self) -> QSize:
        """Room for the whole width and the scroll bar."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().minimumSizeHint().width() + bar, 120)

    def sizeHint(self) -> QSize:
        """The same width, and the height of all of it."""
        return QSize(self.minimumSizeHint().width(), self.widget().sizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take the new width where what it holds has changed."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


class Panel(Dock):
    """The widgets of LatentSTEM as tabs, under the name of the scan they are about.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Its open scans are what the tabs work on.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.tabs = QTabWidget()
        self.tabs.setUsesScrollButtons(True)
        self.widgets = {}
        for title, kind in _TABS.items():
            widget = self.widgets[title] = kind(viewer)
            self.tabs.addTab(_Column(widget), title)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.about)
        layout.addWidget(self.tabs, 1)
        show_scale_bar(self._sessions.viewer)
        self._sessions.active_changed.connect(self._describe)
        self._describe(self._sessions.active)

    def stop(self) -> None:
        """Stop everything, and let go of the viewer."""
        self._sessions.active_changed.disconnect(self._describe)
        for widget in self.widgets.values():
            widget.close()

    def _describe(self, session: Session | None) -> None:
        if session is None:
            self.about.setText(
                "Open a 4D-STEM scan: File > Open, or drop a file here, or File > Open Sample > LatentSTEM."
            )
            return
        (ny, nx), (height, width) = session.scan.scan_shape, session.scan.pattern_shape
        size = session.scan.nbytes / 2**20
        self.about.setText(
            f"<b>{session.name}</b>: {ny}\u202f×\u202f{nx} positions of {height}\u202f×\u202f{width} pixels, "
            f"{session.scan.dtype}, {f'{size / 1024:.1f} GiB' if size > 1024 else f'{size:.0f} MiB'}"
        )
