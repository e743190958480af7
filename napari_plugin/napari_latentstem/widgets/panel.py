"""The LatentSTEM dock: all widgets as tabs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QTabWidget, QWidget

from latentstem.util.formatting import format_bytes

from ..layers.scan_layers import show_scale_bar
from .building_blocks import vertical
from .dock import Dock, ScanDock
from .latent_space_widget import LatentSpaceWidget
from .maps_widget import MapsWidget
from .model_widget import ModelWidget
from .patterns_widget import PatternsWidget
from .train_widget import TrainWidget

__all__ = ["Panel"]

_TABS: dict[str, Callable[[Any], Dock]] = {
    "Train": TrainWidget,
    "Latent maps": MapsWidget,
    "Patterns": PatternsWidget,
    "Latent space": LatentSpaceWidget,
    "Model": ModelWidget,
}


class _VerticalScrollArea(QScrollArea):
    """As wide as its widget needs to be; scrolls vertically."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._widget = widget
        self.setWidget(widget)

    def minimumSizeHint(self) -> QSize:
        """Width of the widget and the scroll bar."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self._widget.minimumSizeHint().width() + bar, 120)

    def sizeHint(self) -> QSize:
        """The same width, and the full height."""
        return QSize(self.minimumSizeHint().width(), self._widget.sizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Update the width when the widget's layout has changed."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


class Panel(ScanDock):
    """All widgets as tabs, below a description of the active scan; see `Dock`."""

    def _build(self) -> None:
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.tabs = QTabWidget()
        self.tabs.setUsesScrollButtons(True)
        self.widgets: dict[str, Dock] = {}
        for title, widget_class in _TABS.items():
            widget = self.widgets[title] = widget_class(self._viewer)
            self.tabs.addTab(_VerticalScrollArea(widget), title)
        vertical(self, self.about, self.tabs, stretch=self.tabs, margin=4)
        show_scale_bar(self._viewer)

    def stop(self) -> None:
        """Close all widgets, and disconnect from the viewer."""
        super().stop()
        for widget in self.widgets.values():
            widget.close()

    def _on_session(self) -> None:
        session = self._session
        if session is None:
            self.about.setText(
                "Open a 4D-STEM scan: File > Open, or drop a file here, or File > Open Sample > LatentSTEM."
            )
            return
        (ny, nx), (height, width) = session.scan.scan_shape, session.scan.pattern_shape
        self.about.setText(
            f"<b>{session.name}</b>: {ny}\u202f×\u202f{nx} positions of {height}\u202f×\u202f{width} pixels, "
            f"{session.scan.dtype}, {format_bytes(session.scan.nbytes)}"
        )
