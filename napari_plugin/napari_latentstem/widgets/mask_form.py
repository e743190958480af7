"""Selection of the layers that exclude scan positions and detector pixels from training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QWidget

from ..layers.mask_layers import MEAN_PATTERN, add_drawing_layer, scan_with_masks, show_mean_pattern
from ..layers.scan_layers import layer_of
from ..layers.sessions import sessions_of
from ..model.session import Session
from .building_blocks import combo_box, horizontal, push_button
from .latest_task_worker import LatestTaskWorker

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from latentstem import Scan

__all__ = ["MaskForm"]


class MaskForm(QWidget):
    """Selects a Labels or Shapes layer for scan positions and one for detector pixels.

    ``failed`` is emitted with the exception if the mean pattern cannot be computed.
    """

    failed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._worker = LatestTaskWorker(self, self.failed.emit)
        self.positions = combo_box(
            [], "Layer whose labels or shapes cover scan positions to exclude, such as vacuum or holes"
        )
        self.pixels = combo_box(
            [], "Layer whose labels or shapes cover detector pixels to exclude, such as a beam stop"
        )
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        label = QLabel("Exclude")
        label.setToolTip("Excluded from training, validation and comparison")
        layout.addRow(label)
        layout.addRow("Positions", self._row(self.positions, self.draw_positions, "the map"))
        layout.addRow("Pixels", self._row(self.pixels, self.draw_pixels, "the mean pattern"))
        for signal in self._signals():
            signal.connect(self._update)
        self._update()

    def _row(self, box: QComboBox, draw: Callable[[], None], image: str) -> QHBoxLayout:
        button = push_button("Draw", f"Add a layer, and paint on {image} what is to be excluded", draw)
        box.setMinimumContentsLength(8)
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        return horizontal(box, button, stretch=box)

    def detach(self) -> None:
        """Disconnect from the viewer."""
        self._worker.close()
        for signal in self._signals():
            signal.disconnect(self._update)

    def scan_with_masks(self, session: Session) -> Scan:
        """The scan of a session with the selected masks; see `mask_layers.scan_with_masks`."""
        return scan_with_masks(session, self.positions.currentData(), self.pixels.currentData())

    def draw_positions(self) -> None:
        """Add a layer to paint scan positions on, and select it."""
        if self._sessions.active is not None:
            layer = add_drawing_layer(self._viewer, self._sessions.active, of_pixels=False)
            self.positions.setCurrentIndex(self.positions.findText(layer.name))

    def draw_pixels(self) -> None:
        """Add the mean pattern and a layer to paint detector pixels on, and select that layer."""
        session = self._sessions.active
        if session is None:
            return
        if layer_of(self._viewer, session, MEAN_PATTERN) is None:
            self._worker.submit(
                lambda: _mean_pattern(session.scan), lambda pattern: self._draw_pixels(session, pattern)
            )
        else:
            self._draw_pixels(session)

    def _draw_pixels(self, session: Session, pattern: np.ndarray | None = None) -> None:
        if session.closed:
            return
        if pattern is not None:
            show_mean_pattern(self._viewer, session, pattern)
            self._viewer.reset_view()
        layer = add_drawing_layer(self._viewer, session, of_pixels=True)
        self.pixels.setCurrentIndex(self.pixels.findText(layer.name))

    def _signals(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.renamed

    def _update(self, event: Any = None) -> None:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Labels | Shapes)]
        for box in (self.positions, self.pixels):
            selected = box.currentData()
            box.clear()
            box.addItem("nothing", None)
            for layer in layers:
                box.addItem(layer.name, layer)
            box.setCurrentIndex(layers.index(selected) + 1 if selected in layers else 0)


def _mean_pattern(scan: Scan) -> Iterator[np.ndarray]:
    from latentstem.scan.quality import measure_quality  # imports scipy

    yield measure_quality(scan).mean_pattern
