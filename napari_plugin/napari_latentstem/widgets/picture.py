"""Image with title, caption and scale bar."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Picture", "to_qimage"]


def to_qimage(pixels: np.ndarray) -> QImage:
    """Convert colours (rows, columns, 3 or 4), uint8."""
    pixels = np.ascontiguousarray(pixels)
    rows, columns, channels = pixels.shape
    kind = QImage.Format.Format_RGB888 if channels == 3 else QImage.Format.Format_RGBA8888
    return QImage(pixels.tobytes(), columns, rows, channels * columns, kind).copy()


class Picture(QWidget):
    """Shows an image as large as possible, not interpolated, with title, scale bar and caption.

    ``hovered`` is emitted with the row and column under the mouse, ``unhovered`` when the mouse
    leaves the image, and ``clicked`` at a click.

    Parameters
    ----------
    title : str
        Title above the image.
    """

    hovered = Signal(int, int)
    unhovered = Signal()
    clicked = Signal()

    def __init__(self, title: str = "") -> None:
        super().__init__()
        self.title, self.caption, self.hint = title, "", ""
        self.frame: tuple[int, int, int] | None = None
        self._image: QImage | None = None
        self._aspect = 1.0
        self._bar: tuple[float, str] | None = None
        self.setMouseTracking(True)
        self.setMinimumSize(96, 96)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Preferred size, for a pattern."""
        return QSize(128, 160)

    def show_pixels(
        self, pixels: np.ndarray, caption: str = "", aspect: float = 1.0, bar: tuple[float, str] | None = None
    ) -> None:
        """Show an image.

        Parameters
        ----------
        pixels : ndarray, shape (rows, columns, 3), uint8
            Colours.
        caption : str
            Text below the image.
        aspect : float
            Height over width of a pixel.
        bar : (float, str), optional
            Length of the scale bar in image pixels, and its label.
        """
        self._image, self.caption, self._aspect, self._bar = to_qimage(pixels), caption, aspect, bar
        self.update()

    def show_hint(self, hint: str) -> None:
        """Show a text instead of an image."""
        self._image, self.hint, self.caption = None, hint, ""
        self.update()

    def area(self) -> QRectF:
        """Rectangle of the image, in coordinates of the widget."""
        if self._image is None:
            return QRectF()
        line = self.fontMetrics().height() + 2
        width, height = self._image.width(), self._image.height() * self._aspect
        zoom = min(self.width() / width, (self.height() - 2 * line) / height)
        left, top = (self.width() - width * zoom) / 2, (self.height() - 2 * line - height * zoom) / 2
        return QRectF(left, line + top, width * zoom, height * zoom)

    def paintEvent(self, event: object) -> None:
        """Draw title, image, scale bar and caption."""
        painter, line = QPainter(self), self.fontMetrics().height() + 2
        painter.setPen(self.palette().color(self.foregroundRole()))
        centred = Qt.AlignmentFlag.AlignCenter.value
        if self._image is None:
            painter.drawText(QRectF(0, 0, self.width(), line), centred, self.title)
            below = QRectF(self.rect()).adjusted(8, line, -8, -8)
            painter.drawText(below, centred | Qt.TextFlag.TextWordWrap.value, self.hint)
            return
        area = self.area()
        painter.drawText(QRectF(0, area.top() - line, self.width(), line), centred, self.title)
        painter.drawText(QRectF(0, area.bottom(), self.width(), line), centred, self.caption)
        painter.drawImage(area, self._image)
        if self.frame is not None:
            painter.setPen(QPen(QColor(*self.frame), 3))
            painter.drawRect(area)
        if self._bar is not None:
            self._draw_bar(painter, area, self._bar[0] * area.width() / self._image.width(), self._bar[1])

    def _draw_bar(self, painter: QPainter, area: QRectF, length: float, label: str) -> None:
        """Draw a white scale bar on a dark background, visible on any image."""
        font = painter.font()
        font.setPixelSize(12)
        painter.setFont(font)
        width = max(length, painter.fontMetrics().horizontalAdvance(label)) + 10
        box = QRectF(area.left() + 3, area.bottom() - 28, width, 25)
        painter.fillRect(box, QColor(0, 0, 0, 140))
        painter.setPen(QColor("white"))
        painter.drawText(box.adjusted(5, 1, 0, 0), label)
        painter.fillRect(QRectF(box.left() + 5, box.bottom() - 7, length, 3), QColor("white"))

    def mouseMoveEvent(self, event: Any) -> None:
        """Emit `hovered`, or `unhovered` outside the image."""
        area, mouse = self.area(), event.position()
        if self._image is None or not area.contains(mouse):
            self.unhovered.emit()
            return
        rows, columns = self._image.height(), self._image.width()
        row = int((mouse.y() - area.top()) / area.height() * rows)
        column = int((mouse.x() - area.left()) / area.width() * columns)
        self.hovered.emit(min(row, rows - 1), min(column, columns - 1))

    def mousePressEvent(self, event: Any) -> None:
        """Emit `clicked`."""
        self.clicked.emit()

    def leaveEvent(self, event: Any) -> None:
        """Emit `unhovered`."""
        self.unhovered.emit()
