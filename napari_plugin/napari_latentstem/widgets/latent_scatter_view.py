"""Scatter plot of latents, with zoom, pan and a lasso."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from .picture import to_qimage

__all__ = ["LatentScatterView"]

View = tuple[float, float, float, float]

_MARGIN = 24  # pixels for the axis labels
_CLICK_PIXELS = 4  # largest movement of a click
_ZOOM = 1.25  # per step of the wheel


class LatentScatterView(QWidget):
    """Shows the image of a scatter plot.

    Dragging draws an outline (``lassoed`` with the polygon (m, 2) and whether Shift was held), a click selects a point
    (``picked``), the wheel zooms, the right button pans, a double click shows all. ``moved`` is emitted when a new image
    is needed: `view` is its part of the plane, `shape` its size in pixels.
    """

    lassoed = Signal(object, bool)
    picked = Signal(float, float)
    moved = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.view: View = (0.0, 1.0, 0.0, 1.0)
        self._full_view: View = self.view
        self.axis_labels = ("", "")
        self.marker: tuple[float, float] | None = None
        self.hint = ""
        self._image: QImage | None = None
        self._image_view: View = self.view
        self._outline: list[QPointF] = []
        self._pan_from: QPointF | None = None
        self.setMinimumSize(180, 160)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(
            "Drag to select points, with Shift to add to the selection.\nClick to go to a point's scan position.\n"
            "Wheel: zoom. Right button: pan. Double click: show all."
        )

    def sizeHint(self) -> QSize:
        """Preferred size."""
        return QSize(200, 170)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        area = self._area()
        return max(1, int(area.height())), max(1, int(area.width()))

    def reset(self, view: View, axis_labels: tuple[str, str]) -> None:
        """Show new points in this view."""
        self.view = self._full_view = view
        self.axis_labels = axis_labels
        self.moved.emit()

    def show_pixels(self, pixels: np.ndarray | None, view: View | None = None, hint: str = "") -> None:
        """Show an image (rows, columns, 4), uint8, of this view, or the hint alone."""
        self._image = None if pixels is None else to_qimage(pixels)
        self._image_view, self.hint = view or self.view, hint
        self.update()

    def set_marker(self, point: tuple[float, float] | None) -> None:
        """Mark the point of the current scan position."""
        self.marker = point
        self.update()

    # coordinates

    def _area(self) -> QRectF:
        return QRectF(_MARGIN, 2, max(1, self.width() - _MARGIN - 2), max(1, self.height() - _MARGIN - 2))

    def to_data(self, position: QPointF) -> tuple[float, float]:
        """Data coordinates of a position in the widget."""
        area, (x0, x1, y0, y1) = self._area(), self.view
        x = x0 + (position.x() - area.left()) / area.width() * (x1 - x0)
        return x, y1 - (position.y() - area.top()) / area.height() * (y1 - y0)

    def to_widget(self, x: float, y: float) -> QPointF:
        """Position in the widget of data coordinates."""
        area, (x0, x1, y0, y1) = self._area(), self.view
        left = area.left() + (x - x0) / (x1 - x0) * area.width()
        return QPointF(left, area.top() + (y1 - y) / (y1 - y0) * area.height())

    # Qt events

    def paintEvent(self, event: Any) -> None:
        """Draw image, axis labels, marker and outline."""
        painter, area = QPainter(self), self._area()
        text = self.palette().color(self.foregroundRole())
        painter.setPen(text)
        if self._image is None:
            flags = Qt.AlignmentFlag.AlignCenter.value | Qt.TextFlag.TextWordWrap.value
            painter.drawText(area.adjusted(8, 8, -8, -8), flags, self.hint)
            return
        painter.drawRect(area)
        centred = Qt.AlignmentFlag.AlignCenter.value
        painter.drawText(
            QRectF(area.left(), area.bottom(), area.width(), _MARGIN), centred, self.axis_labels[0]
        )
        painter.save()
        painter.translate(0, area.bottom())
        painter.rotate(-90)
        painter.drawText(QRectF(0, 0, area.height(), _MARGIN), centred, self.axis_labels[1])
        painter.restore()
        painter.setClipRect(area)
        x0, x1, y0, y1 = self._image_view
        painter.drawImage(QRectF(self.to_widget(x0, y1), self.to_widget(x1, y0)), self._image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.marker is not None:
            marker = self.to_widget(*self.marker)
            for colour, width in ((QColor("white"), 4), (QColor("#ff3b30"), 2)):
                painter.setPen(QPen(colour, width))
                painter.drawEllipse(marker, 6.0, 6.0)
        if len(self._outline) > 1:
            painter.setPen(QPen(text, 1.5, Qt.PenStyle.DashLine))
            painter.drawPolygon(QPolygonF(self._outline))

    def resizeEvent(self, event: Any) -> None:
        """Request an image of the new size."""
        super().resizeEvent(event)
        self.moved.emit()

    def mousePressEvent(self, event: Any) -> None:
        """Begin an outline, or panning."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._outline = [event.position()]
        elif event.button() == Qt.MouseButton.RightButton:
            self._pan_from = event.position()

    def mouseMoveEvent(self, event: Any) -> None:
        """Continue the outline, or pan."""
        if self._outline:
            self._outline.append(event.position())
            self.update()
        elif self._pan_from is not None:
            (x, y), (to_x, to_y) = self.to_data(self._pan_from), self.to_data(event.position())
            x0, x1, y0, y1 = self.view
            self.view = x0 + x - to_x, x1 + x - to_x, y0 + y - to_y, y1 + y - to_y
            self._pan_from = event.position()
            self._redraw()

    def mouseReleaseEvent(self, event: Any) -> None:
        """Finish the outline: a selection, or a click if it is tiny."""
        self._pan_from = None
        outline, self._outline = self._outline, []
        self.update()
        if not outline or event.button() != Qt.MouseButton.LeftButton:
            return
        distance = max((point - outline[0]).manhattanLength() for point in outline)
        if distance <= _CLICK_PIXELS:
            self.picked.emit(*self.to_data(outline[0]))
        else:
            adding = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.lassoed.emit(np.array([self.to_data(point) for point in outline]), adding)

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Show all points."""
        self.view = self._full_view
        self._redraw()

    def wheelEvent(self, event: Any) -> None:
        """Zoom, and keep the point under the mouse where it is."""
        x, y = self.to_data(event.position())
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
