"""A picture of an array, with title, scale bar and what is under the mouse."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Picture", "colours", "to_image"]

_BAD = (130, 130, 130)  # grey of what was excluded


def colours(shares: np.ndarray, name: str) -> np.ndarray:
    """Shares from 0 to 1 in a colour map of matplotlib, shape (..., 3), uint8; NaN is grey."""
    table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
    table = np.concatenate([table, np.array([_BAD], np.uint8)])
    known = np.isfinite(shares)
    steps = shares * np.float32(255)
    return table[(steps if known.all() else np.where(known, steps, 256)).astype(np.intp)]


def to_image(pixels: np.ndarray) -> QImage:
    """Colours (rows, columns, 3 or 4), uint8, as Qt has pictures."""
    pixels = np.ascontiguousarray(pixels)
    rows, columns, channels = pixels.shape
    kind = QImage.Format.Format_RGB888 if channels == 3 else QImage.Format.Format_RGBA8888
    return QImage(pixels.tobytes(), columns, rows, channels * columns, kind).copy()


class Picture(QWidget):
    """Shows pixels as large as there is room, unsmoothed, with title, scale bar and a line below.

    ``hovered`` is emitted with the row and column under the mouse, ``left`` when there are none, and ``clicked``.

    Parameters
    ----------
    title : str
        What is shown.
    """

    hovered = Signal(int, int)
    left = Signal()
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
        """Room for a pattern; there is mostly more."""
        return QSize(128, 160)

    def show_pixels(
        self,
        pixels: np.ndarray,
        caption: str = "",
        aspect: float = 1.0,
        bar: tuple[float, str] | None = None,
    ) -> None:
        """Show another picture.

        Parameters
        ----------
        pixels : ndarray, shape (rows, columns, 3), uint8
            Colours.
        caption : str
            The line below.
        aspect : float
            Height over width of a pixel.
        bar : (float, str), optional
            Length of the scale bar in columns, and its label.
        """
        self._image, self.caption, self._aspect, self._bar = to_image(pixels), caption, aspect, bar
        self.update()

    def show_hint(self, hint: str) -> None:
        """Show no picture, but what to do to see one."""
        self._image, self.hint, self.caption = None, hint, ""
        self.update()

    def area(self) -> QRectF:
        """Where the picture is, in the widget's coordinates."""
        if self._image is None:
            return QRectF()
        line = self.fontMetrics().height() + 2
        wide, tall = self._image.width(), self._image.height() * self._aspect
        zoom = min(self.width() / wide, (self.height() - 2 * line) / tall)
        left, top = (self.width() - wide * zoom) / 2, (self.height() - 2 * line - tall * zoom) / 2
        return QRectF(left, line + top, wide * zoom, tall * zoom)

    def paintEvent(self, event: object) -> None:
        """Draw title, picture, scale bar and caption."""
        painter, line = QPainter(self), self.fontMetrics().height() + 2
        painter.setPen(self.palette().color(self.foregroundRole()))
        centred = Qt.AlignmentFlag.AlignCenter.value
        if self._image is None:
            painter.drawText(QRectF(0, 0, self.width(), line), centred, self.title)
            place = QRectF(self.rect()).adjusted(8, line, -8, -8)
            painter.drawText(place, centred | Qt.TextFlag.TextWordWrap.value, self.hint)
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
        """White on a shade of its own, so that it is seen on any picture."""
        font = painter.font()
        font.setPixelSize(12)
        painter.setFont(font)
        wide = max(length, painter.fontMetrics().horizontalAdvance(label)) + 10
        box = QRectF(area.left() + 3, area.bottom() - 28, wide, 25)
        painter.fillRect(box, QColor(0, 0, 0, 140))
        painter.setPen(QColor("white"))
        painter.drawText(box.adjusted(5, 1, 0, 0), label)
        painter.fillRect(QRectF(box.left() + 5, box.bottom() - 7, length, 3), QColor("white"))

    def mouseMoveEvent(self, event: Any) -> None:
        """Tell which pixel is under the mouse."""
        area, at = self.area(), event.position()
        if self._image is None or not area.contains(at):
            self.left.emit()
            return
        rows, columns = self._image.height(), self._image.width()
        row = int((at.y() - area.top()) / area.height() * rows)
        column = int((at.x() - area.left()) / area.width() * columns)
        self.hovered.emit(min(row, rows - 1), min(column, columns - 1))

    def mousePressEvent(self, event: Any) -> None:
        """Tell that it was clicked."""
        self.clicked.emit()

    def leaveEvent(self, event: Any) -> None:
        """Tell that the mouse is elsewhere."""
        self.left.emit()
