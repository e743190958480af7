"""The cloud of latents with what chooses how it is shown; outlines select, clicks go to a scan position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QSpinBox, QVBoxLayout, QWidget

from . import latent_space as space
from .background import Latest
from .cloud_picture import STYLES, draw
from .cloud_view import CloudView
from .cluster_layers import prepare
from .state import Session

if TYPE_CHECKING:
    from latentstem import Embedding

__all__ = ["Cloud", "CloudBox"]

_MANY = 20_000  # scan positions from which the density is shown at first
_HINT = "Train a model, or load one and apply it, to see the latents of this scan."


class Cloud(NamedTuple):
    """The latents of a scan, and where they are shown.

    Parameters
    ----------
    table : ndarray, shape (n, k)
        Latents.
    positions : ndarray of int, shape (n,)
        Flat scan positions.
    projection : Projection
        In two dimensions.
    """

    table: np.ndarray
    positions: np.ndarray
    projection: space.Projection

    @classmethod
    def of(cls, embedding: Embedding, how: str, latents: tuple[int, int] | None) -> Cloud:
        """Project an embedding; without a choice of two latents, those that vary most."""
        table, positions = space.latent_table(embedding)
        if latents is None and embedding.latent_dim > 1:
            first, second = np.argsort(-table.std(0), kind="stable")[:2]
            latents = int(first), int(second)
        return cls(table, positions, space.project(table, how, latents or (0, 0)))


class CloudBox(QWidget):
    """The cloud of one session at a time.

    Parameters
    ----------
    failed : callable
        Called with an exception.
    labels : callable
        Gives the number of the cluster of each scan position, shape (Ny, Nx), or None.
    """

    busy = Signal(str)

    def __init__(self, failed: Callable[[Exception], None], labels: Callable[[], np.ndarray | None]) -> None:
        super().__init__()
        self._labels = labels
        self._session: Session | None = None
        self._latents: tuple[int, int] | None = None
        self.cloud: Cloud | None = None
        self._workers = [Latest(self, failed) for _ in range(3)]
        self._projecting, self._drawing, self._finding = self._workers
        self.view = CloudView()
        self.projection, self.style = QComboBox(), QComboBox()
        self.projection.addItems(space.PROJECTIONS)
        self.projection.setToolTip(
            "Two of the latents, or all of them projected (UMAP takes a minute or more)"
        )
        self.style.addItems(STYLES)
        self.style.setToolTip("Points are in the colours of their clusters")
        self.first, self.second = QSpinBox(), QSpinBox()
        self.first.setToolTip("Latent to the right")
        self.second.setToolTip("Latent upwards")
        row, layout = QHBoxLayout(), QVBoxLayout(self)
        for widget in (self.projection, self.first, self.second, self.style):
            row.addWidget(widget)
        row.setSpacing(4)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.view, 1)
        self.projection.currentTextChanged.connect(self.project)
        for box in (self.first, self.second):
            box.valueChanged.connect(self._on_latents)
            box.setStyleSheet("min-width: 46px")  # napari's own is wider
        self.style.currentTextChanged.connect(self.draw)
        self.view.moved.connect(self.draw)
        self.view.lassoed.connect(self._on_lasso)
        self.view.picked.connect(self._on_pick)

    @property
    def working(self) -> bool:
        """Whether something is being computed."""
        return any(worker.working for worker in self._workers)

    def close_workers(self) -> None:
        """End what goes on."""
        for worker in self._workers:
            worker.close()

    def show_session(self, session: Session | None) -> None:
        """Show the latents of another session, or new ones of the same."""
        embedding = None if session is None else session.embedding
        known = self.cloud is not None and embedding is not None
        same_size = known and embedding.latent_dim == self.cloud.table.shape[1]
        if session is not self._session or not same_size:
            self._latents = None
            if embedding is not None:
                many = embedding.maps.shape[0] * embedding.maps.shape[1] > _MANY
                self.style.setCurrentText("density" if many else "points")
        self._session, self.cloud = session, None
        if embedding is None:
            self._projecting.cancel()
            self.view.show_pixels(None, hint="Open a scan." if session is None else _HINT)
        self.project()

    def project(self, *_: Any) -> None:
        """Show the cloud as is chosen."""
        how, latents = self.projection.currentText(), self._latents
        for box in (self.first, self.second):
            box.setVisible(how == space.PROJECTIONS[0])
        embedding = None if self._session is None else self._session.embedding
        if embedding is None:
            return
        self.busy.emit("UMAP is being computed ..." if how == "UMAP" else "")

        def work() -> Iterator[tuple[Embedding, Cloud, Any]]:
            cloud = Cloud.of(embedding, how, latents)
            yield embedding, cloud, space.extent(cloud.projection.xy)

        self._projecting.ask(work, self._on_cloud)

    def _on_cloud(self, found: tuple[Embedding, Cloud, Any]) -> None:
        embedding, self.cloud, whole = found
        if self._session is None or embedding is not self._session.embedding:
            self.cloud = None
            return
        self.busy.emit("")
        names = self.cloud.projection.names
        if self._latents is None and names[0].startswith("latent "):
            self._latents = int(names[0].split()[1]), int(names[1].split()[1])
            for box, latent in zip((self.first, self.second), self._latents, strict=True):
                blocked = box.blockSignals(True)
                box.setRange(0, embedding.latent_dim - 1)
                box.setValue(latent)
                box.blockSignals(blocked)
        self.view.show_all(whole, names)
        self.mark()

    def _on_latents(self, *_: Any) -> None:
        self._latents = self.first.value(), self.second.value()
        self.project()

    def draw(self, *_: Any) -> None:
        """Show clusters and selection as they are now."""
        cloud, session = self.cloud, self._session
        if cloud is None or session is None:
            return
        view, shape, style = self.view.view, self.view.shape, self.style.currentText()
        labels, chosen, xy = self._labels(), session.selection, cloud.projection.xy

        def work() -> Iterator[tuple[np.ndarray, Any]]:
            numbers = None if labels is None else labels.ravel()[cloud.positions]
            selected = None if chosen is None or not chosen.any() else chosen.ravel()[cloud.positions]
            yield draw(xy, view, shape, style, numbers, selected), view

        self._drawing.ask(work, lambda found: self.view.show_pixels(*found))

    def mark(self, *_: Any) -> None:
        """Mark the point of the scan position under the marker."""
        at = None
        if self.cloud is not None and self._session is not None:
            row, column = self._session.position
            flat = row * self._session.scan.scan_shape[1] + column
            n = int(np.searchsorted(self.cloud.positions, flat))
            if n < len(self.cloud.positions) and self.cloud.positions[n] == flat:
                x, y = self.cloud.projection.xy[n]
                at = float(x), float(y)
        self.view.set_marker(at)

    def _on_lasso(self, polygon: np.ndarray, adding: bool) -> None:
        cloud, session = self.cloud, self._session
        if cloud is None or session is None:
            return
        before = session.selection if adding else None

        def work() -> Iterator[np.ndarray]:
            prepare()
            chosen = np.zeros(session.scan.n_positions, bool)
            chosen[cloud.positions[space.inside(cloud.projection.xy, polygon)]] = True
            chosen = chosen.reshape(session.scan.scan_shape)
            yield chosen if before is None else chosen | before

        def then(chosen: np.ndarray) -> None:
            session.selection = chosen

        self._finding.ask(work, then)

    def _on_pick(self, x: float, y: float) -> None:
        """Go to the scan position of the nearest point."""
        if self.cloud is None or self._session is None:
            return
        x0, x1, y0, y1 = self.view.view
        across, up = (self.cloud.projection.xy - np.array([x, y])).T
        nearest = np.argmin((across / (x1 - x0)) ** 2 + (up / (y1 - y0)) ** 2)
        row, column = divmod(int(self.cloud.positions[nearest]), self._session.scan.scan_shape[1])
        self._session.position = row, column
