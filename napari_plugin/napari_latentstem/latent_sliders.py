"""Sliders along the latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSlider,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from latentstem import Embedding, LatentModel

__all__ = ["LatentSliders"]

_STEPS = 200
_SAMPLE = 20_000  # scan positions from which the ranges are taken


class LatentSliders(QWidget):
    """One slider a latent, the one that varies most first, over the range that it has on the scan.

    ``changed`` is emitted with the latents, shape (k,), float32, when a slider is moved, ``returned`` when they are again
    those of the position under the marker.
    """

    changed = Signal(object)
    returned = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._maps: np.ndarray | None = None
        self._position = (0, 0)
        self._latents = np.zeros(0, np.float32)
        self._low = self._high = self._latents
        self._sliders: dict[int, tuple[QSlider, QLabel]] = {}
        self.title = QLabel("Move along each latent, and see what the decoder makes of it:")
        self.title.setWordWrap(True)
        self.back = QPushButton("Back")
        self.back.setToolTip("To the latents of the position under the marker")
        self.back.clicked.connect(self._on_back)
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setMinimumHeight(90)
        top, layout = QHBoxLayout(), QVBoxLayout(self)
        top.addWidget(self.title, 1)
        top.addWidget(self.back)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self._area, 1)
        self.setVisible(False)

    def set_latents(self, model: LatentModel | None, embedding: Embedding | None) -> None:
        """Make sliders for a model and the latents it gives to a scan; none unless both are there and belong together."""
        maps = None
        if model is not None and embedding is not None and model.config.latent_dim == embedding.latent_dim:
            # a reconstruction is decoded from each position's own latents
            maps = embedding.maps if embedding.own is None else embedding.own
        known = np.empty((0, 0)) if maps is None else maps.reshape(-1, maps.shape[-1])
        known = known[:: max(1, len(known) // _SAMPLE)]
        known = known[np.isfinite(known).all(1)]
        self.setVisible(len(known) > 0)
        self._maps = maps if len(known) else None
        if self._maps is None:
            self._sliders = {}
            self._area.setWidget(QWidget())
            return
        self._low, self._high = np.percentile(known, (0.5, 99.5), axis=0)
        self._high = np.where(self._high > self._low, self._high, self._low + 1e-6)
        order = np.argsort(-known.std(0), kind="stable")
        if list(order) != list(self._sliders):
            self._make(order)

    def _make(self, order: np.ndarray) -> None:
        inner = QWidget()
        grid = QGridLayout(inner)
        grid.setContentsMargins(4, 4, 4, 4)
        self._sliders = {}
        for row, latent in enumerate(int(n) for n in order):
            slider, value = QSlider(Qt.Orientation.Horizontal), QLabel()
            slider.setRange(0, _STEPS)
            slider.valueChanged.connect(lambda step, k=latent: self._on_moved(k, step))
            value.setMinimumWidth(value.fontMetrics().horizontalAdvance("-0.000e+00"))
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
            for column, widget in enumerate((QLabel(f"latent {latent}"), slider, value)):
                grid.addWidget(widget, row, column)
            self._sliders[latent] = slider, value
        grid.setColumnStretch(1, 1)
        grid.setRowStretch(len(order), 1)
        self._area.setWidget(inner)

    def go_to(self, position: tuple[int, int]) -> None:
        """Take over the latents of a scan position; an excluded one changes nothing."""
        self._position = position
        if self._maps is None or not np.isfinite(self._maps[position]).all():
            return
        self._latents = self._maps[position].copy()
        share = (self._latents - self._low) / (self._high - self._low)
        steps = np.rint(np.clip(share, 0, 1) * _STEPS).astype(int)
        for latent, (slider, value) in self._sliders.items():
            blocked = slider.blockSignals(True)
            slider.setValue(int(steps[latent]))
            slider.blockSignals(blocked)
            value.setText(f"{self._latents[latent]:.3g}")

    def _on_back(self) -> None:
        self.go_to(self._position)
        self.returned.emit()

    def _on_moved(self, latent: int, step: int) -> None:
        low, high = float(self._low[latent]), float(self._high[latent])
        self._latents[latent] = low + (high - low) * step / _STEPS
        self._sliders[latent][1].setText(f"{self._latents[latent]:.3g}")
        self.changed.emit(self._latents.copy())
