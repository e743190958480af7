"""Live curves of training and validation."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtGui import QPalette

__all__ = ["Curves"]

_PAUSE = 400  # ms between two drawings
_MOST = 2000  # steps that are drawn
_TRAINING, _VALIDATION = "#56b4e9", "#e69f00"  # told apart by the colour-blind, on dark and on light


class Curves(FigureCanvasQTAgg):
    """Loss of training and of validation against steps; drawn at most a few times a second."""

    _pause: QTimer | None = None  # until it is made, Qt may already tell of changes

    def __init__(self) -> None:
        super().__init__(Figure(figsize=(3.2, 1.7)))
        self.setMinimumSize(200, 150)
        self._axes = self.figure.add_axes((0.2, 0.26, 0.76, 0.68))
        self._each = self._axes.plot([], [], color=_TRAINING, alpha=0.4, linewidth=0.8)[0]
        self._training = self._axes.plot([], [], color=_TRAINING, marker=".", label="training")[0]
        self._validation = self._axes.plot([], [], color=_VALIDATION, marker="o", ms=4, label="validation")[0]
        self._axes.set_xlabel("step")
        self._axes.set_ylabel("loss")
        self._axes.tick_params(labelsize=8)
        self._axes.ticklabel_format(axis="y", useOffset=False)
        self._axes.locator_params(axis="y", nbins=4)
        self._axes.locator_params(axis="x", nbins=5, integer=True)
        self._steps: list[tuple[int, float]] = []
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE)
        self._pause.timeout.connect(self._refresh)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._steps = []
        for line in (self._each, self._training, self._validation):
            line.set_data([], [])
        self._axes.set(xlim=(0, 1), ylim=(0, 1))
        self._later()

    def add_step(self, step: int, steps: int, loss: float) -> None:
        """The loss of one step, of so many in the whole run."""
        self._steps.append((step, loss))
        self._axes.set_xlim(0, max(1, steps))
        self._later()

    def set_history(self, steps: list[float], training: list[float], validation: list[float]) -> None:
        """The mean loss of each epoch, and of each validation, at these steps."""
        self._training.set_data(steps[-len(training) :], training)
        self._validation.set_data(steps[-len(validation) :], validation)
        self._later()

    def changeEvent(self, event: QEvent) -> None:
        """Follow napari's theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._later()

    def _later(self) -> None:
        if self._pause is not None and not self._pause.isActive():
            self._pause.start()

    def _refresh(self) -> None:
        shown = self._steps[:: -(-len(self._steps) // _MOST) or 1]
        self._each.set_data(*(zip(*shown, strict=True) if shown else ([], [])))
        values = np.concatenate([line.get_ydata() for line in (self._each, self._training, self._validation)])
        if len(values):
            low, high = np.percentile(values, (0, 98))
            margin = 0.08 * (high - low) or 0.01 * abs(high) or 1.0
            self._axes.set_ylim(low - margin, high + margin)
        self._paint()
        self.draw_idle()

    def _paint(self) -> None:
        """The colours of the window."""
        self.ensurePolished()
        palette = self.palette()
        ground, ink = (
            palette.color(role).name() for role in (QPalette.ColorRole.Window, QPalette.ColorRole.WindowText)
        )
        self.figure.set_facecolor(ground)
        self._axes.set_facecolor(ground)
        for spine in self._axes.spines.values():
            spine.set_color(ink)
        self._axes.tick_params(colors=ink)
        for label in (self._axes.xaxis.label, self._axes.yaxis.label):
            label.set(color=ink, fontsize=9)
        self._axes.legend(
            handles=[self._training, self._validation], fontsize=8, frameon=False, labelcolor=ink, loc="best"
        )
