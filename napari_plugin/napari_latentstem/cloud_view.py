"""Shows the cloud of latents: zoom, move, outline points."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from .picture_widget import to_image

__all__ = ["CloudView"]

View = tuple[float, float, float, float]

_MARGIN = 24  # pixels for the names of the axes
_CLICK = 4  # pixels that a click may move
_ZOOM = 1.25  # a step of the wheel


class CloudView(QWidget):
    """A picture in the coordinates of the cloud, in which an outline is drawn with the mouse.

    Dragging outlines (``lassoed`` with the polygon (m, 2) and whether Shift was held), a click picks a place
    (``picked``), the wheel zooms, the right button moves, a double click shows everything. ``moved`` is emitted when
    another part is to be drawn: `view` says which, `shape` how many pixels.
    """

    lassoed = Signal(object, bool)
    picked = Signal(float, float)
    moved = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.view: View = (0.0, 1.0, 0.0, 1.0)
        self._whole: View = self.view
        self.names = ("", "")
        self.marker: tuple[float, float] | None = None
        self.hint = ""
        self._image: QImage | None = None
        self._drawn: View = self.view
        self._outline: list[QPointF] = []
        self._held: QPointF | None = None
        self.setMinimumSize(180, 160)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(
            "Drag to outline points, with Shift to add them.\nClick to go to a point's position on the map.\n"
            "Wheel: zoom. Right button: move. Double click: show all."
        )

    def sizeHint(self) -> QSize:
        """Room for a plot; there is mostly more."""
        return QSize(200, 170)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        area = self._area()
        return max(1, int(area.height())), max(1, int(area.width()))

    def show_all(self, whole: View, names: tuple[str, str]) -> None:
        """Start with a new cloud, that these coordinates hold."""
        self.view = self._whole = whole
        self.names = names
        self.moved.emit()

    def show_pixels(self, pixels: np.ndarray | None, view: View | None = None, hint: str = "") -> None:
        """Show a picture (rows, columns, 4), uint8, of a part of the cloud, or the hint alone."""
        self._image = None if pixels is None else to_image(pixels)
        self._drawn, self.hint = view or self.view, hint
        self.update()

    def set_marker(self, at: tuple[float, float] | None) -> None:
        """Mark a place, that of the scan position under the marker on the map."""
        self.marker = at
        self.update()

    # ---- coordinates ----

    def _area(self) -> QRectF:
        return QRectF(_MARGIN, 2, max(1, self.width() - _MARGIN - 2), max(1, self.height() - _MARGIN - 2))

    def to_cloud(self, at: QPointF) -> tuple[float, float]:
        """Coordinates of a place in the widget."""
        area, (x0, x1, y0, y1) = self._area(), self.view
        x = x0 + (at.x() - area.left()) / area.width() * (x1 - x0)
        return x, y1 - (at.y() - area.top()) / area.height() * (y1 - y0)

    def to_widget(self, x: float, y: float) -> QPointF:
        """Place in the widget of coordinates."""
        area, (x0, x1, y0, y1) = self._area(), self.view
        left = area.left() + (x - x0) / (x1 - x0) * area.width()
        return QPointF(left, area.top() + (y1 - y) / (y1 - y0) * area.height())

    # ---- Qt ----

    def paintEvent(self, event: Any) -> None:
        """Draw picture, names, marker and outline."""
        painter, area = QPainter(self), self._area()
        text = self.palette().color(self.foregroundRole())
        painter.setPen(text)
        if self._image is None:
            wrapped = Qt.AlignmentFlag.AlignCenter.value | Qt.TextFlag.TextWordWrap.value
            painter.drawText(area.adjusted(8, 8, -8, -8), wrapped, self.hint)
            return
        painter.drawRect(area)
        middle = Qt.AlignmentFlag.AlignCenter.value
        painter.drawText(QRectF(area.left(), area.bottom(), area.width(), _MARGIN), middle, self.names[0])
        painter.save()
        painter.translate(0, area.bottom())
        painter.rotate(-90)
        painter.drawText(QRectF(0, 0, area.height(), _MARGIN), middle, self.names[1])
        painter.restore()
        painter.setClipRect(area)
        x0, x1, y0, y1 = self._drawn
        painter.drawImage(QRectF(self.to_widget(x0, y1), self.to_widget(x1, y0)), self._image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.marker is not None:
            at = self.to_widget(*self.marker)
            for colour, width in ((QColor("white"), 4), (QColor("#ff3b30"), 2)):
                painter.setPen(QPen(colour, width))
                painter.drawEllipse(at, 6.0, 6.0)
        if len(self._outline) > 1:
            painter.setPen(QPen(text, 1.5, Qt.PenStyle.DashLine))
            painter.drawPolygon(QPolygonF(self._outline))

    def resizeEvent(self, event: Any) -> None:
        """Ask for a picture of the new size."""
        super().resizeEvent(event)
        self.moved.emit()

    def mousePressEvent(self, event: Any) -> None:
        """Begin to outline, or to move."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._outline = [event.position()]
        elif event.button() == Qt.MouseButton.RightButton:
            self._held = event.position()

    def mouseMoveEvent(self, event: Any) -> None:
        """Go on with it."""
        if self._outline:
            self._outline.append(event.position())
            self.update()
        elif self._held is not None:
            (x, y), (to_x, to_y) = self.to_cloud(self._held), self.to_cloud(event.position())
            x0, x1, y0, y1 = self.view
            self.view = x0 + x - to_x, x1 + x - to_x, y0 + y - to_y, y1 + y - to_y
            self._held = event.position()
            self._redraw()

    def mouseReleaseEvent(self, event: Any) -> None:
        """End it."""
        self._held = None
        outline, self._outline = self._outline, []
        self.update()
        if not outline or event.button() != Qt.MouseButton.LeftButton:
            return
        far = max((point - outline[0]).manhattanLength() for point in outline)
        if far <= _CLICK:
            self.picked.emit(*self.to_cloud(outline[0]))
        else:
            adding = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.lassoed.emit(np.array([self.to_cloud(point) for point in outline]), adding)

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Show everything."""
        self.view = self._whole
        self._redraw()

    def wheelEvent(self, event: Any) -> None:
        """Zoom about the place under the mouse."""
        x, y = self.to_cloud(event.position())
        factor = _ZOOM ** (-event.angleDelta().y() / 120)
        x0, x1, y0, y1 = self.view
        self.view = (
            x + (x0 - x) * factor,
            x + (x1 - x) * factor,
            y + (y0 - y) * factor,
            y + (y1 - y) * factor,
        )
        self._redraw()
        event.accept()

    def _redraw(self) -> None:
        self.update()
        self.moved.emit()
