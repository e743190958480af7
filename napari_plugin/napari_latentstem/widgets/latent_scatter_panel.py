"""Scatter plot of the latents of a scan with its controls; outlines select points, clicks select a scan position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSpinBox, QWidget

from ..layers.cluster_layers import compile_labels
from ..model.latent_scatter import STYLES, draw_scatter
from ..model.latent_space import PROJECTIONS, ProjectedLatents, in_polygon, view_limits
from ..model.session import Session
from .building_blocks import combo_box, horizontal, vertical
from .latent_scatter_view import LatentScatterView
from .latest_task_worker import LatestTaskWorker

if TYPE_CHECKING:
    from latentstem import Embedding

__all__ = ["LatentScatterPanel"]

_DENSITY_POSITIONS = 20_000  # scans with more positions are shown as a density at first
_HINT = "Train a model, or load one and apply it, to see the latents of this scan."


class LatentScatterPanel(QWidget):
    """The scatter plot of one session at a time.

    ``busy`` is emitted with what is being computed, empty when nothing is.

    Parameters
    ----------
    on_error : callable
        Called with an exception.
    label_map : callable
        Returns the cluster number of each scan position, shape (Ny, Nx), or None.
    """

    busy = Signal(str)

    def __init__(
        self, on_error: Callable[[Exception], None], label_map: Callable[[], np.ndarray | None]
    ) -> None:
        super().__init__()
        self._label_map = label_map
        self._session: Session | None = None
        self._axes: tuple[int, int] | None = None  # the two latents that are shown
        self.latents: ProjectedLatents | None = None
        self._workers = [LatestTaskWorker(self, on_error) for _ in range(3)]
        self._project_worker, self._draw_worker, self._select_worker = self._workers
        self.view = LatentScatterView()
        self.projection = combo_box(
            PROJECTIONS, "Two of the latents, or a projection of all (UMAP takes a minute or more)"
        )
        self.style_box = combo_box(STYLES, "Points have the colours of their clusters")
        self.first, self.second = QSpinBox(), QSpinBox()
        self.first.setToolTip("Latent of the horizontal axis")
        self.second.setToolTip("Latent of the vertical axis")
        controls = horizontal(self.projection, self.first, self.second, self.style_box)
        controls.setSpacing(4)
        vertical(self, controls, self.view, stretch=self.view, margin=0)
        self.projection.currentTextChanged.connect(self.project)
        for box in (self.first, self.second):
            box.valueChanged.connect(self._on_axes)
            box.setStyleSheet("min-width: 46px")  # napari's default is wider
        self.style_box.currentTextChanged.connect(self.draw)
        self.view.moved.connect(self.draw)
        self.view.lassoed.connect(self._on_lasso)
        self.view.picked.connect(self._on_pick)

    @property
    def working(self) -> bool:
        """Whether something is being computed."""
        return any(worker.working for worker in self._workers)

    def close_workers(self) -> None:
        """Stop all computations."""
        for worker in self._workers:
            worker.close()

    def show_session(self, session: Session | None) -> None:
        """Show the latents of another session, or new latents of the same."""
        embedding = None if session is None else session.embedding
        n_latents = None if self.latents is None else self.latents.table.shape[1]
        if session is not self._session or embedding is None or embedding.latent_dim != n_latents:
            self._axes = None
            if embedding is not None:
                n_positions = embedding.maps.shape[0] * embedding.maps.shape[1]
                self.style_box.setCurrentText("density" if n_positions > _DENSITY_POSITIONS else "points")
        self._session, self.latents = session, None
        if embedding is None:
            self._project_worker.cancel()
            self.view.show_pixels(None, hint="Open a scan." if session is None else _HINT)
        self.project()

    def project(self, *_: Any) -> None:
        """Compute the selected projection, and show it."""
        method, axes = self.projection.currentText(), self._axes
        for box in (self.first, self.second):
            box.setVisible(method == PROJECTIONS[0])
        embedding = None if self._session is None else self._session.embedding
        if embedding is None:
            return
        self.busy.emit("Computing UMAP …" if method == "UMAP" else "")

        def task() -> Iterator[tuple[Embedding, ProjectedLatents, Any]]:
            latents = ProjectedLatents.of(embedding, method, axes)
            yield embedding, latents, view_limits(latents.projection.xy)

        self._project_worker.submit(task, self._on_projected)

    def _on_projected(self, result: tuple[Embedding, ProjectedLatents, Any]) -> None:
        embedding, self.latents, view = result
        if self._session is None or embedding is not self._session.embedding:
            self.latents = None
            return
        self.busy.emit("")
        projection = self.latents.projection
        if self._axes is None and projection.latents is not None:
            self._axes = projection.latents
            for box, latent in zip((self.first, self.second), self._axes, strict=True):
                blocked = box.blockSignals(True)
                box.setRange(0, embedding.latent_dim - 1)
                box.setValue(latent)
                box.blockSignals(blocked)
        self.view.reset(view, projection.axis_labels)
        self.mark()

    def _on_axes(self, *_: Any) -> None:
        self._axes = self.first.value(), self.second.value()
        self.project()

    def draw(self, *_: Any) -> None:
        """Draw the points with the current clusters and selection."""
        latents, session = self.latents, self._session
        if latents is None or session is None:
            return
        view, shape, style = self.view.view, self.view.shape, self.style_box.currentText()
        labels, selection, xy = self._label_map(), session.selection, latents.projection.xy

        def task() -> Iterator[tuple[np.ndarray, Any]]:
            numbers = None if labels is None else labels.ravel()[latents.positions]
            selected = (
                None if selection is None or not selection.any() else selection.ravel()[latents.positions]
            )
            yield draw_scatter(xy, view, shape, style, numbers, selected), view

        self._draw_worker.submit(task, lambda result: self.view.show_pixels(*result))

    def mark(self, *_: Any) -> None:
        """Mark the point of the current scan position."""
        point = None
        if self.latents is not None and self._session is not None:
            row, column = self._session.position
            position = row * self._session.scan.scan_shape[1] + column
            n = int(np.searchsorted(self.latents.positions, position))
            if n < len(self.latents.positions) and self.latents.positions[n] == position:
                x, y = self.latents.projection.xy[n]
                point = float(x), float(y)
        self.view.set_marker(point)

    def _on_lasso(self, polygon: np.ndarray, adding: bool) -> None:
        latents, session = self.latents, self._session
        if latents is None or session is None:
            return
        previous = session.selection if adding else None

        def task() -> Iterator[np.ndarray]:
            compile_labels()
            selection = np.zeros(session.scan.n_positions, bool)
            selection[latents.positions[in_polygon(latents.projection.xy, polygon)]] = True
            selection = selection.reshape(session.scan.scan_shape)
            yield selection if previous is None else selection | previous

        self._select_worker.submit(task, lambda selection: setattr(session, "selection", selection))

    def _on_pick(self, x: float, y: float) -> None:
        """Set the scan position to that of the nearest point."""
        if self.latents is None or self._session is None:
            return
        x0, x1, y0, y1 = self.view.view
        dx, dy = (self.latents.projection.xy - np.array([x, y])).T
        nearest = np.argmin((dx / (x1 - x0)) ** 2 + (dy / (y1 - y0)) ** 2)
        row, column = divmod(int(self.latents.positions[nearest]), self._session.scan.scan_shape[1])
        self._session.position = row, column
