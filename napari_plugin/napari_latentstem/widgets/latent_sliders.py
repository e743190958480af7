"""Sliders for the values of the latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QScrollArea, QSlider, QWidget

from latentstem.report.examples import unsmoothed_latents

from .building_blocks import horizontal, push_button, vertical

if TYPE_CHECKING:
    from latentstem import Embedding, LatentModel

__all__ = ["LatentSliders"]

_STEPS = 200
_SAMPLED_POSITIONS = 20_000  # from which the ranges are computed


class LatentSliders(QWidget):
    """A slider for each latent over its range on the scan, in the order of decreasing variance.

    ``changed`` is emitted with the latents, shape (k,), float32, when a slider is moved, ``reset`` when they are reset to
    those of the current position.
    """

    changed = Signal(object)
    reset = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._maps: np.ndarray | None = None
        self._position = (0, 0)
        self._latents = np.zeros(0, np.float32)
        self._low = self._high = self._latents
        self._sliders: dict[int, tuple[QSlider, QLabel]] = {}
        self.title = QLabel("Change latents and see the decoded pattern:")
        self.title.setWordWrap(True)
        self.reset_button = push_button(
            "Reset", "Reset to the latents of the current position", self._on_reset
        )
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setMinimumHeight(90)
        top = horizontal(self.title, self.reset_button, stretch=self.title)
        vertical(self, top, self._area, stretch=self._area, margin=0)
        self.setVisible(False)

    def set_latents(self, model: LatentModel | None, embedding: Embedding | None) -> None:
        """Create sliders for a model and its latents of a scan; none if one is missing or they do not match."""
        maps = None
        if model is not None and embedding is not None and model.config.latent_dim == embedding.latent_dim:
            maps = unsmoothed_latents(embedding)
        latents = np.empty((0, 0)) if maps is None else maps.reshape(-1, maps.shape[-1])
        latents = latents[:: max(1, len(latents) // _SAMPLED_POSITIONS)]
        latents = latents[np.isfinite(latents).all(1)]
        self.setVisible(len(latents) > 0)
        self._maps = maps if len(latents) else None
        if self._maps is None:
            self._sliders = {}
            self._area.setWidget(QWidget())
            return
        self._low, self._high = np.percentile(latents, (0.5, 99.5), axis=0)
        self._high = np.where(self._high > self._low, self._high, self._low + 1e-6)
        order = np.argsort(-latents.std(0), kind="stable")
        if list(order) != list(self._sliders):
            self._create_sliders(order)

    def _create_sliders(self, order: np.ndarray) -> None:
        content = QWidget()
        grid = QGridLayout(content)
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
        self._area.setWidget(content)

    def set_position(self, position: tuple[int, int]) -> None:
        """Show the latents of a scan position; an excluded position changes nothing."""
        self._position = position
        if self._maps is None or not np.isfinite(self._maps[position]).all():
            return
        self._latents = self._maps[position].copy()
        fraction = (self._latents - self._low) / (self._high - self._low)
        steps = np.rint(np.clip(fraction, 0, 1) * _STEPS).astype(int)
        for latent, (slider, value) in self._sliders.items():
            blocked = slider.blockSignals(True)
            slider.setValue(int(steps[latent]))
            slider.blockSignals(blocked)
            value.setText(f"{self._latents[latent]:.3g}")

    def _on_reset(self) -> None:
        self.set_position(self._position)
        self.reset.emit()

    def _on_moved(self, latent: int, step: int) -> None:
        low, high = float(self._low[latent]), float(self._high[latent])
        self._latents[latent] = low + (high - low) * step / _STEPS
        self._sliders[latent][1].setText(f"{self._latents[latent]:.3g}")
        self.changed.emit(self._latents.copy())
