"""Live curves of training and validation."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

__all__ = ["Curves"]

_MOST = 600  # steps that are drawn
_TRAINING, _VALIDATION = "#56b4e9", "#e69f00"  # told apart by the colour-blind, on dark and on light

Line = list[tuple[float, float]]


class Curves(QWidget):
    """Loss of training, of each step and as the mean of each epoch, and of validation, against steps."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumSize(200, 170)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._steps: Line = []
        self._told, self._every, self._most = 0, 1, 1
        self.training: Line = []
        self.validation: Line = []
        self.update()

    def add_step(self, step: int, steps: int, loss: float) -> None:
        """The loss of one step, of so many in the whole run."""
        if self._told % self._every == 0:
            self._steps.append((step, loss))
        self._told += 1
        if len(self._steps) > _MOST:  # every other one from now on
            self._steps = self._steps[::2]
            self._every *= 2
        self._most = max(1, steps)
        self.update()

    def set_history(self, steps: list[float], training: list[float], validation: list[float]) -> None:
        """The mean loss of each epoch, and of each validation, at these steps."""
        self.training = list(zip(steps[-len(training) :], training, strict=True))
        self.validation = list(zip(steps[-len(validation) :], validation, strict=True))
        self.update()

    def limits(self) -> tuple[float, float]:
        """The losses at the bottom and the top; the first few may be far above."""
        losses = [loss for line in (self._steps, self.training, self.validation) for _, loss in line]
        if not losses:
            return 0.0, 1.0
        low, high = (float(value) for value in np.percentile(losses, (0, 98)))
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        return low - margin, high + margin

    def paintEvent(self, event: object) -> None:
        """Draw axes, ticks, legend and the three lines."""
        painter = QPainter(self)
        try:
            self._draw(painter)
        finally:
            painter.end()

    def _draw(self, painter: QPainter) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(self.foregroundRole())
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        line = painter.fontMetrics().height()
        low, high = self.limits()
        ticks = _ticks(low, high, 4)
        labels = [f"{value:.{_decimals(ticks)}f}" for value in ticks]
        left = max(
            [line + 24, *(painter.fontMetrics().horizontalAdvance(label) + line + 14 for label in labels)]
        )
        area = QRectF(left, line + 8, self.width() - left - 12, self.height() - 3 * line - 18)

        def place(step: float, loss: float) -> QPointF:
            share = (loss - low) / (high - low)
            return QPointF(
                area.left() + area.width() * step / self._most, area.bottom() - area.height() * share
            )

        painter.setPen(ink)
        painter.drawRect(area)
        for value, label in zip(ticks, labels, strict=True):
            at = place(0, value)
            painter.drawLine(at, at + QPointF(4, 0))
            box = QRectF(0, at.y() - line / 2, left - 6, line)
            painter.drawText(box, (Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter).value, label)
        for value in _ticks(0, self._most, 4):
            at = place(value, low)
            painter.drawLine(at, at - QPointF(0, 4))
            box = QRectF(at.x() - 40, area.bottom() + 3, 80, line)
            box.moveRight(min(box.right(), self.width() + 20.0))
            painter.drawText(box, Qt.AlignmentFlag.AlignHCenter.value, f"{value:,.0f}")
        below = QRectF(area.left(), area.bottom() + line + 4, area.width(), line)
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter.value, "step")
        painter.save()
        painter.translate(line, area.center().y())
        painter.rotate(-90)
        painter.drawText(QRectF(-60, -line, 120, line), Qt.AlignmentFlag.AlignHCenter.value, "loss")
        painter.restore()
        self._draw_legend(painter, QRectF(area.left(), 2, area.width(), line))
        painter.setClipRect(area)
        _draw_line(painter, [place(*point) for point in self._steps], _TRAINING, faint=True)
        _draw_line(painter, [place(*point) for point in self.training], _TRAINING)
        _draw_line(painter, [place(*point) for point in self.validation], _VALIDATION)

    def _draw_legend(self, painter: QPainter, where: QRectF) -> None:
        ink, x = painter.pen(), where.left()
        for name, colour in (("training", _TRAINING), ("validation", _VALIDATION)):
            _draw_line(painter, [QPointF(x, where.center().y()), QPointF(x + 18, where.center().y())], colour)
            painter.setPen(ink)
            wide = painter.fontMetrics().horizontalAdvance(name)
            painter.drawText(QRectF(x + 25, where.top(), wide + 4, where.height()), name)
            x += wide + 45


def _draw_line(painter: QPainter, points: list[QPointF], colour: str, faint: bool = False) -> None:
    ink = QColor(colour)
    ink.setAlphaF(0.45 if faint else 1.0)
    painter.setPen(QPen(ink, 1.0 if faint else 1.8))
    painter.drawPolyline(QPolygonF(points))
    if not faint:
        painter.setBrush(ink)
        for point in points:
            painter.drawEllipse(point, 2.0, 2.0)
        painter.setBrush(Qt.BrushStyle.NoBrush)


def _ticks(low: float, high: float, number: int) -> list[float]:
    """About so many round values between two others."""
    raw = (high - low) / number
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return [float(n * step) for n in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _decimals(ticks: list[float]) -> int:
    gap = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) if ticks and ticks[0] else 1.0
    return max(0, -int(np.floor(np.log10(gap) + 1e-9)))
