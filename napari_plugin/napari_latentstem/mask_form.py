"""Which layers tell what is left out of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QPushButton, QWidget

from . import masks
from .background import Latest
from .layers import layer_of
from .state import Session, sessions_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from latentstem import Scan

__all__ = ["MaskForm"]


class MaskForm(QWidget):
    """Labels and Shapes layers to choose from, for scan positions and for detector pixels.

    ``failed`` is emitted with the exception, where the mean pattern cannot be made.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose layers.
    """

    failed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._reading = Latest(self, self.failed.emit)
        self.positions, self.pixels = QComboBox(), QComboBox()
        self.positions.setToolTip(
            "Layer whose labels or shapes cover scan positions to leave out: vacuum, holes"
        )
        self.pixels.setToolTip("Layer whose labels or shapes cover detector pixels to leave out: a beam stop")
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        label = QLabel("Leave out")
        label.setToolTip("What is to be neither learnt from nor judged by")
        layout.addRow(label)
        layout.addRow("Positions", self._row(self.positions, self.draw_positions, "the map"))
        layout.addRow("Pixels", self._row(self.pixels, self.draw_pixels, "the mean pattern"))
        for signal in self._signals():
            signal.connect(self._list)
        self._list()

    def _row(self, box: QComboBox, draw: Callable[[], None], on: str) -> QHBoxLayout:
        row, button = QHBoxLayout(), QPushButton("Draw")
        button.setToolTip(f"Add a layer, and paint on {on} what is to be left out")
        button.clicked.connect(lambda: draw())
        box.setMinimumContentsLength(8)
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        row.addWidget(box, 1)
        row.addWidget(button)
        return row

    def let_go(self) -> None:
        """Listen no more."""
        self._reading.close()
        for signal in self._signals():
            signal.disconnect(self._list)

    def masked(self, session: Session) -> Scan:
        """The scan of a session without what is drawn; see `masks.masked`."""
        return masks.masked(session, self.positions.currentData(), self.pixels.currentData())

    def draw_positions(self) -> None:
        """Add a layer to paint scan positions on."""
        if self._sessions.active is not None:
            layer = masks.drawing_layer(self._viewer, self._sessions.active, of_pixels=False)
            self.positions.setCurrentIndex(self.positions.findText(layer.name))

    def draw_pixels(self) -> None:
        """Add a layer to paint detector pixels on, over the mean pattern, which is added as well."""
        session = self._sessions.active
        if session is None:
            return
        if layer_of(self._viewer, session, masks.PATTERN) is None:
            self._reading.ask(
                lambda: _mean_pattern(session.scan), lambda pattern: self._draw_pixels(session, pattern)
            )
        else:
            self._draw_pixels(session)

    def _draw_pixels(self, session: Session, pattern: np.ndarray | None = None) -> None:
        if session.closed:
            return
        if pattern is not None:
            masks.show_mean_pattern(self._viewer, session, pattern)
            self._viewer.reset_view()
        layer = masks.drawing_layer(self._viewer, session, of_pixels=True)
        self.pixels.setCurrentIndex(self.pixels.findText(layer.name))

    def _signals(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.renamed

    def _list(self, event: Any = None) -> None:
        drawn = [layer for layer in self._viewer.layers if isinstance(layer, Labels | Shapes)]
        for box in (self.positions, self.pixels):
            chosen = box.currentData()
            box.clear()
            box.addItem("nothing", None)
            for layer in drawn:
                box.addItem(layer.name, layer)
            box.setCurrentIndex(drawn.index(chosen) + 1 if chosen in drawn else 0)


def _mean_pattern(scan: Scan) -> Iterator[np.ndarray]:
    from latentstem.scan.scan.quality import measure_quality

    yield measure_quality(scan).mean_pattern
