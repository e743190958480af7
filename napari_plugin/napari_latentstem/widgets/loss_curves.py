"""Live curves of the training and validation loss."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

__all__ = ["LossCurves"]

_MAX_STEPS = 600  # drawn; longer runs are thinned
_TRAINING, _VALIDATION = "#56b4e9", "#e69f00"  # safe for colour-blind readers, on dark and on light

Line = list[tuple[float, float]]


class LossCurves(QWidget):
    """Training loss of each step and averaged over each epoch, and validation loss, against steps."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumSize(200, 170)
        self.clear()

    def clear(self) -> None:
        """Remove all curves."""
        self._steps: Line = []
        self._n_added, self._stride, self._last_step = 0, 1, 1
        self.training: Line = []
        self.validation: Line = []
        self.update()

    def add_step(self, step: int, steps: int, loss: float) -> None:
        """Add the training loss of one step of a run of `steps` steps."""
        if self._n_added % self._stride == 0:
            self._steps.append((step, loss))
        self._n_added += 1
        if len(self._steps) > _MAX_STEPS:  # from now on, draw every second of these
            self._steps = self._steps[::2]
            self._stride *= 2
        self._last_step = max(1, steps)
        self.update()

    def set_history(self, steps: list[float], training: list[float], validation: list[float]) -> None:
        """Set the mean training loss of each epoch, and the loss of each validation, at these steps."""
        self.training = list(zip(steps[-len(training) :], training, strict=True))
        self.validation = list(zip(steps[-len(validation) :], validation, strict=True))
        self.update()

    def limits(self) -> tuple[float, float]:
        """Lower and upper limit of the loss axis; the first, very high losses may be above it."""
        losses = [loss for line in (self._steps, self.training, self.validation) for _, loss in line]
        if not losses:
            return 0.0, 1.0
        low, high = (float(value) for value in np.percentile(losses, (0, 98)))
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        return low - margin, high + margin

    def paintEvent(self, event: object) -> None:
        """Draw axes, ticks, legend and curves."""
        painter = QPainter(self)
        try:
            self._draw(painter)
        finally:
            painter.end()

    def _draw(self, painter: QPainter) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text_colour = self.palette().color(self.foregroundRole())
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        line_height = painter.fontMetrics().height()
        low, high = self.limits()
        ticks = _ticks(low, high, 4)
        labels = [f"{value:.{_decimals(ticks)}f}" for value in ticks]
        left = max(
            [
                line_height + 24,
                *(painter.fontMetrics().horizontalAdvance(label) + line_height + 14 for label in labels),
            ]
        )
        area = QRectF(left, line_height + 8, self.width() - left - 12, self.height() - 3 * line_height - 18)

        def to_widget(step: float, loss: float) -> QPointF:
            fraction = (loss - low) / (high - low)
            return QPointF(
                area.left() + area.width() * step / self._last_step, area.bottom() - area.height() * fraction
            )

        painter.setPen(text_colour)
        painter.drawRect(area)
        for value, label in zip(ticks, labels, strict=True):
            tick = to_widget(0, value)
            painter.drawLine(tick, tick + QPointF(4, 0))
            box = QRectF(0, tick.y() - line_height / 2, left - 6, line_height)
            painter.drawText(box, (Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter).value, label)
        for value in _ticks(0, self._last_step, 4):
            tick = to_widget(value, low)
            painter.drawLine(tick, tick - QPointF(0, 4))
            box = QRectF(tick.x() - 40, area.bottom() + 3, 80, line_height)
            box.moveRight(min(box.right(), self.width() + 20.0))
            painter.drawText(box, Qt.AlignmentFlag.AlignHCenter.value, f"{value:,.0f}")
        below = QRectF(area.left(), area.bottom() + line_height + 4, area.width(), line_height)
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter.value, "step")
        painter.save()
        painter.translate(line_height, area.center().y())
        painter.rotate(-90)
        painter.drawText(
            QRectF(-60, -line_height, 120, line_height), Qt.AlignmentFlag.AlignHCenter.value, "loss"
        )
        painter.restore()
        self._draw_legend(painter, QRectF(area.left(), 2, area.width(), line_height))
        painter.setClipRect(area)
        _draw_line(painter, [to_widget(*point) for point in self._steps], _TRAINING, faint=True)
        _draw_line(painter, [to_widget(*point) for point in self.training], _TRAINING)
        _draw_line(painter, [to_widget(*point) for point in self.validation], _VALIDATION)

    def _draw_legend(self, painter: QPainter, area: QRectF) -> None:
        pen, x = painter.pen(), area.left()
        for name, colour in (("training", _TRAINING), ("validation", _VALIDATION)):
            _draw_line(painter, [QPointF(x, area.center().y()), QPointF(x + 18, area.center().y())], colour)
            painter.setPen(pen)
            width = painter.fontMetrics().horizontalAdvance(name)
            painter.drawText(QRectF(x + 25, area.top(), width + 4, area.height()), name)
            x += width + 45


def _draw_line(painter: QPainter, points: list[QPointF], colour: str, faint: bool = False) -> None:
    pen_colour = QColor(colour)
    pen_colour.setAlphaF(0.45 if faint else 1.0)
    painter.setPen(QPen(pen_colour, 1.0 if faint else 1.8))
    painter.drawPolyline(QPolygonF(points))
    if not faint:
        painter.setBrush(pen_colour)
        for point in points:
            painter.drawEllipse(point, 2.0, 2.0)
        painter.setBrush(Qt.BrushStyle.NoBrush)


def _ticks(low: float, high: float, number: int) -> list[float]:
    """About `number` round values between `low` and `high`."""
    min_step = (high - low) / number
    power = 10.0 ** np.floor(np.log10(min_step))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= min_step * 0.999)
    return [float(n * step) for n in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _decimals(ticks: list[float]) -> int:
    gap = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) if ticks and ticks[0] else 1.0
    return max(0, -int(np.floor(np.log10(gap) + 1e-9)))
